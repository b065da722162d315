"""The release's `engine/trainer.py` with the edits between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== what the edits below need =====
import functools
import shutil
import weakref

from ultralytics.pruning.checkpoints import loading
from ultralytics.pruning.errors import PruningError
from ultralytics.pruning.files import locks, whole
from ultralytics.pruning.networks.keeping import kept_network
from ultralytics.pruning.networks.rebuild import is_pruned, refusal
from ultralytics.pruning.passes.memory import leave_gpus
from ultralytics.pruning.runs import resuming, workers
from ultralytics.pruning.runs.moved import go_on_in_place
from ultralytics.pruning.selection.wording import all_said
from ultralytics.pruning.sparsity import Settings, SparsityRun


def _instead_of(owner, name):
    """Puts an edit in the place of a method of a release's class; the edit gets the bound method as `release`."""

    def decorate(edit):
        release = getattr(owner, name)

        @functools.wraps(release)
        def method(self, *args, **kwargs):
            return edit(self, functools.partial(release, self), *args, **kwargs)

        setattr(owner, name, method)
        return edit

    return decorate


# =====

# ===== one process at a time works in a run's folder, and a run is where it lies; workers end with their parent =====


@_instead_of(BaseTrainer, "__init__")
def _enter_folder(self, release, *args, **kwargs):
    workers.end_with(os.environ.get(workers.PARENT) if LOCAL_RANK != -1 else None)
    self.leave_folder = lambda: None
    try:
        release(*args, **kwargs)
    except BaseException:
        self.leave_folder()
        with whole.naming_the_disk(Path(getattr(self, "save_dir", Path.cwd()))):
            raise


@_instead_of(BaseTrainer, "check_resume")
def _lock_folder(self, release, overrides):
    release(overrides)
    if self.resume:
        go_on_in_place(self.args, overrides)
    if RANK in {-1, 0}:  # before the first file of the run is written
        self.args.save_dir = str(get_save_dir(self.args))
        if lock := locks.join(self.args.save_dir, worker=RANK != -1):
            self.leave_folder = weakref.finalize(self, lock.release)  # at the latest when nobody has the trainer


@_instead_of(BaseTrainer, "train")
def _leave_folder(self, release):
    try:
        with whole.naming_the_disk(self.save_dir):
            return release()
    finally:
        self.leave_folder()


_release_ddp_command = generate_ddp_command


def generate_ddp_command(trainer):
    """The release's function of this name; what it starts ends with this process."""
    command, file = _release_ddp_command(trainer)
    return workers.ending_with_this(command), file


# =====

# ===== sparsity training: a pull or a fade at each step, on the gammas that can be pruned (see pruning/sparsity) =====


def _network(model):
    """Returns the network that is trained, without its wrappers; of a distillation, the student."""
    model = unwrap_model(model)
    return getattr(model, "student_model", model)


@_instead_of(BaseTrainer, "__init__")
def _read_sparsity(self, release, cfg=DEFAULT_CFG, overrides=None, _callbacks=None):
    asked = Settings.of(get_cfg(cfg, overrides))  # before the run's folder is made
    if asked and asked.traits.in_gradients:
        overrides = {**(overrides or {}), "amp": False}  # with it go autocast and the gradient scaler
    release(cfg, overrides, _callbacks)


@_instead_of(BaseTrainer, "_setup_train")
def _start_sparsity(self, release):
    automatic = str(self.args.optimizer).lower() == "auto"  # the release puts its choice in the place of it
    release()
    self.sparsity, settings = None, Settings.of(self.args)
    if not settings:
        return
    if self.args.time and settings.target:
        raise PruningError(f"time={self.args.time} and a target: it is met in a number of epochs; leave out time")
    self.sparsity = SparsityRun(_network(self.model), settings, self.args.imgsz)
    self.sparsity.attach(self.optimizer)
    if not self.resume:
        self.sparsity.check(self.optimizer, len(self.train_loader) / self.accumulate, self.epochs)
    self.add_callback(
        "on_train_epoch_start", lambda trainer: trainer.sparsity.epoch_starts(trainer.epoch, trainer.epochs)
    )
    self.add_callback("on_train_batch_start", lambda trainer: trainer.sparsity.batch_starts(len(trainer.train_loader)))
    self.add_callback("on_train_epoch_end", lambda trainer: trainer.sparsity.copy_zeros(_network(trainer.ema.ema)))
    self.stopper.patience = math.inf  # the accuracy falls on the way to a target: no reason to stop
    if RANK not in {-1, 0}:
        return
    LOGGER.info(f"{colorstr('sparsity:')} {self.sparsity}")
    for limit in all_said(self.sparsity.missed):
        LOGGER.warning(f"the target will be missed: {limit}")
    if settings.traits.in_gradients and self.sparsity.divides:
        LOGGER.warning(
            f"{type(self.optimizer).__name__} divides the pull of sr by its own running size, so that gammas move "
            f"by about lr per step whatever sr is. Use optimizer=SGD, or sparsity=proximal."
        )
    if settings.traits.in_gradients and automatic:
        LOGGER.warning("optimizer=auto ignores lr0, which the pull is multiplied by. Use optimizer=SGD.")


@_instead_of(BaseTrainer, "optimizer_step")
def _pull(self, release):
    if not self.sparsity or not self.sparsity.settings.traits.in_gradients:
        return release()
    self.sparsity.add_to_gradients(self.optimizer)
    self.optimizer.step()  # without clipping, which would rescale the pull
    self.optimizer.zero_grad()
    if self.ema:
        self.ema.update(self.model)


