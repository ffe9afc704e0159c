"""check-data: real files, real processes, and what each kind of fault is called."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.media import Clip, numbered_frame, patched, save_picture, set_display_matrix
from video_swin_transformer import ClipSampling, DataError, cli
from video_swin_transformer.data import (
    Annotations,
    CheckPlan,
    ClipRecord,
    Quarantine,
    check_dataset,
    default_quarantine,
    read_annotations,
)
from video_swin_transformer.data.probe import ProbeTask, digest_clip, is_variable, probe_clip
from video_swin_transformer.data.worker_pool import TaskFailure, run_in_processes

SHORT = ClipSampling(num_frames=4, stride=1, num_clips=1)


# --- work in processes (functions at module level: they are imported there) ---------------------


def square_or_worse(task: int) -> int:
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 5:
        time.sleep(600)
    if task == 7:
        os._exit(4)
    return task * task


def fail_by_mistake(task: int) -> int:
    raise KeyError(task)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_crash_and_a_hang_cost_their_own_task_only():
    results = dict(run_in_processes(square_or_worse, range(10), 2, timeout_seconds=5))
    assert sorted(results) == list(range(10))
    good = {
        number: result for number, result in results.items() if not isinstance(result, TaskFailure)
    }
    assert good == {n: n * n for n in (0, 1, 2, 4, 6, 8, 9)}
    assert results[3] == TaskFailure("the worker process died (signal SIGKILL)", True)
    assert results[5] == TaskFailure("timed out after 5 s", False)
    assert results[7] == TaskFailure("the worker process died (exit code 4)", True)


def test_a_mistake_of_our_own_is_no_fault_of_the_data():
    with pytest.raises(RuntimeError, match="KeyError: 1"):
        list(run_in_processes(fail_by_mistake, [1], 1, timeout_seconds=60))


def test_leaving_early_ends_the_processes():
    results = run_in_processes(square_or_worse, [1, 5], 2, timeout_seconds=600)
    assert next(results) == (0, 1)
    results.close()  # type: ignore[attr-defined]  # joins its threads, which end their processes: a hang fails by time limit
    assert list(run_in_processes(square_or_worse, [], 2, timeout_seconds=1)) == []


# --- one clip ---------------------------------------------------------------------------------


def test_facts_of_an_honest_clip(tmp_path):
    path = Clip(num_frames=30, fps=25).make(tmp_path / "a")
    facts = probe_clip(ProbeTask(str(path), SHORT))
    assert facts.error is None
    assert (facts.num_frames, facts.stated_num_frames, facts.fps) == (30, 30, 25)
    assert (facts.height, facts.width, facts.rotation_degrees) == (64, 96, 0)
    assert not facts.has_variable_rate and facts.num_bytes == path.stat().st_size


def test_a_container_that_lies_about_its_frames(tmp_path):
    path = Clip(".avi", "mpeg4", num_frames=30).make(tmp_path / "a")
    data = path.read_bytes()
    at = data.index(b"strh") + 8 + 32  # dwLength of the stream's header
    assert data[at : at + 4] == (30).to_bytes(4, "little")
    path.write_bytes(patched(data, at, (99).to_bytes(4, "little")))
    facts = probe_clip(ProbeTask(str(path), SHORT))
    assert (facts.num_frames, facts.stated_num_frames, facts.error) == (30, 99, None)


def test_a_rotated_clip(tmp_path):
    path = Clip(num_frames=10).make(tmp_path / "a")
    set_display_matrix(path, (0, 1, -1, 0))
    facts = probe_clip(ProbeTask(str(path), SHORT))
    assert abs(facts.rotation_degrees) == 90 and (facts.height, facts.width) == (96, 64)


def test_variable_rates_and_rounded_times(tmp_path):
    uneven = [0, 40, 80, 200, 240, 280, 320, 360]
    path = Clip(".mkv", num_frames=8, pts=uneven, options={"bf": "0"}).make(tmp_path / "uneven")
    assert probe_clip(ProbeTask(str(path), SHORT)).has_variable_rate
    even = Clip(".mkv", num_frames=8, fps=30).make(tmp_path / "even")  # 33, 33, 34 ms
    assert not probe_clip(ProbeTask(str(even), SHORT)).has_variable_rate
    assert not is_variable(None) and not is_variable(np.array([0.0, 1.0]))


def test_damage_far_inside_is_found_by_a_deep_look(tmp_path):
    """A frame late in a folder of images is truncated: nothing but a deep look reads it."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(8):
        save_picture(folder / f"img_{number}.png", numbered_frame(number))
    last = folder / "img_7.png"
    last.write_bytes(last.read_bytes()[:-200])
    assert probe_clip(ProbeTask(str(folder), SHORT)).error is None
    error = probe_clip(ProbeTask(str(folder), SHORT, deep=True)).error
    assert error is not None and "img_7.png" in error and "truncated" in error


