"""The release's `utils/torch_utils.py` with the edit between the `=====` lines."""

from ultralytics import run_release

run_release(globals())

# ===== a checkpoint is shrunk beside itself and renamed, never in place: here, where everybody takes the function =====
_release_strip_optimizer = strip_optimizer


def strip_optimizer(f="best.pt", s="", updates=None):
    """The release's function of this name, but never writing in place."""
    from ultralytics.pruning.files import whole
    from ultralytics.pruning.release import quiet_release

    target = Path(s or f)
    whole.remove_leftovers(target.parent, target.stem)
    temporary = target.with_name(whole.temporary_name(target.stem) + target.suffix)
    try:
        with quiet_release(), whole.naming_the_disk(target.parent):  # it would name the temporary file
            stripped = _release_strip_optimizer(f, temporary, updates)
            if temporary.exists():  # else it was no checkpoint, as the release has said
                os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    if stripped:
        LOGGER.info(f"Optimizer stripped from {f}, {target.stat().st_size / 1e6:.1f}MB")
    return stripped


# =====
