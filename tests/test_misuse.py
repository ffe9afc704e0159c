"""What people get wrong, each with its one sentence, and no traceback, hang or exhausted memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.media import Clip, numbered_frame, save_picture
from tests.samples import environment_without_coverage
from tests.training import make_folder, write_tiny
from video_swin_transformer import (
    CheckpointError,
    ConfigError,
    Predictor,
    VideoDecodeError,
    VideoSwinError,
    create_model,
    load_model,
    train,
)
from video_swin_transformer.data import Quarantine, read_annotations
from video_swin_transformer.labels import read_labels

EXAMPLES = Path(__file__).parent.parent / "examples" / "clips"
FAST = ("--views", "1x1", "--runtime", "torch", "--device", "cpu")
VIDEO = EXAMPLES / "static.mp4"
needs_fifos = pytest.mark.skipif(os.name == "nt", reason="FIFOs and /dev are those of POSIX")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a clip, a dataset, a recipe, a model and, where there are any, a FIFO."""
    root = tmp_path_factory.mktemp("place")
    Clip(num_frames=8).make(root / "a")
    make_folder(root / "labeled", 2, ("left", "brighter"))
    write_tiny(root)
    create_model("swin-nano", num_classes=2).save_pretrained(root / "net")
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "fifo")
        os.mkfifo(root / "fifo.mp4")
        os.mkfifo(root / "fifo.safetensors")
    return root


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def one_error(err: str) -> str:
    """The only error of a command, one line."""
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in err and line.endswith((".", "-h", ".)"))
    return line


# --- empty strings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["classify", ""], "An argument is empty"),
        (["classify", VIDEO, "--model", ""], "The value of --model is empty"),
        (["classify", VIDEO, "--model="], "The value of --model is empty"),
        (["classify", VIDEO, "--csv", ""], "The value of --csv is empty"),
        (["features", VIDEO, "--out", ""], "The value of --out is empty"),
        (["check-data", ""], "An argument is empty"),
        (["evaluate", "labeled", "--root", ""], "The value of --root is empty"),
        (["train", "tiny.yaml", "data="], "'data=' has no value"),
        (["train", "tiny.yaml", "data=labeled", "data.val="], "'data.val=' has no value"),
    ],
)
def test_empty_arguments_are_misuse(arguments, what, here, run):
    before = sorted(here.rglob("*"))
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and what in one_error(err)
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    "call",
    [
        lambda: Predictor.load(""),
        lambda: load_model(""),
        lambda: read_annotations(""),
        lambda: read_annotations("labeled", root=""),
        lambda: read_labels("", None),
        lambda: Quarantine(""),
        lambda: train("", "out"),
    ],
)
def test_empty_paths_are_not_the_current_folder(call, here):
    with pytest.raises(ConfigError, match="empty string"):
        call()


def test_an_empty_path_is_no_video(here):
    with pytest.raises(VideoDecodeError, match="its path is an empty string"):
        Predictor.load(here / "net", runtime="torch").classify("")


