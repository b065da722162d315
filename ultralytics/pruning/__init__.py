"""Structured pruning of Ultralytics models: trace -> score -> select -> cut -> check.

Example:
    >>> from ultralytics import YOLO
    >>> from ultralytics.pruning import CRITERIA, make_plan, prune, save, trace
    >>> model = YOLO("yolov8n.yaml").model
    >>> channel_map = trace(model)
    >>> plan = make_plan(channel_map, CRITERIA["slim"](channel_map, model), prune_ratio=0.5)
    >>> prune(model, plan, channel_map)
    >>> save(model, "pruned.pt")
"""

from .channels import ChannelMap
from .checkpoints.checkpoint import load, plans_of, save
from .cost import Cost, cost_of
from .criteria import CRITERIA
from .criteria.scoring import Scoring
from .errors import PruningError
from .passes.images import Images
from .pipeline import Pruned, prune, prune_network, repeat_plan
from .plans.plan import PruningPlan
from .selection.choose import make_plan
from .selection.limits import Limits
from .selection.targets import Target
from .surgery.cut import cut
from .tracing.rules import register_rule
from .tracing.trace import trace

__all__ = [
    "CRITERIA",
    "ChannelMap",
    "Cost",
    "Images",
    "Limits",
    "Pruned",
    "PruningError",
    "PruningPlan",
    "Scoring",
    "Target",
    "cost_of",
    "cut",
    "load",
    "make_plan",
    "plans_of",
    "prune",
    "prune_network",
    "register_rule",
    "repeat_plan",
    "save",
    "trace",
]
