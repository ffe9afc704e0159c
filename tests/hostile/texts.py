"""Hostile configs, sidecars, recipes, lists, label files, feature files and OpenMMLab configs."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import video_swin_transformer as vst
from video_swin_transformer.config import BundleConfig, ClipSampling, ModelConfig, Preprocessing
from video_swin_transformer.data.readers import read_annotations
from video_swin_transformer.exporters.sidecar import read_exported_model
from video_swin_transformer.features.storage import save_features
from video_swin_transformer.labels import read_labels
from video_swin_transformer.openmmlab import bundle_for_testing
from video_swin_transformer.training.recipe_files import load_recipe

SMALL = BundleConfig(
    model=ModelConfig(
        embed_dim=12, depths=(1, 1), num_heads=(1, 2), window_size=(2, 4, 4), num_classes=3
    ),
    sampling=ClipSampling(num_frames=4, num_clips=1),
    preprocessing=Preprocessing(short_side=32, crop_size=32, num_crops=1),
    labels=("a", "b", "c"),
)
HOSTILE_NUMBERS = (
    *(10**9, 10**18, 2**63, -1, 0, 0.5, 1e6, 1e300, -1e-300, "1e999", "-1e999", "NaN", "Infinity"),
    *(True, None, 100_000, 3.0000001, "9" * 5000),
)
HOSTILE_TEXTS = (
    *(
        "",
        "\0",
        "\ud800",
        "\x1b[2J\x1b]0;owned\x07",
        "a" * 100_000,
        "=cmd|' /C calc'!A0",
        "../../etc/passwd",
    ),
    *("/dev/zero", "/dev/stdin", "%s%s%n", "{0.__class__}", "\u202eevil", "1", "-3"),
)
NESTED = "[" * 100_000 + "]" * 100_000

RECIPE = """model:
  init_from: camera-motion
data:
  train: train.csv
schedule:
  epochs: 2
optimizer:
  learning_rate: 1.0e-3
batch_size: 2
"""
OPENMMLAB = """
_base_ = []
model = dict(
    type='Recognizer3D',
    backbone=dict(type='SwinTransformer3D', patch_size=(2, 4, 4), embed_dim=96, depths=[2, 2, 6, 2],
                  num_heads=[3, 6, 12, 24], window_size=(8, 7, 7), drop_path_rate=0.1),
    cls_head=dict(type='I3DHead', in_channels=768, num_classes=400, spatial_type='avg'),
    test_cfg=dict(average_clips='prob'))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_bgr=False)
test_pipeline = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=32, frame_interval=2, num_clips=4, test_mode=True),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 224)),
    dict(type='ThreeCrop', crop_size=224),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='FormatShape', input_format='NCTHW')]