def test_digests_are_of_content(tmp_path):
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"same")
    (tmp_path / "c.bin").write_bytes(b"else")
    one, same, other = (digest_clip(str(tmp_path / f"{name}.bin")) for name in "abc")
    assert one == same != other
    assert digest_clip(str(tmp_path / "absent")) is None


# --- a dataset with one of each fault -------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    clips = root / "clips"
    clips.mkdir()
    for number in range(4):
        frames = [numbered_frame(number * 20 + n) for n in range(10)]
        Clip().make(clips / f"good{number}", frames)
    (clips / "twin.mp4").write_bytes((clips / "good0.mp4").read_bytes())
    (clips / "test twin.mp4").write_bytes((clips / "good1.mp4").read_bytes())
    (clips / "text.mp4").write_text("no video " * 50)
    cut = (clips / "good2.mp4").read_bytes()
    (clips / "cut.mp4").write_bytes(cut[: len(cut) // 2])
    Clip(num_frames=3).make(clips / "short")
    turned = Clip(num_frames=10).make(clips / "turned")
    set_display_matrix(turned, (0, 1, -1, 0))
    train = [
        *(f"clips/good{n}.mp4 {n % 2}" for n in range(4)),
        "clips/good3.mp4 1",
        "clips/twin.mp4 1",
        "clips/text.mp4 0",
        "clips/cut.mp4 0",
        "clips/short.mp4 0",
        "clips/turned.mp4 3",
        "clips/godo1.mp4 1",
        "clips/outside.mp4 9",
    ]
    (root / "train.txt").write_text("\n".join(train))
    (root / "test.txt").write_text("clips/test twin.mp4 1\nclips/good2.mp4 0\n")
    (root / "labels.txt").write_text("zero\none\ntwo\nthree\n")
    return root


@pytest.fixture(scope="module")
def report(dataset):
    labels = ("zero", "one", "two", "three")
    splits = {
        name: read_annotations(dataset / f"{name}.txt", labels=labels) for name in ("train", "test")
    }
    return check_dataset(splits, CheckPlan(SHORT, num_workers=2))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("unreadable", [("text.mp4", "not a video"), ("cut.mp4", "truncated")]),
        ("absent", [("godo1.mp4", "good1.mp4")]),
        ("outside_map", [("outside.mp4", "label is 9, but must be 0 to 3")]),
        ("listed_twice", [("good3.mp4", "more than once")]),
        ("duplicate", [("twin.mp4", "good0.mp4, with a different label")]),
        ("shared", [("test twin.mp4", "good1.mp4 in train"), ("good2.mp4", "in train")]),
        ("short", [("short.mp4", "3 frames, but a clip needs 4")]),
        ("rotated", [("turned.mp4", "90 degrees")]),
        ("singleton_class", [("three", ""), ("zero", ""), ("one", "")]),
        ("empty_class", [("two", ""), ("two", ""), ("three", "")]),
        ("crashed", []),
        ("stated_count", []),
    ],
)
def test_every_fault_is_named_once(report, kind, expected):
    found = report.of(kind)
    assert len(found) == len(expected)
    for name, detail in expected:
        assert any(Path(p.path).name == name and detail in p.detail for p in found), (name, found)


def test_figures(report):
    train, test = report.splits
    assert (train.num_listed, train.num_usable, test.num_usable) == (12, 8, 2)
    assert train.class_counts == {"zero": 3, "one": 4, "two": 0, "three": 1}
    assert train.imbalance == 4 and report.num_unusable == 4
    data = report.to_data()
    assert json.loads(json.dumps(data)) == data
    assert data["counts"]["unreadable"] == 2 and len(data["problems"]) == len(report.problems)


def test_lists_that_tell_a_wrong_number_of_images(tmp_path):
    for name, count in (("a", 5), ("b", 6)):
        (tmp_path / name).mkdir()
        for number in range(count):
            save_picture(tmp_path / name / f"{number}.png", numbered_frame(number))
    (tmp_path / "l.txt").write_text("a 4 0\nb 9 0\n")
    found = check_dataset({"l": read_annotations(tmp_path / "l.txt")}, CheckPlan(SHORT))
    (problem,) = found.of("listed_count")
    assert problem.detail == "4 frames listed, 5 images found" and not problem.is_unusable
    (problem,) = found.of("fewer_frames")
    assert "says 9 frames, but it contains 6 images" in problem.detail and problem.is_unusable


