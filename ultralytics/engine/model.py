"""The release's `engine/model.py` with the edits between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== finetune=True trains the network that the .pt holds; a pruned network is not handed to its yaml =====
from functools import wraps

from ultralytics.pruning.errors import PruningError
from ultralytics.pruning.networks.rebuild import is_pruned, refusal
from ultralytics.pruning.passes.memory import leave_gpus


def _loads_the_network(release):
    """Wraps `Model.train`: refuses, before anything is written, what could not keep the network."""

    @wraps(release)
    def train(self, trainer=None, **kwargs):
        self._check_is_pytorch_model()
        settings = {**(YAML.load(checks.check_yaml(kwargs["cfg"])) if kwargs.get("cfg") else {}), **kwargs}
        finetune, pretrained = settings.get("finetune", False), settings.get("pretrained", True)
        if finetune and not self.ckpt:
            raise PruningError(f"finetune=True trains the network of a .pt; '{self.model_name}' is not one")
        if finetune and pretrained is not True:
            raise PruningError(f"finetune=True keeps the loaded network, pretrained={pretrained} would replace it")
        resumes = bool(settings.get("resume"))  # then the checkpoint says how it was trained
        if not finetune and not resumes and isinstance(self.model, torch.nn.Module) and is_pruned(self.model):
            raise PruningError(
                f"'{self.model_name}' {refusal(self.model)}. Use finetune=True"
                + ("" if self.ckpt else ", on the network saved with ultralytics.pruning.save")
            )
        if isinstance(settings.get("data"), (list, tuple)) and trainer is None:
            trainer = self._smart_load("trainer")  # in this process: the release's `yolo` command lacks these edits
        if "," in str(settings.get("device") or ""):  # processes of their own train, one for each GPU
            leave_gpus(self)
        return release(self, trainer, **kwargs)

    return train


Model.train = _loads_the_network(Model.train)
# =====

# ===== after a sparsity training the model is its last state, in which channels have faded, not an early best one =====
from ultralytics.pruning.sparsity import Settings


def _holds_the_faded(release):
    """Wraps `Model.train`: the release goes on with the most accurate checkpoint, mostly from before the fading."""

    @wraps(release)
    def train(self, *args, **kwargs):
        metrics = release(self, *args, **kwargs)
        trainer = self.trainer
        asked = Settings.of(trainer.args) if hasattr(trainer, "best") else None  # several data sets: untouched
        if asked and RANK in {-1, 0} and trainer.last.exists():
            self.model, self.ckpt = load_checkpoint(trainer.last)
            self.ckpt_path = self.overrides["model"] = str(trainer.last)
            self.predictor = None
        return metrics

    return train


Model.train = _holds_the_faded(Model.train)
# =====

# ===== a predictor works on a copy of the network: it goes when the network has changed since =====
from ultralytics.pruning.networks.fingerprints import fingerprint


def _predicts_with_the_network(release):
    """Wraps `Model.predict`, which keeps its predictor from call to call."""

    @wraps(release)
    def predict(self, *args, **kwargs):
        now = fingerprint(self.model)
        if self.predictor and getattr(self.predictor, "copied_from", now) != now:
            self.predictor = None
        results = release(self, *args, **kwargs)
        if self.predictor and not hasattr(self.predictor, "copied_from"):
            self.predictor.copied_from = now
        return results

    return predict


Model.predict = _predicts_with_the_network(Model.predict)
# =====
