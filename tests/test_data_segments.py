"""Segments of long videos: as clips to read and train on, and in the files of annotation tools."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.media import Clip, numbers_of
from tests.training import CLASSES, log_messages, losses_of, make_clip, texture_frames, write_tiny
from video_swin_transformer import ClipSampling, Predictor, VideoDecodeError
from video_swin_transformer.data import (
    CheckPlan,
    EvalClips,
    Quarantine,
    Segment,
    TimeRange,
    TrainClips,
    VideoSegments,
    check_dataset,
    find_splits,
    read_annotations,
    read_segment_annotations,
    write_segment_annotations,
)
from video_swin_transformer.errors import ConfigError, DataError, UnknownNameError
from video_swin_transformer.evaluation import evaluate
from video_swin_transformer.training import load_recipe, train
from video_swin_transformer.video import VideoReader, VideoSegment
from video_swin_transformer.video.segment import frame_edges, frames_between, parse_segment

RATES = {
    "23.976": Fraction(24000, 1001),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "59.94": Fraction(60000, 1001),
}
VARIABLE = np.cumsum([0, *np.tile([20, 60, 33, 41, 17], 120)]).tolist()  # ms, 601 frames
TINY_CLIP = ClipSampling(num_frames=4, stride=2, num_clips=1)


def make_video(folder: Path, name: str = "video", *, seconds: float = 20.0, rate=25) -> Path:
    if rate == "variable":
        clip = Clip(".mkv", num_frames=len(VARIABLE), fps=1000, pts=VARIABLE)
    else:
        clip = Clip(fps=rate, num_frames=round(seconds * rate))
    return clip.make(folder / name)


def edges_of(path: Path) -> np.ndarray:
    with VideoReader(path) as video:
        return frame_edges(times_of(video), video.fps)


def times_of(video: VideoReader) -> np.ndarray:
    assert video.times_seconds is not None
    return video.times_seconds


# --- VideoSegment ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [*RATES.values(), "variable"])
def test_a_segment_has_the_frames_that_begin_inside_it(tmp_path, rate):
    path = make_video(tmp_path, rate=rate)
    with VideoReader(path) as video:
        times, numbers = times_of(video), numbers_of(video.frames_at(range(video.num_frames)))
    generator = np.random.default_rng(0)
    for _ in range(20):
        start, end = sorted(generator.uniform(0, times[-1], 2))
        expected = [n for n, t in zip(numbers, times, strict=True) if start <= t < end]
        with VideoReader(VideoSegment(path, start, end)) as part:
            found = numbers_of(part.frames_at(range(part.num_frames)))
            assert found == expected or (not expected and part.num_frames == 1)
            assert times_of(part)[0] == 0 and len(times_of(part)) == part.num_frames


def test_segments_of_an_open_reader_do_not_close_it(tmp_path):
    with VideoReader(make_video(tmp_path)) as video:
        with video.segment(2.0, 4.0) as part:
            assert (part.num_frames, part.fps) == (50, 25.0)
            assert numbers_of(part.frames_at([0, 49])) == [50, 99]
            assert [n for n, _ in part.iter_frames([3, 5])] == [3, 5]
        assert numbers_of(video.frames_at([7])) == [7]
        part = video.segment(0.0, 1.0)
    with pytest.raises(VideoDecodeError, match="closed"):
        video.segment(0.0, 1.0)


def test_the_rate_of_a_segment_is_its_own_if_the_rate_is_variable(tmp_path):
    pts = [*range(0, 2000, 40), *range(2000, 4000, 20)]  # 25, then 50 frames per second
    path = Clip(".mkv", num_frames=len(pts), fps=1000, pts=pts).make(tmp_path / "v")
    with VideoReader(VideoSegment(path, 2.0, 4.0)) as part:
        assert part.fps == pytest.approx(50)
    with VideoReader(VideoSegment(path, 0.0, 2.0)) as part:
        assert part.fps == pytest.approx(25)


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (3.0, 3.0, "end after its begin"),
        (-1.0, 3.0, "begin at 0 or later"),
        (0.0, float("nan"), "end after its begin"),
        (25.0, 30.0, "the video ends at 20.000"),
    ],
)
def test_a_segment_that_is_empty_or_outside_of_its_video_is_refused(tmp_path, start, end, reason):
    path = make_video(tmp_path)
    with pytest.raises(VideoDecodeError, match=reason):
        VideoReader(VideoSegment(path, start, end))
    with VideoReader(VideoSegment(path, 19.0, 1e9)) as part:
        assert part.num_frames == 25
    with pytest.raises(VideoDecodeError, match="no times"):
        VideoReader(np.zeros((8, 32, 32, 3), np.uint8)).segment(0, 1)


def test_a_segment_as_text_is_parsed_back():
    segment = VideoSegment("a b#t=1.mp4", 1.5, 4.0)
    assert str(segment) == "a b#t=1.mp4#t=1.5,4.0" and parse_segment(str(segment)) == segment
    assert parse_segment("a.mp4") is None and parse_segment("a#t=x,1") is None


def test_a_predictor_takes_segments_like_files_that_were_cut(tmp_path):
    stitch(tmp_path, 3, 50)
    predictor = Predictor.load("camera-motion", runtime="torch")
    found = predictor.classify(VideoSegment(tmp_path / "long.mp4", 2.0, 4.0))
    assert found.scores.tolist() == predictor.classify(tmp_path / "1.mp4").scores.tolist()
    assert found.source == f"{tmp_path / 'long.mp4'}#t=2.0,4.0"
    assert "data:image" in found._repr_html_()


# --- lists with start and end ---------------------------------------------------------------------

LISTS = {
    "csv": "video,start_seconds,end_seconds,label\nvideo.mp4,2,4,run\nvideo.mp4,4,6.5,walk\n",
    "times": "label,start,stop,video\nrun,0:02,00:00:04.0,video.mp4\nwalk,4.0,6.5,video.mp4\n",
    "tabs": "path\tt_start\tt_end\tlabel\nvideo.mp4\t2\t4\trun\nvideo.mp4\t4\t6.5\twalk\n",
    "jsonl": '{"path": "video.mp4", "start": 2, "end": 4, "label": "run"}\n'
    '{"path": "video.mp4", "segment": [4, 6.5], "label": "walk"}\n',
    "activitynet": json.dumps(
        {
            "database": {
                "video": {
                    "duration": 20.0,
                    "subset": "training",
                    "annotations": [
                        {"segment": [2, 4], "label": "run"},
                        {"segment": [4, 6.5], "label": "walk"},
                    ],
                }
            }
        }
    ),
    "results": json.dumps(
        {
            "results": {
                "video": [
                    {"segment": [2, 4], "label": "run", "score": 0.5},
                    {"segment": [4, 6.5], "label": "walk", "score": 0.25},
                ]
            }
        }
    ),
    "labelstudio": json.dumps(
        [
            {
                "id": 7,
                "data": {"video": "/data/upload/1/0a1b2c3d-video.mp4", "fps": 25},
                "annotations": [
                    {"was_cancelled": True, "result": []},
                    {
                        "result": [
                            {
                                "type": "timelinelabels",
                                "value": {
                                    "ranges": [{"start": 51, "end": 100}],
                                    "timelinelabels": ["run"],
                                },
                            },
                            # Label Studio repeats boxes as regions without ranges.
                            {"type": "timelinelabels", "value": {"sequence": []}},
                            {
                                "type": "labels",
                                "value": {"start": 4.0, "end": 6.5, "labels": ["walk"]},
                            },
                        ]
                    },
                ],
            }
        ]
    ),
    "labelstudio-min": json.dumps(
        [
            {
                "video": "/data/local-files/?d=video.mp4",
                "fps": 50,
                "segments": [
                    {"ranges": [{"start": 101, "end": 200}], "timelinelabels": ["run"]},
                    {"ranges": [{"start": 201, "end": 325}], "timelinelabels": ["walk"]},
                ],
            }
        ]
    ),
    "fiftyone": json.dumps(
        {
            "classes": ["run", "walk"],
            "labels": {
                "video": [
                    {"label": 0, "support": [51, 100]},
                    {"label": "walk", "timestamps": [4.0, 6.5]},
                ],
                "other": None,
            },
        }
    ),
}


@pytest.mark.parametrize("kind", LISTS)
def test_segments_are_read_from_lists_and_from_files_of_annotation_tools(tmp_path, kind):
    path = make_video(tmp_path)
    source = tmp_path / "list.txt"
    source.write_text(LISTS[kind])
    found = read_annotations(source)
    assert found.classes == ("run", "walk") and not found.is_multilabel
    assert {(item.path, item.labels, item.segment) for item in found.items} == {
        (str(path), (0,), TimeRange(2.0, 4.0)),
        (str(path), (1,), TimeRange(4.0, 6.5)),
    }
    [video] = [one for one in read_segment_annotations(source) if one.segments]
    assert [(s.label, s.start, s.end) for s in video.segments] == [("run", 2, 4), ("walk", 4, 6.5)]
    sample = EvalClips(found, TINY_CLIP, Predictor.load().bundle.preprocessing)[0]
    assert sample.error is None and sample.path == f"{path}#t=2.0,4.0"


def test_scores_of_predictions_are_read(tmp_path):
    for kind in ("results", "csv"):
        text = LISTS[kind]
        if kind == "csv":
            text = text.replace("label\n", "label,score\n").replace("run", "run,0.5")
            text = text.replace("walk", "walk,0.25")
        (tmp_path / "list").write_text(text)
        [video] = read_segment_annotations(tmp_path / "list")
        assert [one.score for one in video.segments] == [0.5, 0.25]


def test_subsets_of_activitynet_are_splits(tmp_path):
    data = json.loads(LISTS["activitynet"])
    data["database"]["second"] = data["database"]["video"] | {"subset": "validation"}
    (tmp_path / "list.json").write_text(json.dumps(data))
    assert find_splits(tmp_path / "list.json") == ["training", "validation"]
    with pytest.raises(DataError, match="splits training, validation; select one"):
        read_annotations(tmp_path / "list.json")
    found = read_annotations(tmp_path / "list.json", split="validation")
    assert {Path(item.path).name for item in found.items} == {"second.mp4"}
    with pytest.raises(UnknownNameError):
        read_annotations(tmp_path / "list.json", split="test")


def test_two_labels_of_one_segment_make_a_multilabel_clip(tmp_path):
    data = json.loads(LISTS["activitynet"])
    data["database"]["video"]["annotations"].append({"segment": [2, 4], "label": "walk"})
    (tmp_path / "list.json").write_text(json.dumps(data))
    found = read_annotations(tmp_path / "list.json")
    assert found.is_multilabel and [item.labels for item in found.items] == [(0, 1), (1,)]


def test_label_studio_without_a_frame_rate_needs_one(tmp_path):
    data = json.loads(LISTS["labelstudio"])
    del data[0]["data"]["fps"]
    (tmp_path / "tasks.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"no frame rate\. .* annotation_fps"):
        read_annotations(tmp_path / "tasks.json")
    found = read_annotations(tmp_path / "tasks.json", annotation_fps=50)
    assert found.items[0].segment == TimeRange(1.0, 2.0)
    data[0]["predictions"], data[0]["annotations"] = data[0]["annotations"], []
    (tmp_path / "tasks.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="no clips"):
        read_annotations(tmp_path / "tasks.json", annotation_fps=50)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,start,label\na.mp4,1,run\n", "a column of starts, but none of ends"),
        ("video,start,end,label\na.mp4,x,2,run\n", "Line 2 .* 'x' is not a time"),
        ("video,start,end,label\na.mp4,1,,run\n", "a start or an end, but not both"),
        ("video,start,end,label,score\na.mp4,1,2,run,high\n", "score is 'high'"),
        ('{"database": {"a": {"annotations": [{"segment": [1], "label": "x"}]}}}', "in seconds"),
        ('{"database": {"a": {"annotations": [{"segment": [1, 2]}]}}}', "label None"),
        ('{"database": {"a": 3}}', "not an object"),
        ('{"results": {"a": {"segment": [1, 2]}}}', "list of objects"),
        ('{"labels": {"a": [{"label": "x", "support": [0, 4]}]}}', "counted from 1"),
        ('{"classes": [], "labels": {"a": [{"label": 3, "timestamps": [0, 4]}]}}', "0 classes"),
        ('[{"data": {"text": "x"}, "annotations": []}]', "names no video"),
        (
            '[{"data": {"video": "a.mp4", "fps": 25}, "annotations": [{"result": [{"type": '
            '"timelinelabels", "value": {"ranges": [{"start": 0, "end": 4}]}}]}]}]',
            "frame numbers, counted from 1",
        ),
    ],
)
def test_a_wrong_list_of_segments_is_refused_with_its_place(tmp_path, text, message):
    (tmp_path / "list").write_text(text)
    with pytest.raises(DataError, match=message):
        read_annotations(tmp_path / "list")


def test_lists_of_whole_clips_are_not_lists_of_segments(tmp_path):
    (tmp_path / "list.txt").write_text("a.mp4 run\n")
    with pytest.raises(DataError, match="has no start and end"):
        read_segment_annotations(tmp_path / "list.txt")
    with pytest.raises(DataError, match="is a whole video"):
        read_annotations(tmp_path / "list.txt", background="class")
    with pytest.raises(ConfigError, match="'ignore' or 'class'"):
        read_annotations(tmp_path / "list.txt", background="maybe")
    with pytest.raises(DataError, match="not an annotation of the format fiftyone"):
        (tmp_path / "list.json").write_text("[]")
        read_annotations(tmp_path / "list.json", format="fiftyone")


@pytest.mark.parametrize("kind", ["csv", "activitynet", "labelstudio"])
def test_the_background_is_a_class_if_asked(tmp_path, kind):
    path = make_video(tmp_path)
    (tmp_path / "list").write_text(LISTS[kind])
    found = read_annotations(tmp_path / "list", background="class")
    assert found.classes == ("run", "walk", "background")
    background = [item.segment for item in found.items if item.labels == (2,)]
    assert background == [TimeRange(0.0, 2.0), TimeRange(6.5, 20.0)]
    again = read_annotations(tmp_path / "list", background="class", labels=("walk", "run"))
    assert again.classes == ("walk", "run", "background")
    if kind == "csv":  # the duration is not in the list
        path.unlink()
        found = read_annotations(tmp_path / "list", background="class")
        assert found.classes == ("run", "walk") and "cannot be read" in found.notes[-1]


# --- training -------------------------------------------------------------------------------------


def stitch(folder: Path, num_clips: int, num_frames: int) -> tuple[Path, Path]:
    """Lists of the same clips: as files, and as segments of one file. Without loss."""
    lossless = Clip(
        codec="libx264rgb", pix_fmt="rgb24", options={"qp": "0"}, height=36, width=48, gop=50
    )
    cut, segments = ["video,label"], ["video,start_seconds,end_seconds,label"]
    frames: list[np.ndarray] = []
    for number in range(num_clips):
        kind = CLASSES[number % len(CLASSES)]
        clip = texture_frames(kind, number, num_frames)
        lossless.make(folder / f"{number}", clip)
        start, end = len(frames) / 25, (len(frames) + num_frames) / 25
        cut.append(f"{number}.mp4,{kind}")
        segments.append(f"long.mp4,{start},{end},{kind}")
        frames += clip
    lossless.make(folder / "long", frames)
    (folder / "cut.csv").write_text("\n".join(cut))
    (folder / "segments.csv").write_text("\n".join(segments))
    return folder / "cut.csv", folder / "segments.csv"


@pytest.mark.parametrize(
    ("num_clips", "num_frames"),
    [(24, 20), pytest.param(120, 250, marks=pytest.mark.slow)],
    ids=["short", "20-minutes"],
)
def test_training_on_segments_equals_training_on_files_that_were_cut(
    tmp_path, num_clips, num_frames
):
    cut, segments = stitch(tmp_path, num_clips, num_frames)
    drawn = [
        TrainClips(read_annotations(source), TINY_CLIP, short_side=36) for source in (cut, segments)
    ]
    assert len(drawn[0]) == len(drawn[1]) == num_clips
    for key in [(0, 0), (0, num_clips - 1), (1, 5), (7, 11)]:
        clips = [one[key] for one in drawn]
        assert clips[0].error is None and clips[0].labels == clips[1].labels
        assert np.array_equal(clips[0].views, clips[1].views)
    recipe, weights = write_tiny(tmp_path), []
    for source in (cut, segments):
        settings = [f"data.train={source}", "data.val_fraction=0"]
        result = train(load_recipe(recipe, settings), tmp_path / source.stem, device="cpu")
        weights.append(load_file(result.model / "model.safetensors"))
    losses = [losses_of(tmp_path / source.stem) for source in (cut, segments)]
    assert len(losses[0]) == 2 * -(-num_clips // 8)
    assert np.abs(np.subtract(losses[0], losses[1])).max() <= 1e-6
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(one, weights[1][key]) for key, one in weights[0].items())


def test_evaluation_of_segments_equals_that_of_files_that_were_cut(tmp_path):
    cut, segments = stitch(tmp_path, 6, 40)
    predictor = Predictor.load("camera-motion", runtime="torch")
    labels = predictor.bundle.labels
    results = []
    for source in (cut, segments):
        text = source.read_text()
        for kind, label in zip(CLASSES, labels[: len(CLASSES)], strict=True):
            text = text.replace(f",{kind}", f",{label}")
        source.write_text(text)
        results.append(evaluate(predictor, source, tmp_path / f"{source.stem}-results"))
    cut_clips, segment_clips = (
        [(one.labels, one.predicted, one.confidence, one.label_score) for one in result.clips]
        for result in results
    )
    assert len(cut_clips) == 6 and cut_clips == segment_clips
    assert results[1].clips[1].path == f"{tmp_path / 'long.mp4'}#t=1.6,3.2"


def test_a_segment_that_cannot_be_read_is_quarantined_without_its_file(tmp_path):
    path = make_clip(tmp_path / "video", "left", 0, num_frames=100)
    rows = [f"video.mp4,{n / 4},{n / 4 + 0.25},{'ab'[n % 2]}" for n in range(15)]
    (tmp_path / "list.csv").write_text(
        "\n".join(["video,start,end,label", *rows, "video.mp4,9,10,a"])
    )
    recipe = load_recipe(write_tiny(tmp_path), [f"data.train={tmp_path / 'list.csv'}"])
    with log_messages() as messages:
        train(recipe, tmp_path / "out", device="cpu")
    assert any("the segment begins at 9 seconds" in message for message in messages)
    quarantine = Quarantine(tmp_path / "list.csv.quarantine.jsonl")
    assert len(quarantine) == 1 and quarantine.reason(str(path)) is None
    kept, out = quarantine.filter(read_annotations(tmp_path / "list.csv"))
    assert len(kept.items) == 15 and list(out) == [f"{path}#t=9.0,10.0"]


def test_check_dataset_finds_empty_outside_and_overlapping_segments(tmp_path):
    make_video(tmp_path)
    rows = ["0,4,run", "3,5,walk", "6,6,run", "30,31,run", "18,25,walk", "7,7.2,run", "0,4,run"]
    text = "video,start,end,label\n" + "\n".join(f"video.mp4,{row}" for row in rows)
    (tmp_path / "train.csv").write_text(text)
    (tmp_path / "val.csv").write_text("video,start,end,label\nvideo.mp4,3.5,4.5,run\n")
    splits = {name: read_annotations(tmp_path / f"{name}.csv") for name in ("train", "val")}
    plan = CheckPlan(sampling=ClipSampling(num_frames=20, stride=1, num_clips=2))
    report = check_dataset(splits, plan)
    found = {(one.kind, one.path.rpartition("#t=")[2]) for one in report.problems}
    assert found >= {
        ("empty_segment", "6.0,6.0"),
        ("outside_segment", "30.0,31.0"),
        ("long_segment", "18.0,25.0"),
        ("overlap", "3.0,5.0"),
        ("short", "7.0,7.2"),
        ("listed_twice", "0.0,4.0"),
        ("shared", "3.5,4.5"),
    }
    assert report.num_unusable == 2
    seconds = report.splits[0].class_seconds
    assert seconds == pytest.approx({"run": 8.2, "walk": 4.0}, abs=0.05)
    assert report.splits[0].num_frames == pytest.approx(12.2 * 25, abs=1)
    assert report.to_data()["splits"][0]["class_seconds"].keys() == {"run", "walk"}


def test_check_data_command_names_segments_and_class_imbalance_in_seconds(tmp_path, run):
    make_video(tmp_path)
    (tmp_path / "list.csv").write_text(
        "video,start,end,label\nvideo.mp4,0,18,run\nvideo.mp4,18,18.5,walk\nvideo.mp4,40,41,walk\n"
    )
    code, out, _ = run("check-data", tmp_path / "list.csv")
    assert code == 1
    assert "segment outside of its video: 1" in out and "#t=40.0,41.0" in out
    assert "run has 18.0 seconds, walk has 0.5" in out


# --- round trips ----------------------------------------------------------------------------------


def random_segments(path: Path, count: int, seed: int) -> VideoSegments:
    generator = np.random.default_rng(seed)
    duration = edges_of(path)[-1]
    segments = []
    for number in range(count):
        start, end = sorted(generator.uniform(0, duration, 2))
        label = f"{('run', 'walk, fast,', 'wave <left> & say')[number % 3]} {number}"
        segments.append(Segment(label, float(start), max(float(end), start + 0.05), 0.5))
    return VideoSegments(str(path), tuple(segments), float(duration), None)


def accept_predictions(path: Path) -> None:
    """Makes tasks what an annotator exports who accepts all predictions."""
    tasks = json.loads(path.read_text(encoding="utf-8"))
    tasks = [task | {"annotations": task.pop("predictions")} for task in tasks]
    path.write_text(json.dumps(tasks), encoding="utf-8")


@pytest.mark.parametrize("format", ["activitynet", "csv", "jsonl", "labelstudio", "fiftyone"])
@pytest.mark.parametrize("rate", [*RATES, "variable"])
def test_segments_drift_at_most_one_frame_through_annotation_tools(tmp_path, rate, format, caplog):
    path = make_video(tmp_path, seconds=30, rate=RATES.get(rate, rate))
    edges = edges_of(path)
    written = random_segments(path, 1000, seed=1)
    suffix = f".{format}" if format in ("csv", "jsonl") else ".json"
    files = write_segment_annotations([written], tmp_path / f"segments{suffix}", format=format)
    if format == "labelstudio":
        accept_predictions(files[0])
        assert ("variable frame rate" in caplog.text) == (rate == "variable")
    [found] = read_segment_annotations(files[0])
    assert found.video == str(path) and len(found.segments) == 1000
    frame = np.diff(edges).max() if format == "fiftyone" else edges[-2] / (len(edges) - 2)
    after_of = {segment.label: segment for segment in found.segments}
    drifts = []
    for before in written.segments:
        after = after_of[before.label]
        drifts += [abs(before.start - after.start), abs(before.end - after.end)]
        if format not in ("labelstudio", "fiftyone"):  # times are kept, so the frames are the same
            assert frames_between(edges, before.start, before.end) == frames_between(
                edges, after.start, after.end
            )
    assert max(drifts) <= (frame if format in ("labelstudio", "fiftyone") else 1e-6)
    # Written again, nothing moves any more.
    again = write_segment_annotations([found], tmp_path / f"again{suffix}", format=format)
    if format == "labelstudio":
        accept_predictions(again[0])
    [second] = read_segment_annotations(again[0])
    second_of = {segment.label: segment for segment in second.segments}
    for after in found.segments:
        same = second_of[after.label]
        assert abs(after.start - same.start) < 1e-5 and abs(after.end - same.end) < 1e-5


def test_label_studio_gets_a_labeling_configuration_and_the_rate_of_the_file(tmp_path):
    import xml.etree.ElementTree as ElementTree

    path = make_video(tmp_path, rate=RATES["29.97"])
    segments = random_segments(path, 3, seed=2)
    tasks, config = write_segment_annotations(
        [segments],
        tmp_path / "tasks.json",
        format="labelstudio",
        media_prefix="/data/local-files/?d=videos/",
    )
    [task] = json.loads(tasks.read_text())
    assert task["data"]["video"] == "/data/local-files/?d=videos/video.mp4"
    assert task["data"]["fps"] == pytest.approx(30000 / 1001, abs=1e-4)
    root = ElementTree.parse(config).getroot()
    labels = {label.get("value") for label in root.iter("Label")}
    assert labels == {segment.label for segment in segments.segments}
    regions = task["predictions"][0]["result"]
    assert {region["from_name"] for region in regions} == {root.find("TimelineLabels").get("name")}


def test_two_videos_of_one_name_are_refused_where_the_name_is_the_id(tmp_path):
    videos = [VideoSegments(f"{folder}/a.mp4", (Segment("x", 0, 1),)) for folder in "pq"]
    with pytest.raises(DataError, match="have the same name"):
        write_segment_annotations(videos, tmp_path / "a.json", format="activitynet")
    with pytest.raises(UnknownNameError, match="format of segments"):
        write_segment_annotations(videos, tmp_path / "a.json", format="elan")
    write_segment_annotations(videos, tmp_path / "a.csv", format="csv")
    assert len(read_segment_annotations(tmp_path / "a.csv")) == 2


def test_fiftyone_segments_in_frames_of_a_missing_file_are_left_out_with_a_note(tmp_path):
    (tmp_path / "labels.json").write_text(LISTS["fiftyone"])
    make_video(tmp_path, "another")
    with pytest.raises(DataError, match="no clips"):
        read_annotations(tmp_path / "labels.json")
    data = json.loads(LISTS["fiftyone"])
    data["labels"]["another"] = [{"label": 1, "support": [1, 10]}]
    (tmp_path / "labels.json").write_text(json.dumps(data))
    found = read_annotations(tmp_path / "labels.json")
    assert len(found.items) == 1 and "1 videos" in found.notes[0]
    data["labels"]["another"] = [{"label": 1, "support": [1, 9999]}]
    (tmp_path / "labels.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="has 500 frames"):
        read_annotations(tmp_path / "labels.json")
