"""Every row of every mode knows its frames and seconds, whatever the file does to time."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.gray_levels import (
    CLIPS,
    GrayLevels,
    flash_frames,
    irregular_times,
    make_clip,
    reader_of_numbers,
)
from tests.samples import fresh
from video_swin_transformer import FeatureOptions, Predictor, extract_features, write_features
from video_swin_transformer.errors import ConfigError
from video_swin_transformer.preprocess import views_from_frames
from video_swin_transformer.runtimes.torch_runtime import TorchRuntime
from video_swin_transformer.video import VideoReader

PLACEMENTS: dict[str, dict[str, Any]] = {
    "hop": {"hop_frames": 3},
    "default": {},
    "seconds": {"hop_seconds": 0.25},
    "number": {"num_windows": 5},
    "segments": {"segments": ((0.3, 1.1), (0.0, 0.2), (1.0, 1.9))},
    "resampled": {"fps": 12.5, "hop_frames": 2},
    "faster": {"fps": 60.0, "hop_frames": 5},
}


@pytest.fixture(scope="module", params=CLIPS)
def clip(request, tmp_path_factory):
    return make_clip(request.param, tmp_path_factory.mktemp("clips"))


def seen_numbers(path, table) -> np.ndarray:
    """What the rows saw, as frames counted from the first displayed one."""
    hidden = 20 if path.stem == "edit_list" else 0
    return np.rint(table.values).astype(int) - hidden


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_rows_cover_the_frames_that_they_have_seen(clip, placement):
    path, times = clip
    options = PLACEMENTS[placement]
    table = extract_features(reader_of_numbers(), path, **options)
    edges = [*times, times[-1] + np.median(np.diff(times))]
    seen = seen_numbers(path, table)
    assert len(table) > 1
    for row, numbers in enumerate(seen):
        start, end = int(table.start_frames[row]), int(table.end_frames[row])
        assert numbers.min() == numbers[0] == start and start < end <= len(times)
        assert numbers.max() < end
        # A window ends one stride after its last frame, or with the video or segment.
        step = max(np.diff(numbers).max(), 1) + ("fps" in options)
        assert end - numbers.max() <= step
        # Times are the file's own; mkv rounds them to milliseconds.
        assert table.start_seconds[row] == pytest.approx(times[start], abs=0.0011)
        assert table.end_seconds[row] == pytest.approx(edges[end], abs=0.0011)


def test_windows_follow_their_placement(clip):
    path, times = clip
    table = extract_features(reader_of_numbers(), path, hop_frames=3)
    assert table.start_frames.tolist() == list(range(0, len(times) - 7, 3))
    assert (table.end_frames - table.start_frames == 8).all()
    assert (np.diff(seen_numbers(path, table), axis=1) == 2).all()

    table = extract_features(reader_of_numbers(), path, hop_seconds=0.25)
    frame_seconds = np.diff([*times, times[-1] + 0.04])
    marks = np.arange(len(table)) * 0.25
    late = table.start_seconds - marks
    assert (late >= -0.0011).all() and (late <= frame_seconds.max() + 0.0011).all()

    table = extract_features(reader_of_numbers(), path, segments=[(0.3, 1.1), (0.0, 0.2)])
    assert table.start_seconds[0] >= 0.299 and table.end_seconds[0] <= 1.1 + frame_seconds.max()
    assert table.end_seconds[1] <= 0.2 + frame_seconds.max()


def test_resampled_windows_see_what_is_shown_at_their_times(clip):
    path, times = clip
    table = extract_features(reader_of_numbers(num_frames=4, stride=1), path, fps=12.5)
    for row, numbers in enumerate(seen_numbers(path, table)):
        moments = (row * 4 + np.arange(4)) / 12.5
        edges = np.append(times, np.inf)
        # Either frame is right within the rounding of mkv.
        assert (edges[numbers] <= moments + 0.0011).all()
        assert (edges[numbers + 1] >= moments - 0.0011).all()


@pytest.mark.parametrize("hop", [None, 12])
@pytest.mark.parametrize("fps", [None, 20.0])
def test_rows_of_a_stream_are_the_time_steps_of_the_whole_video(clip, fps, hop):
    path, times = clip
    model = fresh().eval()
    predictor = Predictor(TorchRuntime(model, model.bundle, "f32", "cpu"), "small")
    table = extract_features(
        predictor, path, mode="stream", stride=3, pooling="tokens", fps=fps, hop_frames=hop
    )
    with VideoReader(path) as video:
        shown = np.arange(len(times))
        if fps is not None:
            assert video.times_seconds is not None
            edges = video.times_seconds  # of the file: rounded, so that ties are the same
            moments = np.arange(0, edges[-1] + 1, 1 / fps)
            shown = np.searchsorted(edges - 1e-6, moments, side="right") - 1
            shown = shown[moments < edges[-1] + np.median(np.diff(edges)) - 1e-6]
        shown = shown[::3]
        frames = video.frames_at(shown)
    views = views_from_frames(frames[None], model.bundle.preprocessing)
    with torch.no_grad():
        whole = model.forward_features(torch.from_numpy(views)).mean(dim=(3, 4))[0].T.numpy()
    steps_per_row = 1 if hop is None else 2  # a step is 2 frames at stride 3
    assert len(table) == len(whole) // steps_per_row
    rows = table.values.reshape(-1, whole.shape[1])
    np.testing.assert_allclose(rows, whole[: len(rows)], atol=1e-5)
    fed_per_row = 2 * steps_per_row
    assert table.start_frames.tolist() == shown[::fed_per_row][: len(table)].tolist()
    np.testing.assert_allclose(
        table.start_seconds, np.array(times)[table.start_frames], atol=0.0011
    )
    assert (table.end_frames > table.start_frames).all()
    overlap = table.end_frames[:-1] - table.start_frames[1:]
    # A frame that is shown at the last position of a row and at the first of the next is in both.
    assert set(overlap.tolist()) <= ({0} if fps is None else {0, 1})
    lag = table.lag_frames
    assert lag is not None and 0 < lag[0] < lag[1] and lag[0] % 3 == 0


# --- layouts ------------------------------------------------------------------------------------


def actionformer_seconds(folder, row: int) -> float:
    """ActionFormer's time of a row."""
    config = yaml.safe_load((folder / "actionformer.yaml").read_text())["dataset"]
    (video,) = json.loads((folder / "annotations.json").read_text())["database"].values()
    fps = config["default_fps"] or video["fps"]
    return (row * config["feat_stride"] + 0.5 * config["num_frames"]) / fps


