"""Feature files: every format comes back, jobs resume, damage and mixtures are refused."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.gray_levels import NUM_FRAMES, gray_frames, make_clip, reader_of_numbers
from tests.media import Clip
from tests.samples import environment_without_coverage, fresh
from video_swin_transformer import (
    FeatureOptions,
    FeatureTable,
    Predictor,
    extract_features,
    load_features,
    write_features,
)
from video_swin_transformer.errors import ConfigError, DataError, UnknownNameError
from video_swin_transformer.features import (
    concatenate,
    load_projection,
    random_projection,
    read_segments,
    save_features,
)
from video_swin_transformer.features.storage import FORMATS
from video_swin_transformer.runtimes.torch_runtime import TorchRuntime
from video_swin_transformer.video.video_file import VideoFile

COLUMNS = ("video_index", "start_frames", "end_frames", "start_seconds", "end_seconds")


def small_predictor() -> Predictor:
    model = fresh().eval()
    return Predictor(TorchRuntime(model, model.bundle, "f32", "cpu"), "small")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip("vfr", tmp_path_factory.mktemp("clip"))[0]


def same(first: FeatureTable, second: FeatureTable) -> bool:
    arrays = all(
        np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True)
        for name in ("values", *COLUMNS)
    )
    names = ("videos", "settings", "lag_frames", "request", "library_version", "ids")
    return arrays and all(getattr(first, name) == getattr(second, name) for name in names)


# --- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "options",
    [
        {"hop_frames": 8},
        {"pooling": "tokens", "segments": [(0.1, 0.5), (0.2, 1.0)]},
        {"pooling": "map", "num_windows": 2},
        {"mode": "stream"},
        {"num_crops": 3, "average_crops": False, "project": 7},
    ],
    ids=str,
)
def test_every_format_comes_back_as_it_was(suffix, options, clip, tmp_path):
    table = extract_features(small_predictor(), clip, **options)
    save_features(table, tmp_path / f"x.{suffix}")
    loaded = load_features(tmp_path / f"x.{suffix}")
    assert same(table, loaded)
    assert loaded.values.dtype == np.float32
    save_features(loaded, tmp_path / f"y.{suffix}")
    names = [f"{name}.{suffix}" for name in "xy"]
    first, second = ((tmp_path / name).read_bytes() for name in names)
    assert first == second, "equal tables must give equal files"


@pytest.mark.parametrize("suffix", FORMATS)
def test_unknown_times_come_back_as_nan(suffix, tmp_path):
    table = extract_features(reader_of_numbers(), np.stack(gray_frames(12)))
    save_features(table, tmp_path / f"x.{suffix}")
    assert np.isnan(load_features(tmp_path / f"x.{suffix}").start_seconds).all()


def test_parquet_has_the_columns_that_other_tools_read(clip, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = extract_features(reader_of_numbers(), clip, hop_frames=8)
    save_features(table, tmp_path / "x.parquet")
    arrow = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    assert arrow.column_names[:2] == ["id", "embedding"]
    assert arrow.schema.field("embedding").type == pa.list_(pa.float32(), 4)
    assert arrow["id"].to_pylist() == [f"{clip}#{row}" for row in range(len(table))]
    assert arrow["start_seconds"].to_pylist() == table.start_seconds.tolist()


def test_npz_needs_nothing_of_this_package(clip, tmp_path):
    (written,) = write_features(reader_of_numbers(), [clip], tmp_path)
    assert written.path is not None
    with np.load(written.path, allow_pickle=False) as data:
        assert data["features"].shape == written.shape == (8, 4)
        metadata = json.loads(str(data["metadata"]))
    assert metadata["settings"]["mode"] == "clip" and metadata["videos"][0]["is_variable_rate"]


def test_the_table_shows_itself(clip):
    text = repr(extract_features(reader_of_numbers(), clip, hop_frames=4))
    assert text.splitlines()[0] == f"FeatureTable: 16 rows of 4 from {clip} (clip, gray levels)"
    assert "frames 4-12  0.080-0.240 s" in text and "10 more" in text


# --- damage and mixtures ------------------------------------------------------------------------


def test_files_that_are_not_features_are_named(tmp_path, clip):
    with pytest.raises(DataError, match="There is no file"):
        load_features(tmp_path / "none.npz")
    with pytest.raises(DataError, match="contains no features"):
        load_features(tmp_path)
    with pytest.raises(UnknownNameError, match="feature format"):
        save_features(extract_features(reader_of_numbers(), clip), tmp_path / "x.csv")
    np.save(tmp_path / "alone.npy", np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"no alone\.json beside it"):
        load_features(tmp_path / "alone.npy")
    for suffix in FORMATS:
        path = tmp_path / f"cut.{suffix}"
        save_features(extract_features(reader_of_numbers(), clip), path)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(DataError, match=r"cut\."):
            load_features(path)


def test_a_new_array_with_an_old_sidecar_is_not_complete(tmp_path, clip):
    table = extract_features(reader_of_numbers(), clip)
    save_features(table, tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", table.values + 1)
    with pytest.raises(DataError, match="does not belong to"):
        load_features(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mode": "stream"}, "mode is 'clip' in the first and 'stream' in the second"),
        ({"weights_digest": "abc"}, "weights_digest is"),
        ({"stride": 3}, "stride is 2 in the first and 3 in the second"),
        ({"num_frames": 8}, "num_frames is 4"),
        ({"projection": "random 4, seed 0"}, "projection is ''"),
    ],
)
def test_mixtures_are_refused(change, says, clip, tmp_path):
    table = extract_features(reader_of_numbers(), clip)
    settings = dataclasses.replace(table.settings, **change)
    other = dataclasses.replace(table, settings=settings)
    with pytest.raises(ConfigError, match=says) as caught:
        concatenate([table, other])
    assert str(caught.value).count(str(clip)) == 2
    save_features(table, tmp_path / "a.npz")
    save_features(other, tmp_path / "b.npz")
    with pytest.raises(ConfigError, match=says):
        load_features(tmp_path)


def test_a_folder_is_one_table(tmp_path, clip):
    other = make_clip("cfr", tmp_path)[0]
    written = list(write_features(reader_of_numbers(), [clip, other], tmp_path / "out"))
    table = load_features(tmp_path / "out")
    assert len(table) == sum(result.shape[0] for result in written)
    assert table.names == [str(other)] * 8 + [str(clip)] * 8  # cfr.npz, vfr.npz
    assert len(set(table.ids)) == len(table)


# --- projection ---------------------------------------------------------------------------------


def test_projections(clip, tmp_path):
    predictor = small_predictor()
    plain = extract_features(predictor, clip)
    drawn = extract_features(predictor, clip, project=8, seed=3)
    matrix = random_projection(32, 8, seed=3).matrix
    np.testing.assert_allclose(drawn.values, plain.values @ matrix, atol=1e-5)
    assert drawn.settings.projection == "random 8, seed 3"
    np.save(tmp_path / "p.npy", matrix)
    saved = extract_features(predictor, clip, project=tmp_path / "p.npy")
    np.testing.assert_array_equal(saved.values, drawn.values)
    maps = extract_features(predictor, clip, project=8, seed=3, pooling="map")
    np.testing.assert_allclose(maps.values.mean(axis=(2, 3, 4)), drawn.values, atol=1e-5)
    np.save(tmp_path / "bad.npy", np.zeros(3))
    with pytest.raises(DataError, match="finite matrix"):
        load_projection(tmp_path / "bad.npy")
    np.save(tmp_path / "other.npy", np.zeros((5, 2)))
    with pytest.raises(ConfigError, match="5 channels, but the features have 32"):
        extract_features(predictor, clip, project=tmp_path / "other.npy")


# --- the pipeline -------------------------------------------------------------------------------


def test_overlapping_windows_decode_each_frame_once(clip, monkeypatch):
    decoded = []
    frames_of = VideoFile.read

    def read(self, positions):
        for position, pixels in frames_of(self, positions):
            decoded.append(position)
            yield position, pixels

    monkeypatch.setattr(VideoFile, "read", read)
    extract_features(reader_of_numbers(), clip, hop_frames=1)
    assert decoded == list(range(NUM_FRAMES - 1))  # the last window begins at 62


def test_frames_that_begin_again_replace_those_before(clip, monkeypatch):
    frames_of = VideoFile.read

    def read(self, positions):
        for position, pixels in frames_of(self, positions[:40]):
            yield position, 255 - pixels
        yield from frames_of(self, positions)

    def both() -> list[FeatureTable]:
        stream = extract_features(small_predictor(), clip, mode="stream")
        return [extract_features(reader_of_numbers(), clip), stream]

    expected = both()
    monkeypatch.setattr(VideoFile, "read", read)
    for table, again in zip(expected, both(), strict=True):
        np.testing.assert_array_equal(again.values, table.values)


def test_vectors_equal_those_of_the_predictor(clip):
    predictor = small_predictor().with_views(3, 3)
    table = extract_features(predictor, clip, num_windows=3)
    np.testing.assert_allclose(table.values, predictor.features(clip).features, atol=1e-6)
    maps = extract_features(predictor, clip, num_windows=3, pooling="map")
    np.testing.assert_allclose(maps.vectors(), table.values, atol=1e-5)
    tokens = extract_features(predictor, clip, num_windows=3, pooling="tokens")
    pooled = maps.values.mean(axis=(3, 4)).transpose(0, 2, 1)
    np.testing.assert_allclose(tokens.values, pooled, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hop_frames": 2, "num_windows": 3}, "hop_frames and num_windows are given"),
        ({"mode": "stream", "window": 8}, "window is 8, but a stream has no windows"),
        ({"mode": "both"}, "mode is 'both'"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"stage": 2}, "stage"),
        ({"window": 0}, "window is 0"),
        ({"fps": 0.0}, "fps is 0.0"),
        ({"num_crops": 4}, "num_crops is 4"),
        ({"segments": ()}, "segments is"),
        ({"segments": [(0.5, 0.2)]}, "positive length"),
        ({"segments": [(90.0, 91.0)]}, "begin inside the video"),
        ({"mode": "stream", "hop_frames": 3, "stride": 2}, "multiple of 4"),
        ({"project": 0}, "project is 0"),
    ],
)
def test_misuse_is_named(options, says, clip):
    with pytest.raises(ConfigError, match=says):
        extract_features(small_predictor(), clip, **options)


def test_other_runtimes_give_vectors_only(clip):
    with pytest.raises(ConfigError, match="load the weights with runtime 'torch'"):
        extract_features(reader_of_numbers(), clip, pooling="map")


def test_segments_files(tmp_path, clip):
    path = tmp_path / "s.csv"
    path.write_text("video,start_seconds,end_seconds,label\nvfr,0.5,1\nvfr,0,0.4,\nother,1,2\n")
    segments = read_segments(path)
    assert segments["vfr"] == [(0.5, 1.0), (0.0, 0.4)]
    (written,) = write_features(reader_of_numbers(), [clip], tmp_path / "out", segments=segments)
    assert written.path is not None
    table = load_features(written.path)
    assert len(table) == 2 and table.start_seconds[0] >= 0.5 > table.start_seconds[1]
    assert table.placement["segments"] == [[0.5, 1.0], [0.0, 0.4]]
    with pytest.raises(DataError, match="no segments for"):
        write_features(reader_of_numbers(), [clip], tmp_path, segments={"x": [(0, 1)]})
    with pytest.raises(ConfigError, match="hop_frames and segments"):
        write_features(
            reader_of_numbers(), [clip], tmp_path, FeatureOptions(hop_frames=2), segments=segments
        )
    for text in ("", "video,start\nx,1\n", "video,start_seconds,end_seconds\nx,a,2\n"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"s\.csv"):
            read_segments(path)


# --- folder jobs --------------------------------------------------------------------------------


def test_resume_keeps_files_of_the_same_request_only(tmp_path):
    clips = [make_clip(kind, tmp_path)[0] for kind in ("cfr", "vfr")]
    out = tmp_path / "out"
    for options, kept in (
        (FeatureOptions(), [False, False]),
        (FeatureOptions(), [True, True]),
        (FeatureOptions(hop_frames=4), [False, False]),
        (FeatureOptions(hop_frames=4), [True, True]),
    ):
        results = write_features(reader_of_numbers(), clips, out, options, resume=True)
        assert [result.is_kept for result in results] == kept
    clips[0].write_bytes(make_clip("b-frames", tmp_path)[0].read_bytes())  # other content
    results = write_features(
        reader_of_numbers(), clips, out, FeatureOptions(hop_frames=4), resume=True
    )
    assert {result.source: result.is_kept for result in results} == {
        str(clips[0]): False,
        str(clips[1]): True,
    }
    results = write_features(reader_of_numbers(), clips, out, FeatureOptions(hop_frames=4))
    assert not any(result.is_kept for result in results)


def test_corrupt_files_are_named_and_counted(run, tmp_path):
    good = [Clip(num_frames=12).make(tmp_path / f"good{number}") for number in range(9)]
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(good[0].read_bytes()[:-300])
    code, out, err = run("features", tmp_path, "--out", tmp_path / "out", "--runtime", "torch")
    assert code == 1
    assert len(out.splitlines()) == 9
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and str(bad) in errors[0]
    assert "1 of 10 inputs failed" in err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"good{n}.npz" for n in range(9)
    ]


def test_the_command_takes_every_option_and_prints_json(run, tmp_path):
    clip = Clip(num_frames=40).make(tmp_path / "clip")
    out = tmp_path / "out"
    code, printed, err = run(
        "features", clip, "--out", out, "--mode", "stream", "--stride", 2, "--pooling", "tokens",
        "--hop-frames", 16, "--num-crops", 10, "--keep-crops", "--project", 8, "--seed", 3,
        "--format", "npy", "--json", "--fps", 25, "--stage", 0,
    )  # fmt: skip
    line = json.loads(printed)
    assert code == 0 and line["error"] is None and line["path"] == str(out / "clip.npy")
    assert line["shape"] == [2, 10, 2, 8] == list(np.load(out / "clip.npy").shape)
    fewest, most = line["lag_frames"]
    assert f"Rows trail the input by {fewest} to {most} frames." in err
    again = run("features", clip, "--out", out, "--resume")[1]
    assert "(kept)" not in again
    again = run("features", clip, "--out", out, "--resume")[1]
    assert again == f"{out / 'clip.npz'}  2x192  (kept)\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--hop-frames", 2, "--num-windows", 3], "hop_frames and num_windows"),
        (["--num-crops", "two"], "--num-crops is 'two'"),
        (["--format", "csv"], "Unknown feature format 'csv'"),
        (["--layout", "actionforme"], "Did you mean 'actionformer'?"),
        (["--mode", "streams"], "mode is 'streams'"),
    ],
)
def test_misuse_of_the_command_is_one_sentence(run, arguments, says, tmp_path):
    code, out, err = run("features", "x.mp4", "--out", tmp_path, "--runtime", "torch", *arguments)
    assert (code, out) == (2, "")
    assert says in err and len(err.strip().splitlines()) == 1


_JOB = """
import sys
from pathlib import Path
from tests.gray_levels import reader_of_numbers
from video_swin_transformer.features import FeatureOptions, write_features
folder, out, kind = sys.argv[1:]
options = FeatureOptions(hop_frames=1)
choice = {"layout": kind} if kind == "actionformer" else {"format": kind}
print("ready", flush=True)
for result in write_features(
    reader_of_numbers(), sorted(Path(folder).iterdir()), out, options, resume=True, **choice
):
    assert result.error is None, result.error
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["npz", "npy", "actionformer"])
def test_50_kills_leave_the_files_of_an_undisturbed_run(kind, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(30):
        Clip(num_frames=40 + number, height=48, width=64).make(
            clips / f"clip{number:02d}", gray_frames(40 + number)
        )
    command = [sys.executable, "-c", _JOB, str(clips)]
    environment = environment_without_coverage()
    subprocess.run([*command, str(tmp_path / "calm"), kind], check=True, env=environment)
    moments = random.Random(0)
    out = tmp_path / "killed"
    num_kills = 0
    seen: dict[Path, bytes] = {}
    while num_kills < 50:
        process = subprocess.Popen(
            [*command, str(out), kind], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.12))
        os.kill(process.pid, signal.SIGKILL)
        num_kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
        for path, data in seen.items():
            assert path.read_bytes() == data, "a finished file changed"
        seen = {path: path.read_bytes() for path in out.glob("clip*") if path.exists()}
        if len(seen) >= 30 and num_kills < 50:  # finished: begin again
            for path in out.iterdir():
                path.unlink()
            seen = {}
    subprocess.run([*command, str(out), kind], check=True, env=environment)

    def content(folder: Path) -> dict[str, bytes]:
        files = {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}
        own = str(folder).encode()
        return {name: data.replace(own, b"") for name, data in files.items()}

    assert content(out) == content(tmp_path / "calm")
    assert len(load_features(out).videos) == 30
