"""The release's `nn/tasks.py` with the edit between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== neither a checkpoint nor a model yaml runs code, unless the user trusts it (see pruning/trust.py) =====
from ultralytics.pruning import trust
from ultralytics.pruning.checkpoints import loading
from ultralytics.pruning.inputs import layer_names

_SafeLoad.restricted = classmethod(
    lambda cls: cls.SUPPORTED and (trust.restricted() or getattr(cls._local, "active", False))
)
loading.remember_allowed()
_SafeLoad.loading = loading.open_to_own(_SafeLoad.loading)
_SafeLoad.activation = staticmethod(layer_names.activation)
torch_safe_load = loading.restrict(torch_safe_load)
parse_model = layer_names.only_layers(parse_model, _SafeLoad.restricted)
# =====
