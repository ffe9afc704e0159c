"""Damaged files of every container: VideoReader reads them or says VideoSwinError, nothing else.

Batches of mutants run in processes of their own, so that a crash or hang inside FFmpeg is a
failed test that names the mutant. Seeds are fixed: a mutant can be made again with `mutant`.
"""

from __future__ import annotations

import faulthandler
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import video_swin_transformer.video.video_file as video_file
from tests import media
from tests.media import Clip
from video_swin_transformer.errors import VideoSwinError
from video_swin_transformer.video import VideoReader

SECONDS_A_MUTANT = 5
MUTANTS_A_KIND = 60
HIDDEN_VP8 = {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"}

FAST_AV1 = {"preset": "12", "svtav1-params": "lp=1"}  # see test_video.py

KINDS = {
    "mp4": Clip(".mp4", num_frames=16, mux_options={"movflags": "faststart"}),
    "mov": Clip(".mov", "mpeg4", num_frames=16),
    "fragments": Clip(".mp4", num_frames=16, mux_options={"movflags": "frag_keyframe+empty_moov"}),
    "mkv": Clip(".mkv", num_frames=16, options={"bf": "3"}),
    "hevc": Clip(".mkv", "libx265", num_frames=12, options={"x265-params": "log-level=none"}),
    "webm": Clip(".webm", "libvpx-vp9", num_frames=12, options={"deadline": "realtime"}),
    "vp8": Clip(".webm", "libvpx", num_frames=16, options=HIDDEN_VP8),
    "av1": Clip(".mp4", "libsvtav1", num_frames=12, options=FAST_AV1),
    "avi": Clip(".avi", "mpeg4", num_frames=16, options={"bf": "2"}),
    "mpg": Clip(".mpg", "mpeg1video", num_frames=16),
    "ts": Clip(".ts", num_frames=16),
    "flv": Clip(".flv", num_frames=16),
    "gif": Clip(".gif", "gif", num_frames=6, pix_fmt="rgb8"),
    "png": None,
    "jpg": None,
    "webp": None,
    "tif": None,
    "bmp": None,
}
BATCHES = [list(KINDS)[start::3] for start in range(3)]


def original(kind: str, folder: Path) -> bytes:
    clip = KINDS[kind]
    if clip is None:
        path = media.save_picture(folder / f"whole.{kind}", media.numbered_frame(5))
    else:
        path = clip.make(folder / f"whole-{kind}")
    return path.read_bytes()


def mutant(data: bytes, seed: int) -> bytes:
    """`data` with one kind of damage, the same for the same seed."""
    random = np.random.default_rng(seed)
    bad = bytearray(data)
    # Headers are a small part of a file, but the most fertile one.
    start = int(random.integers(0, min(len(bad), 1500) if random.random() < 0.5 else len(bad)))
    match seed % 6:
        case 0:  # single bits
            for at in random.integers(0, len(bad), int(random.integers(1, 30))):
                bad[at] ^= 1 << int(random.integers(0, 8))
        case 1:  # a stretch of noise
            length = int(random.integers(1, 200))
            bad[start : start + length] = random.bytes(min(length, len(bad) - start))
        case 2:  # a number at its limits
            extremes = (b"\xff" * 4, b"\x7f" + b"\xff" * 3, b"\x80" + bytes(3), bytes(4))
            bad[start : start + 4] = extremes[int(random.integers(0, 4))]
        case 3:  # the end is missing
            del bad[max(start, 8) :]
        case 4:  # a piece is missing
            del bad[start : start + int(random.integers(1, 400))]
        case 5:  # a piece comes twice
            piece = bad[start : start + int(random.integers(1, 400))]
            bad[start:start] = piece
    return bytes(bad)


def read_both_ways(path: Path) -> str:
    """ "read" or "refused"; any other error passes through."""
    outcome = "refused"
    for keep_bytes in (128 * 2**20, 0):
        video_file.MAX_KEPT_BYTES = keep_bytes
        try:
            with VideoReader(path) as reader:
                reader.frames_at([reader.num_frames // 2])
                num_frames = reader.num_frames  # reading may show that there are fewer
                frames = reader.frames_at([num_frames - 1, *range(min(num_frames, 40))])
                assert frames.shape[1:] == (reader.height, reader.width, 3)
                assert reader.times_seconds is None or len(reader.times_seconds) == num_frames
                outcome = "read"
        except VideoSwinError as error:
            assert str(path) in str(error)
    return outcome


def run_batch(folder: Path, kinds: list[str]) -> None:
    """What the process does: says the name of each mutant before, the outcome after it."""

    for kind in kinds:
        data = original(kind, folder)
        suffix = KINDS[kind].suffix if KINDS[kind] else f".{kind}"
        for seed in range(MUTANTS_A_KIND):
            path = folder / f"{kind}-{seed}{suffix}"
            path.write_bytes(mutant(data, seed))
            print(path.name, end=" ", flush=True)
            faulthandler.dump_traceback_later(SECONDS_A_MUTANT, exit=True)
            print(read_both_ways(path), flush=True)
            faulthandler.cancel_dump_traceback_later()
            path.unlink()
    used = media.peak_memory_megabytes()
    assert used < 1500, f"the batch took {used:.0f} MB"


@pytest.mark.skipif(sys.platform == "win32", reason="measures memory the POSIX way")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kinds", BATCHES, ids="+".join)
def test_mutants(kinds: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "faulthandler",
            "-m",
            "tests.test_video_fuzz",
            str(tmp_path),
            *kinds,
        ],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"died at {lines[-1:]}: {done.stderr[-3000:]}"
    outcomes = [line.split()[1] for line in lines]
    assert len(outcomes) == len(kinds) * MUTANTS_A_KIND
    # Were nothing or everything refused, the mutants would not test much.
    assert len(outcomes) / 20 < outcomes.count("read") < len(outcomes) * 19 / 20


def test_mutants_are_many_and_the_same_every_time() -> None:
    assert sum(map(len, BATCHES)) * MUTANTS_A_KIND >= 200
    data = bytes(range(256)) * 20
    for seed in range(MUTANTS_A_KIND):
        assert mutant(data, seed) == mutant(data, seed) != data


if __name__ == "__main__":
    run_batch(Path(sys.argv[1]), sys.argv[2:])