def test_a_recipe_with_an_empty_path_is_refused(here, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text((here / "tiny.yaml").read_text() + "\ndata: {train: ''}\n")
    with pytest.raises(ConfigError, match=r"data.train to '': it must not be empty"):
        train(recipe, tmp_path / "out")


# --- weights that are no numbers ------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken(place, tmp_path_factory):
    """Weights with one NaN, as a folder and as a pickle."""
    folder = tmp_path_factory.mktemp("broken")
    model = create_model("swin-nano", num_classes=2)
    with torch.no_grad():
        model.backbone.layers[0].blocks[0].attn.qkv.weight[0, 0] = float("nan")
    model.save_pretrained(folder / "net")
    torch.save(model.state_dict(), folder / "net.pth")
    return folder


@pytest.mark.parametrize("name", ["net", "net.pth"])
@pytest.mark.parametrize("runtime", ["torch", "openvino", "onnxruntime", "torch-compile"])
def test_weights_with_nan_are_named_by_every_runtime(name, runtime, broken, run):
    code, out, err = run("classify", VIDEO, "--model", broken / name, "--runtime", runtime)
    assert (code, out) == (1, "")
    assert "contain NaN or infinite values, in 'backbone.layers.0" in one_error(err)


def test_weights_with_nan_are_named_before_an_output_is_written(broken, tmp_path, run):
    for format, suffix in (("onnx", "onnx"), ("openvino", "xml"), ("torch", "pt2")):
        out = tmp_path / f"m.{suffix}"
        code, _, err = run("export", broken / "net", "--format", format, "--out", out)
        assert code == 1 and "contain NaN" in one_error(err)
    code, _, err = run(
        "convert", broken / "net.pth", "--to", "safetensors", "--out", tmp_path / "c"
    )
    assert code == 1 and "contain NaN" in one_error(err)
    code, _, err = run("features", VIDEO, "--model", broken / "net", "--out", tmp_path / "f")
    assert code == 1 and "contain NaN" in one_error(err)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_inspect_names_weights_with_nan(broken, run):
    code, out, _ = run("inspect", broken / "net.pth")
    assert code == 1 and "1 with NaN or infinite values: backbone.layers.0" in out


def test_outputs_that_overflow_are_an_error(place, tmp_path, run):
    tensors = load_file(place / "net" / "model.safetensors")
    tensors["cls_head.fc_cls.weight"] = torch.full_like(tensors["cls_head.fc_cls.weight"], 3e38)
    (tmp_path / "net").mkdir()
    for name in ("config.json", "video_preprocessor_config.json"):
        (tmp_path / "net" / name).write_bytes((place / "net" / name).read_bytes())
    save_file(tensors, tmp_path / "net" / "model.safetensors")
    code, out, err = run("classify", VIDEO, "--model", tmp_path / "net", *FAST)
    assert (code, out) == (1, "") and "are NaN or infinite (torch" in one_error(err)


# --- bounded reads ----------------------------------------------------------------------------


@needs_fifos
@pytest.mark.timeout(120)
@pytest.mark.parametrize("path", ["fifo", "/dev/zero"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", "{}", *FAST],
        ["classify", VIDEO, "--labels", "{}", *FAST],
        ["classify", VIDEO, "--model", "{}"],
        ["classify", VIDEO, "--config", "{}", "--checkpoint", "net"],
        ["inspect", "{}"],
        ["features", VIDEO, "--out", "out", "--segments", "{}", *FAST[2:]],
        ["features", VIDEO, "--out", "out", "--project", "{}", *FAST[2:]],
        ["evaluate", "{}", "--out", "out", *FAST],
        ["evaluate", "labeled", "--quarantine", "{}", "--out", "out", "--model", "net", *FAST],
        ["check-data", "{}"],
        ["check-data", "labeled", "--labels", "{}"],
        ["check-data", "labeled", "--quarantine", "{}"],
        ["train", "{}", "data=labeled"],
        ["train", "tiny.yaml", "data={}", "--out", "out"],
        ["train", "tiny.yaml", "data=labeled", "data.labels={}", "--out", "out"],
        ["probe", "{}", "labeled"],
    ],
    ids=lambda arguments: " ".join(map(str, (arguments[0], *arguments[-4:-2]))),
)
def test_fifos_and_devices_are_refused(arguments, path, here, run):
    code, out, err = run(*(str(one).format(path) for one in arguments))
    assert code in (1, 2) and out == ""
    assert path in one_error(err)


@needs_fifos
@pytest.mark.timeout(60)
def test_models_that_are_fifos_are_refused(here, run):
    for name in ("fifo.safetensors", "fifo.mp4"):
        code, _, err = run("classify", VIDEO, "--model", name)
        assert code == 1 and name in one_error(err)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
def test_a_huge_label_file_is_refused_under_a_memory_limit(here, tmp_path):
    with (tmp_path / "labels.txt").open("wb") as file:
        file.truncate(8 << 30)  # sparse: it takes no space on the disk
    script = (
        "import resource, sys; from video_swin_transformer.cli import run\n"
        "import torch, av, cv2\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (2 << 30),) * 2)\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "classify", str(VIDEO), *FAST]
    command += ["--labels", str(tmp_path / "labels.txt")]
    done = subprocess.run(
        command, env=environment_without_coverage(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "it is larger than 16 MiB, the most allowed" in one_error(done.stderr)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["classify", VIDEO, "--views", "100000000x1"], "num_clips is 100000000, but must be at"),
        (["classify", VIDEO, "--threads", "100000"], "threads is 100000, but must be from 1 to"),
        (["evaluate", "labeled", "--views", "100000000x1"], "num_clips is 100000000"),
        (["bench", "--threads", "100000"], "threads is 100000"),
        (["bench", "--exported", VIDEO], "is not an exported model"),
    ],
)
def test_absurd_numbers_end_in_a_sentence(arguments, sentence, here, run):
    code, out, err = run(*arguments)
    assert code in (1, 2) and out == "" and sentence in one_error(err)


def test_errors_of_the_library_are_sentences(here):
    predictor = Predictor.load(here / "net", runtime="torch")
    for call in (
        lambda: predictor.with_views(10**9, 1),
        lambda: predictor.classify(np.zeros((0, 8, 8, 3), np.uint8)),
    ):
        with pytest.raises(VideoSwinError, match=r"^[^\n]*$"):
            call()
    with pytest.raises(CheckpointError):
        load_model(here / "labeled")


# --- options without an effect --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "--scores", "x", "--model", "net"], "--model has no effect on stored"),
        (["evaluate", "--scores", "x", "--threads", "2", "--workers", "2"], "have no effect"),
        (["models", "--json", "--markdown"], "--json and --markdown are two forms"),
        (["classify", VIDEO, "--force"], "--force has no effect without --csv"),
        (["check-data", "labeled", "--force"], "--force has no effect without --json"),
        (["bench", "--force"], "--force has no effect without --json"),
        (["train", "--list", "finetune"], "recipe has no effect with --list"),
        (["train", "finetune", "--keys", "--out", "x"], "--out has no effect with --keys"),
        (["train", "finetune", "--dry-run", "--resume"], "--resume has no effect with --dry-run"),
        (["search", "x.npz", "x.npz", "--model", "net"], "--model has no effect with a feature"),
        (["features", VIDEO, "--out", "x", "--seed", "3"], "--seed has no effect without a random"),
    ],
)
def test_options_without_an_effect_are_refused(arguments, sentence, here, run):
    code, out, err = run(*arguments)
    assert code in (1, 2) and out == ""
    assert re.search(sentence, one_error(err))


