"""Passes over images outside of a training: isolated, within the memory that is there."""
