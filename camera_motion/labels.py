"""The ten labels and what the symmetries of a clip do to them.

Labels are named for the camera: `pan_right` = the camera turns right and the picture's content
moves left; `tilt_up` = camera up, content down; `zoom_in` = content grows; `roll_cw` = the camera
turns clockwise and the content counter-clockwise.

Clips are (T, H, W, 3) uint8 here; every symmetry returns a clip and its new label.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from video_swin_transformer.registry import DEFAULT_MODEL, find_card

LABELS = find_card(DEFAULT_MODEL).bundle.labels

Clip = NDArray[np.uint8]

# Pairs that change places; labels not named stay what they are.
_MIRROR_SWAPS = (("pan_left", "pan_right"), ("roll_cw", "roll_ccw"))
_REVERSAL_SWAPS = (
    ("pan_left", "pan_right"),
    ("tilt_up", "tilt_down"),
    ("zoom_in", "zoom_out"),
    ("roll_cw", "roll_ccw"),
)
# Transposition swaps the axes: right (+x) becomes down (+y), and the sense of turning is reversed.
_TRANSPOSITION_SWAPS = (
    ("pan_right", "tilt_down"),
    ("pan_left", "tilt_up"),
    ("roll_cw", "roll_ccw"),
)


def _label_map(swaps: tuple[tuple[str, str], ...]) -> tuple[int, ...]:
    new = {name: name for name in LABELS}
    for one, other in swaps:
        new[one], new[other] = other, one
    return tuple(LABELS.index(new[name]) for name in LABELS)


MIRRORED = _label_map(_MIRROR_SWAPS)
REVERSED = _label_map(_REVERSAL_SWAPS)
TRANSPOSED = _label_map(_TRANSPOSITION_SWAPS)


def mirror(clip: Clip, label: int) -> tuple[Clip, int]:
    """Left and right change places in every frame."""
    return clip[:, :, ::-1], MIRRORED[label]


def reverse(clip: Clip, label: int) -> tuple[Clip, int]:
    """The last frame comes first."""
    return clip[::-1], REVERSED[label]


def transpose(clip: Clip, label: int) -> tuple[Clip, int]:
    """Rows become columns in every (square) frame."""
    return clip.transpose(0, 2, 1, 3), TRANSPOSED[label]


SYMMETRIES = ((mirror, MIRRORED), (reverse, REVERSED), (transpose, TRANSPOSED))


def random_symmetry(clip: Clip, label: int, rng: np.random.Generator) -> tuple[Clip, int]:
    """Each symmetry with even chance; the result is contiguous."""
    for symmetry, _ in SYMMETRIES:
        if rng.random() < 0.5:
            clip, label = symmetry(clip, label)
    return np.ascontiguousarray(clip), label
