"""Hostile and damaged weight files: pickles, safetensors, shards, exported programs and graphs."""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

import video_swin_transformer as vst
from tests.hostile.texts import SMALL
from video_swin_transformer.errors import VideoSwinError
from video_swin_transformer.exporting import export
from video_swin_transformer.weights.inspection import inspect_checkpoint

KINDS = ("pickle", "legacy", "programs", "safetensors", "shards", "pt2", "onnx", "openvino")
_SUFFIXES = {
    "pickle": ".pth",
    "legacy": ".pth",
    "programs": ".pth",
    "safetensors": ".safetensors",
    "pt2": ".pt2",
    "onnx": ".onnx",
    "openvino": ".xml",
}
FRAMES = np.zeros((8, 40, 40, 3), np.uint8)


def prepare(kind: str, folder: Path) -> dict[str, bytes]:
    """The files of an intact model, by name."""
    torch.manual_seed(0)
    model = vst.VideoSwinTransformer(SMALL)
    if kind == "shards":
        model.save_pretrained(folder / "model")
        names = list(model.state_dict())
        half = len(names) // 2
        parts = {"a.safetensors": names[:half], "b.safetensors": names[half:]}
        index = {name: file for file, part in parts.items() for name in part}
        state = model.state_dict()
        return {
            "model.safetensors.index.json": json.dumps({"weight_map": index}).encode(),
            "config.json": SMALL.to_json().encode(),
            **{file: save({n: state[n] for n in part}) for file, part in parts.items()},
        }
    if kind in ("pt2", "onnx", "openvino"):
        path = folder / f"model{_SUFFIXES[kind]}"
        model.save_pretrained(folder / "source")
        formats = {"pt2": "torch", "onnx": "onnx", "openvino": "openvino"}
        export(folder / "source", path, formats[kind])
        return {file.name: file.read_bytes() for file in sorted(folder.glob("model.*"))}
    if kind == "safetensors":
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        return {"model.safetensors": save(state, {"video_swin_config": SMALL.to_json()})}
    data = io.BytesIO()
    content = {
        "state_dict": model.state_dict(),
        "meta": {"video_swin_config": SMALL.to_json(), "epoch": 3},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
    }
    torch.save(content, data, _use_new_zipfile_serialization=kind != "legacy")
    return {"model.pth": data.getvalue()}


def run(kind: str, seed: int, original: dict[str, bytes], folder: Path) -> str:
    rng = random.Random(f"{kind} {seed}")
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    files = dict(original)
    if kind == "programs":
        files["model.pth"] = _program_file(seed, rng, original["model.pth"])
    else:
        # The sidecar of an export holds the digests, which a stranger writes as well.
        name = rng.choice([n for n in files if not n.endswith(("config.json", ".onnx.json"))])
        files[name] = _damage(files[name], rng, name)
        _renew_digests(files)
    for name, data in files.items():
        (place / name).write_bytes(data)
    path = place if kind == "shards" else place / f"model{_SUFFIXES[kind]}"
    if kind == "shards":
        vst.load_checkpoint(path)
        return "read"
    outcomes = [_attempt(lambda: _classify(path))]
    if kind in ("pickle", "legacy", "programs", "safetensors"):
        outcomes.append(_attempt(lambda: inspect_checkpoint(path)))
    error = next((error for error in outcomes if error is not None), None)
    if error is not None:
        raise error
    return "read"


def _attempt(call: Callable[[], object]) -> VideoSwinError | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except VideoSwinError as error:
        return error
    return None


def _classify(path: Path) -> None:
    vst.Predictor.load(
        path, runtime="auto" if path.suffix in (".onnx", ".xml") else "torch"
    ).classify(FRAMES)


