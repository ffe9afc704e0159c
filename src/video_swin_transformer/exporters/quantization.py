"""Post-training int8 quantization with NNCF.

Weights and activations of matrix products are quantized; all other operations stay in floating
point (bf16 if the CPU supports it). Activation ranges are calibrated on views of videos. If the
error is too large, layers are reverted to floating point, starting with the one that affects the
outputs most.
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

# Maximum number of calibration views; more take longer and hardly change the result.
MAX_CALIBRATION_VIEWS = 64


def quantize(graph: Any, views: Floats, expected: ViewOutputs, max_error: float) -> Any:
    """Quantizes an OpenVINO model to int8.

    Args:
        graph: The `openvino.Model`, for batches of one view.
        views: (V, C, T, H, W) float32, calibration views.
        expected: Outputs of the eager model for `views`.
        max_error: Relative error above which layers are reverted to floating point.

    Returns:
        The quantized `openvino.Model`.

    Raises:
        MissingExtraError: NNCF is not installed.
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
    """Validation metric for NNCF: the negative of the largest relative error of any output."""
    maxima = np.zeros((2, 2))  # logits and features: difference, value
    for view, *expected in items:
        results = compiled(view)
        for number, (row, value) in enumerate(zip(maxima, expected, strict=True)):
            row[0] = max(row[0], np.abs(results[number][0] - value).max())
            row[1] = max(row[1], np.abs(value).max())
    return -float((maxima[:, 0] / maxima[:, 1]).max()), None


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the log messages of NNCF and redirects its progress bars to stderr."""
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
