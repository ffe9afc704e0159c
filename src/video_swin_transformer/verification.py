"""Compares a compiled or exported model with the eager model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .config import ClipShape
from .errors import ExportError
from .postprocess import Floats, ViewOutputs

# Maximum relative error of a compiled model.
MAX_RELATIVE_ERROR = {"f32": 1e-4, "bf16": 0.1}

# Bounds for an exported model. For int8 they apply to views of videos only, since the model was
# not calibrated on random pixels.
MAX_EXPORT_ERROR = {"f32": 1e-4, "int8": 0.1}
MIN_TOP1_AGREEMENT = {"f32": 1.0, "int8": 0.95}
NUM_RANDOM_VIEWS = 4
RANDOM = "random"


def relative_error(expected: Sequence[Floats], actual: Sequence[Floats]) -> float:
    """Computes the maximum absolute difference relative to the maximum absolute value.

    Args:
        expected: Outputs of the reference model.
        actual: Outputs of the same shapes.

    Returns:
        The largest relative error of all outputs; NaN if any value is NaN.
    """
    pairs = zip(expected, actual, strict=True)
    return float(np.max([np.abs(a - b).max() / np.abs(a).max() for a, b in pairs]))


@dataclass(frozen=True)
class Comparison:
    """Differences between the outputs of two models. Relative errors: see `relative_error`.

    Attributes:
        views: Name of the set of views.
        num_views: Number of views.
        logits_max_absolute_error: Maximum absolute difference of logits.
        logits_max_relative_error: Maximum relative difference of logits.
        features_max_absolute_error: Maximum absolute difference of features.
        features_max_relative_error: Maximum relative difference of features.
        top1_agreement: Fraction of views with the same top-1 class, in [0, 1].
    """

    views: str
    num_views: int
    logits_max_absolute_error: float
    logits_max_relative_error: float
    features_max_absolute_error: float
    features_max_relative_error: float
    top1_agreement: float

    @property
    def max_relative_error(self) -> float:
        """The larger relative error of logits and features."""
        return max(self.logits_max_relative_error, self.features_max_relative_error)


def compare(views: str, expected: ViewOutputs, actual: ViewOutputs) -> Comparison:
    """Compares the outputs of two models.

    Args:
        views: Name of the set of views.
        expected: Outputs of the reference model.
        actual: Outputs of the model to compare.

    Returns:
        The differences.
    """
    logits, features = (np.abs(a - b).max() for a, b in zip(expected, actual, strict=True))
    same = expected.logits.argmax(axis=1) == actual.logits.argmax(axis=1)
    return Comparison(
        views=views,
        num_views=len(same),
        logits_max_absolute_error=float(logits),
        logits_max_relative_error=relative_error(expected[:1], actual[:1]),
        features_max_absolute_error=float(features),
        features_max_relative_error=relative_error(expected[1:], actual[1:]),
        top1_agreement=float(same.mean()),
    )


def verify(
    run: Callable[[Floats], ViewOutputs],
    precision: str,
    cases: Mapping[str, tuple[Floats, ViewOutputs]],
    max_error: float | None = None,
) -> dict[str, Any]:
    """Verifies the outputs of an exported model.

    Args:
        run: Runs the exported model on views (V, C, T, H, W).
        precision: "f32" or "int8"; selects the bounds.
        cases: Views and the outputs of the eager model for them, by name. For int8, the bounds do
            not apply to the case `RANDOM`.
        max_error: Maximum relative error; None uses `MAX_EXPORT_ERROR`.

    Returns:
        The measured errors, as JSON data for the sidecar.

    Raises:
        ExportError: A bound is exceeded.
    """
    bound = MAX_EXPORT_ERROR[precision] if max_error is None else max_error
    min_agreement = MIN_TOP1_AGREEMENT[precision]
    comparisons = [compare(name, expected, run(views)) for name, (views, expected) in cases.items()]
    for one in comparisons:
        if precision != "f32" and one.views == RANDOM:
            continue
        # Written so that a NaN fails.
        if not (one.max_relative_error <= bound and one.top1_agreement >= min_agreement):
            raise ExportError(
                f"The outputs of the exported model differ from the eager model on {one.views} "
                f"views: relative error {one.max_relative_error:.2g} (maximum {bound:g}), top-1 "
                f"agreement {one.top1_agreement:.1%} (minimum {min_agreement:.0%}). Nothing was "
                f"written. {_advice(precision)}"
            )
    return {
        "max_relative_error_allowed": bound,
        "comparisons": [asdict(one) for one in comparisons],
    }


def _advice(precision: str) -> str:
    if precision == "int8":
        return "Calibrate on more clips that resemble your data, or export in f32."
    return "This is a bug in the exporter: try another format, and please report it."


def random_views(shape: ClipShape) -> Floats:
    """Returns Gaussian noise with a fixed seed: (NUM_RANDOM_VIEWS, *shape) float32."""
    noise = np.random.default_rng(0).standard_normal((NUM_RANDOM_VIEWS, *shape))
    return noise.astype(np.float32)


def synthetic_video(num_frames: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Returns a moving color pattern: (num_frames, 240, 320, 3) uint8 RGB."""
    y, x = np.mgrid[:240, :320].astype(np.float32)
    frames = [
        np.stack(
            [
                np.sin((x + 3 * t) / (9 + 5 * c)) * np.cos((y - 2 * t) / (13 + 4 * c))
                for c in range(3)
            ],
            axis=-1,
        )
        for t in range(num_frames)
    ]
    return ((np.stack(frames) + 1) * 127.5).astype(np.uint8)
