"""Compression to a target by itself: score, cut, recover, until a limit ends it; then fine-tuning."""

from .recipe import SCHEMES, Recipe
from .run import compress

__all__ = ["SCHEMES", "Recipe", "compress"]
