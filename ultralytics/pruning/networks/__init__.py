"""A network beside its yaml: whether it is pruned, and what training on without rebuilding keeps."""
