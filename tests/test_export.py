"""Exports: verified before they are written, and run from their sidecars, also without torch."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.samples import CLIP, fresh, views_of
from video_swin_transformer import (
    CheckpointError,
    ConfigError,
    MissingExtraError,
    Predictor,
    UnknownNameError,
    cli,
    create_model,
)
from video_swin_transformer.errors import ExportError
from video_swin_transformer.exporting import export
from video_swin_transformer.runtimes import open_runtime

EXAMPLES = Path(__file__).parent.parent / "examples" / "clips"
FORMATS = {"onnx": "onnx", "openvino": "xml", "torch": "pt2"}
CLIPS = sorted(EXAMPLES.glob("*.mp4"))


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    """The network that ships, in every format."""
    folder = tmp_path_factory.mktemp("exports")
    for name, suffix in FORMATS.items():
        export("camera-motion", folder / f"nano.{suffix}", name, check=CLIPS[:2])
    return folder


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "nano.xml"
    export("camera-motion", path, "openvino", "int8", calibrate=CLIPS)
    return path


@pytest.mark.parametrize("suffix", FORMATS.values())
def test_an_export_carries_its_verification(suffix, nano):
    sidecar = json.loads((nano / f"nano.{suffix}.json").read_text())
    assert sidecar["id2label"]["1"] == "pan_left" and sidecar["sampling"]["num_frames"] == 8
    assert sidecar["export"]["clip_shape"] == [3, 8, 112, 112]
    video, random = sidecar["export"]["verification"]["comparisons"]
    assert (video["views"], random["views"]) == ("video", "random")
    assert video["num_views"] == 8
    for one in (video, random):
        assert 0 <= one["logits_max_relative_error"] <= 1e-4
        assert one["top1_agreement"] == 1
    assert not list(nano.glob(".*"))


@pytest.mark.parametrize("suffix", FORMATS.values())
def test_an_export_can_be_renamed_together_with_its_sidecar(suffix, nano, tmp_path):
    for path in nano.glob(f"nano.{suffix}*"):
        shutil.copy(path, tmp_path / path.name.replace("nano", "my model.v2"))
    if suffix == "xml":
        shutil.copy(nano / "nano.bin", tmp_path / "my model.v2.bin")
    renamed = Predictor.load(tmp_path / f"my model.v2.{suffix}", device="cpu")
    original = Predictor.load(nano / f"nano.{suffix}", device="cpu")
    np.testing.assert_array_equal(
        renamed.classify(CLIPS[0]).scores, original.classify(CLIPS[0]).scores
    )


@pytest.mark.parametrize(
    ("suffix", "runtime"),
    [("onnx", "onnxruntime"), ("onnx", "openvino"), ("xml", "auto"), ("pt2", "auto")],
)
def test_an_export_classifies_as_the_network_does(suffix, runtime, nano):
    exported = Predictor.load(nano / f"nano.{suffix}", runtime=runtime, device="cpu")
    eager = Predictor.load("camera-motion", runtime="torch", device="cpu")
    for clip in CLIPS[2:4]:
        got, expected = exported.classify(clip), eager.classify(clip)
        np.testing.assert_allclose(got.scores, expected.scores, atol=1e-5)
        assert got.labels == expected.labels
        np.testing.assert_allclose(
            exported.features(clip).features, eager.features(clip).features, atol=1e-4
        )


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "safetensors", "onnx", "onnxscript", "nncf", BLOCKED):
    sys.modules[name] = None  # importing it now raises
from video_swin_transformer.cli import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("suffix", "runtime"), [("onnx", "onnxruntime"), ("onnx", "openvino"), ("xml", "openvino")]
)
def test_the_command_classifies_where_torch_cannot_be_imported(suffix, runtime, nano):
    other = {"onnxruntime": "openvino", "openvino": "onnxruntime"}[runtime]
    script = textwrap.dedent(WITHOUT_TORCH).replace("BLOCKED", repr(other))
    clip = str(EXAMPLES / "zoom_in.mp4")
    command = [sys.executable, "-c", script, "classify", clip, "--json", "--runtime", runtime]
    command += ["--model", str(nano / f"nano.{suffix}")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    labels = json.loads(done.stdout)["labels"]
    expected = Predictor.load("camera-motion", runtime="torch").classify(clip)
    assert [one["label"] for one in labels] == [name for name, _ in expected.top(5)]
    for one, (_, score) in zip(labels, expected.top(5), strict=True):
        assert one["score"] == pytest.approx(score, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes", "shape"),
    [
        ("swin_tiny_patch244_window877", {}, (8, 56)),
        # The network for Something-Something v2 but for its depth, which repeats the same blocks.
        ("swin_base_patch244_window1677", {"depths": (1, 1, 2, 1)}, (16, 56)),
    ],
)
def test_published_shapes_pass_their_verification(name, changes, shape, tmp_path):
    torch.manual_seed(0)
    bundle = create_model(name).bundle
    bundle = dataclasses.replace(
        bundle,
        model=dataclasses.replace(bundle.model, num_classes=7, **changes),
        sampling=dataclasses.replace(bundle.sampling, num_frames=shape[0], num_clips=1),
        preprocessing=dataclasses.replace(
            bundle.preprocessing, short_side=shape[1], crop_size=shape[1], num_crops=1
        ),
    )
    type(create_model("swin-nano"))(bundle).eval().save_pretrained(tmp_path / "model")
    report = export(tmp_path / "model", tmp_path / "m.xml", "openvino")
    assert all(c["top1_agreement"] == 1 for c in report.verification["comparisons"])


def test_int8_stays_near_and_is_smaller(int8, nano):
    assert int8.with_suffix(".bin").stat().st_size < 0.7 * (nano / "nano.bin").stat().st_size
    for precision in ("f32", "int8"):  # f32 is the default, and the file says what it is
        predictor = Predictor.load(int8, precision=precision)
        assert predictor.runtime.description.endswith("int8")
    eager = Predictor.load("camera-motion", runtime="torch", device="cpu")
    for clip in CLIPS:
        got, expected = predictor.classify(clip), eager.classify(clip)
        assert got.top(1)[0][0] == expected.top(1)[0][0]
        assert 1e-7 < np.abs(got.scores - expected.scores).max() < 0.1
    with pytest.raises(ConfigError, match="was exported in int8"):
        open_runtime(int8, precision="bf16")


# --- what is refused ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "model"
    fresh().eval().save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("format", "suffix"), FORMATS.items())
def test_an_export_beyond_its_bound_is_not_written(format, suffix, small, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(
        ExportError, match=r"relative error .* \(maximum -1\).* Nothing was written"
    ):
        export(small, out / f"model.{suffix}", format, max_error=-1)
    assert list(out.iterdir()) == []


def test_a_clip_of_another_shape_names_the_axes(nano):
    for suffix in FORMATS.values():
        runtime = open_runtime(nano / f"nano.{suffix}", device="cpu")
        with pytest.raises(ConfigError, match=r"3 channels, 8 frames, 112 height, 112 width"):
            runtime.run(views_of(CLIP))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("m.bin", "openvino"), ConfigError, "must be named 'm.xml'"),
        (("m.onnx", "tflite"), UnknownNameError, "Unknown format 'tflite'"),
        (("m.onnx", "onnx", "int8"), ConfigError, "int8 requires --format openvino"),
        (("m.xml", "openvino", "bf16"), ConfigError, "selected at run time"),
        (("m.xml", "openvino", "int8"), ConfigError, "--calibrate CLIPS"),
    ],
)
def test_exports_that_cannot_be(arguments, error, says, tmp_path):
    path, *choices = arguments
    with pytest.raises(error, match=says):
        export("camera-motion", tmp_path / path, *choices)


def test_missing_libraries_say_what_to_install(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"video-swin-transformer\[onnx\]"):
        export(small, tmp_path / "m.onnx", "onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"video-swin-transformer\[openvino\]"):
        export(small, tmp_path / "m.xml", "openvino")
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            lambda folder: (folder / "nano.onnx.json").unlink(),
            "cannot be used without 'nano.onnx.json'",
        ),
        (
            lambda folder: (folder / "nano.onnx.json").write_text("{}"),
            "is damaged or was not written",
        ),
        (
            lambda folder: (folder / "nano.onnx.json").write_text("\x00"),
            "is damaged or was not written",
        ),
        (lambda folder: (folder / "nano.onnx").write_bytes(b"x"), "does not match"),
        (lambda folder: (folder / "nano.onnx").unlink(), "There is no file"),
    ],
)
def test_a_file_and_sidecar_that_are_no_pair(damage, says, nano, tmp_path):
    for name in ("nano.onnx", "nano.onnx.json"):
        shutil.copy(nano / name, tmp_path)
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=says):
        open_runtime(tmp_path / "nano.onnx")


def test_the_command_exports_and_says_what_it_verified(small, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    assert cli.run(["export", str(small), "--format", "onnx", "--out", str(out)]) == 0
    printed, err = capsys.readouterr()
    assert "onnx, f32" in printed and "4 random views: relative error of logits" in printed
    assert err == ""
    assert cli.run(["export", str(small), "--format", "onnx", "--out", str(out)]) == 2
    assert "add --force" in capsys.readouterr().err
