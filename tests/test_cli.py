"""The command as a person or a program meets it: real processes, exit codes, streams."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.media import Clip, audio_only, numbered_frame, save_picture
from tests.samples import environment_without_coverage
from video_swin_transformer import create_model

EXAMPLES = Path(__file__).parent.parent / "examples" / "clips"


def videoswin(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "video_swin_transformer", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture
def bad_inputs(tmp_path):
    """Every kind of input that cannot be used."""
    good = Clip(num_frames=40).make(tmp_path / "good")
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("hello " * 100)
    (folder / "truncated.mp4").write_bytes(good.read_bytes()[:-600])
    audio_only(folder / "audio.mp4")
    save_picture(folder / "dot.png", np.zeros((1, 1, 3), np.uint8))
    (folder / "concat.mp4").write_text(f"ffconcat version 1.0\nfile '{good}'\n")
    (folder / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{good}\n#EXT-X-ENDLIST\n")
    (folder / "zero_frames.mkv").write_bytes(
        Clip(".mkv", num_frames=40).make(tmp_path / "m").read_bytes()[:700]
    )
    (folder / "nothing").mkdir()
    names = [str(path) for path in sorted(folder.iterdir())]
    return good, [*names, str(folder / "absent.mp4"), str(good / "below.mp4"), "http://a/b.mp4"]


# --- starting ---------------------------------------------------------------------------------


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from video_swin_transformer.cli import run; code = run(['--help'])\n"
        "heavy = {'torch', 'cv2', 'av', 'numpy', 'safetensors', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.strip() == "[]"
    for command in ("classify", "features", "models"):
        assert command in done.stdout


def test_version_and_bare_call():
    assert videoswin("--version").stdout.strip() == "0.1.0"
    bare = videoswin()
    assert "Usage" in bare.stdout + bare.stderr and "error" not in bare.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["clasify", "x"], "Did you mean 'classify'"),
        (["classify", "x", "--topkk", "3"], "--topk"),
        (["classify"], "Missing argument 'VIDEO'"),
        (["classify", "x", "--topk", "0"], "Invalid value for '--topk'"),
        (["classify", "x", "--views", "4y3"], "views is '4y3', but must be clips x crops"),
        (["classify", "x", "--model", "camera-motio"], "Did you mean 'camera-motion'?"),
        (["classify", "x", "--precision", "f16"], "precision is 'f16'"),
        (["classify", "x", "--device", "tpu"], "device is 'tpu'"),
        (["features", "x"], "Missing option '--out'"),
        (["models", "nothing*"], "Unknown model 'nothing*'"),
    ],
)
def test_misuse_is_one_sentence_and_exit_code_2(run, arguments, says):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert says in err and len(err.strip().splitlines()) == 1


# --- classify ---------------------------------------------------------------------------------


def test_text_for_people(run):
    code, out, err = run("classify", EXAMPLES / "pan_left.mp4", "--topk", 2)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == str(EXAMPLES / "pan_left.mp4")
    assert lines[1].split()[1] == "pan_left" and lines[1].split()[0].endswith("%")
    assert len(lines) == 3


def test_json_lines_for_programs(run, tmp_path):
    code, out, err = run("classify", EXAMPLES / "roll_cw.mp4", tmp_path / "no.mp4", "--json")
    assert code == 1
    good, bad = map(json.loads, out.splitlines())
    assert list(good) == ["input", "model", "labels", "num_views", "error"]
    assert good["num_views"] == 4
    assert good["model"] == "swin_nano_patch488_window877_camera" and good["error"] is None
    assert len(good["labels"]) == 5
    best = good["labels"][0]
    assert best["label"] == "roll_cw" and best["index"] == 7 and 0 < best["score"] <= 1
    assert bad["labels"] == [] and bad["error"]["type"] == "VideoDecodeError"
    assert "no.mp4" in bad["error"]["message"]
    assert "1 of 2 inputs" in err


def test_csv_table(run, tmp_path):
    table = tmp_path / "new" / "out.csv"
    code, _, _ = run(
        "classify", EXAMPLES / "tilt_up.mp4", tmp_path / "no.mp4", "--csv", table, "--topk", 2
    )
    assert code == 1
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert rows[0]["label"] == "tilt_up" and float(rows[0]["score"]) > 0.4
    assert "no.mp4" in rows[2]["error"]


def test_folders_patterns_and_frames(run, tmp_path):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    first = Clip(num_frames=12).make(tmp_path / "a" / "two")
    Clip(".webm", "libvpx-vp9", num_frames=12).make(tmp_path / "a" / "deep" / "one")
    (tmp_path / "a" / "notes.txt").write_text("no video")
    (tmp_path / "a" / ".hidden.mp4").write_text("no video")
    for number in range(3):
        (tmp_path / "a" / "frames").mkdir(exist_ok=True)
        save_picture(tmp_path / "a" / "frames" / f"{number}.png", numbered_frame(number))
    code, out, _ = run("classify", tmp_path / "a", str(tmp_path / "a" / "*.mp4"), "--json")
    assert code == 0
    found = [json.loads(line)["input"] for line in out.splitlines()]
    below = tmp_path / "a"
    assert found == [str(below / "deep" / "one.webm"), str(below / "frames"), str(first)]


def test_bad_inputs_are_named_and_the_rest_is_done(run, bad_inputs):
    good, bad = bad_inputs
    code, out, err = run("classify", *bad[:3], good, *bad[3:], "--topk", 1)
    assert code == 1
    assert out.splitlines()[0] == str(good) and len(out.splitlines()) == 2
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(bad)
    for name, line in zip(bad, errors, strict=True):
        assert name in line
    assert f"{len(bad)} of {len(bad) + 1} inputs failed" in err


@pytest.mark.parametrize("place", range(12))
def test_each_bad_input_alone_is_one_sentence(run, bad_inputs, place):
    _, bad = bad_inputs
    if place >= len(bad):
        pytest.fail(f"there are only {len(bad)} bad inputs: shorten the range")
    code, out, err = run("classify", bad[place])
    assert (code, out) == (1, "")
    assert len(err.strip().splitlines()) == 1 and bad[place] in err


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_unreadable_folder(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)
    # Root may read every folder, so root becomes somebody else once everything is loaded.
    script = (
        "import os, sys; from video_swin_transformer.cli import run\n"
        "locked, good = sys.argv[1:]; command = ['classify', '--runtime', 'torch']\n"
        "run([*command, good])\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "sys.exit(run([*command, locked, good]))"
    )
    command = [sys.executable, "-c", script, str(locked), str(EXAMPLES / "static.mp4")]
    done = subprocess.run(
        command, env=environment_without_coverage(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert str(locked) in done.stderr and "permission denied" in done.stderr.lower()
    assert done.stdout.count("static.mp4") == 2


def test_label_files(run, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\n")
    code, _, err = run("classify", EXAMPLES / "static.mp4", "--labels", labels)
    assert code == 1 and "has 2 lines, but the model has 10 classes" in err
    code, _, err = run("classify", EXAMPLES / "static.mp4", "--labels", tmp_path / "none.txt")
    assert code == 1 and "none.txt" in err


def test_an_unwritable_table_is_found_before_the_work(run, tmp_path):
    (tmp_path / "file").touch()
    code, out, err = run("classify", EXAMPLES / "static.mp4", "--csv", tmp_path / "file" / "x.csv")
    assert (code, out) == (2, "") and len(err.strip().splitlines()) == 1


def test_a_model_that_is_no_model(run, tmp_path):
    (tmp_path / "model.safetensors").write_text("nothing")
    code, _, err = run("classify", "x", "--model", tmp_path / "model.safetensors")
    assert code == 1 and "not a readable safetensors file" in err


def test_verbose_says_what_was_chosen_and_how_long_it_took(run):
    _, out, err = run(
        "classify", EXAMPLES / "static.mp4", "-v", "--views", "1x1", "--device", "cpu"
    )
    assert "on cpu, f32, 1x1 views" in err and "decode" in err and "network" in err
    assert "decode" not in out


def test_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -m video_swin_transformer classify {EXAMPLES} | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""


# --- features and models ----------------------------------------------------------------------


def test_features_are_written_for_every_video(run, tmp_path):
    code, out, _ = run(
        "features", EXAMPLES / "pan_left.mp4", tmp_path / "no.mp4", "--out", tmp_path / "f"
    )
    assert code == 1
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["pan_left.npz"]
    vectors = np.load(tmp_path / "f" / "pan_left.npz")["features"]
    assert vectors.shape == (3, 192) and vectors.dtype == np.float32
    assert "pan_left.npz" in out and "3x192" in out


def test_features_never_overwrite_one_another(run, tmp_path):
    (tmp_path / "b").mkdir()
    for folder in (tmp_path, tmp_path / "b"):
        Clip(num_frames=2).make(folder / "same")
    code, _, _ = run("features", tmp_path, "--out", tmp_path / "f")
    assert code == 0
    assert sorted((tmp_path / "f").rglob("*.npz")) == [
        tmp_path / "f" / "b" / "same.npz",
        tmp_path / "f" / "same.npz",
    ]


def test_models_table_and_json(run):
    code, out, _ = run("models")
    assert code == 0
    assert "swin_tiny_patch244_window877" in out and "28.2 M" in out
    assert "on this machine" in out and "Apache-2.0" in out
    _, out, _ = run("models", "camera*", "--json")
    (row,) = map(json.loads, out.splitlines())
    assert row["weights"] == "on this machine" and row["parameters"] == 1309864
    assert row["accuracy_top1"] > 80 and "held-out" in row["accuracy_protocol"]


def test_classify_keeps_an_existing_csv_if_the_model_has_no_classifier(tmp_path, run):
    create_model("swin-nano", num_classes=0).save_pretrained(tmp_path / "headless")
    text = "input,rank,label,index,score,error\nkept\n"
    (tmp_path / "old.csv").write_text(text)
    code, _, err = run(
        "classify", EXAMPLES / "static.mp4", "--model", tmp_path / "headless",
        "--csv", tmp_path / "old.csv", "--runtime", "torch",
    )  # fmt: skip
    assert code == 2 and "has no classifier" in err
    assert (tmp_path / "old.csv").read_text() == text


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize(
    "command",
    [
        "classify {list}",
        "check-data {list}.txt",
        "bench --rounds 99999 --runtime torch:f32",
        "export camera-motion --format onnx --out {new}.onnx --check {list}",
        "evaluate {list}.txt --out {new}",
    ],
)
def test_ctrl_c_is_one_line_and_130(command, tmp_path):
    folder = tmp_path / "list"
    folder.mkdir()
    clip = EXAMPLES / "static.mp4"
    for number in range(2000):
        (folder / f"{number}.mp4").symlink_to(clip)
    (tmp_path / "list.txt").write_text("".join(f"list/{number}.mp4 0\n" for number in range(2000)))
    words = command.format(list=folder, new=tmp_path / "new").split()
    running = subprocess.Popen(
        [sys.executable, "-m", "video_swin_transformer", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment_without_coverage(),
        # A job in the background ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(3)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    _, err = running.communicate(timeout=60)
    lines = [line for line in err.splitlines() if "once per clip shape" not in line]
    assert running.returncode == 130, err
    assert len(lines) == 1 and lines[0].startswith("Stopped."), err
