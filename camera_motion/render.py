"""Picture + camera path -> frames: the background, and moving things in front of it.

Coordinates: a frame pixel u shows the picture point  c + s R(a) (u - m),  m the middle of the
frame, s picture pixels per frame pixel, a the camera's angle. Pictures are mirrored at their
edges without end, so no path can leave them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .images import Canvas, PicturePool
from .paths import CameraPath, Floats, hand_jitter, progress
from .textures import Picture, fractal

_INTERPOLATION = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_MASK_SIDE = 96
_MAX_COVER = 0.35  # of the frame, by all things in front together
_MAX_COVER_FOLLOWED = 0.5  # where the camera follows the largest


@dataclass(frozen=True)
class View:
    """How the middle of a path looks at its picture; the path moves around it.

    center: (2,) picture pixels. scale: picture pixels per frame pixel. angle: radians.
    slant: (2,) how strongly the picture leans away, per frame width; 0 = facing the camera.
    shutter: share of the frame spacing that the shutter is open (motion blur); 0 = sharp.
    """

    center: Floats
    scale: float
    angle: float = 0.0
    slant: tuple[float, float] = (0.0, 0.0)
    shutter: float = 0.0


def _rotation(angle: float) -> Floats:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _view_matrix(
    view: View, side: int, shift: Floats, log_scale: float, angle: float, focus: Floats
) -> Floats:
    """(3, 3) from frame pixels to picture pixels."""
    middle = (side - 1) / 2
    offset = focus * side
    turned = view.scale * np.exp(log_scale) * _rotation(view.angle + angle)
    start = view.scale * _rotation(view.angle)
    center = view.center + start @ (offset + side * shift) - turned @ offset
    matrix = np.eye(3)
    matrix[:2, :2] = turned
    matrix[:2, 2] = center
    leaning = np.eye(3)
    leaning[2, :2] = np.array(view.slant) / side
    to_middle = np.array([[1.0, 0, -middle], [0, 1.0, -middle], [0, 0, 1.0]])
    return np.asarray(matrix @ leaning @ to_middle)


def _look(canvas: Canvas, matrix: Floats, level: int, side: int) -> Picture:
    shrunk = np.diag([0.5**level, 0.5**level, 1.0]) @ matrix
    size = (side, side)
    picture = canvas.levels[level]
    if shrunk[2, 0] == 0 and shrunk[2, 1] == 0:
        seen = cv2.warpAffine(
            picture, shrunk[:2], size, flags=_INTERPOLATION, borderMode=cv2.BORDER_REFLECT
        )
    else:
        seen = cv2.warpPerspective(
            picture, shrunk, size, flags=_INTERPOLATION, borderMode=cv2.BORDER_REFLECT
        )
    return np.asarray(seen)


def render_background(
    canvases: Canvas | Sequence[Canvas], path: CameraPath, view: View, side: int
) -> NDArray[np.uint8]:
    """(T, side, side, 3) uint8 RGB. canvases: one still picture, or one for every frame (video)."""
    num_frames = len(path.angle)
    stills = [canvases] * num_frames if isinstance(canvases, Canvas) else list(canvases)
    fastest = np.linalg.norm(np.diff(path.shift, axis=0), axis=1).max()
    looks_a_frame = 1 if view.shutter == 0 else 3 if fastest < 0.08 else 7
    offsets = (np.arange(looks_a_frame) - (looks_a_frame - 1) / 2) * view.shutter / looks_a_frame
    frames = np.empty((num_frames, side, side, 3), np.uint8)
    for index, canvas in enumerate(stills):
        looks = []
        for offset in offsets:
            shift, log_scale, angle = path.between(index, offset)
            matrix = _view_matrix(view, side, shift, log_scale, angle, path.focus)
            level = canvas.level_for(view.scale * float(np.exp(log_scale)))
            looks.append(_look(canvas, matrix, level, side))
        if len(looks) == 1:
            frames[index] = looks[0]
        else:
            frames[index] = np.mean(looks, axis=0, dtype=np.float32).astype(np.uint8)
    return frames


def make_masks(rng: np.random.Generator, count: int = 48) -> list[Picture]:
    """Soft outlines (96, 96) uint8 for things in front: round, boxes, islands, people-like."""
    masks = []
    for number in range(count):
        mask = np.zeros((_MASK_SIDE, _MASK_SIDE), np.uint8)
        middle = _MASK_SIDE // 2
        if number % 4 == 0:
            axes = (middle - 4, int(rng.integers(middle // 3, middle - 4)))
            cv2.ellipse(mask, (middle, middle), axes, rng.uniform(0, 180), 0, 360, 255, -1)
        elif number % 4 == 1:
            inset = rng.integers(3, 30, 2)
            corner = tuple(int(_MASK_SIDE - v) for v in inset)
            cv2.rectangle(mask, tuple(int(v) for v in inset), corner, 255, -1)
        elif number % 4 == 2:
            rows, columns = np.mgrid[-1 : 1 : _MASK_SIDE * 1j, -1 : 1 : _MASK_SIDE * 1j]
            hill = 1.1 - np.hypot(rows, columns) + 1.2 * (fractal(rng, _MASK_SIDE, 0.45) - 0.5)
            mask[(hill > 0.4) & (np.hypot(rows, columns) < 0.97)] = 255
        else:
            _draw_person(mask, rng)
        blurred = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.6, 2.0))
        masks.append(np.asarray(blurred, np.uint8))
    return masks


def _draw_person(mask: Picture, rng: np.random.Generator) -> None:
    """Head, trunk, arms and legs in some pose."""
    middle = _MASK_SIDE // 2
    cv2.circle(mask, (middle, 14), 10, 255, -1)
    cv2.ellipse(mask, (middle, 42), (int(rng.integers(9, 16)), 22), 0, 0, 360, 255, -1)
    for top, reach in ((28, 30), (28, 30), (60, 34), (60, 34)):
        turn = rng.uniform(-0.3, np.pi + 0.3) if top == 28 else np.pi / 2 + rng.uniform(-0.6, 0.6)
        end = (int(middle + reach * np.cos(turn)), int(top + reach * np.sin(turn)))
        cv2.line(mask, (middle, top), end, 255, int(rng.integers(6, 11)))


@dataclass(frozen=True)
class _Thing:
    """One thing in front. Positions in frame widths from the middle, sides in frame widths."""

    texture: Picture  # (96, 96, 3)
    masks: tuple[Picture, Picture]  # two poses, changed between frames
    place: Floats
    side: float
    nearness: float  # 0: carried with the camera, 1: part of the background, above: nearer
    own: Floats  # (T, 2) own movement
    growth: Floats  # (T,) log of size
    spin: Floats  # (T,) radians
    pose: NDArray[np.int64]  # (T,)


def _make_thing(
    pool: PicturePool,
    masks: list[Picture],
    times: Floats,
    side: float,
    followed: bool,
    rng: np.random.Generator,
) -> _Thing:
    source = pool.draw(rng).levels[int(rng.integers(0, 3))]
    reach = min(*source.shape[:2], int(rng.integers(24, 200)))
    top, left = (int(rng.integers(0, source.shape[axis] - reach + 1)) for axis in (0, 1))
    patch = source[top : top + reach, left : left + reach]
    gain, shade = rng.uniform(0.6, 1.5), rng.uniform(-40, 40)
    texture = cv2.convertScaleAbs(
        cv2.resize(patch, (_MASK_SIDE, _MASK_SIDE), interpolation=cv2.INTER_AREA), None, gain, shade
    )
    nearness = 0.0 if followed else float(rng.choice([1.0, 1.0, 0.0, rng.uniform(0.0, 2.0)]))
    heading, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.6)
    if nearness == 0.0:
        distance *= 0.2
    walk = distance * (progress(times, rng) - 0.5)[:, None]
    own = walk * np.array([np.cos(heading), 0.7 * np.sin(heading)])
    if rng.random() < 0.6:
        sway = rng.uniform(0.0, 0.08)
        own = own + np.stack([hand_jitter(times, sway, rng), hand_jitter(times, sway, rng)], axis=1)
    still = np.zeros(len(times))
    growth = rng.normal(0, 0.35) * (progress(times, rng) - 0.5) if rng.random() < 0.5 else still
    spin = rng.normal(0, 0.6) * (progress(times, rng) - 0.5) if rng.random() < 0.4 else still
    if rng.random() < 0.3:
        spin = spin + hand_jitter(times, rng.uniform(0, 0.25), rng)
    first, second = (masks[int(rng.integers(len(masks)))] for _ in range(2))
    moves = rng.random() < (0.6 if followed else 0.3)
    pose = rng.integers(0, 2, len(times)) if moves else np.zeros(len(times), np.int64)
    place = rng.uniform(-0.5, 0.5, 2)
    if nearness == 0.0:
        place *= 0.5
    return _Thing(
        np.asarray(texture, np.uint8),
        (first, second),
        place,
        side,
        nearness,
        own,
        growth,
        spin,
        pose,
    )


def _draw_thing(frame: Picture, thing: _Thing, path: CameraPath, index: int) -> None:
    """Paints the thing into the frame (in place)."""
    side = frame.shape[0]
    near = thing.nearness
    log_scale, angle = near * path.log_scale[index], near * path.angle[index]
    place = _rotation(-angle) @ (thing.place - path.focus) * np.exp(-log_scale) + path.focus
    place = (place - near * path.shift[index] + thing.own[index]) * side + side / 2
    size = side * thing.side * float(np.exp(np.clip(thing.growth[index] - log_scale, -1, 0.7)))
    reach = int(np.ceil(0.72 * size)) + 1
    left, top = (max(0, int(v) - reach) for v in place)
    right, bottom = (min(side, int(v) + reach + 1) for v in place)
    if right <= left or bottom <= top:
        return
    turned = size / _MASK_SIDE * _rotation(thing.spin[index] - angle)
    middle = np.array([_MASK_SIDE / 2, _MASK_SIDE / 2])
    offset = place - np.array([left, top]) - turned @ middle
    matrix = np.concatenate([turned, offset[:, None]], axis=1)
    window = (right - left, bottom - top)
    mask = cv2.warpAffine(thing.masks[thing.pose[index]], matrix, window)
    texture = cv2.warpAffine(thing.texture, matrix, window, borderMode=cv2.BORDER_REPLICATE)
    share = mask[:, :, None].astype(np.float32) * (1 / 255)
    region = frame[top:bottom, left:right]
    region[:] = (region + share * (texture.astype(np.float32) - region)).astype(np.uint8)


def add_things(
    frames: NDArray[np.uint8],
    path: CameraPath,
    times: Floats,
    pool: PicturePool,
    masks: list[Picture],
    rng: np.random.Generator,
) -> None:
    """Puts one to five moving things in front of the background (in place).

    In a quarter of the clips the first is big and followed: it stays in the middle of the frame.
    """
    things: list[_Thing] = []
    cover = 0.0
    follows = rng.random() < 0.25
    for number in range(int(rng.integers(1, 6))):
        followed = follows and number == 0
        least, most = (0.35, 0.9) if followed else (0.1, 0.75)
        side = float(np.exp(rng.uniform(np.log(least), np.log(most))))
        cover += 0.6 * side * side
        if cover > (_MAX_COVER_FOLLOWED if follows else _MAX_COVER):
            break
        things.append(_make_thing(pool, masks, times, side, followed, rng))
    for index, frame in enumerate(frames):
        for thing in things:
            _draw_thing(frame, thing, path, index)


def ripple(frames: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Water, leaves, a crowd: one side of the picture stirs or flows (in place)."""
    num_frames, side = frames.shape[:2]
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    along = (columns * np.cos(turn) + rows * np.sin(turn)) / side
    edge = np.quantile(along, rng.uniform(0.45, 0.8))
    share = (1 / (1 + np.exp(-12 * (along - edge))))[:, :, None].astype(np.float32)
    strength = rng.uniform(1.0, 4.0)
    flow = rng.uniform(-2.5, 2.5, 2) if rng.random() < 0.4 else np.zeros(2)  # pixels a frame
    cells = int(rng.integers(4, 14))
    field = rng.standard_normal((cells, cells, 2)).astype(np.float32)
    persistence = rng.choice([0.0, 0.7])
    for index in range(num_frames):
        fresh = rng.standard_normal((cells, cells, 2)).astype(np.float32)
        field = persistence * field + np.sqrt(1 - persistence**2) * fresh
        waves = cv2.resize(field.astype(np.float32), (side, side)) * strength + flow * index
        places = np.stack([columns, rows], axis=2) + share * waves
        frames[index] = cv2.remap(
            frames[index],
            places.astype(np.float32),
            None,  # type: ignore[call-overload]  # the first map holds both coordinates
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
