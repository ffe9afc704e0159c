"""How many modules a reader meets on the way through a flow, and how often it changes module.

Runs one flow under `sys.setprofile` and counts, within the package, the modules of which a
function ran and the distinct hand-offs: (calling function, called function) in two modules.
Calls through torch, the standard library or a lambda count for the module that made them.

    python -m benchmarks.call_flow classify
    python -m benchmarks.call_flow load_checkpoint --list
"""

from __future__ import annotations

import argparse
import inspect
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parent.parent
CLIP = ROOT / "examples" / "clips" / "pan_left.mp4"

Place = tuple[str, str]  # module and function


class CallFlow:
    """Collects the modules and hand-offs of the calls made while it is active."""

    def __init__(self, package: Path) -> None:
        self._package = str(package)
        self.modules: set[str] = set()
        self.hand_offs: set[tuple[Place, Place]] = set()

    def __enter__(self) -> CallFlow:
        threading.setprofile(self._see)
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _place(self, frame: FrameType) -> Place | None:
        path = frame.f_code.co_filename
        is_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED  # no class body, no module
        if not is_function or not path.startswith(self._package):
            return None
        module = Path(path).relative_to(self._package).with_suffix("").as_posix()
        return module, frame.f_code.co_qualname

    def _see(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or (called := self._place(frame)) is None:
            return
        self.modules.add(called[0])
        caller = frame.f_back
        while caller is not None and (calling := self._place(caller)) is None:
            caller = caller.f_back
        if caller is not None and calling is not None and calling[0] != called[0]:
            self.hand_offs.add((calling, called))


def _classify() -> Callable[[], object]:
    from video_swin_transformer import cli

    return lambda: cli.run(["classify", str(CLIP), "--runtime", "torch"])


def _load_checkpoint() -> Callable[[], object]:
    import video_swin_transformer as vst

    folder = tempfile.mkdtemp()
    model = vst.create_model("camera-motion", pretrained=True)
    model.save_pretrained(folder)
    return lambda: vst.load_checkpoint(Path(folder) / "model.safetensors")


FLOWS = {"classify": _classify, "load_checkpoint": _load_checkpoint}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flow", choices=FLOWS)
    parser.add_argument("--list", action="store_true", help="print every hand-off")
    options = parser.parse_args()
    import video_swin_transformer

    call = FLOWS[options.flow]()
    call()  # imports, and what a first start builds and caches
    with CallFlow(Path(str(video_swin_transformer.__file__)).parent) as flow:
        call()
    print(
        len({(a[0], b[0]) for a, b in flow.hand_offs}), len({(a[0], b) for a, b in flow.hand_offs})
    )
    print(f"{options.flow}: {len(flow.modules)} modules, {len(flow.hand_offs)} hand-offs")
    if options.list:
        print("\n".join(sorted(flow.modules)))
        for calling, called in sorted(flow.hand_offs):
            print(f"{':'.join(calling)} -> {':'.join(called)}")


if __name__ == "__main__":
    main()
