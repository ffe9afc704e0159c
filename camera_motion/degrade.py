"""What light, lenses, sensors, editors and codecs do to a clip, with its camera path unharmed.

Clips are (T, H, W, 3) uint8 RGB; every function returns a clip of the same shape.
"""

from __future__ import annotations

import io
from functools import cache

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from .paths import hand_jitter

Clip = NDArray[np.uint8]


def change_light(clip: Clip, rng: np.random.Generator) -> Clip:
    """Exposure that drifts, flickers or jumps."""
    num_frames = len(clip)
    times = np.arange(num_frames, dtype=np.float64)
    gain = 1 + rng.uniform(-0.35, 0.35) * (times / num_frames - 0.5)
    if rng.random() < 0.4:
        gain = gain + hand_jitter(times, rng.uniform(0, 0.12), rng)
    if rng.random() < 0.15:
        gain[int(rng.integers(1, num_frames)) :] *= rng.uniform(0.7, 1.3)
    levels = np.arange(256)
    tables = np.clip(levels * gain[:, None] + rng.uniform(-15, 15), 0, 255).astype(np.uint8)
    return np.stack([cv2.LUT(frame, table) for frame, table in zip(clip, tables, strict=True)])


def soften(clip: Clip, rng: np.random.Generator) -> Clip:
    """Out of focus, or enlarged from a small source."""
    side = clip.shape[1]
    if rng.random() < 0.5:
        sigma = rng.uniform(0.3, 1.6)
        return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in clip])
    small = int(rng.integers(side // 3, side))
    size, back = (small, small), (side, side)
    return np.stack(
        [cv2.resize(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), back) for frame in clip]
    )


@cache
def _noise_bank() -> NDArray[np.int16]:
    """Normal noise of standard deviation 64, drawn once: new noise for each clip is slow."""
    return (64 * np.random.default_rng(0).standard_normal(1 << 20)).astype(np.int16)


def add_noise(clip: Clip, rng: np.random.Generator) -> Clip:
    """Sensor noise, new in every frame, fine or coarse, colored or gray."""
    num_frames, side = clip.shape[:2]
    bank = _noise_bank()
    channels = 3 if rng.random() < 0.5 else 1
    length = side * side * channels
    sigma = rng.uniform(1, 14)
    scaled = (bank * (sigma / 64)).astype(np.int16) if sigma > 2 else (bank >> 5)
    coarse = rng.random() < 0.3
    noisy = np.empty_like(clip)
    for index in range(num_frames):
        start = int(rng.integers(0, len(bank) - length))
        grain = scaled[start : start + length].reshape(side, side, channels)
        if coarse:
            enlarged = cv2.resize(grain[::2, ::2], (side, side))
            grain = np.asarray(enlarged, np.int16).reshape(side, side, channels)
        noisy[index] = np.clip(clip[index] + grain, 0, 255)
    return noisy


def make_gray(clip: Clip) -> Clip:
    """Luma in all three channels."""
    gray = (clip.astype(np.uint16) @ np.array([77, 150, 29], np.uint16)) >> 8
    return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=3)