def opentad_seconds(folder, row: int) -> float:
    """OpenTAD's time of a row, for a window that starts at frame 0."""
    config: dict = {}
    exec((folder / "opentad.py").read_text(), config)
    stride = config["feature_stride"] * config["sample_stride"]
    return (row * stride + config["offset_frames"]) / config["fps"]


FORMULAS = {"actionformer": actionformer_seconds, "opentad": opentad_seconds}


@pytest.mark.parametrize("layout", FORMULAS)
@pytest.mark.parametrize(
    ("kind", "fps"), [("cfr", None), ("ntsc", None), ("vfr", 30.0), ("b-frames", 30.0)]
)
def test_an_impulse_maps_back_through_the_formula_of_the_layout(layout, kind, fps, tmp_path):
    impulse = 37
    path, times = make_clip(kind, tmp_path, flash_frames(impulse))
    options = FeatureOptions(window=8, stride=1, hop_frames=1, fps=fps)
    (written,) = write_features(
        reader_of_numbers(), [path], tmp_path / "out", options, layout=layout
    )
    assert written.error is None
    values = np.load(tmp_path / "out" / f"{path.stem}.npy")
    bright = np.flatnonzero(values.max(axis=1) > values.max() / 2)
    found = np.mean([FORMULAS[layout](tmp_path / "out", int(row)) for row in bright])
    shown_for = times[impulse + 1] - times[impulse]
    one_frame = max(shown_for, 1 / (fps or 25))
    assert abs(found - (times[impulse] + shown_for / 2)) <= one_frame