def test_much_imbalance_is_reported(tmp_path):
    path = Clip(num_frames=5).make(tmp_path / "a")
    items = (
        tuple(ClipRecord(str(path), (0,)) for _ in range(23)) + (ClipRecord(str(path), (1,)),) * 2
    )
    found = check_dataset({"x": Annotations("x", "list", items, ("a", "b"))}, CheckPlan(SHORT))
    (problem,) = found.of("imbalance")
    assert problem.detail == "a has 23 clips, b has 2"


def probe_that_dies(task: ProbeTask):
    if "good1" in task.path:
        os._exit(9)
    return probe_clip(task)


def test_a_clip_that_kills_its_decoder_is_named(dataset):
    split = read_annotations(dataset / "test.txt")
    good = read_annotations(dataset / "train.txt").where(lambda i: "good" in i.path)
    found = check_dataset({"a": good, "b": split}, CheckPlan(SHORT), probe=probe_that_dies)
    (problem,) = found.of("crashed")
    assert "good1" in problem.path and "exit code 9" in problem.detail
    assert found.splits[1].num_usable == 2


# --- quarantine -------------------------------------------------------------------------------


def test_quarantine_holds_as_long_as_the_file_is_the_same(tmp_path):
    bad, absent = tmp_path / "bad.mp4", tmp_path / "absent.mp4"
    bad.write_bytes(b"x")
    kept = Quarantine(tmp_path / "q.jsonl")
    kept.add([(str(bad), "broken"), (str(absent), "not there")])
    again = Quarantine(tmp_path / "q.jsonl")
    items = tuple(ClipRecord(str(path), (0,)) for path in (bad, absent, tmp_path / "good.mp4"))
    usable, left_out = again.filter(Annotations("l", "list", items))
    assert [item.path for item in usable.items] == [str(tmp_path / "good.mp4")]
    assert left_out == {str(bad): "broken", str(absent): "not there"}
    bad.write_bytes(b"repaired")
    absent.write_bytes(b"arrived")
    assert again.reason(str(bad)) is None and again.reason(str(absent)) is None


def test_what_is_no_quarantine_list(tmp_path):
    (tmp_path / "q").write_text("a.mp4\n")
    with pytest.raises(DataError, match="Line 1"):
        Quarantine(tmp_path / "q")
    with pytest.raises(DataError, match="Cannot read"):
        Quarantine(tmp_path)
    kept = Quarantine(tmp_path / "file" / "below")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="Cannot write"):
        kept.add([("a", "b")])


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        code = cli.run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_the_command_and_its_second_run(run, dataset, tmp_path):
    kept = tmp_path / "q.jsonl"
    command = (
        "check-data", dataset / "train.txt", "--val", dataset / "test.txt", "--clip-length", 4,
        "--labels", dataset / "labels.txt", "--quarantine", kept, "--json", tmp_path / "out.json",
    )  # fmt: skip
    code, out, err = run(*command)
    assert code == 1
    assert "UNUSABLE: cannot be read: 2" in out and "cut.mp4" in out and "did you mean" in out
    assert "note: also in another split: 2" in out
    assert "3 clips were added to" in err and len(kept.read_text().splitlines()) == 3
    assert json.loads((tmp_path / "out.json").read_text())["num_unusable"] == 4
    code, out, err = run(*command)
    assert "skipped 3 clips of the quarantine list" in out
    assert "cannot be read" not in out and "label not in the label map: 1" in out
    assert code == 1  # the label is still outside: the list has to be corrected


def test_a_sound_folder_has_nothing_to_report_and_keeps_no_list(run, tmp_path):
    for name in ("a", "b"):
        for number in range(2):
            frames = [numbered_frame(ord(name) + number * 30 + n) for n in range(6)]
            path = tmp_path / name / str(number)
            path.parent.mkdir(exist_ok=True)
            Clip().make(path, frames)
    code, out, err = run("check-data", tmp_path, "--clip-length", 4, "--deep", "--workers", 1)
    assert (code, err) == (0, "") and "No problems found." in out
    assert not default_quarantine(tmp_path).exists()


def test_misuse(run, tmp_path, dataset):
    assert run("check-data", tmp_path / "absent")[0] == 1
    code, _, err = run("check-data", dataset / "test.txt", "--format", "lits")
    assert code == 2 and "Did you mean 'list'" in err
    code, _, err = run("check-data", dataset / "test.txt", "--json", dataset / "test.txt" / "x")
    assert code == 2 and "error" in err


def test_it_needs_no_torch(dataset):
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from video_swin_transformer.cli import run\n"
        f"if __name__ == '__main__': sys.exit(run(['check-data', {str(dataset / 'test.txt')!r}, "
        "'--clip-length', '4']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "test.txt" in done.stdout
