"""Virtual camera paths: where the camera looks in each frame of a clip, for every label.

A path is given in units that do not depend on picture or frame size:
    shift      (T, 2) camera position in frame widths, x to the right, y down
    log_scale  (T,)   natural log of picture pixels per frame pixel: falling = zooming in
    angle      (T,)   radians, growing = camera turning clockwise (y points down)
    focus      (2,)   the point the zoom and the roll leave in place, in frame widths from the
                      middle of the frame
All are relative to the middle of the movement, so that the clip stays around its starting view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .labels import LABELS

Floats = NDArray[np.float64]

# Travel over the whole clip (0.7 s of real time). Widths of the frame for pans and tilts, the log
# of the ratio of scales for zooms, radians for rolls; at difficulty 1 and, in the first steps of
# training, at difficulty 0: the network first learns movements of a quarter to three quarters of
# its 8-pixel patch a frame; from wider ones alone it learns nothing for hundreds of steps.
_HARD_TRAVEL = {"pan": (0.05, 0.75), "zoom": (0.10, 0.60), "roll": (0.10, 0.75)}
_EASY_TRAVEL = {"pan": (0.12, 0.35), "zoom": (0.35, 0.80), "roll": (0.40, 1.00)}
_HARD_SHAKE = (0.018, 0.08)  # root mean square of the displacement, frame widths
_EASY_SHAKE = (0.025, 0.055)
# Below what is called a shake lies a gap that is never generated, then the unrest of "static".
_TREMBLE = 0.003
_STATIC_DRIFT = 0.010  # frame widths over the clip


@dataclass(frozen=True)
class CameraPath:
    """See the head of this module for units and signs."""

    shift: Floats
    log_scale: Floats
    angle: Floats
    focus: Floats

    def between(self, frame: int, offset: float) -> tuple[Floats, float, float]:
        """Shift, log scale and angle `offset` of a frame's spacing after `frame` (motion blur)."""
        ahead = min(frame + 1, len(self.angle) - 1)
        behind = ahead - 1
        return (
            self.shift[frame] + offset * (self.shift[ahead] - self.shift[behind]),
            float(
                self.log_scale[frame] + offset * (self.log_scale[ahead] - self.log_scale[behind])
            ),
            float(self.angle[frame] + offset * (self.angle[ahead] - self.angle[behind])),
        )


def frame_times(num_frames: int, rng: np.random.Generator) -> Floats:
    """(T,) times in frame spacings; some clips have dropped, doubled or unevenly timed frames."""
    times = np.arange(num_frames, dtype=np.float64)
    kind = rng.random()
    if kind < 0.2:
        times = np.sort(times + rng.uniform(-0.25, 0.25, num_frames))
    elif kind < 0.3:
        doubled = int(rng.integers(1, num_frames - 1))
        times[doubled] = times[doubled - 1]
    elif kind < 0.35:
        times[int(rng.integers(1, num_frames)) :] += 1.0
    return times


def progress(times: Floats, rng: np.random.Generator) -> Floats:
    """(T,) growing from 0 to 1: constant, eased, irregular, or with a pause."""
    unit = (times - times[0]) / (times[-1] - times[0])
    kind = rng.random()
    if kind < 0.4:
        return unit
    if kind < 0.55:
        return unit * unit * (3.0 - 2.0 * unit)
    if kind < 0.7:
        power = rng.uniform(1.2, 2.0)
        return unit**power if rng.random() < 0.5 else 1.0 - (1.0 - unit) ** power
    if kind < 0.9:
        steps = np.diff(unit) * rng.gamma(3.0, 1.0, len(times) - 1)
    else:
        steps = np.diff(unit)
        pause = int(rng.integers(1, 4))
        start = int(rng.integers(0, len(steps) - pause + 1))
        steps[start : start + pause] *= 0.05
    walked = np.concatenate([[0.0], np.cumsum(steps)])
    return walked / walked[-1]


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _travel(kind: str, difficulty: float, rng: np.random.Generator) -> float:
    easy, hard = _EASY_TRAVEL[kind], _HARD_TRAVEL[kind]
    low = easy[0] + difficulty * (hard[0] - easy[0])
    high = easy[1] + difficulty * (hard[1] - easy[1])
    return _log_uniform(low, high, rng)


def hand_jitter(times: Floats, rms: float, rng: np.random.Generator) -> Floats:
    """(T,) of a hand's unrest without drift: some oscillations and a little noise, given RMS."""
    wave = 0.4 * rng.standard_normal(len(times))
    for _ in range(int(rng.integers(1, 4))):
        cycles_per_frame = rng.uniform(0.1, 0.5)  # 1 to 5 a second
        phase = rng.uniform(0, 2 * np.pi)
        wave += rng.uniform(0.4, 1.0) * np.sin(2 * np.pi * cycles_per_frame * times + phase)
    line = np.polyfit(times, wave, 1)
    wave = wave - np.polyval(line, times)
    return wave * (rms / max(float(np.sqrt(np.mean(wave**2))), 1e-6))


