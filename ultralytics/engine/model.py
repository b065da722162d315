"""The release's `engine/model.py` with the edit between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== finetune=True trains the network that the .pt holds; a pruned network is not handed to its yaml =====
from functools import wraps

from ultralytics.pruning.errors import PruningError
from ultralytics.pruning.rebuild import is_pruned


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
                f"'{self.model_name}' is pruned; training would rebuild it dense from its yaml. Use finetune=True"
                + ("" if self.ckpt else ", on the network saved with ultralytics.pruning.save")
            )
        if isinstance(settings.get("data"), (list, tuple)) and trainer is None:
            trainer = self._smart_load("trainer")  # in this process: the release's `yolo` command lacks these edits
        return release(self, trainer, **kwargs)

    return train


Model.train = _loads_the_network(Model.train)
# =====
