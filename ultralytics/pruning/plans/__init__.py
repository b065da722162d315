"""A pruning plan: which channels stay."""