def _renew_digests(files: dict[str, bytes]) -> None:
    import hashlib

    for name in [name for name in files if name.endswith(".json") and name.startswith("model.")]:
        if "index" in name:
            continue
        try:
            sidecar = json.loads(files[name])
            digests = sidecar["export"]["sha256"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        for file in digests:
            digests[file] = hashlib.sha256(files[file]).hexdigest()
        files[name] = json.dumps(sidecar).encode()


# --- damage ---------------------------------------------------------------------------------------


def _damage(data: bytes, rng: random.Random, name: str) -> bytes:
    changed = bytearray(data)
    # Headers and graphs matter more than the values of the weights.
    limit = len(changed) if rng.random() < 0.5 else min(len(changed), 4096)
    at = rng.randrange(limit)
    match rng.randrange(8):
        case 0 | 1:
            changed[at] ^= 1 << rng.randrange(8)
        case 2:
            del changed[at:]
        case 3:
            del changed[at : at + rng.randrange(1, 200)]
        case 4:
            changed[at : at + 8] = struct.pack("<q", rng.choice((-1, 2**31, 2**40, 2**62, 10**9)))
        case 5:
            changed[at:at] = rng.randbytes(rng.randrange(1, 64))
        case 6:
            return _edit_numbers(data, rng)
        case 7 if name.endswith((".pth", ".pt2")) and data.startswith(b"PK"):
            return _edit_zip(data, rng)
        case 7:
            for _ in range(20):
                changed[rng.randrange(limit)] = rng.randrange(256)
    return bytes(changed)


def _edit_numbers(data: bytes, rng: random.Random) -> bytes:
    """Replaces a number in the text of a header or graph."""
    import re

    found = list(re.finditer(rb"(?<![\w.])\d{1,9}(?![\w.])", data[: 2**22]))
    if not found:
        return data[: len(data) // 2]
    where = rng.choice(found)
    number = rng.choice((b"0", b"-1", b"99999999", b"4294967296", b"9" * 30, b"1e9", b"[]"))
    return data[: where.start()] + number + data[where.end() :]


def _edit_zip(data: bytes, rng: random.Random) -> bytes:
    """Damages one entry and writes a sound archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as written:
        entries = archive.infolist()
        chosen = rng.choice([e for e in entries if e.file_size > 0])
        for entry in entries:
            content = archive.read(entry)
            if entry is chosen:
                content = _edit_numbers(content, rng) if rng.random() < 0.5 else content[::-1]
            written.writestr(entry.filename, content)
    return out.getvalue()


# --- programs -------------------------------------------------------------------------------------


class _Call:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _program_file(seed: int, rng: random.Random, zipped: bytes) -> bytes:
    """A pickle of one of the known attacks, in the zip format or the legacy one."""
    make = _PROGRAMS[seed % len(_PROGRAMS)]
    content = make(rng)
    if make in (_views, _expanded, _many_stages):
        return bytes(content)  # a whole file
    code = content if isinstance(content, bytes) else pickle.dumps(content, protocol=2)
    if rng.random() < 0.3:  # a legacy file: magic number, protocol, system, content, keys
        head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        return (
            b"".join(pickle.dumps(part, protocol=2) for part in head) + code + pickle.dumps([], 2)
        )
    out = io.BytesIO()
    name = rng.choice(("data.pkl", "data.pkl", "DATA.PKL", "Data.pkl"))
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive, zipfile.ZipFile(out, "w") as written:
        for entry in archive.infolist():
            if entry.filename.endswith("/data.pkl"):
                folder = entry.filename.rpartition("/")[0]
                written.writestr(f"{folder}/{name}", code)
            else:
                written.writestr(entry.filename, archive.read(entry))
    return out.getvalue()


def _canary(rng: random.Random) -> Any:
    import os
    import subprocess

    command = "echo owned > owned.txt; echo owned >> ~/.profile"
    return {
        "state_dict": rng.choice(
            (
                _Call(os.system, command),
                _Call(subprocess.call, command),
                _Call(exec, "open('owned.txt', 'w').write('x')"),
                _Call(eval, "__import__('os').system('touch owned.txt')"),
                _Call(open, "owned.txt", "w"),
                _Call(getattr, "x", "__class__"),
            )
        )
    }


def _nested_key(rng: random.Random) -> bytes:
    depth = rng.choice((10**4, 10**5, 10**6))
    return b"\x80\x02}(" + b")" + b"\x85" * depth + b"K\x01u."


def _nested_lists(rng: random.Random) -> bytes:
    depth = rng.choice((10**4, 10**5, 10**6))
    return b"\x80\x02}(X\x05\x00\x00\x00model" + b"]" * depth + b"a" * (depth - 1) + b"u."


def _nested_dicts(rng: random.Random) -> bytes:
    depth = rng.choice((10**3, 10**5))
    return b"\x80\x02" + b"}X\x01\x00\x00\x00a" * depth + b"K\x01" + b"s" * depth + b"."


def _doubled(rng: random.Random) -> bytes:
    """Tuples of one tuple twice, sixty times: linear to make, exponential to hash or print."""
    levels = b"".join(b"h%c" % n + b"h%c" % n + b"\x86q%c" % (n + 1) for n in range(60))
    as_key = rng.random() < 0.5
    body = b")q\x00" + levels
    if as_key:
        return b"\x80\x02}(" + body + b"K\x01u."
    return b"\x80\x02}(X\x05\x00\x00\x00model" + body + b"u."


def _doubled_set(rng: random.Random) -> bytes:
    levels = b"".join(b"h%c" % n + b"h%c" % n + b"\x86q%c" % (n + 1) for n in range(60))
    return b"\x80\x02}(X\x05\x00\x00\x00modelcbuiltins\nset\n](" + b")q\x00" + levels + b"e\x85Ru."


def _big_call(rng: random.Random) -> Any:
    size = rng.choice((10**10, 6 << 30, 10**12))
    return {
        "state_dict": rng.choice(
            (
                _Call(bytearray, size),
                _Call(torch.FloatStorage, size // 4),
                _Call(torch.FloatTensor, size // 4),
                _Call(torch.UntypedStorage, size),
            )
        )
    }


def _hex_bomb(rng: random.Random) -> Any:
    import codecs

    value: Any = _Call(codecs.encode, "a" * 1000, "latin1")
    for _ in range(30):
        value = _Call(codecs.encode, value, "hex")
    return {"state_dict": {"a": value}}


def _views(rng: random.Random) -> Any:
    """Views of one storage, which are copied into the model one by one."""
    storage = torch.zeros(1 << 18)
    out = io.BytesIO()
    count = rng.choice((100, 20_000))
    tensors = {
        f"backbone.layers.0.blocks.{i}.mlp.fc1.weight": storage.view(512, -1) for i in range(count)
    }
    torch.save({"state_dict": tensors}, out)
    return out.getvalue()


def _expanded(rng: random.Random) -> Any:
    out = io.BytesIO()
    tensor = torch.zeros(1).expand(rng.choice((10**9, 10**12)))
    torch.save({"state_dict": {"backbone.patch_embed.proj.weight": tensor}}, out)
    return out.getvalue()


def _many_stages(rng: random.Random) -> Any:
    out = io.BytesIO()
    state = vst.VideoSwinTransformer(SMALL).state_dict()
    block = {name: value for name, value in state.items() if "layers.1." in name}
    for stage in range(2, 60):
        for name, value in block.items():
            state[name.replace("layers.1.", f"layers.{stage}.")] = value
    torch.save({"state_dict": state}, out)
    return out.getvalue()


def _many_operations(rng: random.Random) -> bytes:
    return b"\x80\x02}(X\x05\x00\x00\x00model](" + b"K\x01" * 20_000_000 + b"eu."


def _strange_repr(rng: random.Random) -> Any:
    return {
        "state_dict": {f"\x1b[2J{'x' * 100_000}": torch.zeros(2)},
        "\x1b]0;owned\x07": "\x1b[31m",
    }


def _numbers(rng: random.Random) -> bytes:
    return (
        b"\x80\x02}(X\x05\x00\x00\x00epoch\x8b" + struct.pack("<i", 10**6) + b"\x01" * 10**6 + b"u."
    )


_PROGRAMS: tuple[Callable[[random.Random], Any], ...] = (
    _canary,
    _nested_key,
    _nested_lists,
    _nested_dicts,
    _doubled,
    _doubled_set,
    _big_call,
    _hex_bomb,
    _views,
    _expanded,
    _many_stages,
    _many_operations,
    _strange_repr,
    _numbers,
)
