"""Compression to a target by itself: score, cut, recover, until a limit ends it; then fine-tuning."""

from .folder import compress
from .recipe import SCHEMES, Recipe

__all__ = ["SCHEMES", "Recipe", "compress"]
