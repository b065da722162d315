"""The cut: weights out, constants folded, the result checked against its definition."""
