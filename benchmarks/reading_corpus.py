"""How the reader treats 750 videos: ordinary, cut, joined, odd and really damaged ones.

Every frame carries its number, and the pixels of a complete decode of the intact video are the
truth. Each file is read as a short video (decoded when opened) and as a long one (indexed).

    right            every frame is right; damaged ones are refused
    wrongly refused  a file without damage, or a frame of it, is refused
    silently wrong   a wrong frame, a wrong number of frames or a wrong frame rate is returned

    python -m benchmarks.reading_corpus            # the table, and every file that is not right
    python -m benchmarks.reading_corpus --only damaged --seed 7
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tests.media import Clip, Pixels, numbered_frame, reference_decode
from tests.odd_videos import (
    Coded,
    packets_of,
    parameter_sets,
    shifted,
    with_extra_nal,
    with_parameter_packets,
    without_video_usability,
    write,
    write_pcm,
)
from video_swin_transformer.errors import VideoDecodeError
from video_swin_transformer.video import VideoReader, video_file

NUM_FRAMES = 48
X264 = "mbtree=0:scenecut=0"
H264 = Clip(".mp4", num_frames=NUM_FRAMES, options={"bf": "3"})
OPEN_H264 = replace(
    H264, options={"x264-params": f"{X264}:open-gop=1:bframes=3:b-adapt=0:keyint=12:min-keyint=12"}
)
HEVC_PARAMS = "log-level=none:bframes=3:keyint=12:min-keyint=12:scenecut=0"
HEVC = Clip(
    ".mp4",
    "libx265",
    num_frames=NUM_FRAMES,
    options={"x265-params": f"{HEVC_PARAMS}:open-gop=0"},
)
OPEN_HEVC = replace(HEVC, options={"x265-params": f"{HEVC_PARAMS}:open-gop=1"})
MPEG2 = Clip(".mp4", "mpeg2video", num_frames=NUM_FRAMES, options={"bf": "2", "q": "3"})


@dataclass(frozen=True)
class Sample:
    """One file of the corpus.

    Attributes:
        group: Row of the table.
        path: The file.
        truth: The right frames.
        is_damaged: Whether frames may be refused, or the whole file.
        may_lose_frames: Whether frames are missing from the file without a trace.
        fps: The right frame rate; None if it is not checked.
    """

    group: str
    path: Path
    truth: Sequence[Pixels]
    is_damaged: bool = False
    may_lose_frames: bool = False
    fps: float | None = 25.0


# The corpus --------------------------------------------------------------------------------------


def clean_samples(folder: Path) -> Iterator[Sample]:
    """Ordinary clips of all codecs and containers."""
    clips = []
    for suffix, gop, b_frames in itertools.product(
        (".mp4", ".mkv", ".mov", ".avi", ".ts", ".flv", ".m4v", ".3gp"), (1, 5, 24), ("0", "3")
    ):
        clips.append(Clip(suffix, options={"bf": b_frames}, gop=gop))
    for suffix, depth, is_open in itertools.product(
        (".mp4", ".mkv", ".mov", ".ts"), (0, 3), (0, 1)
    ):
        params = f"log-level=none:bframes={depth}:keyint=12:min-keyint=12:open-gop={is_open}"
        clips.append(Clip(suffix, "libx265", options={"x265-params": params}))
    for suffix in (".ts", ".mpg", ".mkv", ".mov", ".vob", ".m2v"):
        clips += [
            Clip(suffix, "mpeg2video", gop=gop, options={"bf": b_frames, "q": "3"})
            for gop, b_frames in itertools.product((1, 12), ("0", "2"))
        ]
    for suffix, b_frames in itertools.product((".avi", ".mp4", ".mkv", ".mov"), ("0", "2")):
        clips.append(Clip(suffix, "mpeg4", options={"bf": b_frames, "q": "4"}))
    fast = {"cpu-used": "8", "deadline": "realtime"}
    alternate = {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "5"}
    for codec, suffix, options in itertools.product(
        ("libvpx", "libvpx-vp9"), (".webm", ".mkv", ".ivf"), (fast, alternate)
    ):
        clips.append(Clip(suffix, codec, options=options))
    av1 = {"preset": "10", "svtav1-params": "lp=1"}
    clips += [Clip(suffix, "libsvtav1", options=av1) for suffix in (".mp4", ".mkv", ".ivf")]
    for codec, suffixes, pix_fmt in (
        ("mjpeg", (".avi", ".mov", ".mkv", ".mp4"), "yuvj420p"),
        ("ffv1", (".mkv", ".avi", ".nut"), "yuv420p"),
        ("png", (".mov", ".avi"), "rgb24"),
        ("tiff", (".mov",), "rgb24"),
        ("prores_ks", (".mov",), "yuv422p10le"),
        ("wmv2", (".wmv", ".avi"), "yuv420p"),
        ("msmpeg4", (".avi",), "yuv420p"),
        ("flv", (".flv",), "yuv420p"),
        ("huffyuv", (".avi",), "yuv422p"),
        ("rawvideo", (".avi",), "yuv420p"),
        ("mpeg1video", (".mpg",), "yuv420p"),
        ("jpeg2000", (".mov",), "yuv420p"),
        ("gif", (".gif",), "rgb8"),
        ("apng", (".apng",), "rgb24"),
    ):
        clips += [Clip(suffix, codec, pix_fmt=pix_fmt, options={}) for suffix in suffixes]
    for index, clip in enumerate(clips):
        path = replace(clip, num_frames=NUM_FRAMES).make(folder / f"clean-{index}-{clip.codec}")
        known_rate = clip.suffix not in (".m2v", ".apng", ".gif")
        yield Sample("ordinary", path, reference_decode(path), fps=25.0 if known_rate else None)


def cut_samples(folder: Path) -> Iterator[Sample]:
    """Stream copies that start anywhere in a group of pictures."""
    sources = {"h264": H264, "open": OPEN_H264, "hevc": HEVC, "cra": OPEN_HEVC, "mpeg2": MPEG2}
    for name, clip in sources.items():
        source = clip.make(folder / f"source-{name}")
        packets, frames = packets_of(source), reference_decode(source)
        for suffix, start in itertools.product((".ts", ".mkv", ".mp4"), range(1, 24, 3)):
            kept = packets[start:]
            if name == "open" and suffix == ".ts":  # the muxer repeats them only for IDR frames
                kept = _with_sets_in_band(kept, parameter_sets(source))
            path = write(folder / f"cut-{name}-{start}{suffix}", source, shifted(kept, 2**16))
            first = next(packet for packet in kept if packet.is_key)
            yield Sample("cut", path, _from(first, packets, frames))


def _with_sets_in_band(packets: Sequence[Coded], sets: Sequence[bytes]) -> list[Coded]:
    return [p.with_nals([*sets, *p.nals]) if p.is_key else p for p in packets]


def _from(first: Coded, packets: Sequence[Coded], frames: Sequence[Pixels]) -> list[Pixels]:
    """The frames that are displayed from a key packet on."""
    order = sorted(packet.pts for packet in packets)
    return list(frames[order.index(first.pts) :])


def joined_samples(folder: Path) -> Iterator[Sample]:
    """Transport and program streams joined with `cat`; the clock restarts or jumps."""
    sources = {"h264": H264, "hevc": HEVC, "mpeg2": MPEG2, "open": OPEN_H264, "cra": OPEN_HEVC}
    for name, clip in sources.items():
        source = clip.make(folder / f"joined-{name}")
        packets, frames = packets_of(source), reference_decode(source)
        keys = [index for index, packet in enumerate(packets) if packet.is_key]
        suffixes = (".ts", ".mpg") if name == "mpeg2" else (".ts",)
        for suffix, offset, key in itertools.product(suffixes, (0, 10**6, 10**8), keys[:3]):
            first = write(folder / f"a{suffix}", source, shifted(packets, 10**5))
            cut = packets[key:]
            if name == "open":
                cut = _with_sets_in_band(cut, parameter_sets(source))
            second = write(folder / f"b{suffix}", source, shifted(cut, offset + 10**5))
            path = folder / f"join-{name}-{offset}-{key}{suffix}"
            path.write_bytes(first.read_bytes() + second.read_bytes())
            truth = [*frames, *_from(packets[key], packets, frames)]
            yield Sample("joined", path, truth)
            if suffix == ".ts":
                thrice = folder / f"thrice-{name}-{offset}-{key}{suffix}"
                thrice.write_bytes(path.read_bytes() + first.read_bytes())
                yield Sample("joined", thrice, [*truth, *frames])


def odd_samples(folder: Path) -> Iterator[Sample]:
    """Valid streams with messages, parameter sets and fields where readers do not expect them."""
    yield from _odd_nal_units(folder)
    yield from _odd_packets(folder)
    numbered = [numbered_frame(number) for number in range(NUM_FRAMES)]
    template = H264.make(folder / "pcm")
    patterns: dict[str, Callable[[int], bool]] = {
        "frames": lambda number: False,
        "fields": lambda number: True,
        "late": lambda number: number > 12,
        "early": lambda number: number < 12,
        "alternating": lambda number: number % 2 == 1,
        "single": lambda number: number == 30,
        "last": lambda number: number == NUM_FRAMES - 1,
    }
    for (name, pattern), suffix in itertools.product(patterns.items(), (".mkv", ".mp4", ".ts")):
        path = write_pcm(folder / f"pcm-{name}{suffix}", template, numbered, pattern)
        yield Sample("odd", path, [_gray(frame) for frame in numbered])


def _gray(frame: Pixels) -> Pixels:
    """What limited-range gray becomes in RGB."""
    values = (frame[:, :, :1].astype(np.float64) - 16) * 255 / 219
    return np.repeat(np.clip(np.rint(values), 0, 255).astype(np.uint8), 3, axis=2)


def _odd_nal_units(folder: Path) -> Iterator[Sample]:
    units = {
        "h264": {
            "short-sei": bytes([6, 5, 200, 1, 2, 3]),
            "long-sei": bytes([6, 255, 255, 255, 255]),
            "reserved": bytes([24, 1, 2, 3]),
            "filler": bytes([12, 255, 255, 255, 128]),
            "delimiter": bytes([9, 240]),
        },
        "hevc": {
            "short-sei": bytes([78, 1, 5, 200, 1, 2, 3]),
            "cut-sei": bytes([78, 1, 4, 90, 181, 0, 49]),
            "long-sei": bytes([78, 1, 255, 255, 255, 255]),
            "reserved": bytes([94, 1, 2, 3]),
            "filler": bytes([76, 1, 255, 255, 128]),
            "delimiter": bytes([70, 1, 80]),
        },
    }
    places: dict[str, Callable[[int], bool]] = {
        "first": lambda index: index == 0,
        "middle": lambda index: index == 17,
        "all": lambda index: True,
    }
    for name, clip in {"h264": H264, "hevc": HEVC}.items():
        source = clip.make(folder / f"nal-{name}")
        packets, frames = packets_of(source), reference_decode(source)
        for (unit, nal), (place, where), suffix in itertools.product(
            units[name].items(), places.items(), (".mp4", ".mkv", ".ts")
        ):
            odd = with_extra_nal(packets, nal, where)
            path = write(folder / f"nal-{name}-{unit}-{place}{suffix}", source, odd)
            yield Sample("odd", path, frames)


def _odd_packets(folder: Path) -> Iterator[Sample]:
    source = H264.make(folder / "packets")
    packets, frames, sets = packets_of(source), reference_decode(source), parameter_sets(source)
    for suffix, after, every in itertools.product((".mp4", ".mkv", ".ts"), (6, 20), (1, 2)):
        odd = with_parameter_packets(packets, sets, after=after, every=every)
        yield Sample("odd", write(folder / f"sets-{after}-{every}{suffix}", source, odd), frames)
    for start, suffix in itertools.product((2, 9, 25), (".mkv", ".mp4")):
        merged = [*packets]
        first, second = merged[start : start + 2]
        both = replace(first, data=first.data + second.data)
        merged[start : start + 2] = [both]
        path = write(folder / f"merged-{start}{suffix}", source, merged)
        yield Sample("odd", path, frames, is_damaged=True, may_lose_frames=True, fps=None)
    for b_frames, suffix in itertools.product((0, 1, 3), (".mp4", ".mkv", ".ts")):
        clip = replace(H264, options={"bf": str(b_frames), "x264-params": f"{X264}:b-adapt=0"})
        plain = clip.make(folder / f"usability-{b_frames}")
        stated = parameter_sets(plain)
        unstated = [without_video_usability(stated[0]), *stated[1:]]
        path = write(
            folder / f"unstated-{b_frames}{suffix}", plain, packets_of(plain), sets=unstated
        )
        yield Sample("odd", path, reference_decode(plain))


def damaged_samples(folder: Path, seed: int = 0) -> Iterator[Sample]:
    """Files that are truncated, overwritten with zeros, or lack packets."""
    rng = random.Random(seed)
    quality = {"q": "3"}
    clips = {
        "h264.mp4": H264,
        "h264.mkv": replace(H264, suffix=".mkv"),
        "h264.ts": replace(H264, suffix=".ts"),
        "h264.avi": replace(H264, suffix=".avi"),
        "hevc.mp4": HEVC,
        "hevc.mkv": replace(HEVC, suffix=".mkv"),
        "hevc.ts": replace(HEVC, suffix=".ts"),
        "mpeg2.mkv": replace(MPEG2, suffix=".mkv"),
        "mpeg2.mpg": replace(MPEG2, suffix=".mpg"),
        "mpeg2.ts": replace(MPEG2, suffix=".ts"),
        "mpeg4.avi": Clip(".avi", "mpeg4", options=quality),
        "ffv1.mkv": Clip(".mkv", "ffv1", options={"slicecrc": "1", "level": "3"}),
        "png.mov": Clip(".mov", "png", pix_fmt="rgb24"),
        "mjpeg.avi": Clip(".avi", "mjpeg", pix_fmt="yuvj420p", options=quality),
    }
    for name, clip in clips.items():
        path = replace(clip, num_frames=NUM_FRAMES).make(folder / f"whole-{name.split('.')[0]}")
        data, frames = path.read_bytes(), reference_decode(path)
        no_table = clip.suffix in (".ts", ".mpg")
        for number in range(6):
            cut = data[: rng.randrange(len(data) // 3, len(data) - 1)]
            target = folder / f"truncated-{number}-{name}"
            target.write_bytes(cut)
            yield Sample("truncated", target, frames, True, no_table, None)
        for number in range(8):
            size = rng.choice((64, 512, 4096))
            start = rng.randrange(len(data) // 5, len(data) * 4 // 5 - min(size, len(data) // 5))
            zeroed = bytearray(data)
            zeroed[start : start + size] = bytes(len(zeroed[start : start + size]))
            target = folder / f"zeroed-{number}-{name}"
            target.write_bytes(zeroed)
            yield Sample("zeroed", target, frames, True, no_table, None)
    yield from _lost_packets(folder, rng)


def _lost_packets(folder: Path, rng: random.Random) -> Iterator[Sample]:
    for name, clip in {"h264": H264, "hevc": HEVC, "mpeg2": MPEG2}.items():
        path = replace(clip, suffix=".ts").make(folder / f"lossy-{name}")
        data, frames = path.read_bytes(), reference_decode(path)
        for number in range(8):
            at = rng.randrange(len(data) // 188 // 4, len(data) // 188 - 8) * 188
            target = folder / f"lost-{name}-{number}.ts"
            target.write_bytes(data[:at] + data[at + 188 * rng.randrange(1, 4) :])
            yield Sample("lost", target, frames, True, True, None)
    for name, clip in {"h264": H264, "hevc": HEVC}.items():
        source = clip.make(folder / f"complete-{name}")
        packets, frames = packets_of(source), reference_decode(source)
        for suffix, index in itertools.product((".mp4", ".mkv"), range(3, 43, 5)):
            kept = [*packets[:index], *packets[index + 1 :]]
            path = write(folder / f"without-{name}-{index}{suffix}", source, kept)
            yield Sample("lost", path, frames, True, True, None)


GROUPS = {
    "ordinary": clean_samples,
    "cut": cut_samples,
    "joined": joined_samples,
    "odd": odd_samples,
    "damaged": damaged_samples,
}


# Reading -----------------------------------------------------------------------------------------


def verdict_of(sample: Sample) -> str:
    """Reads a file and compares it with the truth."""
    try:
        with VideoReader(sample.path) as reader:
            fps, times = reader.fps, reader.times_seconds
            frames = _frames_of(reader)
            num_frames = reader.num_frames
    except VideoDecodeError:
        return "right" if sample.is_damaged else "wrongly refused"
    given = {index: frame for index, frame in enumerate(frames) if frame is not None}
    is_refused = len(given) < len(frames)
    if any(not _is_right(index, frame, given, sample) for index, frame in given.items()):
        return "silently wrong"
    if not sample.is_damaged and is_refused:
        return "wrongly refused"
    is_complete = num_frames == len(sample.truth) or sample.may_lose_frames
    if not is_complete and not is_refused:
        return "silently wrong"
    if sample.fps is not None and (fps is None or abs(fps / sample.fps - 1) > 0.03):
        return "silently wrong"
    if times is not None and np.any(np.diff(times) < 0):
        return "silently wrong"
    return "right"


def _frames_of(reader: VideoReader) -> list[Pixels | None]:
    try:
        return list(reader.frames_at(range(reader.num_frames)))
    except VideoDecodeError:
        frames: list[Pixels | None] = []
        while len(frames) < reader.num_frames:
            try:
                frames.append(reader.frames_at([len(frames)])[0])
            except VideoDecodeError:
                frames.append(None)
        return frames


def _is_right(index: int, frame: Pixels, given: dict[int, Pixels], sample: Sample) -> bool:
    truth = sample.truth
    if not sample.may_lose_frames:
        return index < len(truth) and _is_equal(frame, truth[index])
    return any(_is_equal(frame, candidate) for candidate in truth)


def _is_equal(frame: Pixels, truth: Pixels) -> bool:
    # Uncompressed fields are compared with computed values, all others with decoded ones.
    return frame.shape == truth.shape and int(np.abs(frame.astype(int) - truth).max()) <= 1


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description="Read 750 odd videos.")
    arguments.add_argument("--only", choices=GROUPS)
    arguments.add_argument("--seed", type=int, default=0, help="where the damage is")
    options = arguments.parse_args()
    logging.getLogger("libav").setLevel(logging.CRITICAL)
    table: dict[tuple[str, str], Counter[str]] = {}
    kept_bytes = video_file.MAX_KEPT_BYTES
    for name, samples in GROUPS.items():
        if options.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            is_random = samples is damaged_samples
            for sample in damaged_samples(folder, options.seed) if is_random else samples(folder):
                for way, num_bytes in (("short", kept_bytes), ("long", 0)):
                    video_file.MAX_KEPT_BYTES = num_bytes
                    verdict = verdict_of(sample)
                    table.setdefault((sample.group, way), Counter())[verdict] += 1
                    if verdict != "right":
                        print(f"{verdict}: {sample.path.name} as a {way} video", file=sys.stderr)
    verdicts = ("right", "wrongly refused", "silently wrong")
    print(f"| group | way | files | {' | '.join(verdicts)} |\n|---|---|--:|--:|--:|--:|")
    total: Counter[str] = Counter()
    for (group, way), counts in table.items():
        total += counts
        cells = " | ".join(str(counts[verdict]) for verdict in verdicts)
        print(f"| {group} | {way} | {counts.total()} | {cells} |")
    print(f"| all | | {total.total()} | {' | '.join(str(total[v]) for v in verdicts)} |")


if __name__ == "__main__":
    main()
