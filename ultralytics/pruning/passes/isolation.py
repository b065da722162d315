"""Passes outside of a training (over images, an export, a measurement) leave the process as it was and call nobody."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

Restore = Callable[[], object]


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Runs a block whose changes of global state are undone behind it, whatever ends it.

    That is: the random states of Python, NumPy and PyTorch, the switches of its arithmetic, threads, grad mode and
    current GPU, environment variables, levels of loggers, warning filters, Matplotlib's settings, those of the release
    and its callbacks. In the block, nothing that the release makes has callbacks: neither of its integrations
    (experiment trackers, analytics) nor defaults that somebody has added.
    """
    with warnings.catch_warnings():
        undo = [save() for save in SAVERS]
        try:
            _silence_callbacks()
            yield
        finally:
            for restore in reversed(undo):
                restore()


class Reproducible:
    """A random state of its own and deterministic arithmetic, in any number of blocks, each of which is `isolated`.

    The random state goes on in a block from where it was at the end of the one before.

    Args:
        seed: Where it begins.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed % 2**32  # what NumPy takes
        self._continue: Restore | None = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Runs a block."""
        with isolated():
            warnings.filterwarnings("ignore", message=".*deterministic", category=UserWarning)
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            if self._continue:
                self._continue()
            else:
                _seed_all(self._seed)
            try:
                yield
            finally:
                self._continue = _random_states()


@contextlib.contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Runs a block in the mode of a fresh process, in which networks are deployed and timed: not deterministic."""
    restore = _arithmetic()
    try:
        if torch.are_deterministic_algorithms_enabled():  # to ask for what is so already imports a compiler: seconds
            torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = torch.backends.cudnn.benchmark = False
        torch.autograd.set_detect_anomaly(False)
        yield
    finally:
        restore()


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    if torch.cuda.is_initialized():
        torch.manual_seed(seed)
    else:  # it would also seed GPUs, at the moment that they are used, which may be behind the block
        torch.default_generator.manual_seed(seed)


def _random_states() -> Restore:
    python, of_numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    apple = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(of_numpy)
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
        if apple is not None:
            torch.mps.set_rng_state(apple)

    return restore


def _arithmetic() -> Restore:
    cudnn, deterministic = torch.backends.cudnn, torch.utils.deterministic  # type: ignore[attr-defined]
    switches = [(cudnn, name) for name in ("enabled", "benchmark", "deterministic")]
    switches += [(deterministic, "fill_uninitialized_memory")]
    before = [(owner, name, getattr(owner, name)) for owner, name in switches]
    mode, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    anomaly, nan = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    dtype, precision, grad = torch.get_default_dtype(), torch.get_float32_matmul_precision(), torch.is_grad_enabled()
    threads, gpu = torch.get_num_threads(), torch.cuda.current_device() if torch.cuda.is_initialized() else None

    def restore() -> None:
        for owner, name, value in before:
            setattr(owner, name, value)
        if (mode, warns) != (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ):
            torch.use_deterministic_algorithms(mode, warn_only=warns)
        torch.autograd.set_detect_anomaly(anomaly, check_nan=nan)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if torch.get_float32_matmul_precision() != precision:
            torch.set_float32_matmul_precision(precision)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if gpu is not None:
            torch.cuda.set_device(gpu)

    return restore


def _environment() -> Restore:
    before = dict(os.environ)

    def restore() -> None:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value

    return restore


def _loggers() -> Restore:
    known = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    before = [(logger, logger.level, logger.disabled) for logger in known if isinstance(logger, logging.Logger)]
    everything = logging.root.manager.disable

    def restore() -> None:
        for logger, level, disabled in before:
            if logger.level != level:
                logger.setLevel(level)
            logger.disabled = disabled
        logging.disable(everything)

    return restore


def _matplotlib() -> Restore:
    library: Any = sys.modules.get("matplotlib")
    if library is None:
        return lambda: None
    before = library.rcParams.copy()  # without asking for the backend, which would choose one
    return lambda: dict.update(library.rcParams, before)


def _callback_lists() -> list[dict[str, Any]]:
    """Returns the release's tables of default callbacks: a training leaves a copy of it under the public name."""
    from ultralytics.utils import callbacks
    from ultralytics.utils.callbacks import base

    tables: list[dict[str, Any]] = [base.default_callbacks, callbacks.default_callbacks]
    return tables[:1] if tables[0] is tables[1] else tables


def _settings_and_callbacks() -> Restore:
    from ultralytics import utils
    from ultralytics.utils import callbacks

    settings, before = dict(utils.SETTINGS), [(listed, dict(listed)) for listed in _callback_lists()]
    integrations = callbacks.add_integration_callbacks

    def restore() -> None:
        if dict(utils.SETTINGS) != settings:  # in memory: the file is the user's
            dict.clear(utils.SETTINGS)
            dict.update(utils.SETTINGS, settings)
        for listed, lists in before:
            listed.clear()
            listed.update(lists)
        callbacks.add_integration_callbacks = integrations

    return restore


def _silence_callbacks() -> None:
    from ultralytics.utils import callbacks

    for listed in _callback_lists():
        listed.update({event: [] for event in listed})
    callbacks.add_integration_callbacks = lambda instance: None


SAVERS: tuple[Callable[[], Restore], ...] = (
    _random_states,
    _arithmetic,
    _environment,
    _loggers,
    _matplotlib,
    _settings_and_callbacks,
)
