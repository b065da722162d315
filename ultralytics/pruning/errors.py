"""What goes wrong through no fault of the code: said in one line, by the stages with exit code 2."""


class PruningError(ValueError):
    """Says what was found and what to do, in one line."""
