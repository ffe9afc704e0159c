"""Still pictures made from nothing: (S, S, 3) uint8 RGB canvases of many kinds.

Natural pictures have detail at every size and edges where one thing covers another. Fractal noise
gives the first, "dead leaves" (things of all sizes dropped over each other) the second; the
other kinds are there because real footage also has skies, walls, lawns, brickwork, windows, text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CANVAS = 384  # side in pixels

Picture = NDArray[np.uint8]
Gray = NDArray[np.float32]


def _clipped(values: NDArray[Any]) -> Picture:
    return np.clip(values, 0, 255).astype(np.uint8)


def color(rng: np.random.Generator) -> NDArray[np.float32]:
    """(3,) RGB in 0..255: mostly dull, as the world is."""
    gray = rng.uniform(15, 240)
    return np.clip(gray + rng.normal(0, rng.choice([8, 25, 60]), 3), 0, 255).astype(np.float32)


def fractal(rng: np.random.Generator, side: int = CANVAS, roughness: float | None = None) -> Gray:
    """(S, S) float32 in 0..1 noise whose octaves fall off by `roughness`, sometimes stretched."""
    roughness = rng.uniform(0.4, 0.85) if roughness is None else roughness
    stretch = rng.choice([1, 1, 1, 3])
    total = np.zeros((side, side), np.float32)
    weight, cells = 1.0, int(rng.integers(2, 7))
    while cells < side:
        across = max(2, cells // stretch)
        grid = rng.random((cells, across), dtype=np.float32)
        total += weight * cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
        weight, cells = weight * roughness, cells * 2
    low, high = np.percentile(total[::4, ::4], (1, 99))
    noise: Gray = np.clip((total - low) / max(float(high - low), 1e-6), 0, 1)
    return noise.T.copy() if rng.random() < 0.5 else noise


def colored(noise: Gray, rng: np.random.Generator) -> Picture:
    """Gray 0..1 through a ramp of a few colors."""
    stops = np.stack([color(rng) for _ in range(int(rng.integers(2, 5)))])
    positions = np.linspace(0, 1, len(stops))
    levels = np.linspace(0, 1, 256)
    ramp = np.stack([np.interp(levels, positions, stops[:, c]) for c in range(3)], axis=1)
    return _clipped(ramp)[(noise * 255).astype(np.uint8)]


def noise_picture(rng: np.random.Generator) -> Picture:
    return colored(fractal(rng), rng)


def weathered(picture: Picture, rng: np.random.Generator, amount: float) -> Picture:
    """The picture with uneven light and dirt, so that no part of it repeats exactly."""
    dirt = fractal(rng, picture.shape[0])[:, :, None] - 0.5
    return _clipped(picture.astype(np.float32) * (1 + amount * dirt) + 60 * amount * dirt)


def _outline(
    rng: np.random.Generator, center: NDArray[np.floating], radius: float
) -> NDArray[np.int32]:
    """A closed polygon: round, angular or box-like."""
    kind = rng.random()
    turn = rng.uniform(0, 2 * np.pi)
    if kind < 0.4:
        corners = turn + np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radii = np.full(24, radius)
    elif kind < 0.75:
        turn = turn if rng.random() < 0.5 else 0.0
        corners = turn + np.pi / 4 + np.arange(4) * np.pi / 2
        radii = np.full(4, radius)
    else:
        count = int(rng.integers(3, 12))
        corners = np.sort(rng.uniform(0, 2 * np.pi, count))
        radii = radius * rng.uniform(0.4, 1.2, count)
    flat = np.array([1.0, rng.uniform(0.25, 1.0)])
    points = center + np.stack([np.cos(corners), np.sin(corners)], axis=1) * radii[:, None] * flat
    return points.astype(np.int32)


def dead_leaves(rng: np.random.Generator) -> Picture:
    """Things of all sizes lying over each other, plain or textured."""
    picture = noise_picture(rng)
    textures = [noise_picture(rng) for _ in range(2)]
    count = int(rng.integers(40, 220))
    radii = np.sort(4.0 * (1 - rng.random(count)) ** -0.7)[::-1]
    for radius in np.minimum(radii * rng.uniform(1, 3), CANVAS / 3):
        outline = _outline(rng, rng.uniform(0, CANVAS, 2), radius)
        if rng.random() < 0.2 and radius > 12:
            mask = np.zeros(picture.shape[:2], np.uint8)
            cv2.fillPoly(mask, [outline], 255)
            cv2.copyTo(textures[int(rng.integers(2))], mask, picture)
        else:
            cv2.fillPoly(picture, [outline], color(rng).tolist(), cv2.LINE_AA)
    return weathered(picture, rng, rng.uniform(0, 0.3))


def tiles(rng: np.random.Generator) -> Picture:
    """Checkers, grids, bricks: a repeated pattern, turned and a little uneven."""
    period = int(rng.integers(14, 90))
    big = int(CANVAS * 1.5)
    picture = np.empty((big, big, 3), np.uint8)
    base, second, seam = color(rng), color(rng), color(rng)
    picture[:] = seam
    gap = int(rng.integers(0, max(2, period // 6)))
    shifted = rng.random() < 0.4
    height = period // 2 if shifted else period
    for row, top in enumerate(range(0, big, height)):
        offset = -(period // 2) * (row % 2) if shifted else 0
        for column, left in enumerate(range(offset, big, period)):
            shade = (base if (row + column) % 2 or shifted else second) + rng.normal(0, 8)
            corner = (left + period - 1 - gap, top + height - 1 - gap)
            cv2.rectangle(picture, (max(left, 0), top), corner, np.clip(shade, 0, 255).tolist(), -1)
    turn = cv2.getRotationMatrix2D((big / 2, big / 2), rng.choice([0, 0, rng.uniform(-45, 45)]), 1)
    turn[:, 2] -= np.array((big - CANVAS) / 2)
    turned = cv2.warpAffine(picture, turn, (CANVAS, CANVAS), borderMode=cv2.BORDER_REFLECT)
    return weathered(np.asarray(turned, np.uint8), rng, rng.uniform(0.15, 0.6))


def cells(rng: np.random.Generator) -> Picture:
    """Voronoi cells, each in a shade of its own."""
    seeds = np.full((CANVAS, CANVAS), 255, np.uint8)
    count = int(rng.integers(20, 600))
    spots = rng.integers(0, CANVAS, (count, 2))
    seeds[spots[:, 1], spots[:, 0]] = 0
    distance, owner = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    shades = np.stack([color(rng) for _ in range(count + 2)])
    picture = shades[owner]
    if rng.random() < 0.5:
        picture *= 1 - 0.6 * (distance / distance.max())[:, :, None]
    return weathered(_clipped(picture), rng, rng.uniform(0, 0.4))


def strokes(rng: np.random.Generator) -> Picture:
    """Lines, curves and writing on a quiet ground."""
    picture = colored(0.5 + 0.15 * (fractal(rng) - 0.5), rng)
    for _ in range(int(rng.integers(10, 70))):
        ink = color(rng).tolist()
        spot = tuple(int(v) for v in rng.integers(-30, CANVAS, 2))
        kind = rng.random()
        if kind < 0.5:
            letters = "".join(chr(int(c)) for c in rng.integers(33, 126, int(rng.integers(2, 12))))
            size, thick = rng.uniform(0.4, 2.2), int(rng.integers(1, 4))
            cv2.putText(picture, letters, spot, int(rng.integers(0, 8)), size, ink, thick)
        elif kind < 0.8:
            end = tuple(int(v) for v in rng.integers(0, CANVAS, 2))
            cv2.line(picture, spot, end, ink, int(rng.integers(1, 9)), cv2.LINE_AA)
        else:
            points = np.cumsum(rng.normal(0, 18, (12, 2)), axis=0) + spot
            curve = [points.astype(np.int32)]
            cv2.polylines(picture, curve, False, ink, int(rng.integers(1, 6)), cv2.LINE_AA)
    return picture


def blobs(rng: np.random.Generator) -> Picture:
    """Soft islands of two textures in each other."""
    mask = cv2.GaussianBlur(fractal(rng, roughness=0.5), (0, 0), rng.uniform(1, 6))
    edge = rng.uniform(8, 60)
    share = 1 / (1 + np.exp(-edge * (mask - np.median(mask))))[:, :, None]
    return _clipped(noise_picture(rng) * share + noise_picture(rng) * (1 - share))


def sky(rng: np.random.Generator) -> Picture:
    """A gradient with little on it: the hardest background, but a common one."""
    ramp = np.linspace(0, 1, CANVAS, dtype=np.float32)[:, None, None]
    picture = color(rng) * (1 - ramp) + color(rng) * ramp + np.zeros((1, CANVAS, 1), np.float32)
    clouds = fractal(rng, roughness=rng.uniform(0.35, 0.6))[:, :, None]
    picture = picture + rng.uniform(20, 110) * np.maximum(clouds - rng.uniform(0.2, 0.6), 0)
    done = _clipped(picture)
    for _ in range(int(rng.integers(2, 16))):
        outline = _outline(rng, rng.uniform(0, CANVAS, 2), rng.uniform(3, 45))
        cv2.fillPoly(done, [outline], color(rng).tolist(), cv2.LINE_AA)
    return done


def _paste(picture: Picture, texture: Picture, outline: NDArray[np.int32]) -> None:
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(mask, [outline], 255)
    cv2.copyTo(texture, mask, picture)


def _box(left: float, top: float, right: float, bottom: float) -> NDArray[np.int32]:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.int32)


def _building(picture: Picture, horizon: float, rng: np.random.Generator) -> None:
    left, width = rng.uniform(-40, CANVAS), rng.uniform(25, 130)
    top, bottom = horizon - rng.uniform(20, 170), horizon + rng.uniform(0, 60)
    wall, pane = color(rng), color(rng).tolist()
    cv2.fillPoly(picture, [_box(left, top, left + width, bottom)], wall.tolist())
    step = rng.uniform(9, 26)
    for y in np.arange(top + 5, bottom - 5, step):
        for x in np.arange(left + 4, left + width - step / 2, step):
            cv2.fillPoly(picture, [_box(x, y, x + step * 0.5, y + step * 0.6)], pane)


def outdoors(rng: np.random.Generator) -> Picture:
    """Sky, ground, buildings, trees, people-like things."""
    horizon = rng.uniform(0.3, 0.7) * CANVAS
    picture = sky(rng)
    ground = noise_picture(rng) if rng.random() < 0.7 else tiles(rng)
    line = horizon + 12 * (fractal(rng)[0] - 0.5) * rng.uniform(0, 5)
    xs = np.arange(CANVAS)
    field = np.concatenate([np.stack([xs, line], axis=1), [[CANVAS, CANVAS], [0, CANVAS]]])
    _paste(picture, ground, field.astype(np.int32))
    for _ in range(int(rng.integers(0, 7))):
        _building(picture, horizon, rng)
    leaves = noise_picture(rng)
    for _ in range(int(rng.integers(0, 9))):
        spot = np.array([rng.uniform(0, CANVAS), horizon - rng.uniform(-20, 60)])
        radius = rng.uniform(8, 50)
        trunk = _box(spot[0] - 2, spot[1], spot[0] + 2, spot[1] + radius * 2)
        cv2.fillPoly(picture, [trunk], color(rng).tolist())
        for _ in range(5):
            _paste(picture, leaves, _outline(rng, spot + rng.normal(0, radius / 2, 2), radius / 2))
    for _ in range(int(rng.integers(0, 8))):
        foot, tall = rng.uniform(horizon, CANVAS), rng.uniform(15, 70)
        x = rng.uniform(0, CANVAS)
        body = _box(x, foot - tall * 0.8, x + tall * 0.3, foot)
        cv2.fillPoly(picture, [body], color(rng).tolist())
        head = (int(x + tall * 0.15), int(foot - tall * 0.88))
        cv2.circle(picture, head, int(tall * 0.12), color(rng).tolist(), -1, cv2.LINE_AA)
    return weathered(picture, rng, rng.uniform(0, 0.3))


def indoors(rng: np.random.Generator) -> Picture:
    """A wall with frames and windows, a floor, furniture: large quiet areas, straight edges."""
    wall = color(rng) + 14 * (fractal(rng)[:, :, None] - 0.5) * rng.uniform(0, 2)
    picture = _clipped(wall)
    floor = rng.uniform(0.55, 0.95) * CANVAS
    ground = tiles(rng) if rng.random() < 0.5 else noise_picture(rng)
    _paste(picture, ground, _box(0, floor, CANVAS, CANVAS))
    inside = dead_leaves(rng)
    for _ in range(int(rng.integers(1, 6))):
        x, y = rng.uniform(-20, CANVAS - 30), rng.uniform(0, floor - 40)
        width, height = rng.uniform(20, 110, 2)
        cv2.fillPoly(
            picture, [_box(x - 4, y - 4, x + width + 4, y + height + 4)], color(rng).tolist()
        )
        _paste(picture, inside, _box(x, y, x + width, y + height))
    for _ in range(int(rng.integers(1, 8))):
        x, width = rng.uniform(-20, CANVAS - 20), rng.uniform(15, 140)
        top = floor - rng.uniform(0, 130)
        bottom = min(top + rng.uniform(15, 150), CANVAS)
        cv2.fillPoly(picture, [_box(x, top, x + width, bottom)], color(rng).tolist())
        cv2.rectangle(
            picture, (int(x), int(top)), (int(x + width), int(bottom)), color(rng).tolist(), 1
        )
    shade = np.linspace(rng.uniform(0.6, 1), rng.uniform(0.6, 1), CANVAS)[None, :, None]
    return _clipped(picture * shade)


def dots(rng: np.random.Generator) -> Picture:
    """Discs and rings of one family on a ground."""
    picture = colored(0.5 + 0.3 * (fractal(rng) - 0.5), rng)
    radius = rng.uniform(2, 22)
    palette = [color(rng).tolist() for _ in range(3)]
    for _ in range(int(rng.integers(30, 260))):
        spot = (int(rng.integers(CANVAS)), int(rng.integers(CANVAS)))
        size = int(max(1, radius * rng.uniform(0.5, 1.5)))
        thick = -1 if rng.random() < 0.6 else 2
        cv2.circle(picture, spot, size, palette[int(rng.integers(3))], thick, cv2.LINE_AA)
    return picture


def collage(rng: np.random.Generator) -> Picture:
    """Two pictures side by side or one over the other, cut along a wavy line."""
    kinds: tuple[Callable[[np.random.Generator], Picture], ...] = (
        noise_picture,
        tiles,
        cells,
        sky,
        strokes,
    )
    one, other = (kinds[int(rng.integers(len(kinds)))](rng) for _ in range(2))
    cut = CANVAS * rng.uniform(0.25, 0.75) + 60 * (fractal(rng)[0] - 0.5)
    mask = (np.arange(CANVAS)[:, None] < cut[None]).astype(np.uint8) * 255
    if rng.random() < 0.5:
        mask = np.ascontiguousarray(mask.T)
    return np.asarray(cv2.copyTo(one, mask, other.copy()))


# kind -> how often; "cells" and "dots" are never trained on: they are held out for the test.
TRAIN_KINDS: dict[Callable[[np.random.Generator], Picture], float] = {
    dead_leaves: 0.22,
    outdoors: 0.22,
    indoors: 0.18,
    noise_picture: 0.08,
    blobs: 0.06,
    tiles: 0.07,
    strokes: 0.06,
    sky: 0.04,
    collage: 0.07,
}
HELD_OUT_KINDS: dict[Callable[[np.random.Generator], Picture], float] = {cells: 0.5, dots: 0.5}


def make_texture(
    kinds: dict[Callable[[np.random.Generator], Picture], float], rng: np.random.Generator
) -> Picture:
    """One canvas of a kind drawn from `kinds`."""
    makers = list(kinds)
    return makers[int(rng.choice(len(makers), p=np.array([kinds[m] for m in makers])))](rng)
