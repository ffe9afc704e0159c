"""`prepare`: smaller copies of videos, lists with their paths, runs that continue."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import video_swin_transformer as vst
from tests.media import numbered_frame, numbers_of, set_display_matrix
from video_swin_transformer.data import (
    Quarantine,
    prepare,
    read_annotations,
    read_segment_annotations,
    read_target_annotations,
)

NTSC = 24000 / 1001


def write_video(path: Path, times: list[float], height: int = 144, width: int = 216) -> Path:
    """Numbered frames at times in seconds, in ticks of 1/120000 second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        rate = Fraction((len(times) - 1) / (times[-1] - times[0])).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 120_000)
        for number, seconds in enumerate(times):
            pixels = numbered_frame(number, height, width)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(seconds * 120_000), Fraction(1, 120_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_videos(folder: Path, *names: str, num_frames: int = 20) -> list[Path]:
    times = [n / 25 for n in range(num_frames)]
    return [write_video(folder / name, times) for name in names]


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


RATES = {
    "23.976": [n / NTSC for n in range(90)],
    "59.94": [n * 1001 / 60000 for n in range(90)],
    "variable": np.cumsum(np.random.default_rng(0).integers(10, 80, 90) / 1000).tolist(),
}


@pytest.mark.parametrize("rate", RATES)
def test_prepare_keeps_frames_and_their_times(tmp_path, rate):
    source = write_video(tmp_path / "videos" / "a.mp4", RATES[rate])
    prepare(tmp_path / "videos", tmp_path / "out", short_side=96)
    with vst.VideoReader(source) as before, vst.VideoReader(tmp_path / "out" / "a.mp4") as after:
        assert (after.height, after.width, after.num_frames) == (96, 144, before.num_frames)
        assert numbers_of(after.frames_at(range(90))) == list(range(90))
        assert before.times_seconds is not None
        assert after.times_seconds is not None
        np.testing.assert_allclose(after.times_seconds, before.times_seconds, atol=1e-5)
        # The mean of a variable rate includes the duration of the last frame, which is not known.
        assert after.fps == pytest.approx(before.fps, rel=5e-3 if rate == "variable" else 1e-6)


def test_prepare_keeps_colors(tmp_path):
    colors = np.array([(200, 40, 90), (20, 220, 30), (10, 30, 240), (240, 240, 16)], np.uint8)
    pixels = colors.reshape(2, 2, 3).repeat(100, axis=0).repeat(120, axis=1)
    (tmp_path / "videos").mkdir()
    with av.open(str(tmp_path / "videos" / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 240, 200, "bgr0"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    prepare(tmp_path / "videos", tmp_path / "out", short_side=100)
    with vst.VideoReader(tmp_path / "out" / "a.mp4") as video:
        frame = video.frames_at([2])[0]
    found = frame.reshape(2, 50, 2, 60, 3)[:, 15:35, :, 15:45].mean((1, 3))
    np.testing.assert_allclose(found, colors.reshape(2, 2, 3), atol=3)


def test_prepare_is_close_to_the_resized_original(tmp_path):
    clip = Path(__file__).parent.parent / "examples" / "clips" / "pan_left.mp4"
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(clip.read_bytes())
    prepare(tmp_path / "videos", tmp_path / "out", short_side=64)
    with vst.VideoReader(clip) as before, vst.VideoReader(tmp_path / "out" / "a.mp4") as after:
        height, width = after.height, after.width
        expected = [
            av.VideoFrame.from_ndarray(frame, format="rgb24")
            .reformat(width=width, height=height, format="rgb24", interpolation="AREA")
            .to_ndarray()
            .astype(np.float64)
            for frame in before.frames_at(range(before.num_frames))
        ]
        error = np.mean((np.stack(expected) - after.frames_at(range(after.num_frames))) ** 2)
    assert 10 * np.log10(255**2 / error) > 32  # dB


def test_prepare_turns_rotated_videos_upright(tmp_path):
    source = write_video(tmp_path / "videos" / "a.mp4", [n / 25 for n in range(10)])
    set_display_matrix(source, (0, 1, -1, 0))
    with vst.VideoReader(source) as video:
        assert (video.height, video.width) == (216, 144)
        before = video.frames_at([3])[0]
    prepare(tmp_path / "videos", tmp_path / "out", short_side=72)
    with vst.VideoReader(tmp_path / "out" / "a.mp4") as video:
        assert (video.height, video.width) == (108, 72)
        after = video.frames_at([3])[0]
    assert np.abs(before[::2, ::2].astype(int) - after).mean() < 12
    with av.open(str(tmp_path / "out" / "a.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (frame.height, frame.width) == (108, 72), "stored upright"


def test_prepare_by_height_differs_for_portraits(tmp_path):
    write_video(tmp_path / "videos" / "a.mp4", [0, 0.04, 0.08], height=216, width=144)
    prepare(tmp_path / "videos", tmp_path / "out", height=108)
    with vst.VideoReader(tmp_path / "out" / "a.mp4") as video:
        assert (video.height, video.width) == (108, 72)


def test_prepare_copies_small_videos_unchanged_after_decoding_them(tmp_path):
    folder = tmp_path / "videos"
    good, bad = write_videos(folder, "good.mkv", "bad.mp4", num_frames=60)
    damage(bad)
    found = prepare(folder, tmp_path / "out")
    assert (tmp_path / "out" / "good.mkv").read_bytes() == good.read_bytes()
    assert (found.num_copied, found.num_transcoded, list(found.failed)) == (1, 0, [str(bad)])
    assert not list((tmp_path / "out").glob("bad*"))


# --- lists ----------------------------------------------------------------------------------------

NAMES = ("left/a b.avi", "left/c.mp4", "right/d.mkv")


def written_lists(folder: Path) -> dict[str, str]:
    rows = list(zip(NAMES, (0, 0, 1), strict=True))
    objects = [{"filename": name, "label": label} for name, label in rows]
    return {
        "list.txt": "# clips\n" + "".join(f"{name} {label}\n" for name, label in rows),
        "names.txt": "".join(f"{name} turn {label}\r\n" for name, label in rows),
        "folders.txt": "".join(f"{name}\n" for name, _ in rows),
        "multi.csv": "path,labels\n" + "".join(f"{name},0 {label}\n" for name, label in rows),
        "spaces.txt": "path label\n" + "".join(f"{name} {label}\n" for name, label in rows),
        "segments.csv": "video,start,end,label,note\n"
        + "".join(f'{name},0.1,0.5,{label},"a, b"\n' for name, label in rows),
        "mmaction.json": json.dumps(objects),
        "data_list.json": json.dumps({"metainfo": {}, "data_list": objects}),
        "rows.jsonl": "".join(json.dumps({"path": n, "label": v, "x": 1}) + "\n" for n, v in rows),
        "by_path.json": json.dumps(dict(rows)),
    }


@pytest.mark.parametrize("name", written_lists(Path()))
def test_prepare_rewrites_lists_with_everything_else_unchanged(tmp_path, name):
    write_videos(tmp_path, *NAMES)
    (tmp_path / name).write_text(written_lists(tmp_path)[name], encoding="utf-8", newline="")
    found = prepare(tmp_path / name, tmp_path / "out", short_side=72)
    assert found.data == tmp_path / "out" / name
    before, after = read_annotations(tmp_path / name), read_annotations(found.data)
    assert [(i.labels, i.segment) for i in after.items] == [
        (i.labels, i.segment) for i in before.items
    ]
    assert (after.classes, after.is_multilabel) == (before.classes, before.is_multilabel)
    expected = [(tmp_path / "out" / n).with_suffix(".mp4") for n in NAMES]
    assert [Path(item.path) for item in after.items] == expected
    for path in expected:
        with vst.VideoReader(path) as video:
            assert min(video.height, video.width) == 72
    if name == "segments.csv":
        text = found.data.read_text(encoding="utf-8")
        rows = list(csv.DictReader(text.splitlines()))
        assert {row["note"] for row in rows} == {"a, b"}
    if name == "rows.jsonl":
        rows = [json.loads(line) for line in found.data.read_text(encoding="utf-8").splitlines()]
        assert {row["x"] for row in rows} == {1}


def test_prepare_rewrites_tables_of_targets(tmp_path):
    write_videos(tmp_path, *NAMES)
    text = "path;mos;split\n" + "".join(f"{n};{i}.5;train\n" for i, n in enumerate(NAMES))
    (tmp_path / "mos.csv").write_text(text, encoding="utf-8")
    found = prepare(tmp_path / "mos.csv", tmp_path / "out", short_side=72)
    items = read_target_annotations(found.data, ["mos"], split="train").items
    assert [item.targets for item in items] == [(0.5,), (1.5,), (2.5,)]
    assert all(Path(item.path).is_file() and "out" in Path(item.path).parts for item in items)


def test_prepare_keeps_lists_of_kinetics_and_something_something(tmp_path):
    write_videos(tmp_path, "turning/abc_000001_000011.mkv", "turning/def_000002_000012.mp4")
    heading = "label,youtube_id,time_start,time_end,split"
    rows = ["turning,abc,1,11,train", "turning,def,2,12,train", "turning,absent,3,13,train"]
    (tmp_path / "k.csv").write_text("\n".join([heading, *rows]), encoding="utf-8")
    found = prepare(tmp_path / "k.csv", tmp_path / "k400", short_side=72)
    assert list(found.failed) == [str(tmp_path / "turning" / "absent_000003_000013.mp4")]
    assert found.data.read_text(encoding="utf-8").split("\n") == [heading, *rows[:2], ""]
    items = read_annotations(found.data, split="train").items
    assert all(Path(item.path).is_file() and "k400" in Path(item.path).parts for item in items)

    write_videos(tmp_path / "ss", "12.mp4", "13.mp4")
    objects = [{"id": "12", "template": "Moving [it]"}, {"id": "13", "template": "Dropping [it]"}]
    (tmp_path / "ss" / "train.json").write_text(json.dumps(objects), encoding="utf-8")
    found = prepare(tmp_path / "ss" / "train.json", tmp_path / "ssv2", short_side=72)
    assert json.loads(found.data.read_text(encoding="utf-8")) == objects
    items = read_annotations(found.data, labels=["Moving it", "Dropping it"]).items
    assert [Path(item.path) for item in items] == [tmp_path / "ssv2" / f"{n}.mp4" for n in (12, 13)]


def test_prepare_keeps_segments_of_annotation_tools_in_seconds(tmp_path):
    write_videos(tmp_path, "videos/a.mkv", "videos/b.mp4", num_frames=50)
    ranges = [{"start": 6, "end": 25}]
    value = {"ranges": ranges, "timelinelabels": ["serve"]}
    result = [{"type": "timelinelabels", "value": value}]
    tasks = [
        {
            "data": {"video": f"/data/local-files/?d=videos/{name}", "fps": 50},
            "annotations": [{"result": result}],
        }
        for name in ("a.mkv", "b.mp4")
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    found = prepare(tmp_path / "export.json", tmp_path / "out", short_side=72)
    before = read_segment_annotations(tmp_path / "export.json")
    after = read_segment_annotations(found.data)
    assert [video.segments for video in after] == [video.segments for video in before]
    assert after[0].segments[0].start == pytest.approx(0.1)
    assert [Path(v.video) for v in after] == [
        tmp_path / "out" / "videos" / f"{n}.mp4" for n in "ab"
    ]


def test_prepare_keeps_folders_of_classes_and_equal_names_apart(tmp_path):
    names = ("train/left/a.mp4", "train/left/a.mkv", "train/right/a.mp4", "val/left/b.mp4")
    write_videos(tmp_path / "data", *names)
    (tmp_path / "data" / "train" / "readme.txt").write_text("x")
    found = prepare(tmp_path / "data", tmp_path / "out", short_side=72)
    assert (found.data, found.num_transcoded) == (tmp_path / "out", 4)
    written = {p.relative_to(tmp_path / "out").as_posix() for p in found.data.rglob("*.mp4")}
    assert written == {
        "train/left/a.mp4.mp4",
        "train/left/a.mkv.mp4",
        "train/right/a.mp4",
        "val/left/b.mp4",
    }
    assert read_annotations(found.data, split="train").classes == ("left", "right")


def test_prepare_takes_videos_outside_of_the_root(tmp_path):
    one, _ = write_videos(tmp_path, "x/one.mp4", "y/two.mp4")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.txt").write_text(f"{one} 0\n../y/two.mp4 1\n", encoding="utf-8")
    found = prepare(tmp_path / "lists" / "l.txt", tmp_path / "out", short_side=72)
    assert found.data.read_text(encoding="utf-8") == "x/one.mp4 0\ny/two.mp4 1\n"


def test_prepare_twice_into_one_folder_shares_the_videos_of_both_lists(tmp_path):
    write_videos(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    for name, videos in (("train.txt", "ab"), ("val.txt", "bc")):
        lines = "".join(f"{video}.mp4 0\n" for video in videos)
        (tmp_path / name).write_text(lines, encoding="utf-8")
    first = prepare(tmp_path / "train.txt", tmp_path / "out", short_side=72)
    second = prepare(tmp_path / "val.txt", tmp_path / "out", short_side=72)
    assert (first.num_transcoded, second.num_transcoded, second.num_done_before) == (2, 1, 1)


# --- unusable videos ------------------------------------------------------------------------------


def test_prepare_names_unusable_videos_and_leaves_them_out(tmp_path, run):
    good, bad, text = write_videos(tmp_path, "good.mp4", "bad.mp4", "text.mp4", num_frames=60)
    damage(bad)
    text.write_text("not a video")
    lines = "good.mp4 0\nbad.mp4 1\nabsent.mp4 1\ntext.mp4 1\n"
    (tmp_path / "l.txt").write_text(lines, encoding="utf-8")
    out = tmp_path / "out"
    code, printed, err = run("prepare", tmp_path / "l.txt", "--short-side", 72, "--out", out)
    assert (code, printed.strip()) == (1, str(out / "l.txt"))
    for name in ("bad.mp4", "absent.mp4", "text.mp4"):
        assert f"error: {tmp_path / name}: " in err
    assert "3 of 4 inputs failed" in err
    assert (out / "l.txt").read_text(encoding="utf-8") == "good.mp4 0\n"
    assert len(Quarantine(out / "quarantine.jsonl")) == 3

    code, _, err = run("prepare", tmp_path / "l.txt", "--short-side", 72, "--out", out)
    assert (code, "3 videos of the quarantine list skipped." in err) == (0, True)

    bad.write_bytes(good.read_bytes())  # repaired
    code, _, err = run("prepare", tmp_path / "l.txt", "--short-side", 72, "--out", out)
    assert (code, "2 videos of the quarantine list skipped." in err) == (0, True)
    assert (out / "l.txt").read_text(encoding="utf-8") == "good.mp4 0\nbad.mp4 1\n"


def test_prepare_of_unusable_videos_only_is_an_error(tmp_path, run):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_text("not a video")
    code, _, err = run("prepare", tmp_path / "videos", "--out", tmp_path / "out")
    assert code == 1
    assert "None of 1 videos" in err


def test_prepare_again_replaces_the_copy_of_a_changed_video(tmp_path):
    (source,) = write_videos(tmp_path / "videos", "a.mp4", num_frames=10)
    prepare(tmp_path / "videos", tmp_path / "out", short_side=72)
    write_video(source, [n / 25 for n in range(33)])
    found = prepare(tmp_path / "videos", tmp_path / "out", short_side=72)
    assert (found.num_transcoded, found.num_done_before) == (1, 0)
    with vst.VideoReader(tmp_path / "out" / "a.mp4") as video:
        assert video.num_frames == 33


# --- interruptions --------------------------------------------------------------------------------


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "video_swin_transformer", "prepare", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def num_recorded(out: Path) -> int:
    record = out / "prepared.jsonl"
    return record.read_bytes().count(b"\n") - 1 if record.exists() else 0


@pytest.mark.skipif(os.name != "posix", reason="uses SIGKILL")
def test_prepare_killed_continues_where_it_was(tmp_path, run):
    write_videos(tmp_path / "videos", *(f"{n}.mp4" for n in range(8)), num_frames=250)
    out = tmp_path / "out"
    options = (tmp_path / "videos", "--out", out, "--short-side", 96, "--workers", 1)
    process = start(*options, start_new_session=True)
    deadline = time.monotonic() + 60
    while num_recorded(out) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    num_done = num_recorded(out)
    assert 2 <= num_done < 8, "killed in the middle"
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.mp4")}
    with (out / "prepared.jsonl").open("ab") as file:
        file.write(b'{"source": "/some')  # a line that was being written

    code, _, err = run("prepare", *options)
    assert code == 0
    assert f"{num_done} done before" in err
    unchanged = [n for n, at in times.items() if (out / n).stat().st_mtime_ns == at]
    assert len(unchanged) >= num_done
    assert not [path for path in out.iterdir() if path.name.startswith(".")], "temporary files"
    for number in range(8):
        with vst.VideoReader(out / f"{number}.mp4") as video:
            assert video.num_frames == 250


@pytest.mark.skipif(os.name != "posix", reason="uses SIGINT")
def test_prepare_ends_with_one_line_after_an_interrupt(tmp_path):
    write_videos(tmp_path / "videos", *(f"{n}.mp4" for n in range(8)), num_frames=250)
    out = tmp_path / "out"
    process = start(tmp_path / "videos", "--out", out, "--short-side", 96, "--workers", 1)
    while num_recorded(out) < 1:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip().splitlines()) == (130, ["Stopped."])
    assert not list(out.glob(".*"))


@pytest.mark.skipif(os.name != "posix", reason="uses a limit of file sizes")
def test_prepare_stops_if_it_cannot_write_and_blames_no_video(tmp_path):
    write_videos(tmp_path / "videos", "a.mp4", "b.mp4", num_frames=250)
    out = tmp_path / "out"

    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    process = start(
        tmp_path / "videos", "--out", out, "--short-side", 96, "--crf", 0, preexec_fn=limit
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Cannot write" in err
    assert "Traceback" not in err
    assert not (out / "quarantine.jsonl").exists()
    assert not list(out.glob("*.mp4"))


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--short-side", 71], "must be an even number"),
        (["--short-side", 8], "16 or more"),
        (["--short-side", 72, "--height", 72], "give one of them"),
        (["--crf", 60], "must be 0 (lossless) to 51"),
        (["--format", "mp4"], "format"),
    ],
)
def test_prepare_refuses_options(tmp_path, run, options, reason):
    write_videos(tmp_path / "videos", "a.mp4")
    code, _, err = run("prepare", tmp_path / "videos", "--out", tmp_path / "out", *options)
    assert code != 0
    assert reason in err
    assert not (tmp_path / "out").exists()


def test_prepare_refuses_folders_that_are_not_its_own(tmp_path):
    videos = tmp_path / "videos"
    write_videos(videos, "a.mp4")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for out, reason in [
        (tmp_path / "other", "contains other files, such as 'thesis.tex'"),
        (videos / "small", "is in the dataset"),
        (videos, "is in the dataset"),
        (tmp_path / "file", "is a file"),
    ]:
        with pytest.raises(vst.ConfigError, match=reason):
            prepare(videos, out)
    assert sorted(path.name for path in videos.iterdir()) == ["a.mp4"]


def test_prepare_refuses_other_settings_and_copies_of_other_videos(tmp_path):
    write_videos(tmp_path / "one", "a.mp4")
    write_videos(tmp_path / "two", "a.mp4")
    prepare(tmp_path / "one", tmp_path / "out", short_side=72)
    with pytest.raises(vst.ConfigError, match="prepared with short_side 72, crf 20, not"):
        prepare(tmp_path / "one", tmp_path / "out", short_side=96)
    with pytest.raises(vst.ConfigError, match="would replace; give another"):
        prepare(tmp_path / "two", tmp_path / "out", short_side=72)


def test_prepare_refuses_to_replace_its_input(tmp_path):
    write_videos(tmp_path, "a.mp4")
    (tmp_path / "l.txt").write_text("a.mp4 0\n", encoding="utf-8")
    found = prepare(tmp_path / "l.txt", tmp_path / "out", short_side=72)
    before = (tmp_path / "out" / "a.mp4").read_bytes()
    with pytest.raises(vst.ConfigError, match="would replace the input"):
        prepare(found.data, tmp_path / "out", short_side=72)
    assert (tmp_path / "out" / "a.mp4").read_bytes() == before


def test_prepare_refuses_lists_of_frame_folders_and_empty_sources(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "l.txt").write_text("frames 12 0\n", encoding="utf-8")
    with pytest.raises(vst.DataError, match="lists folders of frames"):
        prepare(tmp_path / "l.txt", tmp_path / "out", format="frames")
    with pytest.raises(vst.DataError, match="contains no videos"):
        prepare(tmp_path / "frames", tmp_path / "out")
    with pytest.raises(vst.DataError, match="File not found"):
        prepare(tmp_path / "absent", tmp_path / "out")
    (video,) = write_videos(tmp_path, "a.mp4")
    with pytest.raises(vst.DataError, match="is a video, not a dataset"):
        prepare(video, tmp_path / "out")
