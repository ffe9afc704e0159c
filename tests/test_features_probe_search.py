"""Probes tell labels from features; searches find clips and their time offsets."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest

from tests.gray_levels import make_clip, reader_of_numbers
from tests.media import Clip
from tests.samples import EXAMPLE_CLIPS
from video_swin_transformer import FeatureTable, Predictor, extract_features, write_features
from video_swin_transformer.errors import ConfigError, DataError, MissingExtraError
from video_swin_transformer.features import (
    concatenate,
    extract_query,
    load_features,
    nearest_windows,
    probe_features,
    read_video_labels,
    save_features,
    search_features,
)


def table_of(vectors: dict[str, np.ndarray]) -> FeatureTable:
    """A table with the given rows for each video, one row per second."""
    base = extract_features(reader_of_numbers(), np.zeros((8, 48, 64, 3), np.uint8), fps=8)
    tables = []
    for name, rows in vectors.items():
        seconds = np.arange(len(rows), dtype=np.float64)
        tables.append(
            dataclasses.replace(
                base,
                values=rows.astype(np.float32),
                video_index=np.zeros(len(rows), np.int64),
                start_frames=seconds.astype(np.int64) * 8,
                end_frames=seconds.astype(np.int64) * 8 + 8,
                start_seconds=seconds,
                end_seconds=seconds + 1,
                videos=(dataclasses.replace(base.videos[0], name=name),),
            )
        )
    return concatenate(tables)


def two_classes(num_videos: int, distance: float, seed: int = 0) -> FeatureTable:
    """Videos of two rows each; the first half is shifted by `distance` in every channel."""
    rng = np.random.default_rng(seed)
    return table_of(
        {
            f"v_{number}_g{number // 4}_": rng.standard_normal((2, 6))
            + distance * (number < num_videos // 2)
            for number in range(num_videos)
        }
    )


def labels_of(table: FeatureTable) -> dict[str, str]:
    half = len(table.videos) // 2
    return {video.name: "ab"[index < half] for index, video in enumerate(table.videos)}


# --- probe --------------------------------------------------------------------------------------


def test_a_probe_finds_what_is_there_and_nothing_else():
    separate, mixed = two_classes(60, 5.0), two_classes(60, 0.0)
    result = probe_features(separate, labels_of(separate))
    assert result.linear.accuracy == 1.0 and result.knn.accuracy > 0.9 and result.majority == 0.5
    assert len(result.linear.fold_accuracies) == 5 and len(result.videos) == 60
    chance = probe_features(mixed, labels_of(mixed))
    assert 0.2 < chance.linear.accuracy < 0.8 and 0.2 < chance.knn.accuracy < 0.8
    assert "linear   100.0%" in repr(result) and "majority  50.0%" in repr(result)


def test_groups_are_not_split_between_training_and_test():
    # Every group of four videos has a vector and a label of its own: memorized if it is split.
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((20, 16)) * 9
    table = table_of({f"x_g{n // 4}_{n}": centers[n // 4][None].repeat(2, 0) for n in range(80)})
    group_labels = rng.permutation(np.arange(20) % 2)
    labels = {v.name: str(group_labels[n // 4]) for n, v in enumerate(table.videos)}
    assert probe_features(table, labels, num_neighbors=1).knn.accuracy > 0.95
    grouped = probe_features(table, labels, num_neighbors=1, group_by=r"_g(\d+)_")
    assert grouped.knn.accuracy < 0.8


def test_a_given_split_is_tested_once():
    table = two_classes(40, 5.0)
    labels = labels_of(table)
    names = list(labels)
    train, test = ({n: labels[n] for n in names[start::2]} for start in (0, 1))
    result = probe_features(table, train, test_labels=test)
    assert result.videos == tuple(names[1::2]) and result.linear.accuracy == 1.0
    assert len(result.linear.fold_accuracies) == 1 and "folds" not in repr(result)
    # What is learned from wrong labels is wrong in the test.
    flipped = {name: "ab"[label == "a"] for name, label in train.items()}
    assert probe_features(table, flipped, test_labels=test).linear.accuracy < 0.2
    with pytest.raises(DataError, match="both in training and in test"):
        probe_features(table, train, test_labels=labels)
    with pytest.raises(DataError, match="20 training and 0 test videos"):
        probe_features(table, train, test_labels={"x": "a"})


def test_misuse_of_a_probe_is_named():
    table = two_classes(12, 1.0)
    labels = labels_of(table)
    with pytest.raises(DataError, match="at least two labels"):
        probe_features(table, dict.fromkeys(labels, "same"))
    with pytest.raises(DataError, match="has 6 videos, but 7 folds"):
        probe_features(table, labels, folds=7)
    with pytest.raises(DataError, match="has 2 groups"):
        probe_features(table, labels, group_by=r"_g(\d+)_")
    with pytest.raises(ConfigError, match="not valid"):
        probe_features(table, labels, group_by="(")
    with pytest.raises(DataError, match="not found in"):
        probe_features(table, labels, group_by="nothing")
    with pytest.raises(ConfigError, match="folds is 1"):
        probe_features(table, labels, folds=1)


def test_labels_come_from_lists_and_folders(tmp_path):
    table = two_classes(4, 0.0)
    names = [video.name for video in table.videos]
    for number, name in enumerate(names):
        folder = tmp_path / "classes" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.mp4").touch()
    expected = {name: "ab"[number % 2] for number, name in enumerate(names)}
    assert read_video_labels(tmp_path / "classes", table) == expected
    lines = [f"{name}.mp4 {number % 2}" for number, name in enumerate(names[:3])]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = read_video_labels(tmp_path / "list.txt", table)
    assert found == {name: str(number % 2) for number, name in enumerate(names[:3])}


def test_the_probe_command(run, tmp_path):
    for number in range(6):
        path = tmp_path / "clips" / "ab"[number % 2]
        path.mkdir(parents=True, exist_ok=True)
        Clip(num_frames=10 + 2 * number).make(path / f"clip{number}")
    clips = sorted((tmp_path / "clips").rglob("*.mp4"))
    list(write_features(reader_of_numbers(), clips, tmp_path / "f"))
    code, out, err = run("probe", tmp_path / "f", tmp_path / "clips", "--folds", 3)
    assert (code, err) == (0, "") and out.startswith("6 videos, 2 labels\nlinear")
    code, out, _ = run("probe", tmp_path / "f", tmp_path / "clips", "--folds", 3, "--json")
    line = json.loads(out)
    assert line["num_videos"] == 6 and len(line["knn"]["fold_accuracies"]) == 3


def test_a_probe_without_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)  # importing it now raises
    table = two_classes(12, 1.0)
    with pytest.raises(MissingExtraError, match=r"video-swin-transformer\[features\]"):
        probe_features(table, labels_of(table))


# --- search -------------------------------------------------------------------------------------


def random_rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 16))


def test_a_clip_is_found_with_its_offset():
    long = random_rows(50, 1)
    videos = table_of({"other": random_rows(40, 2), "long": long, "short": random_rows(3, 3)})
    query = table_of({"query": long[17:23] + 0.1 * random_rows(6, 4)})
    first, second = search_features(query, videos, top_k=2)
    assert first.video == "long" and first.end_seconds - first.start_seconds == pytest.approx(6)
    assert first.start_seconds == pytest.approx(17, abs=0.1)
    assert first.similarity > 0.95 > second.similarity
    assert all(hit.video != "short" for hit in search_features(query, videos, top_k=50))


def test_offsets_between_rows_are_interpolated():
    # A smooth path, sampled a third of a second later in the query.
    def path(times):
        return np.stack([np.sin(times / 7 * k + k) for k in range(1, 9)], axis=1)

    videos = table_of({"long": path(np.arange(60.0))})
    query = table_of({"query": path(20.33 + np.arange(8.0))})
    (hit,) = search_features(query, videos, top_k=1)
    assert hit.start_seconds == pytest.approx(20.33, abs=0.13)


def test_nearest_windows_of_each_row():
    long = random_rows(50, 1)
    videos = table_of({"other": random_rows(40, 2), "long": long})
    hits = nearest_windows(table_of({"query": long[[30, 5]]}), videos, top_k=2)
    assert [(hit.query_row, hit.start_seconds) for hit in hits[::2]] == [(0, 30), (1, 5)]
    assert hits[0].similarity == pytest.approx(1, abs=1e-6) and hits[1].similarity < 0.9


def test_searches_refuse_what_is_not_comparable(tmp_path):
    videos = table_of({"a": random_rows(9, 0), "b": random_rows(9, 1)})
    query = table_of({"q": random_rows(2, 0)})
    stream = dataclasses.replace(query, settings=dataclasses.replace(query.settings, mode="stream"))
    for find in (search_features, nearest_windows):
        with pytest.raises(ConfigError, match=r"'q' and 'a' and 1 more .* mode is 'stream'"):
            find(stream, videos)
    with pytest.raises(DataError, match="2 videos, but must have one"):
        search_features(videos, videos)
    timeless = dataclasses.replace(query, start_seconds=np.full(2, np.nan))
    with pytest.raises(DataError, match="no times"):
        search_features(timeless, videos)


@pytest.fixture(scope="module")
def example_features(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    predictor = Predictor.load(runtime="torch")
    for name in ("pan_left", "zoom_in", "roll_cw"):
        table = extract_features(predictor, EXAMPLE_CLIPS / f"{name}.mp4", hop_frames=4)
        save_features(table, folder / f"{name}.npz")
    return folder


def test_the_search_command_takes_a_video_or_features(run, example_features):
    query = EXAMPLE_CLIPS / "zoom_in.mp4"
    code, out, _ = run("search", query, example_features, "--runtime", "torch", "--json")
    best = json.loads(out.splitlines()[0])
    assert code == 0 and best["video"] == str(query) and best["start_seconds"] == 0
    assert best["similarity"] == pytest.approx(1, abs=1e-5)
    code, out, _ = run(
        "search", example_features / "roll_cw.npz", example_features, "--windows", "--top-k", 1
    )
    lines = out.splitlines()
    assert code == 0 and len(lines) == len(load_features(example_features / "roll_cw.npz"))
    assert all("roll_cw.mp4" in line and " 1.000  " in line for line in lines)


def test_a_query_video_gets_the_settings_of_the_features(example_features, tmp_path):
    predictor = Predictor.load(runtime="torch")
    table = load_features(example_features)
    query = extract_query(predictor, EXAMPLE_CLIPS / "pan_left.mp4", table)
    expected = load_features(example_features / "pan_left.npz").values
    np.testing.assert_allclose(query.values, expected, atol=1e-5)
    with pytest.raises(ConfigError, match="their weights differ"):
        extract_query(reader_of_numbers(), make_clip("cfr", tmp_path)[0], table)
    settings = dataclasses.replace(table.settings, projection="random 4, seed 0")
    with pytest.raises(ConfigError, match="projected"):
        extract_query(
            predictor, EXAMPLE_CLIPS / "pan_left.mp4", dataclasses.replace(table, settings=settings)
        )
