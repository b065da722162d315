"""The release's `engine/model.py` with the edits between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== one edit of each method =====
from ultralytics import instead_of
from ultralytics.pruning.networks.fingerprints import predictor_of_this_network
from ultralytics.pruning.passes.memory import leave_gpus
from ultralytics.pruning.training import models

# =====

# ===== finetune=True trains the network that the .pt holds; after a sparsity training the model is its last state =====


@instead_of(Model, "train")
def _train(release, self, trainer=None, **kwargs):
    self._check_is_pytorch_model()
    settings = models.with_its_yaml(kwargs)
    models.refuse_lost_network(self, settings)  # before anything is written
    kwargs |= models.with_data_of_its_classes(self, settings)
    if models.on_several_data_sets(settings) and trainer is None:
        trainer = self._smart_load("trainer")  # in this process: the release's `yolo` command lacks these edits
    if models.on_several_gpus(settings):
        leave_gpus(self)
    metrics = release(self, trainer, **kwargs)
    models.take_faded(self)
    return metrics


# =====

# ===== a predictor works on a copy of the network: it goes when the network has changed since =====


@instead_of(Model, "predict")
def _predict(release, self, *args, **kwargs):
    with predictor_of_this_network(self):
        return release(self, *args, **kwargs)


# =====