def test_gaps_in_a_frame_folder_are_mentioned(tmp_path, run):
    for number in (1, 2, 5, 6, 7, 8):
        save_picture(tmp_path / f"f_{number:03d}.png", numbered_frame(number))
    code, _, err = run("classify", tmp_path, *FAST)
    assert code == 0 and "missing among its images: 3, 4." in err


def test_a_negative_number_of_labels_is_refused():
    result = Predictor.load("camera-motion", runtime="torch").with_views(1, 1).classify(VIDEO)
    assert result.top(0) == []
    with pytest.raises(ConfigError, match="k is -1, but must be at least 0"):
        result.top(-1)


def test_counts_agree_with_their_noun(here, tmp_path, run):
    code, _, _ = run("features", VIDEO, "--out", tmp_path / "f", *FAST[2:])
    assert code == 0
    bad = tmp_path / "data" / "left" / "bad.mp4"
    bad.parent.mkdir(parents=True)
    bad.write_text("no video")
    code, _, err = run("check-data", tmp_path / "data")
    assert code == 1 and "1 clip was added to" in err and "--quarantine FILE" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_places_to_write_are_checked_before_the_work(here, run, monkeypatch):
    (here / "file").touch()
    for arguments in (
        ["export", "net", "--format", "onnx", "--out", "file/m.onnx"],
        ["train", "tiny.yaml", "data=labeled", "--out", "file/run"],
        ["bench", "--json", "file/b.json", "--runtime", "torch:f32"],
        ["convert", "net", "--to", "official", "--out", "file/c.pth"],
        ["features", VIDEO, "--out", "file/f"],
        ["check-data", "labeled", "--json", "file/j.json"],
        ["evaluate", "labeled", "--model", "net", "--out", "file/e", *FAST],
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "") and "file' is a file, but must be a folder" in one_error(err)
        assert len(err.splitlines()) == 1 or arguments[0] == "evaluate"


# --- one right sentence -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["classify", VIDEO, "--precision", "fp16"], "one of f32, bf16, int8. Did you mean 'bf16'"),
        (["classify", VIDEO, "--device", "gpu"], "cuda:N or mps. Did you mean 'cuda'?"),
        (["classify", VIDEO, "--csv", "."], "'.' is a folder; give the path of the file to write"),
        (["evaluate", VIDEO], "is a video, not a dataset"),
        (["bench", "--runtime", "torch:int8"], "precision is 'int8', but weights run in f32"),
        (
            ["convert", "camera-motion", "--to", "official", "--out", "c.pth", "--num-classes", 5],
            "The option is --allow head.",
        ),
        (["evaluate", "labeled", *FAST], "clip00.mp4: label 'brighter'; "),
    ],
)
def test_common_mistakes_get_one_right_sentence(arguments, sentence, here, run):
    code, out, err = run(*arguments)
    assert code in (1, 2) and out == ""
    assert sentence in "".join(line for line in err.splitlines() if line.startswith("error: "))
    assert not (here / "evaluation").exists() and "Traceback" not in err


def test_an_evaluation_without_a_readable_clip_leaves_no_folder(place, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    for label in "01":
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / "bad.mp4").write_text("no video")
    code, _, err = run("evaluate", "data", "--model", place / "net", *FAST)
    assert code == 1 and "None of 2 clips could be read" in err
    assert not (tmp_path / "evaluation").exists()


# --- places to write ------------------------------------------------------------------------------


def test_a_run_that_does_not_start_leaves_no_folder(here, run):
    before = sorted(here.rglob("*"))
    for arguments in (
        ["train", "tiny.yaml", "data=absent"],
        ["train", "tiny.yaml", "data=absent", "--out", "new/runs"],
        ["evaluate", "absent"],
        ["evaluate", "labeled", "--model", "absent"],
    ):
        code, _, err = run(*arguments)
        assert code != 0 and one_error(err)
        assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("command", ["check-data", "evaluate"])
def test_a_video_is_no_dataset(command, here, run):
    code, _, err = run(command, "a.mp4")
    assert code == 1 and "'a.mp4' is a video, not a dataset" in one_error(err)
