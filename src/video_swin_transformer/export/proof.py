"""What an export must show before it is written: the answers of the eager network.

Views of real videos and random ones go through both; the differences are kept in the sidecar.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import ExportError
from ..runtimes.protocol import ClipShape, Floats, Runtime, ViewOutputs

# Largest relative error (of the largest value) of logits and features that is let through. For
# int8 it holds for views of videos: random pixels are not what it was calibrated on.
BOUNDS = {"f32": 1e-4, "int8": 0.1}
LEAST_TOP1_AGREEMENT = {"f32": 1.0, "int8": 0.95}
NUM_RANDOM_VIEWS = 4


@dataclass(frozen=True)
class Comparison:
    """One set of views through both. Relative errors are of the largest value of the reference."""

    views: str  # which ones
    num_views: int
    logits_max_absolute_error: float
    logits_max_relative_error: float
    features_max_absolute_error: float
    features_max_relative_error: float
    top1_agreement: float  # share of views with the same best class

    @property
    def max_relative_error(self) -> float:
        return max(self.logits_max_relative_error, self.features_max_relative_error)


def compare(views: str, expected: ViewOutputs, got: ViewOutputs) -> Comparison:
    """The differences between two runs over the same views."""
    logits, features = (np.abs(a - b).max() for a, b in zip(expected, got, strict=True))
    same = expected.logits.argmax(axis=1) == got.logits.argmax(axis=1)
    return Comparison(
        views=views,
        num_views=len(same),
        logits_max_absolute_error=float(logits),
        logits_max_relative_error=float(logits / np.abs(expected.logits).max()),
        features_max_absolute_error=float(features),
        features_max_relative_error=float(features / np.abs(expected.features).max()),
        top1_agreement=float(same.mean()),
    )


def prove(
    exported: Runtime,
    precision: str,
    cases: dict[str, tuple[Floats, ViewOutputs]],
    max_error: float | None = None,
) -> dict[str, Any]:
    """The proof for the sidecar. Raises ExportError where an error is beyond its bound.

    cases: views by name, with what the eager network says of them; those named "random" only
    count for f32. max_error: the largest relative error, instead of the one of BOUNDS.
    """
    bound = BOUNDS[precision] if max_error is None else max_error
    results = [compare(name, known, exported.run(views)) for name, (views, known) in cases.items()]
    for one in results:
        counts = precision == "f32" or one.views != "random"
        # Written so that a NaN fails.
        close = one.max_relative_error <= bound
        agrees = one.top1_agreement >= LEAST_TOP1_AGREEMENT[precision]
        if counts and not (close and agrees):
            raise ExportError(
                f"The exported model differs from the network on {one.views} views: relative "
                f"error {one.max_relative_error:.2g} (at most {bound:g}), same best class for "
                f"{one.top1_agreement:.1%} (at least {LEAST_TOP1_AGREEMENT[precision]:.0%}). "
                "Nothing was written." + _what_to_do(precision)
            )
    return {
        "engine": exported.description,
        "max_relative_error_allowed": bound,
        "comparisons": [asdict(one) for one in results],
    }


def _what_to_do(precision: str) -> str:
    if precision == "int8":
        return " Calibrate on more clips of the kind the model will see, or use f32."
    return " That is a fault of the exporter: try another --format, and report it."


def random_views(shape: ClipShape) -> Floats:
    """Normal noise, the same every time: the inputs no video gives."""
    noise = np.random.default_rng(0).standard_normal((NUM_RANDOM_VIEWS, *shape))
    return noise.astype(np.float32)


def rendered_video(num_frames: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(T, 240, 320, 3) uint8: a coloured pattern that drifts, where no real clip was given."""
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
