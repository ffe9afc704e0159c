"""How many modules a reader meets in a flow, and how many functions are entered from another one.

Runs a flow once to warm up, then under `sys.setprofile`, and counts within the package

    modules    of which a function ran
    hand-offs  functions that a function of another module called directly

Module and class bodies do not count, and neither do calls that a library makes (a `forward`
called by `torch.nn.Module`).

    python -m benchmarks.call_flow classify
    python -m benchmarks.call_flow load_checkpoint --list
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import video_swin_transformer as vst

ROOT = Path(__file__).parent.parent
PACKAGE = str(Path(str(vst.__file__)).parent)
CLIP = ROOT / "examples" / "clips" / "pan_left.mp4"

Function = tuple[str, str]  # module and qualified name


class CallFlow:
    """Collects the modules and hand-offs of the calls made while it is active."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.hand_offs: dict[Function, Function] = {}  # called function -> one of its callers

    def __enter__(self) -> CallFlow:
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or (called := _function_of(frame)) is None:
            return
        self.modules.add(called[0])
        caller = None if frame.f_back is None else _function_of(frame.f_back)
        if caller is not None and caller[0] != called[0]:
            self.hand_offs.setdefault(called, caller)


def _function_of(frame: FrameType) -> Function | None:
    code = frame.f_code
    if not code.co_filename.startswith(PACKAGE) or not code.co_flags & inspect.CO_OPTIMIZED:
        return None
    module = Path(code.co_filename).relative_to(PACKAGE).with_suffix("").as_posix()
    return module, code.co_qualname


def _classify() -> Callable[[], object]:
    from video_swin_transformer import cli

    return lambda: cli.run(["classify", str(CLIP), "--runtime", "torch"])


def _load_checkpoint() -> Callable[[], object]:
    from video_swin_transformer.weights.checkpoint import load_checkpoint

    return lambda: load_checkpoint("camera-motion")


def _export() -> Callable[[], object]:
    from video_swin_transformer import cli

    folder = tempfile.mkdtemp()
    numbers = itertools.count()
    return lambda: cli.run(
        ["export", "--format", "torch", "--out", f"{folder}/{next(numbers)}.pt2", "camera-motion"]
    )


def _train() -> Callable[[], object]:
    """One step on four clips of two classes, from the command to the saved model."""
    from video_swin_transformer import cli

    folder = Path(tempfile.mkdtemp())
    for label in ("pan_left", "pan_right"):
        (folder / "data" / label).mkdir(parents=True)
        for copy in range(2):
            clip = CLIP.with_name(f"{label}.mp4")
            shutil.copy(clip, folder / "data" / label / f"{copy}.mp4")
    numbers = itertools.count()
    settings = [f"data={folder / 'data'}", "schedule.epochs=1", "schedule.warmup_epochs=0"]
    settings += ["run.workers=0"]
    return lambda: cli.run(
        ["train", "finetune", *settings, "--out", str(folder / f"run{next(numbers)}")]
    )


FLOWS = {
    "classify": _classify,
    "load_checkpoint": _load_checkpoint,
    "export": _export,
    "train": _train,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flow", choices=FLOWS)
    parser.add_argument("--list", action="store_true", help="print every hand-off")
    options = parser.parse_args()
    call = FLOWS[options.flow]()
    call()  # imports, and what a first call builds or caches
    with CallFlow() as flow:
        call()
    print(f"{options.flow}: {len(flow.modules)} modules, {len(flow.hand_offs)} hand-offs")
    if options.list:
        print("\n".join(sorted(flow.modules)))
        for called, caller in sorted(flow.hand_offs.items(), key=lambda pair: pair[1]):
            print(f"{':'.join(caller)} -> {':'.join(called)}")


if __name__ == "__main__":
    main()
