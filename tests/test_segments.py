"""Segments of long videos: scores over time, thresholds, metrics, shots and the commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.stitched import Stitched, border_errors, stitch
from tests.media import Clip
from video_swin_transformer import (
    Predictor,
    Thresholds,
    detect_segments,
    extract_features,
    label_shots,
    replay,
    segment_map,
)
from video_swin_transformer.data import Segment, VideoSegments, read_segment_annotations
from video_swin_transformer.errors import ConfigError, DataError, UnknownNameError
from video_swin_transformer.evaluation import evaluate_segments
from video_swin_transformer.segments import (
    ScoreTimeline,
    SegmentRules,
    decode_segments,
    find_shots,
    fit_thresholds,
    read_thresholds,
    smooth_scores,
    soft_nms,
    write_shots,
    write_thresholds,
)

LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("camera-motion")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Stitched]:
    folder = tmp_path_factory.mktemp("stitched")
    return {
        rate: stitch(folder, 8, variable_rate=rate == "variable", seed=7)
        for rate in ("constant", "variable")
    }


def timeline_of(
    columns: dict[str, list[float]], *, step: float = 0.5, multi_label: bool = False
) -> ScoreTimeline:
    """Scores every `step` seconds; the video ends half a step after the last one."""
    scores = np.array(list(columns.values()), np.float32).T
    times = np.asarray((np.arange(len(scores)) + 0.5) * step, np.float64)
    return ScoreTimeline("v", tuple(columns), times, scores, len(scores) * step, multi_label)


def rows_of(segments: tuple[Segment, ...]) -> list[tuple[str, float, float]]:
    return [(one.label, round(one.start, 3), round(one.end, 3)) for one in segments]


# --- decode_segments ------------------------------------------------------------------------------


def test_neighbors_of_an_exclusive_model_meet_where_their_scores_cross():
    a = [0.9, 0.9, 0.9, 0.7, 0.1, 0.1, 0.1, 0.1]
    timeline = timeline_of({"a": a, "b": [1 - x for x in a]})
    found = decode_segments(timeline, SegmentRules())
    # From (0.7, 0.3) at 1.75 s to (0.1, 0.9) at 2.25 s: equal after a third of the way.
    assert rows_of(found) == [("a", 0.0, 1.917), ("b", 1.917, 4.0)]
    assert found[0].score == pytest.approx(0.85)


def test_a_segment_needs_the_high_threshold_once_and_the_low_one_everywhere():
    timeline = timeline_of({"a": [0, 0.4, 0.8, 0.4, 0, 0, 0.4, 0.4, 0, 0]}, multi_label=True)
    rules = SegmentRules(Thresholds(0.7, 0.2), min_seconds=0, merge_seconds=0)
    assert rows_of(decode_segments(timeline, rules)) == [("a", 0.5, 2.0)]
    low = SegmentRules(Thresholds(0.3, 0.2), min_seconds=0, merge_seconds=0)
    assert rows_of(decode_segments(timeline, low)) == [("a", 0.5, 2.0), ("a", 3.0, 4.0)]


def test_independent_classes_may_overlap():
    timeline = timeline_of(
        {"a": [0.9] * 4 + [0.1] * 4, "b": [0.1] * 2 + [0.9] * 4 + [0.1] * 2}, multi_label=True
    )
    found = decode_segments(timeline, SegmentRules(Thresholds(0.5, 0.5)))
    assert rows_of(found) == [("a", 0.0, 2.0), ("b", 1.0, 3.0)]


def test_short_gaps_are_merged_and_short_segments_left_out():
    columns = {"a": [0.9] * 4 + [0.1] + [0.9] * 4 + [0.1] * 5 + [0.9] + [0.1] * 3}
    timeline = timeline_of(columns, multi_label=True)
    cut = SegmentRules(Thresholds(0.5, 0.5), min_seconds=0.6, merge_seconds=0)
    assert len(decode_segments(timeline, cut)) == 2
    merged = SegmentRules(Thresholds(0.5, 0.5), min_seconds=0.6, merge_seconds=0.6)
    assert rows_of(decode_segments(timeline, merged)) == [("a", 0.0, 4.5)]


def test_a_short_run_of_an_exclusive_model_goes_to_its_neighbors():
    a = [0.8] * 5 + [0.3] + [0.1] * 4
    c = [0.1] * 5 + [0.6] + [0.1] * 4
    timeline = timeline_of({"a": a, "b": [1 - x - y for x, y in zip(a, c, strict=True)], "c": c})
    found = decode_segments(timeline, SegmentRules(min_seconds=1.0))
    assert [one.label for one in found] == ["a", "b"]
    assert found[0].end == found[1].start and 2.5 <= found[0].end <= 3.0


def test_the_class_background_is_no_segment():
    a = [0.9] * 4 + [0.1] * 4
    timeline = timeline_of({"a": a, "background": [1 - x for x in a]})
    assert [one.label for one in decode_segments(timeline, SegmentRules())] == ["a"]
    assert len(decode_segments(timeline, SegmentRules(background="other"))) == 2


def test_thresholds_of_a_class_come_before_those_of_all():
    timeline = timeline_of({"a": [0.6] * 4, "b": [0.6] * 4}, multi_label=True)
    rules = SegmentRules(Thresholds(0.9, 0.5), {"b": Thresholds(0.5, 0.5)})
    assert [one.label for one in decode_segments(timeline, rules)] == ["b"]


def test_smoothing_keeps_constant_scores_and_removes_a_single_outlier():
    constant = timeline_of({"a": [0.7] * 20})
    assert np.allclose(smooth_scores(constant, 1.0).scores, 0.7)
    outlier = timeline_of({"a": [0.0] * 10 + [1.0] + [0.0] * 10}, step=0.5)
    smoothed = smooth_scores(outlier, 1.0).scores[:, 0]
    offsets = (np.arange(21) - 10) * 0.5
    kernel = np.exp(-0.5 * offsets**2)
    middle = slice(7, 14)  # away from the ends, where the Gaussian is shortened
    assert np.allclose(smoothed[middle], (kernel / kernel.sum())[middle], atol=1e-3)


def test_soft_nms_lowers_scores_by_the_overlap_with_better_segments():
    segments = [Segment("a", 0, 10, 0.9), Segment("a", 5, 15, 0.8), Segment("a", 20, 30, 0.7)]
    found = soft_nms(segments, sigma=0.5)
    lowered = 0.8 * np.exp(-((5 / 15) ** 2) / 0.5)
    assert [(one.start, one.score) for one in found] == [
        (0, 0.9), (20, 0.7), (5, pytest.approx(lowered)),
    ]  # fmt: skip
    assert [one.start for one in soft_nms(segments, sigma=0.5, min_score=0.75)] == [0]


def test_candidates_of_soft_nms_overlap_and_rank_the_best_first():
    timeline = timeline_of({"a": [0.2, 0.5, 0.9, 0.9, 0.5, 0.2, 0.1, 0.1]}, multi_label=True)
    found = decode_segments(timeline, SegmentRules(soft_nms_sigma=0.5, min_seconds=0))
    assert len(found) > 3
    best = max(found, key=lambda one: one.score or 0)
    assert best.start < 1.25 < 1.75 < best.end and best.score == pytest.approx(0.7)
    assert any(one.end - one.start > 2 for one in found)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Thresholds(1.5),
        lambda: Thresholds(0.3, 0.5),
        lambda: SegmentRules(min_seconds=-1),
        lambda: SegmentRules(soft_nms_sigma=0),
    ],
)
def test_impossible_rules_are_refused(make):
    with pytest.raises(ConfigError):
        make()


# --- segment_map ----------------------------------------------------------------------------------


def plain_average_precision(true, found, tiou):
    """The definition, step by step: `true` and `found` are (video, start, end[, score])."""
    ranked = sorted(found, key=lambda row: row[3], reverse=True)
    used = set()
    hits = []
    for video, start, end, _ in ranked:
        options = []
        for index, (other, s, e) in enumerate(true):
            if other == video and index not in used:
                both = max(0, min(e, end) - max(s, start))
                options.append((both / (e - s + end - start - both), index))
        options.sort(key=lambda pair: (-pair[0], pair[1]))
        hit = bool(options) and options[0][0] >= tiou
        if hit:
            used.add(options[0][1])
        hits.append(hit)
    precisions = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    area = 0.0
    for n, hit in enumerate(hits):
        if hit:
            area += max(precisions[n:]) / len(true)
    return area


def test_segment_map_equals_a_straightforward_implementation_on_200_random_cases():
    rng = np.random.default_rng(0)
    for _ in range(200):
        names = [f"v{n}" for n in range(rng.integers(1, 5))]
        true, found = {}, {}
        for name in names:
            true[name] = [random_segment(rng) for _ in range(rng.integers(1, 6))]
            found[name] = [random_segment(rng, true[name]) for _ in range(rng.integers(0, 12))]
        annotations = [VideoSegments(name, tuple(true[name])) for name in names]
        predictions = [VideoSegments(name, tuple(found[name])) for name in names]
        tious = (0.3, 0.4, 0.5, 0.6, 0.7)
        result = segment_map(annotations, predictions, tious=tious)
        labels = {one.label for segments in true.values() for one in segments}
        assert set(result.class_ap) == labels
        for label, values in result.class_ap.items():
            mine = [
                (name, s.start, s.end) for name in names for s in true[name] if s.label == label
            ]
            theirs = [
                (name, s.start, s.end, s.score)
                for name in names
                for s in found[name]
                if s.label == label
            ]
            expected = [plain_average_precision(mine, theirs, tiou) for tiou in tious]
            assert values == pytest.approx(expected, abs=1e-12)
        assert result.average == pytest.approx(np.mean(list(result.class_ap.values())))


def random_segment(rng, near: list[Segment] | None = None) -> Segment:
    start = float(rng.uniform(0, 50))
    end = start + float(rng.uniform(0.5, 20))
    label = LABELS[rng.integers(3)]
    if near and rng.random() < 0.7:  # a noisy copy
        one = near[rng.integers(len(near))]
        start, end, label = one.start + rng.normal(0, 1), one.end + rng.normal(0, 1), one.label
        end = max(end, start + 0.1)
    return Segment(label, start, end, None if near is None else float(rng.random()))


def test_segment_map_matches_videos_by_name_and_names_what_it_ignores(tmp_path):
    true = [VideoSegments("/data/x.mp4", (Segment("a", 0, 2),))]
    found = [
        VideoSegments("x", (Segment("a", 0, 2, 0.5),)),
        VideoSegments("y", (Segment("a", 0, 2, 0.9),)),
    ]
    result = segment_map(true, found)
    assert result.average == 1.0 and result.ignored_videos == ("y",)
    with pytest.raises(DataError, match="No predicted video is annotated"):
        segment_map(true, found[1:])
    with pytest.raises(DataError, match="has no score"):
        segment_map(true, [VideoSegments("x", (Segment("a", 0, 2),))])
    with pytest.raises(DataError, match="have no segments"):
        segment_map([VideoSegments("x", ())], found)
    with pytest.raises(ConfigError, match="tious"):
        segment_map(true, found, tious=(0,))


# --- fit_thresholds -------------------------------------------------------------------------------


def test_fitted_thresholds_are_better_and_survive_their_file(tmp_path):
    rng = np.random.default_rng(0)
    timelines: list[ScoreTimeline] = []
    annotations: list[VideoSegments] = []
    for _ in range(5):  # "a" is never above 0.3, "b" is noisy up to 0.6
        a, b = rng.uniform(0, 0.1, 40), rng.uniform(0, 0.6, 40)
        a[10:20] += 0.2
        b[25:35] += 0.39
        timelines.append(timeline_of({"a": list(a), "b": list(b)}, multi_label=True))
        truth = (Segment("a", 5, 10), Segment("b", 12.5, 17.5))
        annotations.append(VideoSegments(f"v{len(annotations)}", truth))
    fitted = fit_thresholds(timelines, annotations)
    assert fitted.after.average > 0.95 > 0.5 > fitted.before.average
    assert fitted.thresholds["a"].high <= 0.3 < fitted.thresholds["b"].high
    path = write_thresholds(fitted, tmp_path / "thresholds.json")
    read = read_thresholds(path)
    assert {k: (v.high, round(v.low, 6)) for k, v in fitted.thresholds.items()} == {
        k: (v.high, v.low) for k, v in read.items()
    }
    with pytest.raises(UnknownNameError, match="class"):
        fit_thresholds(timelines[:1], [VideoSegments("v", (Segment("z", 0, 1),))])
    with pytest.raises(ConfigError, match="2 timelines and 1 annotations"):
        fit_thresholds(timelines[:2], annotations[:1])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format": "video-swin-transformer thresholds", "thresholds": {"a": {"high": 2}}}',
        '{"format": "video-swin-transformer thresholds", "thresholds": '
        '{"a": {"high": 2, "low": 0}}}',
    ],
)
def test_other_files_are_no_thresholds(tmp_path, text):
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(DataError, match=r"file\.json"):
        read_thresholds(tmp_path / "file.json")


# --- videos ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", ["constant", "variable"])
def test_borders_of_a_stitched_video_are_found_within_half_a_second(rate, videos, predictor):
    video = videos[rate]
    found = detect_segments(predictor, video.path)
    assert np.mean(border_errors(video.borders, found.segments)) < 0.5
    measured = segment_map([video.truth], [found.as_annotation()])
    assert measured.map_at[0.5] > 0.8
    assert found.duration_seconds == pytest.approx(video.truth.duration, abs=0.05)
    assert found.fps == (25.0 if rate == "constant" else None)


@pytest.mark.parametrize("rate", ["constant", "variable"])
def test_label_shots_finds_every_cut_and_the_label_of_each_shot(rate, videos, predictor):
    video = videos[rate]
    shots = label_shots(predictor, video.path)
    assert [shot.start_frame for shot in shots.shots] == list(video.first_frames)
    starts = [shot.start_seconds for shot in shots.shots]
    assert starts == pytest.approx([0.0, *video.borders], abs=1e-6)
    labels = [shots.top(number)[0] for number in range(len(shots.shots))]
    assert labels == [one.label for one in video.truth.segments]


def test_scores_of_windows_are_those_of_classify(videos, predictor):
    """Each row of logits is the classification of that window as a clip."""
    path = videos["constant"].path
    table = extract_features(predictor, path, hop_frames=50, pooling="logits")
    assert table.values.shape[1] == len(predictor.bundle.labels)
    found = detect_segments(predictor, path, hop_frames=50)
    assert found.timeline is not None
    shifted = np.exp(table.values - table.values.max(axis=1, keepdims=True))
    scores = shifted / shifted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.timeline.scores, scores, rtol=1e-5)


def test_segments_have_receipts(videos, predictor):
    found = detect_segments(predictor.with_receipts(), videos["constant"].path, hop_seconds=1.0)
    assert found.receipt is not None and replay(found.receipt).is_equal


def test_find_shots_of_a_video_without_cuts_is_one_shot(tmp_path):
    path = Clip(num_frames=60, height=64, width=64).make(
        tmp_path / "flat", [np.full((64, 64, 3), 100, np.uint8)] * 60
    )
    (shot,) = find_shots(path)
    assert (shot.start_frame, shot.end_frame) == (0, 60)
    with pytest.raises(ConfigError, match="without times"):
        find_shots(np.zeros((10, 32, 32, 3), np.uint8))


def test_arrays_have_segments_if_their_rate_is_given(predictor):
    frames = np.zeros((60, 64, 64, 3), np.uint8)
    with pytest.raises(ConfigError, match="fps"):
        detect_segments(predictor, frames)
    found = detect_segments(predictor, frames, fps=25)
    assert found.duration_seconds == pytest.approx(2.4)


# --- files of shots -------------------------------------------------------------------------------


def test_shots_are_written_as_csv_json_and_parquet(videos, predictor, tmp_path):
    shots = label_shots(predictor, videos["constant"].path)
    for kind in ("csv", "json", "jsonl", "parquet"):
        write_shots([shots, shots], tmp_path / f"shots.{kind}", format=kind)
    rows = json.loads((tmp_path / "shots.json").read_text())
    assert len(rows) == 16 and rows[0]["duration_span"] == [0.0, 2.4]
    assert len({row["id"] for row in rows}) == 8  # the id follows from the video and the times
    lines = (tmp_path / "shots.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    with (tmp_path / "shots.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["label"] for row in table] == [row["label"] for row in rows]
    assert float(table[3]["score_static"]) == rows[3]["scores"]["static"]
    parquet = pytest.importorskip("pyarrow.parquet")
    assert parquet.read_table(tmp_path / "shots.parquet").to_pylist() == rows
    with pytest.raises(UnknownNameError, match="format of shots"):
        write_shots([shots], tmp_path / "x", format="xml")


# --- commands -------------------------------------------------------------------------------------


def test_the_loop_of_segments_annotation_and_evaluation(run, videos, tmp_path):
    path, truth = videos["constant"].path, tmp_path / "truth.csv"
    with truth.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "start_seconds", "end_seconds", "label"])
        for one in videos["constant"].truth.segments:
            writer.writerow([path, one.start, one.end, one.label])

    thresholds, found = tmp_path / "thresholds.json", tmp_path / "found.json"
    code, out, err = run("segments", "--fit", truth, "--out", thresholds)
    assert code == 0, err
    assert out.splitlines()[-1].split()[0] == "mean" and "measured on the same" in err

    pictures = tmp_path / "pictures"
    code, out, err = run(
        "segments", path, "--thresholds", thresholds, "--out", found, "--pictures", pictures
    )
    assert code == 0, err
    (picture,) = pictures.glob("*.png")
    assert cv2.imread(str(picture)).std() > 10
    (video,) = read_segment_annotations(found)
    assert len(out.splitlines()) == 1 + len(video.segments)

    code, out, err = run("evaluate", truth, "--segments", found, "--out", tmp_path / "results")
    assert code == 0, err
    written = json.loads((tmp_path / "results" / "segments.json").read_text())
    assert written["average_map"] == evaluate_segments(truth, found).average > 0.5
    assert f"{written['average_map']:.3f}" in out

    for kind in ("labelstudio", "fiftyone", "activitynet", "csv", "jsonl"):
        file = tmp_path / f"{kind}{'.' + kind if kind in ('csv', 'jsonl') else '.json'}"
        assert run("annotate", path, "--to", kind, "--out", file)[0] == 0
        if kind == "labelstudio":  # as exported after the predictions were accepted
            tasks = json.loads(file.read_text())
            for task in tasks:
                task["annotations"] = task.pop("predictions")
            file.write_text(json.dumps(tasks))
        root = {"root": path.parent} if kind in ("fiftyone", "activitynet") else {}
        (again,) = read_segment_annotations(file, **root)
        (direct,) = [detect_segments(Predictor.load("camera-motion"), path)]
        assert len(again.segments) == len(direct.segments)
        for one, other in zip(again.segments, direct.segments, strict=True):
            assert one.label == other.label
            assert abs(one.start - other.start) <= 0.041 and abs(one.end - other.end) <= 0.041
    config = (tmp_path / "labelstudio.xml").read_text()
    assert "TimelineLabels" in config
    for label in Predictor.load("camera-motion").bundle.labels:  # also those that were not found
        assert f'<Label value="{label}"/>' in config


def test_bad_videos_are_named_and_the_others_have_segments(run, videos, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 1000)
    inputs = [videos["constant"].path, tmp_path / "broken.mp4", videos["variable"].path]
    code, out, err = run("segments", *inputs, "--json", "--out", tmp_path / "found.csv")
    assert code == 1 and "broken.mp4" in err and "1 of 3" in err
    data = [json.loads(line) for line in out.splitlines()]
    assert [one["error"] is None for one in data] == [True, False, True]
    assert len(read_segment_annotations(tmp_path / "found.csv")) == 2
    code, out, err = run("segments", *inputs, "--per-shot", "--out", tmp_path / "shots.csv")
    assert code == 1 and "broken.mp4" in err and out.count(" s  ") == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give VIDEO"),
        (["clip.mp4", "--fit", "list.csv"], "--fit takes its videos from the annotations"),
        (["clip.mp4", "--threshold", "high"], "--threshold is 'high'"),
        (["clip.mp4", "--threshold", "0.3,0.5"], "low is 0.5"),
        (["clip.mp4", "--per-shot", "--min-seconds", "2"], "--min-seconds"),
        (["clip.mp4", "--format", "csv"], "without --out"),
        (["clip.mp4", "--out", "x.json", "--format", "xml"], "xml"),
        (["clip.mp4", "--out", "notes.txt"], "notes.txt"),
        (["clip.mp4", "--thresholds", "notes.txt"], "notes.txt"),
        (["clip.mp4", "--hop-frames", "5", "--hop-seconds", "1"], "hop_frames and hop_seconds"),
        (["clip.mp4", "--num-crops", "two"], "--num-crops is 'two'"),
        (["--fit", "notes.txt", "--out", "t.json"], "notes.txt"),
    ],
)
def test_wrong_use_of_segments_is_one_sentence(run, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Clip(num_frames=40).make(tmp_path / "clip")
    Path("notes.txt").write_text("my notes")
    code, _, err = run("segments", *arguments)
    assert code in (1, 2) and message in err and err.startswith("error: ")
    assert Path("notes.txt").read_text() == "my notes"
