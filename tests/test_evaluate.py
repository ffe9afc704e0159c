"""videoswin evaluate: the shipped network on the shipped clips, in real processes."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import average_precision_score

from tests.media import Clip
from tests.samples import example_list
from video_swin_transformer import Predictor, cli
from video_swin_transformer.evaluation import ScoreStore
from video_swin_transformer.registry import find_card

EXAMPLES = Path(__file__).parent.parent / "examples" / "clips"
LABELS = find_card("camera-motion").bundle.labels
# One thread: tests share the cores, and threads that wait for each other suffer most.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
FAST = ("--views", "1x1", "--runtime", "torch")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "video_swin_transformer", "evaluate", *map(str, arguments)]


def metrics_of(out: Path) -> dict:
    return json.loads((out / "evaluation.json").read_text())["metrics"]


def logits_of(out: Path) -> np.ndarray:
    return load_file(out / "scores" / "logits.safetensors")["logits"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """An evaluation with the model's own views (4x1), in one process: (list, folder)."""
    root = tmp_path_factory.mktemp("done")
    clips = example_list(root / "clips.txt")
    arguments = ["evaluate", clips, "--runtime", "torch", "--out", root / "out"]
    assert cli.run([str(a) for a in arguments]) == 0
    return clips, root / "out"


# --- what it measures -------------------------------------------------------------------------


def test_figures_are_those_of_the_predictor(done):
    _, out = done
    predictor = Predictor.load(runtime="torch")
    rows = list(csv.DictReader((out / "clips.csv").read_text().splitlines()))
    assert len(rows) == 12
    num_right = 0
    for row in rows:
        result = predictor.classify(row["path"])
        label, score = result.top(1)[0]
        assert row["predicted_label"] == label
        assert float(row["confidence"]) == pytest.approx(score, abs=2e-6)
        number = LABELS.index(row["true_labels"])
        assert float(row["true_label_score"]) == pytest.approx(result.scores[number], abs=2e-6)
        assert int(row["true_label_rank"]) == 1 + result.top_indices(10).index(number)
        num_right += label == row["true_labels"]
    found = json.loads((out / "evaluation.json").read_text())
    assert found["metrics"]["top1"]["value"] == num_right / 12 == 10 / 12
    assert found["metrics"]["top1"]["low"] == pytest.approx(0.5520, abs=1e-4)
    assert found["num_clips"] == 12 and found["num_failed"] == 0
    assert {Path(one["path"]).stem for one in found["worst"]} == {"zoom_in", "tilt_up"}
    classes = {one["name"]: one for one in found["classes"]}
    # zoom_in and tilt_up have no clip left, so that the mean is over eight classes.
    assert classes["zoom_in"]["accuracy"] is None
    assert classes["shake"]["accuracy"]["value"] == pytest.approx(1 / 3)
    assert classes["shake"]["confused_with"] in ("zoom_in", "tilt_up")
    mean = (7 + 1 / 3) / 8
    assert found["metrics"]["mean_class_accuracy"]["value"] == pytest.approx(mean)


def test_scores_are_computed_again_without_a_pass(run, done, tmp_path):
    _, out = done
    code, printed, _ = run(
        "evaluate", "--scores", out, "--average", "score", "--out", tmp_path / "again",
        "--mean-class-accuracy", "official",
    )  # fmt: skip
    assert code == 0 and "mean of logits" in printed
    again = metrics_of(tmp_path / "again")
    # two classes are predicted without occurring: the official mean counts them as 0
    assert again["mean_class_accuracy"]["value"] == pytest.approx((7 + 1 / 3) / 10)
    logits = logits_of(out).reshape(12, 4, 10).mean(axis=1)
    rows = list(csv.DictReader((tmp_path / "again" / "clips.csv").read_text().splitlines()))
    best = np.exp(logits - logits.max(axis=1, keepdims=True))
    best = (best / best.sum(axis=1, keepdims=True)).max(axis=1)
    assert [float(row["confidence"]) for row in rows] == pytest.approx(best, abs=2e-6)
    assert not (tmp_path / "again" / "scores").exists()


