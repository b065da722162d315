"""A process that has imported everything, and forks one for each script that a test runs: six seconds less for each.

Started by `python.run_python` in the folder of a repository, it reads requests, a line of JSON each, and answers with
a line: the child's process id, then its exit code. A child is what `python script.py words` would be, but for the
imports; what the tests have patched is not in it, and the milliseconds before and after a cut are planted. A request
may name a folder in the place of `runs/`, a fault (see `faults.py`), and a folder in which the zygote itself works
meanwhile.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import sys
from pathlib import Path

import faults

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
PLANTED = (50.0, 2.0, 0.0)  # as in helpers/timings.py: milliseconds before and after a cut, and their spread
CALLBACKS = ("platform", "clearml", "comet", "dvc", "mlflow", "raytune")
STAGES = ("compress_options", "compressing", "latency_table", "measuring", "pruning", "training")
IMPORTED = (  # what stages import while they run, as far as it is installed
    "onnx",
    "onnxruntime",
    "onnxslim",
    "torch.onnx",
    "torch.utils.tensorboard",
    "matplotlib.pyplot",
    "polars",
    "ray",
    "thop",
    "ultralytics.engine.exporter",
    "ultralytics.pruning.data.downloads",
    "ultralytics.pruning.data.label_caches",
    *(f"ultralytics.pruning.stages.{name}" for name in STAGES),
    *(f"ultralytics.utils.callbacks.{name}" for name in CALLBACKS),
)


def import_everything() -> None:
    """Imports what scripts import, without starting a thread: a fork would lose it."""
    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import torch

    from ultralytics.models import YOLO
    from ultralytics.pruning.networks.rebuild import is_pruned

    torch.set_num_threads(1)
    is_pruned(YOLO("yolov8n.yaml").model)  # operations on the meta device import more on their first use
    gc.collect()
    gc.freeze()  # else each child's first collection of garbage copies all pages of the parent


def become(request: dict) -> None:
    """Runs a script in this process, and ends it with the script's exit code."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)
    for stream, file in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
        os.dup2(os.open(file, os.O_RDONLY if not stream else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.argv = request["words"]
    folders = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = [os.path.dirname(os.path.abspath(sys.argv[0])), *folders]
    code = 0
    if request.get("runs"):
        from ultralytics.pruning.files import places

        places.RUNS = Path(request["runs"])
    from ultralytics.pruning.latency import comparing, turns

    comparing.time_networks = lambda *networks: PLANTED
    turns.paces = lambda runs, threads, **how: dict.fromkeys(runs, turns.Pace(8.0, 4.0, 0.02, 30))
    faults.install(request.get("fault") or {})
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Forks a child for each request until the tests end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what imports print is no answer
    sys.path[0] = os.getcwd()
    import_everything()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, maybe, where the tests run in the background
    from ultralytics.pruning.files import locks

    for line in sys.stdin:
        request = json.loads(line)
        locked = request.get("locked")
        with locks.alone_in(Path(locked)) if locked else contextlib.nullcontext():
            child = os.fork()
            if not child:
                become(request)
            print(child, file=answers, flush=True)
            _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    serve()
