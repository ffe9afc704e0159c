"""Imports libraries with telemetry disabled, unless VIDEOSWIN_TELEMETRY=1.

How telemetry is disabled:

- OpenVINO and NNCF use the package `openvino_telemetry`, which sends events and writes an id to the
  home folder unless a file there opts out. It has no setting per process. Both libraries contain a
  stub for the case that the package is not installed. Therefore the package is blocked during the
  import by a None entry in `sys.modules`, which is removed afterwards.
- ONNX Runtime (1.32) sends events from native code, and writes an id and a database to the cache
  folder, unless ORT_DISABLE_TELEMETRY is set when it is imported.
- huggingface_hub (also through transformers and accelerate) reads HF_HUB_DISABLE_TELEMETRY when it
  is imported.
- Gradio and Ray read GRADIO_ANALYTICS_ENABLED and RAY_USAGE_STATS_ENABLED when a page is built or a
  cluster is started, so these calls must be inside the block as well.

Environment variables are set only during the import, and only if the user has not set them.
Libraries that have been imported before are not affected.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH = "VIDEOSWIN_TELEMETRY"  # 1 uses the libraries' own settings

_VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_BLOCKED = "openvino_telemetry"
_ABSENT = object()
_lock = threading.RLock()  # concurrent blocks would restore each other's values


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Disables the telemetry of libraries that are imported inside the block."""
    if os.environ.get(SWITCH) == "1":
        yield
        return
    with _lock:
        variables = {name: value for name, value in _VARIABLES.items() if name not in os.environ}
        previous = sys.modules.get(_BLOCKED, _ABSENT)
        os.environ.update(variables)
        sys.modules[_BLOCKED] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            for name in variables:
                os.environ.pop(name, None)
            if previous is _ABSENT:
                sys.modules.pop(_BLOCKED, None)
            else:
                sys.modules[_BLOCKED] = previous  # type: ignore[assignment]
