"""Imports libraries with their telemetry switched off: no network unless the user asks for it.

How the libraries decide, and what `without_telemetry` does about it:

- OpenVINO and NNCF hand events to the package `openvino_telemetry` when they are imported and used.
  It sends them and writes an id into the home folder, unless a file there opts out. It has no
  setting for one process, and the file is the user's. Both libraries contain a stub for where the
  package is not installed, and choose between the two on import. So the package is blocked during
  the import, by an entry of None in `sys.modules` (Python's own way), which is removed afterwards.
- ONNX Runtime (1.32) reports from native code, and writes an id and a database into the cache
  folder, unless ORT_DISABLE_TELEMETRY is set when it is imported.
- huggingface_hub (also through transformers and accelerate) reads HF_HUB_DISABLE_TELEMETRY when it
  is imported.
- Gradio and Ray read GRADIO_ANALYTICS_ENABLED and RAY_USAGE_STATS_ENABLED when a page is built or a
  cluster is started, and Ray's processes inherit it: those calls belong inside the block as well.

Environment variables are set only during the import, and only where the user has not set them. A
library that the program has imported before is left unchanged.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH = "VIDEOSWIN_TELEMETRY"  # 1 leaves all libraries to their own settings

_VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_BLOCKED = "openvino_telemetry"
_ABSENT = object()
_switching = threading.RLock()  # concurrent blocks would restore each other's values


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Switches off the telemetry of libraries that are imported inside the block."""
    if os.environ.get(SWITCH) == "1":
        yield
        return
    with _switching:
        ours = {name: value for name, value in _VARIABLES.items() if name not in os.environ}
        before = sys.modules.get(_BLOCKED, _ABSENT)
        os.environ.update(ours)
        sys.modules[_BLOCKED] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            for name in ours:
                os.environ.pop(name, None)
            if before is _ABSENT:
                sys.modules.pop(_BLOCKED, None)
            else:
                sys.modules[_BLOCKED] = before  # type: ignore[assignment]
