"""Scores on disk: nothing finished is lost, whatever interrupts the writing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from video_swin_transformer import ConfigError, DataError
from video_swin_transformer.evaluation import Plan, ScoreStore, summarize

SETTINGS = {
    "num_classes": 3,
    "classes": ["a", "b", "c"],
    "is_multilabel": False,
    "average": "prob",
    "views": [2, 1],
}
NOTHING = np.empty((0, 3), np.float32)


def plan(num_clips: int = 5, **changes: object) -> Plan:
    paths = tuple(f"clip {n}.mp4" for n in range(num_clips))
    return Plan(SETTINGS | changes, paths, tuple((n % 3,) for n in range(num_clips)))


def logits(item: int) -> np.ndarray:
    return np.random.default_rng(item).normal(size=(2 + item % 2, 3)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    store = ScoreStore(tmp_path / "scores")
    store.begin(plan(), resume=False)
    return store


def add(store: ScoreStore, items, rank: int = 0) -> None:
    with store.open_writer(rank) as part:
        for item in items:
            part.add(item, f"clip {item}.mp4", logits(item))


def test_parts_of_several_ranks_and_runs_become_one_file(store):
    add(store, [4, 0], rank=0)
    add(store, [1], rank=1)
    add(store, [2], rank=0)
    with store.open_writer(1) as part:
        part.add(3, "clip 3.mp4", NOTHING, "unreadable", "it is broken")
    assert store.finished_items() == {0, 1, 2, 3, 4}
    store.finish()
    assert sorted(p.name for p in store.folder.iterdir()) == [
        "index.jsonl",
        "logits.safetensors",
        "plan.json",
    ]
    scores = store.load()
    assert scores.clips[3].error == "it is broken"
    for item in (0, 1, 2, 4):
        np.testing.assert_array_equal(scores.of(scores.clips[item]), logits(item))
    expected = np.concatenate([logits(item) for item in (0, 1, 2, 4)])
    np.testing.assert_array_equal(
        load_file(store.folder / "logits.safetensors")["logits"], expected
    )
    lines = (store.folder / "index.jsonl").read_text().splitlines()
    assert json.loads(lines[4])["first_row"] == len(expected) - 2
    assert store.finished_items() == {0, 1, 2, 3, 4}
    store.finish()  # nothing left to do


def test_every_clip_is_on_the_disk_when_add_returns(store):
    with store.open_writer(0) as part:
        part.add(0, "clip 0.mp4", logits(0))
        assert store.finished_items() == {0}  # while the part is still open


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_line_that_a_kill_cut_off_does_not_count(store, cut):
    add(store, [0, 1, 2])
    lines = store.folder / "part-000-000.jsonl"
    lines.write_bytes(lines.read_bytes()[:-cut])
    assert store.finished_items() == {0, 1}
    add(store, [2, 3, 4])
    store.finish()
    assert len(store.load().clips) == 5


def test_data_that_a_loss_of_power_kept_from_the_disk_does_not_count(store):
    add(store, [0, 1, 2])
    data = store.folder / "part-000-000.f32"
    data.write_bytes(data.read_bytes()[:-1])
    assert store.finished_items() == {0, 1}


def test_an_unfinished_pass_says_so(store):
    add(store, [0, 1])
    with pytest.raises(DataError, match=r"unfinished \(2 of 5 clips\).*--resume"):
        store.load()
    with pytest.raises(DataError, match=r"3 of 5 clips have no scores"):
        store.finish()


def test_going_on_is_asked_for_and_only_with_the_same_plan(store):
    with pytest.raises(ConfigError, match="add --resume"):
        store.begin(plan(), resume=False)
    store.begin(plan(), resume=True)
    with pytest.raises(ConfigError, match=r"views was \[2, 1\] and is now \[4, 3\]"):
        store.begin(plan(views=[4, 3]), resume=True)
    with pytest.raises(ConfigError, match="5 clips or their labels"):
        store.begin(plan(4), resume=True)


def test_what_is_no_store(tmp_path, store):
    with pytest.raises(DataError, match=r"contains no scores"):
        ScoreStore(tmp_path).load()
    add(store, range(5))
    store.finish()
    file = store.folder / "logits.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged"):
        store.load()
    (store.folder / "plan.json").write_text("{}")
    with pytest.raises(DataError, match=r"plan\.json is missing or damaged"):
        store.load()


def test_clips_that_all_failed_give_no_figures(store):
    with store.open_writer(0) as part:
        for item in range(5):
            part.add(item, f"clip {item}.mp4", NOTHING, "gone")
    store.finish()
    with pytest.raises(DataError, match="None of 5 clips"):
        summarize(store.load())