data = dict(test=dict(pipeline=test_pipeline))
"""
LIST = "# a comment\n" + "".join(f"videos/{i:02d}.mp4 {i % 3}\n" for i in range(12))
TABLE = "path,label\n" + "".join(f"{i}.mp4,{'abc'[i % 3]}\n" for i in range(9))
JSON_LIST = json.dumps([{"video": f"{i}.mp4", "label": "abc"[i % 3]} for i in range(9)])
JSON_LINES = "\n".join(json.dumps({"video": f"{i}.mp4", "label": i % 3}) for i in range(9))
LABELS = json.dumps({"id2label": {"0": "a", "1": "b", "2": "c"}})


def _model_folder(folder: Path) -> str:
    vst.VideoSwinTransformer(SMALL).save_pretrained(folder / "model")
    return SMALL.to_json()


def _sidecar(folder: Path) -> str:
    data = b"\x08\x08"  # an ONNX model without a graph
    (folder / "model.onnx").write_bytes(data)
    export = {
        "format": "onnx",
        "precision": "f32",
        "clip_shape": [3, 4, 32, 32],
        "sha256": {"model.onnx": hashlib.sha256(data).hexdigest()},
    }
    return json.dumps({**json.loads(SMALL.to_json()), "export": export})


def _index(folder: Path) -> str:
    model = vst.VideoSwinTransformer(SMALL)
    model.save_pretrained(folder / "model")
    names = dict.fromkeys(model.state_dict(), "model.safetensors")
    return json.dumps({"metadata": {"total_size": 10}, "weight_map": names})


def _feature_sidecar(folder: Path) -> str:
    vst.VideoSwinTransformer(SMALL).save_pretrained(folder / "model")
    predictor = vst.Predictor.load(folder / "model", runtime="torch")
    frames = np.zeros((16, 40, 40, 3), np.uint8)
    save_features(vst.extract_features(predictor, frames), folder / "features.npy")
    return (folder / "features.json").read_text("utf-8")


def _read_model(path: Path) -> None:
    predictor = vst.Predictor.load(path.parent, runtime="torch")
    predictor.classify(np.zeros((8, 40, 40, 3), np.uint8))


def _read_list(path: Path) -> None:
    read_annotations(path, root=path.parent)


KIND_FILES: dict[str, tuple[str, Callable[[Path], str] | str, Callable[[Path], object]]] = {
    "config": ("model/config.json", _model_folder, _read_model),
    "sidecar": (
        "model.onnx.json",
        _sidecar,
        lambda path: read_exported_model(path.with_suffix("")),
    ),
    "recipe": ("recipe.yaml", RECIPE, load_recipe),
    "override": ("override.txt", "schedule.epochs=3", lambda path: None),
    "openmmlab": ("config.py", OPENMMLAB, bundle_for_testing),
    "list": ("list.txt", LIST, _read_list),
    "table": ("table.csv", TABLE, _read_list),
    "json": ("list.json", JSON_LIST, _read_list),
    "jsonl": ("list.jsonl", JSON_LINES, _read_list),
    "labels": ("labels.json", LABELS, lambda path: read_labels(path, None)),
    "index": ("model/model.safetensors.index.json", _index, lambda path: vst.load_checkpoint(path)),
    "features": (
        "features.json",
        _feature_sidecar,
        lambda path: vst.load_features(path.with_suffix(".npy")),
    ),
}
KINDS = tuple(KIND_FILES)


def prepare(kind: str, folder: Path) -> str:
    content = KIND_FILES[kind][1]
    return content if isinstance(content, str) else content(folder)


def run(kind: str, seed: int, original: str, folder: Path) -> str:
    name, _, read = KIND_FILES[kind]
    rng = random.Random(f"{kind} {seed}")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    way = seed % 10
    if way == 0 and kind != "override":
        _special_file(path, rng)
    elif way < 6 and original[:1] in "{[":
        path.write_bytes(_damage_json(original, kind, rng))
    else:
        path.write_bytes(_damage_text(original, kind, rng))
    if kind == "override":
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        load_recipe("finetune", [*text.split("\n")[:5]])
    else:
        read(path)
    return "read"


def _special_file(path: Path, rng: random.Random) -> None:
    match rng.randrange(5):
        case 0:
            path.symlink_to("/dev/zero")
        case 1:
            os.mkfifo(path)
        case 2:
            path.mkdir()
            (path / "x").touch()
            path.rename(path.with_name(f"folder{rng.random()}"))
            path.symlink_to(path.parent)
        case 3:
            with path.open("wb") as file:
                file.truncate(3 << 30)
        case 4:
            path.symlink_to("/proc/self/mem")


def _damage_json(text: str, kind: str, rng: random.Random) -> bytes:
    lines = text.split("\n") if kind == "jsonl" else [text]
    at = rng.randrange(len(lines))
    data = json.loads(lines[at])
    holder, key = rng.choice(list(_places(data)))
    marker = "@@hostile@@"
    kind_of_value = rng.randrange(6)
    value = (
        json.dumps(rng.choice(HOSTILE_TEXTS))
        if kind_of_value < 2
        else _number_text(rng.choice(HOSTILE_NUMBERS))
        if kind_of_value < 4
        else rng.choice(
            (
                NESTED,
                "{}",
                "[]",
                '{"a":' * 5000 + "1" + "}" * 5000,
                "[100000, 1]",
                "[" + "1," * 300_000 + "1]",
            )
        )
    )
    if rng.random() < 0.15 and isinstance(holder, dict):
        holder[str(rng.choice(HOSTILE_TEXTS))] = holder.pop(key)
    elif rng.random() < 0.1 and isinstance(holder, dict):
        del holder[key]
    else:
        holder[key] = marker
    lines[at] = json.dumps(data).replace(f'"{marker}"', value)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _number_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _places(data: Any) -> list[tuple[Any, Any]]:
    keys = list(data) if isinstance(data, dict) else list(range(len(data)))
    places = [(data, key) for key in keys]
    for key in keys:
        if isinstance(data[key], (dict, list)):
            places += _places(data[key])
    return places


def _damage_text(text: str, kind: str, rng: random.Random) -> bytes:
    data = bytearray(text.encode())
    at = rng.randrange(len(data))
    match rng.randrange(12):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            del data[at:]
        case 2:
            data[at:at] = rng.choice(HOSTILE_TEXTS).encode("utf-8", "surrogatepass")
        case 3:
            data[at:at] = NESTED.encode()
        case 4:
            data[at:at] = rng.randbytes(rng.randrange(1, 40))
        case 5:
            data = bytearray(("a" * 9 + " ").encode() * 30_000)
        case 6:
            data = bytearray(text.encode("utf-16"))
            data[at] ^= 255
        case 7:
            data[at:at] = b"\n" + _bomb(kind) + b"\n"
        case 8:
            data += _bomb(kind)
        case 9:
            numbers = [_number_text(value) for value in HOSTILE_NUMBERS]
            words = text.split("2")
            where = rng.randrange(1, len(words)) if len(words) > 1 else 0
            data = bytearray(
                ("2".join(words[:where]) + rng.choice(numbers) + "2".join(words[where:])).encode()
            )
        case 10:
            data = bytearray(data * rng.randrange(2, 400))
        case 11:
            data[at:at] = b'"' * rng.randrange(1, 3)
    return bytes(data)


def _bomb(kind: str) -> bytes:
    """Text that expands exponentially, or that slow parsers need quadratic time for."""
    if kind in ("recipe", "override"):
        levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
        return "\n".join(["a0: &a0 [x]", *levels]).encode()
    if kind == "openmmlab":
        return "\n".join(
            ["a0 = [1, 2]", *(f"a{i} = [a{i - 1}, a{i - 1}]" for i in range(1, 60))]
        ).encode()
    return (b"x " * 40_000) + b"\n"