@pytest.mark.parametrize("layout", FORMULAS)
def test_a_variable_rate_needs_resampling_in_these_layouts(layout, tmp_path):
    path, _ = make_clip("vfr", tmp_path)
    (written,) = write_features(reader_of_numbers(), [path], tmp_path / "out", layout=layout)
    assert isinstance(written.error, ConfigError) and "pass fps" in str(written.error)


def test_crop_layouts_hold_the_crops_apart(tmp_path):
    path, _ = make_clip("cfr", tmp_path)
    ten = FeatureOptions(num_crops=10, average_crops=False)
    (written,) = write_features(
        reader_of_numbers(), [path], tmp_path / "ten", ten, layout="tencrop"
    )
    values = np.load(tmp_path / "ten" / "cfr.npy")
    assert values.shape == written.shape == (8, 10, 4) and values.dtype == np.float32
    five = FeatureOptions(num_crops=5, average_crops=False)
    list(write_features(reader_of_numbers(), [path], tmp_path / "x", five, layout="crop-files"))
    crops = [np.load(tmp_path / "x" / f"cfr__{crop}.npy") for crop in range(5)]
    assert {crop.shape for crop in crops} == {(8, 4)}
    for folder, count in (("ten", 10), ("x", 5)):
        from video_swin_transformer import load_features

        table = load_features(tmp_path / folder)
        assert table.values.shape == (8, count, 4) and table.end_frames[-1] == 64
        assert json.loads((tmp_path / folder / "crops.json").read_text())["num_channels"] == 4


@pytest.mark.parametrize(
    ("layout", "options", "says"),
    [
        ("actionformer", {"hop_seconds": 1.0}, "hop_seconds is given"),
        ("opentad", {"pooling": "map"}, "pooling is 'map'"),
        ("tencrop", {"average_crops": False}, "num_crops is None, but must be 10"),
        ("tencrop", {"num_crops": 10}, "average_crops is True"),
        ("actionformer", {"average_crops": False}, "average_crops is False"),
    ],
)
def test_layouts_refuse_options_that_do_not_suit_them(layout, options, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        write_features(reader_of_numbers(), [], tmp_path, FeatureOptions(**options), layout=layout)


# --- sources without times ----------------------------------------------------------------------


def test_arrays_have_frames_and_with_fps_seconds():
    from tests.gray_levels import gray_frames

    frames = np.stack(gray_frames(20))
    table = extract_features(reader_of_numbers(), frames, hop_frames=4)
    assert table.start_frames.tolist() == [0, 4, 8, 12] and np.isnan(table.start_seconds).all()
    table = extract_features(reader_of_numbers(), frames, hop_seconds=0.4, fps=10)
    np.testing.assert_allclose(table.start_seconds, [0, 0.4, 0.8, 1.2])
    assert table.end_seconds[-1] == pytest.approx(2.0)
    with pytest.raises(ConfigError, match="pass fps"):
        extract_features(reader_of_numbers(), frames, hop_seconds=0.4)


def test_a_video_shorter_than_a_window_loops():
    from tests.gray_levels import gray_frames

    table = extract_features(reader_of_numbers(), np.stack(gray_frames(3)))
    assert np.rint(table.values).tolist() == [[0, 2, 1, 0]]
    assert (table.start_frames.tolist(), table.end_frames.tolist()) == ([0], [3])


def test_the_times_of_the_test_clip_are_irregular():
    assert len(set(np.diff(irregular_times()))) == 3
    assert isinstance(GrayLevels().description, str)