def overlay(clip: Clip, rng: np.random.Generator) -> Clip:
    """Writing or a logo that stays where it is on the screen."""
    side = clip.shape[1]
    layer = np.zeros((side, side, 3), np.uint8)
    mask = np.zeros((side, side), np.uint8)
    ink = tuple(int(v) for v in (rng.choice([255, 230, 0]), rng.choice([255, 230]), 255))
    if rng.random() < 0.6:
        letters = "".join(chr(int(c)) for c in rng.integers(65, 91, int(rng.integers(3, 16))))
        spot = (int(rng.integers(0, side // 2)), int(rng.choice([12, side - 6, side - 14])))
        size = rng.uniform(0.25, 0.5)
        for target, value in ((layer, ink), (mask, (255,))):
            cv2.putText(
                target, letters, spot, cv2.FONT_HERSHEY_SIMPLEX, size, value, 1, cv2.LINE_AA
            )
    else:
        corner = np.array([rng.choice([4, side - 26]), rng.choice([4, side - 20])])
        extent = rng.integers(8, 24, 2)
        box = tuple(int(v) for v in corner), tuple(int(v) for v in corner + extent)
        cv2.rectangle(layer, *box, ink, -1)
        cv2.rectangle(mask, *box, (int(rng.integers(120, 256)),), -1)
    share = mask[:, :, None].astype(np.float32) / 255
    return (clip * (1 - share) + layer * share).astype(np.uint8)


def score_bar(clip: Clip, rng: np.random.Generator) -> Clip:
    """A strip of scores along the top or bottom, boxes and writing, fixed to the screen."""
    side = clip.shape[1]
    height, width = int(rng.integers(6, 20)), int(side * rng.uniform(0.4, 1.0))
    strip = np.empty((height, width, 3), np.uint8)
    strip[:] = rng.integers(0, 256, 3)
    for _ in range(int(rng.integers(2, 10))):
        left, length = int(rng.integers(0, width)), int(rng.integers(3, 16))
        strip[1 : height - 1, left : left + length] = rng.integers(0, 256, 3)
    letters = "".join(chr(int(c)) for c in rng.integers(48, 91, 20))
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(strip, letters, (2, height - 3), font, height / 36, (255, 255, 255), 1, cv2.LINE_AA)
    top = int(rng.integers(0, 16))
    top = top if rng.random() < 0.4 else side - height - top
    left = int(rng.integers(0, side - width + 1))
    share = np.float32(rng.uniform(0.6, 1.0))
    marked = clip.copy()
    under = marked[:, top : top + height, left : left + width]
    under[:] = (under * (1 - share) + strip * share).astype(np.uint8)
    return marked


def letterbox(clip: Clip, rng: np.random.Generator) -> Clip:
    """Black bars above and below, or at the sides."""
    framed = clip.copy()
    bar = int(clip.shape[1] * rng.uniform(0.04, 0.16))
    if rng.random() < 0.7:
        framed[:, :bar], framed[:, -bar:] = 0, 0
    else:
        framed[:, :, :bar], framed[:, :, -bar:] = 0, 0
    return framed


def jpeg(clip: Clip, rng: np.random.Generator) -> Clip:
    """Each frame through JPEG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 80))]
    return np.stack([_through_jpeg(frame, options) for frame in clip])


def _through_jpeg(frame: NDArray[np.uint8], options: list[int]) -> NDArray[np.uint8]:
    decoded = cv2.imdecode(cv2.imencode(".jpg", frame, options)[1], cv2.IMREAD_COLOR)
    return np.asarray(decoded, np.uint8)


def video_codec(clip: Clip, rng: np.random.Generator) -> Clip:
    """The clip through a real encoder and back."""
    num_frames, side = clip.shape[:2]
    name = "mpeg4" if rng.random() < 0.5 else "libx264"
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream(name, rate=5)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        if name == "mpeg4":
            stream.bit_rate = int(rng.integers(60_000, 400_000))
        else:
            stream.options = {"preset": "ultrafast", "crf": str(int(rng.integers(22, 40)))}
        for frame in clip:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer, "r") as encoded:
        encoded.streams.video[0].thread_count = 1
        seen = [frame.to_ndarray(format="rgb24") for frame in encoded.decode(video=0)]
    return np.stack(seen) if len(seen) == num_frames else clip


def degrade(clip: Clip, difficulty: float, rng: np.random.Generator) -> Clip:
    """Some of all this, in the order in which it happens to real footage."""

    def happens(chance: float) -> bool:
        return bool(rng.random() < chance * difficulty)

    if happens(0.35):
        clip = change_light(clip, rng)
    if happens(0.4):
        clip = soften(clip, rng)
    if happens(0.4):
        clip = add_noise(clip, rng)
    if happens(0.12):
        clip = make_gray(clip)
    if happens(0.16):
        for _ in range(int(rng.integers(1, 5))):
            clip = score_bar(clip, rng) if rng.random() < 0.4 else overlay(clip, rng)
    kind = rng.random()
    if kind < 0.3 * difficulty:
        clip = jpeg(clip, rng)
    elif kind < 0.42 * difficulty:
        clip = video_codec(clip, rng)
    if happens(0.15):
        clip = letterbox(clip, rng)
    return clip
