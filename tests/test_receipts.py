"""Receipts: where scores and features came from, and that they can be repeated bit by bit."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.media import Clip
from video_swin_transformer import (
    Classification,
    ClipFeatures,
    FeatureTable,
    Predictor,
    Receipt,
    VideoReader,
    VideoSegment,
    clip_indices,
    extract_features,
    read_receipts,
    replay,
    sampled_views,
    write_receipts,
)
from video_swin_transformer.errors import DataError, VideoDecodeError
from video_swin_transformer.postprocess import average_views
from video_swin_transformer.preprocess import cut_views, resize_frames


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    """Videos of several sizes, lengths and rates, the last one of a variable rate."""
    folder = tmp_path_factory.mktemp("clips")
    shapes = [(144, 192, 70, 25), (192, 144, 40, 30), (130, 134, 9, 24), (120, 160, 300, 60)]
    made = [
        Clip(height=height, width=width, num_frames=frames, fps=fps).make(folder / f"{number}")
        for number, (height, width, frames, fps) in enumerate(shapes)
    ]
    times = np.cumsum([0, *np.tile([20, 60, 33, 41, 17], 20)]).tolist()
    variable = Clip(".mkv", num_frames=len(times), fps=1000, pts=times)
    return [*made, variable.make(folder / "variable")]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("camera-motion", runtime="torch", device="cpu").with_receipts()


def receipts_of_many(predictor: Predictor, clips: list[Path]) -> list[Receipt]:
    """A hundred receipts: files and segments, fixed and adaptive views, scores and features."""
    found: list[Classification | ClipFeatures | FeatureTable] = []
    views = [(1, 1), (2, 3), (4, 1), (1, "full"), (1, 5)]
    for clip, (num_clips, num_crops) in itertools.product(clips, views):
        chosen = predictor.with_views(num_clips, num_crops)  # type: ignore[arg-type]
        segment = VideoSegment(clip, 0.1, 0.9)
        found += [chosen.classify(clip), chosen.classify(segment), chosen.features(clip)]
    found += predictor.with_adaptive_views(4, 3).classify_many(clips)
    for hop in (8, 20, 31, 50):
        for clip in clips:
            found.append(extract_features(predictor, clip, hop_frames=hop))
    receipts = [one.receipt for one in found]
    assert all(receipt is not None for receipt in receipts)
    return [receipt for receipt in receipts if receipt is not None]


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_a_hundred_receipts_are_replayed_bit_equal(runtime, clips, tmp_path):
    predictor = Predictor.load(
        "camera-motion", runtime=runtime, device="cpu", threads=1
    ).with_receipts()
    receipts = receipts_of_many(predictor, clips)
    assert len(receipts) == 100
    write_receipts(receipts, tmp_path / "receipts.jsonl")
    replays = [replay(receipt) for receipt in read_receipts(tmp_path / "receipts.jsonl")]
    assert [one.is_equal for one in replays] == [True] * 100
    assert {one.changes for one in replays} == {()}


def test_a_receipt_says_what_sampled_views_says(predictor, clips):
    chosen = predictor.with_views(2, 3)
    receipt = chosen.classify(clips[-1]).receipt
    assert receipt is not None
    seen = sampled_views(chosen, clips[-1])
    assert receipt.to_dict()["views"] == seen.to_dict()["views"]
    with VideoReader(clips[-1]) as video:
        assert receipt.num_video_frames == video.num_frames
        rows = clip_indices(video.num_frames, chosen.bundle.sampling, video.fps)
        assert video.times_seconds is not None
        for view, row in zip(receipt.views, [*rows] * 3, strict=True):
            assert view.frame_indices.tolist() == row.tolist()
            np.testing.assert_array_equal(view.times_seconds, video.times_seconds[row])
    assert receipt.runtime.name == "torch" and receipt.runtime.device == "cpu"
    assert {"torch", "av", "numpy", "python", "machine"} <= set(receipt.environment)


def test_no_receipts_unless_asked(clips):
    predictor = Predictor.load("camera-motion")
    assert predictor.classify(clips[0]).receipt is None
    assert predictor.features(clips[0]).receipt is None
    assert extract_features(predictor, clips[0]).receipt is None


def test_the_recorded_frames_and_crops_are_used_not_the_rules(predictor, clips):
    """A receipt of frames and crops that no rule gives is repeated as it is."""
    receipt = predictor.with_views(1, 1).classify(clips[0]).receipt
    assert receipt is not None
    (view,) = receipt.views
    moved = dataclasses.replace(
        view,
        frame_indices=view.frame_indices[::-1].copy(),
        box=view.box._replace(top=0, left=3, is_mirrored=True),
    )
    changed = replay(dataclasses.replace(receipt, views=(moved,)))
    assert not changed.is_equal and changed.max_difference is not None
    with VideoReader(clips[0]) as video:
        frames = video.frames_at(moved.frame_indices)
    preprocessing = predictor.bundle.preprocessing
    side, interpolation = preprocessing.short_side, preprocessing.interpolation
    resized = resize_frames(frames, side, interpolation)
    views = cut_views(resized[None], [moved.box], preprocessing)
    logits = predictor.runtime.run(views).logits
    assert changed.values.tolist() == average_views(logits, "prob", False)[0].tolist()


def test_arrays_and_bytes_are_given_again(predictor, clips):
    with VideoReader(clips[1]) as video:
        frames = video.frames_at(range(video.num_frames))
    for source in (frames, clips[1].read_bytes()):
        receipt = predictor.classify(source).receipt
        assert receipt is not None
        with pytest.raises(VideoDecodeError, match="give it with source"):
            replay(receipt)
        assert replay(receipt, source=source).is_equal
    with (
        pytest.raises(VideoDecodeError, match="can be read only once"),
        clips[1].open("rb") as file,
    ):
        predictor.classify(file)


def test_another_video_or_other_weights_are_refused(predictor, clips, tmp_path):
    receipt = predictor.classify(clips[0]).receipt
    assert receipt is not None
    with pytest.raises(DataError, match="is not the video of the receipt: its SHA-256 is"):
        replay(receipt, source=clips[1])
    other = dataclasses.replace(receipt, weights_digest="0" * 64)
    with pytest.raises(DataError, match=r"weights of swin_nano.* are not those of the receipt"):
        replay(other)
    shutil.copy(clips[0], tmp_path / "moved.mp4")
    assert replay(receipt, source=tmp_path / "moved.mp4").is_equal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{}", "is not a receipt"),
        ("[1]", "is not a receipt"),
        ("not json", "Line 1 of .* is not JSON"),
        ('{"format": "video-swin-transformer receipt", "format_version": 9}', "format version 9"),
        (
            '{"format": "video-swin-transformer receipt", "format_version": 1, "kind": "scores"}',
            "damaged receipt: 'values' is missing",
        ),
    ],
)
def test_other_files_are_no_receipts(tmp_path, text, message):
    (tmp_path / "receipt.json").write_text(text)
    with pytest.raises(DataError, match=message):
        replay(tmp_path / "receipt.json")


def test_damaged_receipts_are_named(predictor, clips, tmp_path):
    receipt = predictor.classify(clips[0]).receipt
    assert receipt is not None
    path = receipt.save(tmp_path / "receipt.json")
    data = json.loads(path.read_text())
    for change, message in [
        ({"batches": [5]}, "batches do not add up"),
        ({"kind": "guess"}, "kind is 'guess'"),
        ({"shape": [3, 3]}, "damaged receipt"),
    ]:
        path.write_text(json.dumps(data | change))
        with pytest.raises(DataError, match=message):
            replay(path)
    data["views"][0]["frames"][0] = 10_000
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match="has frame 10000, but"):
        replay(path)


def test_videoswin_replay_repeats_classify_and_features(run, clips, tmp_path):
    receipt = tmp_path / "receipts.jsonl"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clips[0].read_bytes()[:100])
    code, _, _ = run("classify", clips[0], clips[2], broken, "--receipt", receipt)
    assert code == 1 and len(read_receipts(receipt)) == 2
    code, out, err = run("replay", receipt)
    assert code == 0, err
    assert out.count("values of its scores are bit-equal") == 2

    rows = tmp_path / "rows.jsonl"
    options = ["--out", tmp_path / "features", "--hop-frames", "16", "--receipt", rows]
    assert run("features", clips[0], *options)[0] == 0
    code, out, _ = run("replay", rows, "--json")
    assert json.loads(out)["is_equal"] is True and code == 0

    data = json.loads(rows.read_text())
    data["values"][0] += 1
    rows.write_text(json.dumps(data))
    code, out, _ = run("replay", rows)
    assert code == 1 and "its feature rows differ by 1." in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay", "none.json"], "none.json"),
        (["replay", "clip.mp4"], "clip.mp4"),
        (["classify", "clip.mp4", "--receipt", "notes.txt"], "notes.txt"),
        (["features", "clip.mp4", "--out", "f", "--resume", "--receipt", "r.json"], "--resume"),
        (["classify", "clip.mp4", "--force"], "without --csv or --receipt"),
    ],
)
def test_bad_receipt_arguments_are_one_sentence(
    run, arguments, message, clips, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clips[0], tmp_path / "clip.mp4")
    (tmp_path / "notes.txt").write_text("my notes")
    code, _, err = run(*arguments)
    assert code in (1, 2) and message in err and err.startswith("error: ")
    assert (tmp_path / "notes.txt").read_text() == "my notes"
