"""The release's `engine/trainer.py` with the edits between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== one edit of each method, in the order of a run; the steps that they call are in pruning/training =====
import sys

from ultralytics import instead_of
from ultralytics.pruning.checkpoints import loading
from ultralytics.pruning.passes.memory import leave_gpus
from ultralytics.pruning.runs import moved, workers
from ultralytics.pruning.training import checkpoints, fine_tuning, folder, networks, precision, progress, sparsity

# =====

# ===== one process at a time works in a run's folder, and a run is where it lies; finetune=True keeps the network =====


@instead_of(BaseTrainer, "__init__")
def _init(release, self, cfg=DEFAULT_CFG, overrides=None, _callbacks=None):
    overrides = sparsity.with_its_precision(cfg, overrides)  # first: what it refuses has made no folder
    if LOCAL_RANK != -1:  # one of several workers
        workers.end_with(os.environ.get(workers.PARENT))
    with folder.left_if_it_fails(self):
        release(self, cfg, overrides, _callbacks)
    networks.keep_network(self)


@instead_of(BaseTrainer, "check_resume")
def _check_resume(release, self, overrides):
    release(self, overrides)
    if self.resume:
        moved.go_on_in_place(self.args, overrides)  # before the lock: it says which folder that is
    folder.lock_folder(self)  # the release writes the first file of the run next


@instead_of(BaseTrainer, "setup_model")
def _setup_model(release, self):
    networks.refuse_replacement(self)
    return release(self)


# =====

# ===== workers, one for each GPU, end with this process, which holds no memory of a GPU meanwhile =====


@instead_of(BaseTrainer, "train")
def _train(release, self):
    if self.ddp:
        leave_gpus(self)  # before the workers start, which need the memory
    with folder.left_at_the_end(self), progress.column_of_one_training():
        return release(self)


@instead_of(sys.modules[__name__], "generate_ddp_command")
def generate_ddp_command(release, trainer):
    command, file = release(trainer)
    return workers.ending_with_this(command), file


# =====

# ===== sparsity training (see pruning/sparsity), and what a person sees of it; resumed runs go on exactly =====


@instead_of(BaseTrainer, "_setup_train")
def _setup_train(release, self):
    automatic = sparsity.chooses_the_optimizer(self)  # before the release puts its choice in the place of the word
    release(self)
    fine_tuning.average_weights(self)  # a resumed one has loaded how many steps it has made
    sparsity.start_sparsity(self, automatic=automatic)  # attached before a state is loaded, which it is a part of
    progress.show_sparsity(self)  # behind the callback of a batch's start that counts the batch
    loading.allow_modules_of(unwrap_model(self.model))  # it is saved, and the release loads it again at the end
    checkpoints.go_on_exactly(self)  # last: it ends with the random states, which nothing may move afterwards


@instead_of(BaseTrainer, "build_optimizer")
def _build_optimizer(release, self, model, name="auto", lr=0.001, momentum=0.9, decay=1e-5, iterations=1e5):
    name, lr, momentum = fine_tuning.optimizer_of(self, name, lr, momentum, iterations)
    return release(self, model, name, lr, momentum, decay, iterations)


@instead_of(BaseTrainer, "optimizer_step")
def _optimizer_step(release, self):
    if sparsity.goes_through_gradients(self):
        return sparsity.step_with_the_pull(self)
    return release(self)


class TQDM(TQDM):
    """The release's progress bar, with one more column behind the losses during a sparsity training."""

    def set_description(self, text):
        """Shows the release's columns and the one more."""
        super().set_description(text + progress.column())


@instead_of(BaseTrainer, "_handle_nan_recovery")
def _handle_nan_recovery(release, self, epoch):
    recovered = release(self, epoch)
    if recovered:
        checkpoints.recover_sparsity(self, epoch)
    return recovered


@instead_of(BaseTrainer, "save_metrics")
def _save_metrics(release, self, metrics):
    release(self, metrics=sparsity.with_sparsity(self, metrics))


# =====

# ===== checkpoints appear whole, under a temporary name first; where half precision costs accuracy, in float32 =====


@instead_of(BaseTrainer, "save_model")
def _save_model(release, self):
    with checkpoints.written_whole(self):
        return release(self)


@instead_of(BaseTrainer, "final_eval")
def _final_eval(release, self):
    checkpoints.forget_states(self)  # first: all epochs are done, whether or not what follows fails
    before = precision.about_to_be_halved(self)
    release(self)
    precision.keep_float32(self, *before)
    sparsity.conclude_sparsity(self)  # last: whatever may fail in it, the checkpoints are finished


# =====