def test_recomputing_loads_no_torch(done, tmp_path):
    script = (
        "import sys\nfrom video_swin_transformer.cli import run\n"
        f"code = run(['evaluate', '--scores', {str(done[1])!r}, '--out', {str(tmp_path)!r}])\n"
        "assert 'torch' not in sys.modules\nsys.exit(code)"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_a_folder_of_classes_is_matched_by_name(run, tmp_path):
    for label in ("Pan Left", "static"):  # other numbers than those of the model
        (tmp_path / "data" / label).mkdir(parents=True)
    shutil.copy(EXAMPLES / "pan_left.mp4", tmp_path / "data" / "Pan Left" / "a.mp4")
    shutil.copy(EXAMPLES / "static.mp4", tmp_path / "data" / "static" / "b.mp4")
    code, _, _ = run("evaluate", tmp_path / "data", *FAST, "--out", tmp_path / "out")
    assert code == 0 and metrics_of(tmp_path / "out")["top1"]["value"] == 1


def test_several_labels_a_clip(run, tmp_path):
    clips = sorted(EXAMPLES.glob("*.mp4"))[:6]
    labels = [(0, 1), (1,), (2, 0), (), (4, 3), (1, 5, 6)]
    lines = [f"{c} {' '.join(map(str, s))}" for c, s in zip(clips, labels, strict=True)]
    (tmp_path / "l.txt").write_text("\n".join(lines))
    code, out, _ = run("evaluate", tmp_path / "l.txt", *FAST, "--out", tmp_path / "out")
    assert code == 0 and "mAP" in out and "top-1" not in out
    scores = 1 / (1 + np.exp(-logits_of(tmp_path / "out").astype(float)))
    truth = np.array([[n in some for n in range(10)] for some in labels])
    expected = [
        average_precision_score(truth[:, n], scores[:, n]) for n in range(10) if truth[:, n].any()
    ]
    assert metrics_of(tmp_path / "out")["map"]["value"] == pytest.approx(np.mean(expected))


def test_the_rule_decides_which_frames(run, tmp_path):
    clips = example_list(tmp_path / "l.txt")
    run("evaluate", clips, "--runtime", "torch", "--rule", "uniform", "--out", tmp_path / "u")
    settings = json.loads((tmp_path / "u" / "evaluation.json").read_text())["settings"]
    assert settings["sampling"]["rule"] == "uniform" and len(logits_of(tmp_path / "u")) == 12
    code, _, err = run("evaluate", clips, "--rule", "uniform", "--views", "4x3")
    assert code == 2 and "use 1x3 views" in err


# --- bad clips and misuse -----------------------------------------------------------------------


def test_bad_clips_are_named_counted_and_left_out_next_time(run, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    good = Clip(num_frames=30).make(tmp_path / "good")
    clips = tmp_path / "l.txt"
    clips.write_text(f"bad.mp4 0\ngood.mp4 0\nabsent.mp4 1\n{good.name} 3\n")
    code, out, err = run("evaluate", clips, *FAST, "--out", tmp_path / "one")
    assert code == 1 and "2 clips" in out
    assert err.count("bad.mp4'") == 1 and err.count("absent.mp4'") == 1
    assert "2 of 4 clips failed" in err
    found = json.loads((tmp_path / "one" / "evaluation.json").read_text())
    assert [Path(one["path"]).name for one in found["failed"]] == ["bad.mp4", "absent.mp4"]
    assert "Failed clips: 2" in (tmp_path / "one" / "report.html").read_text()
    code, out, err = run("evaluate", clips, *FAST, "--out", tmp_path / "two")
    assert code == 0 and "2 clips in the quarantine list" in err and "error" not in err
    failed = json.loads((tmp_path / "two" / "evaluation.json").read_text())["failed"]
    assert len(failed) == 2 and failed[0]["kind"] == "quarantined"
    assert metrics_of(tmp_path / "one") == metrics_of(tmp_path / "two")


@pytest.mark.parametrize(
    ("lines", "code", "says"),
    [
        ("a.mp4 12", 1, "label is 12, but must be 0 to 9"),
        ("a.mp4 pan_lefty", 1, "did you mean 'pan_left'?"),
        ("a.mp4 -1\nb.mp4 2", 1, "1 of 2 clips of"),
        ("", 1, "contains no clips"),
    ],
)
def test_labels_that_cannot_be_evaluated(run, tmp_path, lines, code, says):
    (tmp_path / "l.txt").write_text(lines)
    found, _, err = run("evaluate", tmp_path / "l.txt", *FAST, "--out", tmp_path / "out")
    assert found == code and says in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--scores FOLDER"),
        (("x", "--scores", "y"), "not both"),
        (("x", "--average", "mean"), "prob or score"),
        (("x", "--mean-class-accuracy", "all"), "present or official"),
        (("x", "--rule", "dense"), "official, mmaction2, uniform"),
        (("x", "--views", "4by3"), "clips x crops"),
        (("x", "--workers", "0"), "--workers"),
    ],
)
def test_misuse_is_one_sentence(run, arguments, says):
    code, out, err = run("evaluate", *arguments)
    assert (code, out) == (2, "") and says in err


