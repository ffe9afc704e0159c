"""`videoswin inspect` and `videoswin convert`, and that a foreign file works where a name does."""

from __future__ import annotations

import json

import pytest
import torch
from torchvision.models.video import swin3d_t

from tests.containers import (
    IMAGE_FORMATS,
    OFFICIAL_FORMATS,
    OFFICIAL_TINY,
    TORCHVISION_IMAGE_TINY,
    image_container,
    official_container,
    random_state,
    save,
    video_container,
)
from video_swin_transformer.cli import run
from video_swin_transformer.errors import CheckpointError
from video_swin_transformer.weights import load_checkpoint, load_model
from video_swin_transformer.weights.writers import write_checkpoint

SMALL = random_state(OFFICIAL_TINY, shrink=8)
SMALL_IMAGE = random_state(TORCHVISION_IMAGE_TINY, shrink=8)
CLIP = "examples/clips/static.mp4"


@pytest.fixture
def official(tmp_path):
    return save(official_container(SMALL), tmp_path / "official.pth")


def same_weights(path, other):
    one, two = load_checkpoint(path)[0], load_checkpoint(other)[0]
    assert one.config == two.config
    for (name, a), (_, b) in zip(one.state_dict().items(), two.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    return one, two


# --- inspect -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", (*OFFICIAL_FORMATS, *IMAGE_FORMATS))
def test_inspect_tells_every_format(kind, tmp_path, capsys):
    is_image = kind in IMAGE_FORMATS
    content = image_container(kind, SMALL_IMAGE) if is_image else video_container(kind, SMALL)
    path = save(content, tmp_path / "file.pth")
    assert run(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "float32" in text and ("no classifier" in text) == ("backbone" in kind)
    assert ("--allow inflate" in text) == is_image
    assert run(["inspect", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["loads"] and report["is_image"] == is_image
    assert kind.removesuffix("-image") in report["format"]
    assert report["matched_tensors"] == report["tensors"]
    assert report["classes"] == (0 if "backbone" in kind else 125 if is_image else 50)


def test_inspect_prints_metadata_in_short(official, capsys):
    assert run(["inspect", str(official)]) == 0
    lines = capsys.readouterr().out.splitlines()
    meta = {line.split()[1]: line for line in lines if line.startswith("meta ")}
    assert meta["config_name"].endswith("swin_tiny_patch244_window877_kinetics400_1k.py")
    assert meta["epoch"].endswith("30") and meta["seed"].endswith("None")
    assert meta["config"].endswith("...") and max(map(len, lines)) < 260


def test_inspect_says_what_does_not_fit(tmp_path, capsys):
    state = dict(SMALL)
    state["backbone.nrom.weight"] = state.pop("backbone.norm.weight")
    path = save(state, tmp_path / "file.pth")
    assert run(["inspect", str(path)]) == 1
    text = capsys.readouterr().out
    assert "1 missing: backbone.norm.weight" in text
    assert "1 unexpected: backbone.nrom.weight" in text
    assert run(["inspect", str(path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["missing_keys"] == ["backbone.norm.weight"] and not report["loads"]


def test_inspect_takes_names_and_refuses_what_is_no_weights(tmp_path, capsys):
    assert run(["inspect", "camera-motion", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "own"
    (tmp_path / "text.pth").write_text("hello")
    assert run(["inspect", str(tmp_path / "text.pth")]) == 1
    assert run(["inspect", "camera-moton"]) == 2
    assert "Did you mean 'camera-motion'" in capsys.readouterr().err


# --- convert -----------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["safetensors", "official", "torchvision"])
def test_convert_there_and_back_is_exact(to, official, tmp_path, capsys):
    there, back = tmp_path / "there", tmp_path / "back.pth"
    assert run(["convert", str(official), "--to", to, "--out", str(there)]) == 0
    assert run(["convert", str(there), "--to", "official", "--out", str(back)]) == 0
    assert "matched 173 of 173" in capsys.readouterr().err
    same_weights(official, back)
    state = torch.load(back, weights_only=True)["state_dict"]
    assert state.keys() == SMALL.keys()  # index buffers, too
    assert all(torch.equal(state[name], SMALL[name]) for name in SMALL)


def test_convert_carries_labels_and_sampling(tmp_path):
    for to in ("safetensors", "official"):
        out = tmp_path / f"camera.{to}"
        assert run(["convert", "camera-motion", "--to", to, "--out", str(out)]) == 0
        one, _ = same_weights(out, "camera-motion")
        assert one.bundle == load_model("camera-motion").bundle


def test_torchvision_loads_what_we_write_strictly(tmp_path):
    whole = random_state(OFFICIAL_TINY)
    path = save(whole, tmp_path / "official.pth")
    out = tmp_path / "torchvision.pth"
    assert run(["convert", str(path), "--to", "torchvision", "--out", str(out)]) == 0
    network = swin3d_t()
    network.load_state_dict(torch.load(out, weights_only=True))
    video = torch.randn(1, 3, 4, 64, 64)
    with torch.inference_mode():
        ours = load_model(path)(video)
        torch.testing.assert_close(network.eval()(video), ours, rtol=0, atol=2e-5)


def test_half_precision_rounds_once_and_is_half_as_large(official, tmp_path):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    arguments = ["convert", str(official), "--to", "safetensors", "--out"]
    assert run([*arguments, str(whole)]) == 0
    assert run([*arguments, str(half), "--dtype", "f16"]) == 0
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    model, report = load_checkpoint(half)
    assert report.dtype == "float16"
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, SMALL[name].half().float())
    again = tmp_path / "again.safetensors"
    assert run(["convert", str(half), "--to", "safetensors", "--out", str(again)]) == 0
    same_weights(half, again)


def test_numbers_too_large_for_half_precision_are_refused(tmp_path):
    state = dict(SMALL, **{"backbone.norm.bias": torch.full((96,), 1e6)})
    path, out = save(state, tmp_path / "file.pth"), tmp_path / "out.safetensors"
    arguments = ["convert", str(path), "--to", "safetensors", "--out", str(out)]
    assert run([*arguments, "--dtype", "f16"]) == 1
    assert not out.exists()
    assert run(arguments) == 0


def test_image_weights_are_inflated_only_when_asked(tmp_path, capsys):
    path = save(image_container("timm", SMALL_IMAGE), tmp_path / "image.pth")
    out = tmp_path / "out.safetensors"
    arguments = ["convert", str(path), "--to", "safetensors", "--out", str(out)]
    assert run(arguments) == 1
    assert "--allow inflate" in capsys.readouterr().err
    options = ["--allow", "inflate", "--allow", "head", "--num-classes", "9"]
    assert run([*arguments, *options, "--allow", "in_chans", "--in-chans", "1"]) == 0
    assert load_model(out).num_classes == 9 and load_model(out).config.in_chans == 1
    assert "adapted: inflate" in capsys.readouterr().err


def test_nothing_is_overwritten_or_left_half_done(official, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.pth"
    out.write_text("precious")
    arguments = ["convert", str(official), "--to", "official", "--out", str(out)]
    assert run(arguments) == 2
    assert "--force" in capsys.readouterr().err and out.read_text() == "precious"
    assert run([*arguments[:-1], str(tmp_path)]) == 2
    assert run([*arguments[:-1], str(out / "below")]) == 2
    assert run(["convert", str(official), "--to", "onnx", "--out", "x"]) == 2
    assert run([*arguments, "--force", "--dtype", "int4"]) == 2
    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert run([*arguments, "--force"]) == 1
    assert "No space left" in capsys.readouterr().err and out.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["official.pth", "out.pth"]
    assert run([*arguments, "--force"]) == 0
    assert run(["convert", str(out), "--to", "official", "--out", str(out), "--force"]) == 0
    same_weights(official, out)


def test_what_torchvision_cannot_express_is_refused(tmp_path):
    state = {n: t for n, t in SMALL.items() if ".patch_embed.norm." not in n}
    model = load_model(save(state, tmp_path / "file.pth"))
    with pytest.raises(CheckpointError, match="patch_norm=False"):
        write_checkpoint(model, tmp_path / "out.pth", "torchvision")


# --- everywhere else ---------------------------------------------------------------------------


def test_a_foreign_file_classifies(official, capsys):
    arguments = [
        "classify",
        CLIP,
        "--model",
        str(official),
        "--runtime",
        "torch",
        "--views",
        "1x1",
        "--json",
    ]
    assert run(arguments) == 0
    line = json.loads(capsys.readouterr().out)
    assert len(line["labels"]) == 5 and line["error"] is None
