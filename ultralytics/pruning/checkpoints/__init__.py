"""Reading and writing of checkpoints: restricted, checked, whole."""