def test_an_earlier_run_is_never_overwritten(run, done):
    clips, out = done
    before = logits_of(out)
    code, _, err = run("evaluate", clips, "--runtime", "torch", "--out", out)
    assert code == 2 and "--resume" in err
    code, _, err = run("evaluate", clips, *FAST, "--out", out, "--resume")
    assert code == 2 and "sampling was" in err
    np.testing.assert_array_equal(logits_of(out), before)


# --- interruptions and several processes ----------------------------------------------------------


def test_a_killed_run_goes_on_and_does_no_clip_twice(run, tmp_path):
    clips = example_list(tmp_path / "clips.txt", times=4)
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(clips, *FAST, "--out", out), stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    lines = out / "scores" / "part-000-000.jsonl"
    deadline = time.monotonic() + 120
    while not lines.exists() or lines.read_bytes().count(b"\n") < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    process.communicate()
    finished = ScoreStore(out / "scores").finished_items()
    assert 3 <= len(finished) < 48
    with pytest.raises(ValueError, match="unfinished"):
        ScoreStore(out / "scores").load()

    # A mark in the scores of what was done: were it done again, the mark would be gone.
    data = lines.with_suffix(".f32")
    values = np.fromfile(data, np.float32)
    values[: len(finished) * 10] += np.float32(1000)  # the same for all classes: no score moves
    values.tofile(data)
    code, _, _ = run("evaluate", clips, *FAST, "--out", out, "--resume")
    assert code == 0
    marked = set(np.flatnonzero(logits_of(out).min(axis=1) > 500).tolist())
    assert marked == finished

    whole = tmp_path / "whole"
    assert run("evaluate", clips, *FAST, "--out", whole)[0] == 0
    assert metrics_of(out) == metrics_of(whole)
    plain = logits_of(out)
    plain[sorted(finished)] -= 1000
    np.testing.assert_allclose(plain, logits_of(whole), atol=2e-4)  # 1000 + x rounds x


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(done, tmp_path):
    clips, out = done
    pytest.importorskip("accelerate")
    launcher = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--main_process_port", "0", "-m", "video_swin_transformer", "evaluate",
    ]  # fmt: skip
    arguments = [clips, "--runtime", "torch", "--out", tmp_path / "two"]
    finished = subprocess.run(
        [*launcher, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        env=ENVIRONMENT,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("top-1") == 1  # one of them reports
    np.testing.assert_allclose(logits_of(tmp_path / "two"), logits_of(out), atol=1e-6)
    one, two = metrics_of(out), metrics_of(tmp_path / "two")
    for name, found in one.items():
        for key, value in found.items():
            assert two[name][key] == pytest.approx(value, abs=1e-6)


# --- the report for people ------------------------------------------------------------------------


class _Page(HTMLParser):
    """Collects tags and addresses, and checks that what opens is closed."""

    VOID = frozenset({"meta", "img", "br", "rect", "path", "image", "i"})
    OPTIONAL = frozenset({"p", "td", "th", "tr"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href", "action", "data")]
        if tag not in self.VOID | self.OPTIONAL:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        self.handle_starttag(tag, attributes)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID | self.OPTIONAL:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


def test_the_report_is_one_whole_file(done):
    page = parsed(done[1] / "report.html")
    assert page.tags.count("svg") == 2 and page.tags.count("table") == 2
    assert page.tags.count("img") == 2  # the middle frames of the two worst clips
    assert page.addresses and all(a.startswith("data:image/") for a in page.addresses)
    assert "script" not in page.tags and "link" not in page.tags
    text = (done[1] / "report.html").read_text()
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= namespaces
    assert "83.3%" in page.text and "shake" in page.text
    assert {"confusion.svg", "reliability.svg", "confusion.csv", "classes.csv"} <= {
        file.name for file in done[1].iterdir()
    }


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not allow")
def test_hostile_names_are_text(run, tmp_path):
    folder = tmp_path / "<script>alert(1)"
    folder.mkdir()
    shutil.copy(EXAMPLES / "static.mp4", folder / "a'\"&.mp4")
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"<b>{name}</b>" for name in LABELS))
    (tmp_path / "l.txt").write_text(f"{folder.name}/a'\"&.mp4 3\n")
    out = tmp_path / "out"
    code, _, _ = run("evaluate", tmp_path / "l.txt", *FAST, "--labels", labels, "--out", out)
    assert code == 0
    page = parsed(out / "report.html")
    assert "script" not in page.tags and page.tags.count("b") < 10
    assert "<script>alert(1)" in page.text and "<b>tilt_up</b>" in page.text