# =====

# ===== what a person sees of it: in the progress line, results.csv, results.png, TensorBoard, gamma.png =====


class TQDM(TQDM):
    """The release's progress bar, with one more column behind the losses during a sparsity training."""

    more = ""

    def set_description(self, text):
        """Shows the release's columns and the one more."""
        super().set_description(text + TQDM.more)


@_instead_of(BaseTrainer, "_setup_train")
def _show_sparsity(self, release):
    release()
    TQDM.more = ""
    if not self.sparsity:
        return
    columns = self.progress_string
    self.progress_string = lambda: columns() + f"{'sparsity':>11}"

    def show(trainer):
        TQDM.more = f"{trainer.sparsity.scales.sparsity():11.4g}"

    self.add_callback("on_train_batch_start", show)


@_instead_of(BaseTrainer, "save_metrics")
def _note_sparsity(self, release, metrics):
    if self.sparsity:
        self.sparsity.history.epoch_ends(self.epoch, self.sparsity.strength, self.sparsity.scales, self.save_dir)
        metrics = {**metrics, "metrics/sparsity": self.sparsity.history.epochs[-1].sparsity}
    release(metrics=metrics)


@_instead_of(BaseTrainer, "final_eval")
def _conclude_sparsity(self, release):
    release()  # first: whatever may fail below, the checkpoints are finished
    if self.sparsity and RANK in {-1, 0}:
        self.sparsity.history.ends(self.sparsity.scales, self.save_dir)
        for finding in self.sparsity.findings():
            LOGGER.warning(f"SPARSITY: {finding}.")


# =====

# ===== finetune=True keeps the loaded network; a pruned network is never rebuilt from its yaml without an error =====


@_instead_of(BaseTrainer, "__init__")
def _keep_network(self, release, *args, **kwargs):
    release(*args, **kwargs)
    # get_model belongs to the task trainers, so it is replaced on the instance: here all of its callers meet, which
    # are Model.train, setup_model (also on resume and for a distillation student) and MultiTrainer.
    self.get_model = functools.partial(_get_model, self, self.get_model)


def _get_model(trainer, release, cfg=None, weights=None, verbose=True):
    """Returns the loaded network itself with finetune=True, else the release's rebuilt one."""
    if not trainer.args.finetune:
        if weights is not None and is_pruned(weights):
            raise PruningError(f"the loaded network {refusal(weights)}; train it with finetune=True")
        return release(cfg=cfg, weights=weights, verbose=verbose)
    model = kept_network(trainer, weights)
    if verbose:
        LOGGER.info(f"{colorstr('finetune:')} training the loaded network as it is, its yaml is not read")
    return model


@_instead_of(BaseTrainer, "setup_model")
def _refuse_replacement(self, release):
    """Looks at a network that pretrained=False or pretrained=other.pt would replace by its yaml."""
    replaced = self.args.pretrained is False or isinstance(self.args.pretrained, (str, Path))
    if str(self.model).endswith(".pt") and replaced and not self.resume:
        network = load_checkpoint(self.model)[0]
        if is_pruned(network):
            raise PruningError(
                f"'{self.model}' {refusal(network)} by pretrained={self.args.pretrained}; train it with finetune=True "
                f"and without pretrained"
            )
    return release()


# =====

# ===== checkpoints appear whole, written under a temporary name and renamed; resumed runs go on exactly =====


@_instead_of(BaseTrainer, "save_model")
def _save_whole(self, release):
    folder, last, best = self.wdir, self.last, self.best
    shutil.rmtree(folder / ".writing", ignore_errors=True)  # half-written files that a run of long ago left
    with whole.naming_the_disk(folder), whole.temporary_folder(folder, "epoch") as temporary:
        try:
            self.wdir, self.last, self.best = temporary, temporary / last.name, temporary / best.name
            saved = release()
        finally:
            self.wdir, self.last, self.best = folder, last, best
        resuming.save_state(self)
        # last.pt at the end: a run that is resumed from it finds all that belongs to its epoch
        for file in sorted(temporary.iterdir(), key=lambda file: file.name == last.name):
            os.replace(file, folder / file.name)
    resuming.remove_states(folder, but=self.epoch)
    return saved


@_instead_of(BaseTrainer, "_setup_train")
def _go_on_exactly(self, release):
    release()
    loading.allow_modules_of(unwrap_model(self.model))  # it is saved, and the release loads it again at the end
    if self.resume and RANK in {-1, 0}:
        resuming.forget_unsaved_epochs(self.csv, self.start_epoch)
    if self.resume and self.sparsity:
        resuming.load_sparsity(self, self.start_epoch - 1)
    if self.resume and RANK in {-1, 0} and (RANK == 0 or not resuming.load_state(self)):
        LOGGER.warning("there is no exact state of this epoch: going on from the averaged weights of last.pt")


@_instead_of(BaseTrainer, "_handle_nan_recovery")
def _recover_sparsity(self, release, epoch):
    recovered = release(epoch)
    if recovered and self.sparsity:
        resuming.load_sparsity(self, epoch - 1)
    return recovered


@_instead_of(BaseTrainer, "final_eval")
def _end(self, release):
    if RANK in {-1, 0}:
        resuming.remove_states(self.wdir)
    release()


# =====

# ===== a process that starts others, one for each GPU, holds no memory of a GPU meanwhile =====


@_instead_of(BaseTrainer, "train")
def _leave_gpus(self, release):
    if self.ddp:
        leave_gpus(self)
    return release()


# =====
