"""From scores to a choice of channels."""
