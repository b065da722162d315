"""Data sets that a user names: found and checked; no code of theirs is run."""
