"""Data sets that a user names: found, checked, never run."""
