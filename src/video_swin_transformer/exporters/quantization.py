"""int8 by post-training quantization (NNCF): weights and activations of the matrix products.

Ranges are measured on views of the videos given. What is no matrix product stays in float (bf16
where the CPU has it). If the answers come out too far from those of the network, layers go back to
float, the most harmful first, until they do not.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np

from ..errors import MissingExtraError
from ..postprocess import Floats, ViewOutputs
from ..telemetry import without_telemetry

# Views that ranges and errors are measured on; more cost time and change next to nothing.
MAX_CALIBRATION_VIEWS = 64


def quantize(graph: Any, views: Floats, expected: ViewOutputs, max_error: float) -> Any:
    """The OpenVINO graph in int8.

    views: (V, C, T, H, W), expected: what the network says of them; max_error: the relative
    error from which on layers go back to float.
    """
    with _quiet():
        try:
            with without_telemetry():
                import nncf
        except ImportError as error:
            raise MissingExtraError("nncf", "openvino", "Exporting in int8") from error
    indices = np.unique(np.linspace(0, len(views) - 1, MAX_CALIBRATION_VIEWS).round().astype(int))
    items = [(views[i : i + 1], expected.logits[i], expected.features[i]) for i in indices]
    data = nncf.Dataset(items, lambda item: item[0])
    with _quiet():
        return nncf.quantize_with_accuracy_control(
            graph,
            calibration_dataset=data,
            validation_dataset=data,
            validation_fn=_negative_max_error,
            max_drop=max_error,
            subset_size=len(items),
            model_type=nncf.ModelType.TRANSFORMER,
        )


def _negative_max_error(
    compiled: Any, items: Iterable[tuple[Floats, Floats, Floats]]
) -> tuple[float, list[float] | None]:
    """Minus the largest relative error of logits and features: what NNCF keeps from dropping."""
    maxima = np.zeros((2, 2))  # logits and features: difference, value
    for view, *expected in items:
        results = compiled(view)
        for number, (row, value) in enumerate(zip(maxima, expected, strict=True)):
            row[0] = max(row[0], np.abs(results[number][0] - value).max())
            row[1] = max(row[1], np.abs(value).max())
    return -float((maxima[:, 0] / maxima[:, 1]).max()), None


@contextmanager
def _quiet() -> Iterator[None]:
    """NNCF tells of every pattern it finds, of GPUs it does not find, and draws on stdout."""
    logs = [logging.getLogger(name) for name in ("nncf", "torch.utils.cpp_extension")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