def _drift(limit: float, times: Floats, rng: np.random.Generator) -> Floats:
    """(T,) of an unwanted small movement of at most `limit`; none in half of the clips."""
    if rng.random() < 0.5:
        return np.zeros(len(times))
    return rng.uniform(-limit, limit) * progress(times, rng)


def make_path(label: int, times: Floats, difficulty: float, rng: np.random.Generator) -> CameraPath:
    """A path that deserves `label`, with small other movements mixed in.

    times: (T,) in frame spacings, from `frame_times`. difficulty: 0 (big, clean) to 1 (all).
    """
    name = LABELS[label]
    if name == "static":
        return _static_path(times, difficulty, rng)
    if name == "shake":
        return _shake_path(times, difficulty, rng)
    kind, direction = name.split("_")
    kind = {"tilt": "pan"}.get(kind, kind)
    travel = _travel(kind, difficulty, rng)
    # How far a typical point of the picture moves: the others must stay small beside it.
    felt = {"pan": 1.0, "zoom": 0.38, "roll": 0.38}[kind] * travel
    other = 0.25 * difficulty * felt
    main = travel * progress(times, rng)
    x, y = _drift(other, times, rng), _drift(other, times, rng)
    log_scale, angle = _drift(2 * other, times, rng), _drift(2 * other, times, rng)
    if name.startswith("pan"):
        x = main if direction == "right" else -main
    elif name.startswith("tilt"):
        y = main if direction == "down" else -main
    elif kind == "zoom":
        log_scale = -main if direction == "in" else main
    else:
        angle = main if direction == "cw" else -main
    # At most a third of the way is walked back and forth: beyond that a viewer says "shake".
    jitter = min(0.02, 0.05 * felt) * difficulty * rng.uniform(0, 1) * (rng.random() < 0.6)
    if jitter > 0:
        x, y = x + hand_jitter(times, jitter, rng), y + hand_jitter(times, jitter, rng)
        angle = angle + hand_jitter(times, 0.5 * jitter, rng)
    focus = rng.uniform(-0.22, 0.22, 2) * (rng.random() < 0.6)
    return _centered(x, y, log_scale, angle, focus)


def _static_path(times: Floats, difficulty: float, rng: np.random.Generator) -> CameraPath:
    """Exactly still, or the tremble of a tripod: under a pixel of 112."""
    still = np.zeros(len(times))
    if rng.random() < 0.5:
        return _centered(still, still, still, still, np.zeros(2))
    rms = _TREMBLE * difficulty * rng.random()
    x, y = hand_jitter(times, rms, rng), hand_jitter(times, rms, rng)
    limit = _STATIC_DRIFT * difficulty
    x, y = x + _drift(limit, times, rng), y + _drift(limit, times, rng)
    return _centered(x, y, _drift(limit, times, rng), _drift(limit, times, rng), np.zeros(2))


def _shake_path(times: Floats, difficulty: float, rng: np.random.Generator) -> CameraPath:
    """A hand's unrest that can be seen, going nowhere.

    Half a cycle in a clip is a pan, and no network could name it: drawn again until the steps
    between the frames turn back.
    """
    low = _EASY_SHAKE[0] + difficulty * (_HARD_SHAKE[0] - _EASY_SHAKE[0])
    high = _EASY_SHAKE[1] + difficulty * (_HARD_SHAKE[1] - _EASY_SHAKE[1])
    rms = _log_uniform(low, high, rng)
    for _ in range(50):
        lean = rng.uniform(0.1, 1.0, 2)
        lean = lean / np.hypot(*lean)
        x, y = hand_jitter(times, rms * lean[0], rng), hand_jitter(times, rms * lean[1], rng)
        limit = 0.8 * rms * difficulty
        x, y = x + _drift(limit, times, rng), y + _drift(limit, times, rng)
        if _turns_back(np.stack([x, y], axis=1)):
            break
    angle = hand_jitter(times, rms * rng.uniform(0, 0.7), rng)
    log_scale = hand_jitter(times, rms * rng.uniform(0, 0.3), rng)
    return _centered(x, y, log_scale, angle, np.zeros(2))


def _turns_back(shift: Floats) -> bool:
    """Whether (T, 2) positions go nowhere: two clear reversals, and an end near the start."""
    steps = np.diff(shift, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    if np.linalg.norm(shift[-1] - shift[0]) > 0.35 * lengths.sum():
        return False
    clear = lengths > 0.4 * lengths.mean()
    turns = (steps[1:] * steps[:-1]).sum(1) < -0.3 * lengths[1:] * lengths[:-1]
    return int((turns & clear[1:] & clear[:-1]).sum()) >= 2


def _centered(x: Floats, y: Floats, log_scale: Floats, angle: Floats, focus: Floats) -> CameraPath:
    def around_middle(values: Floats) -> Floats:
        return np.asarray(values - 0.5 * (values.max() + values.min()))

    return CameraPath(
        np.stack([around_middle(x), around_middle(y)], axis=1),
        around_middle(log_scale),
        around_middle(angle),
        focus,
    )
