"""Compares a compiled or exported model with the eager network it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .config import ClipShape
from .errors import ExportError
from .postprocess import Floats, ViewOutputs

# Largest relative error of a compiled model that is used in place of the network.
MAX_RELATIVE_ERROR = {"f32": 1e-4, "bf16": 0.1}

# Bounds of an exported file. For int8 they hold on views of videos only: random pixels are not
# what the model was calibrated on.
MAX_EXPORT_ERROR = {"f32": 1e-4, "int8": 0.1}
MIN_TOP1_AGREEMENT = {"f32": 1.0, "int8": 0.95}
NUM_RANDOM_VIEWS = 4
RANDOM = "random"


def relative_error(expected: Sequence[Floats], actual: Sequence[Floats]) -> float:
    """Largest difference of any output as a share of that output's largest value.

    Args:
        expected: outputs of the reference.
        actual: outputs to compare, of the same shapes.

    Returns:
        The error; NaN if any value is NaN.
    """
    pairs = zip(expected, actual, strict=True)
    return float(np.max([np.abs(a - b).max() / np.abs(a).max() for a, b in pairs]))


@dataclass(frozen=True)
class Comparison:
    """Differences of two models on the same views. Relative errors: see `relative_error`."""

    views: str  # the name of the set of views
    num_views: int
    logits_max_absolute_error: float
    logits_max_relative_error: float
    features_max_absolute_error: float
    features_max_relative_error: float
    top1_agreement: float  # share of views with the same best class

    @property
    def max_relative_error(self) -> float:
        return max(self.logits_max_relative_error, self.features_max_relative_error)


def compare(views: str, expected: ViewOutputs, actual: ViewOutputs) -> Comparison:
    """Compares two models' outputs for the views named `views`."""
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
    """Checks an exported model against the outputs of the eager network.

    Args:
        run: the exported model.
        precision: "f32" or "int8", which selects the bounds.
        cases: views and the network's outputs for them, by name. The case `RANDOM` is measured
            but does not count for int8.
        max_error: largest relative error allowed; None for the bound of the precision.

    Returns:
        The errors measured, for the sidecar.

    Raises:
        ExportError: a bound is exceeded.
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
                f"The exported model differs from the network on {one.views} views: relative "
                f"error {one.max_relative_error:.2g} (at most {bound:g}), same best class for "
                f"{one.top1_agreement:.1%} of them (at least {min_agreement:.0%}). Nothing was "
                f"written. {_advice(precision)}"
            )
    return {
        "max_relative_error_allowed": bound,
        "comparisons": [asdict(one) for one in comparisons],
    }


def _advice(precision: str) -> str:
    if precision == "int8":
        return "Calibrate on more clips of the kind the model will see, or export in f32."
    return "This is a fault of the exporter: try another format, and report it."


def random_views(shape: ClipShape) -> Floats:
    """(NUM_RANDOM_VIEWS, *shape) float32 Gaussian noise, the same on every call."""
    noise = np.random.default_rng(0).standard_normal((NUM_RANDOM_VIEWS, *shape))
    return noise.astype(np.float32)


def synthetic_video(num_frames: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(num_frames, 240, 320, 3) uint8 RGB: a drifting color pattern, for want of a real clip."""
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
