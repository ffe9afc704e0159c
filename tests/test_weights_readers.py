"""Files that are damaged, hostile or full of other tools' objects: a sentence, and nothing runs."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from tests.containers import OFFICIAL_TINY, official_container, random_state, save
from video_swin_transformer.errors import CheckpointError, VideoSwinError
from video_swin_transformer.weights import load_checkpoint, load_model
from video_swin_transformer.weights.readers import read_weights_file

SMALL = random_state(OFFICIAL_TINY, shrink=8)
ROOT = Path(__file__).parent.parent


class Canary:
    """Unpickling it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path, legacy, suffix):
    canary = tmp_path / "canary"
    path = save(
        {"state_dict": SMALL, "x": Canary(canary)}, tmp_path / f"evil{suffix}", legacy=legacy
    )
    says = "not a readable safetensors" if suffix == ".safetensors" else "can run arbitrary code"
    for load in (load_checkpoint, load_model):
        with pytest.raises(CheckpointError, match=says):
            load(path)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "plain.pth")
    assert not canary.exists()


def foreign_object(monkeypatch, module, name):
    """An object of a library that is not installed here."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        dotted = ".".join(parts[:depth])
        monkeypatch.setitem(sys.modules, dotted, types.ModuleType(dotted))
    cls = type(name, (), {"__module__": module})
    monkeypatch.setattr(sys.modules[module], name, cls, raising=False)
    return cls()


def test_objects_of_other_tools_get_a_sentence_on_what_to_do(tmp_path, monkeypatch):
    config = foreign_object(monkeypatch, "mmcv.utils.config", "ConfigDict")
    node = foreign_object(monkeypatch, "omegaconf.dictconfig", "DictConfig")
    for left_behind, what in [(config, "mmcv's config objects"), (node, "an OmegaConf config")]:
        path = save({"state_dict": SMALL, "left": left_behind}, tmp_path / "file.pth")
        with pytest.raises(CheckpointError, match=what) as caught:
            load_checkpoint(path)
        assert "torch.save({" in str(caught.value) and "trust" in str(caught.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_numbers_of_numpy_are_dropped_without_calling_numpy(legacy, tmp_path):
    results = (np.float64(0.8), np.float32(0.5), np.int64(3))
    content = {"state_dict": SMALL, "validation_results": results, "epoch": 3}
    path = save(content, tmp_path / "file.pth", legacy=legacy)
    if legacy:  # the name that NumPy 1 writes
        data = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        path.write_bytes(data)
    before = set(torch.serialization.get_safe_globals())
    raw = read_weights_file(path)
    assert raw.tensors.keys() == SMALL.keys() and raw.metadata["epoch"] == 3
    assert not any(isinstance(value, np.generic) for value in raw.metadata["validation_results"])
    assert set(torch.serialization.get_safe_globals()) == before
    content["left"] = Canary(tmp_path / "ran")
    with pytest.raises(CheckpointError, match="can run arbitrary code"):
        read_weights_file(save(content, path, legacy=legacy))
    assert not (tmp_path / "ran").exists()


def extras(monkeypatch):
    """Objects that training programs leave next to the weights."""
    counts = collections.defaultdict(list)
    counts["loss"].append(0.5)
    history = foreign_object(monkeypatch, "mmengine.logging.history_buffer", "HistoryBuffer")
    history.values = np.arange(3.0)
    return {
        "args": argparse.Namespace(lr=1e-3, out=Path("runs")),
        "defaultdict": counts,
        "counter": collections.Counter(a=2),
        "datetime": datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC),
        "timedelta": datetime.timedelta(hours=3),
        "array": np.zeros(3, np.float32),
        "score": np.float64(0.5),
        "path": Path("x"),
        "history": history,
        "namespace": types.SimpleNamespace(a=1),
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_read_weights_file_drops_harmless_objects_without_running_code(
    legacy, tmp_path, monkeypatch
):
    objects = extras(monkeypatch)
    path = save({"state_dict": SMALL, "epoch": 3, **objects}, tmp_path / "file.pth", legacy=legacy)
    raw = read_weights_file(path)
    assert raw.metadata["epoch"] == 3
    for name, tensor in SMALL.items():
        torch.testing.assert_close(raw.tensors[name], tensor, rtol=0, atol=0)
    for name, value in objects.items():
        if name != "counter":  # torch loads counters
            assert type(raw.metadata[name]) is not type(value), f"{name} was loaded"


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "builtins.getattr", "numpy.load"])
def test_read_weights_file_calls_no_other_global(name, tmp_path):
    path = save({"state_dict": SMALL, "left": argparse.Namespace()}, tmp_path / "file.pth", True)
    module, _, function = name.rpartition(".")
    data = path.read_bytes()
    old = b"cargparse\nNamespace\n"
    assert old in data
    path.write_bytes(data.replace(old, f"c{module}\n{function}\n".encode()))
    with pytest.raises(CheckpointError):
        read_weights_file(path)


KEYS = ["state_dict", "model", "model_state_dict", "model_state", "module", "net", "state_dict_ema"]


@pytest.mark.parametrize("key", KEYS)
def test_load_checkpoint_finds_the_state_dict_under_usual_keys(key, tmp_path):
    path = save({key: SMALL, "optimizer": {"state": {}}, "epoch": 3}, tmp_path / "file.pth")
    raw = read_weights_file(path)
    assert raw.unwrapped == (key,) and raw.tensors.keys() == SMALL.keys()


@pytest.mark.parametrize(
    "prefix", ["model.", "module.", "model.module.", "_orig_mod.", "net.", "model._orig_mod."]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_load_checkpoint_removes_prefixes(prefix, suffix, tmp_path):
    state = {prefix + name: tensor for name, tensor in SMALL.items()}
    path = tmp_path / f"file{suffix}"
    if suffix == ".pth":
        save({"state_dict": state}, path)
    else:
        path.write_bytes(safetensors_bytes(state))
    assert read_weights_file(path).tensors.keys() == SMALL.keys()


@pytest.mark.parametrize("nested", [("model", "state_dict"), ("state_dict", "model")])
def test_load_checkpoint_finds_nested_state_dicts(nested, tmp_path):
    path = save({nested[0]: {nested[1]: SMALL, "version": 1}}, tmp_path / "file.pth")
    raw = read_weights_file(path)
    assert raw.unwrapped == nested and raw.tensors.keys() == SMALL.keys()


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema", "ema"])
def test_load_checkpoint_takes_raw_weights_and_offers_averaged_ones(averaged, tmp_path):
    ema = {name: tensor * 2 for name, tensor in SMALL.items()}
    path = save({averaged: ema, "state_dict": SMALL}, tmp_path / "file.pth")
    raw, _ = load_checkpoint(path)
    smooth, report = load_checkpoint(path, state_dict_key=averaged)
    name = "backbone.norm.weight"
    torch.testing.assert_close(raw.state_dict()[name], SMALL[name])
    torch.testing.assert_close(smooth.state_dict()[name], ema[name])
    assert "the file also contains state_dict" in str(report)
    assert averaged in str(load_checkpoint(path)[1])
    with pytest.raises(CheckpointError, match=f"no state dict under 'other'.*{averaged}"):
        load_checkpoint(path, state_dict_key="other")


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("num_shards", [1, 3])
def test_load_checkpoint_reads_sharded_weights(suffix, num_shards, tmp_path):
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    names = list(SMALL)
    weight_map: dict[str, str] = {}
    for number in range(num_shards):
        part = {name: SMALL[name] for name in names[number::num_shards]}
        shard = tmp_path / f"{stem}-{number + 1:05d}-of-{num_shards:05d}{suffix}"
        if suffix == ".bin":
            save(part, shard)
        else:
            shard.write_bytes(safetensors_bytes(part))
        weight_map |= dict.fromkeys(part, shard.name)
    index = tmp_path / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    whole, _ = load_checkpoint(save({"state_dict": SMALL}, tmp_path / "whole.pth"))
    for source in (tmp_path, index):
        model, _ = load_checkpoint(source)
        for name, tensor in whole.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=0)
    index.write_text(json.dumps({"weight_map": weight_map | {"extra.weight": shard.name}}))
    with pytest.raises(CheckpointError, match=r"extra\.weight"):
        load_checkpoint(index)
    shard.unlink()
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(index)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", 3, None])
def test_load_checkpoint_reads_no_shard_outside_of_the_folder(name, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="not an index of weights"):
        load_checkpoint(index)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_load_checkpoint_reads_mixed_floating_dtypes(dtype, tmp_path):
    mixed = {
        name: tensor.to(dtype) if name.endswith("qkv.weight") else tensor
        for name, tensor in SMALL.items()
    }
    model, report = load_checkpoint(save({"state_dict": mixed}, tmp_path / "file.pth"))
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    name = "backbone.layers.0.blocks.0.attn.qkv.weight"
    torch.testing.assert_close(model.state_dict()[name], mixed[name].float(), rtol=0, atol=0)
    assert f"float32 and {str(dtype).removeprefix('torch.')} to float32" in str(report)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_load_checkpoint_reports_buffers_of_metrics(prefix, tmp_path):
    state = {prefix + name: tensor for name, tensor in SMALL.items()}
    state |= {"train_acc.correct": torch.tensor(3), "train_acc.counts": torch.tensor([3, 4])}
    _, report = load_checkpoint(save({"state_dict": state}, tmp_path / "file.pth"))
    assert set(report.ignored_keys) >= {"train_acc.correct", "train_acc.counts"}
    state["train_acc.weight"] = torch.ones(3, 3)
    with pytest.raises(CheckpointError):
        load_checkpoint(save({"state_dict": state}, tmp_path / "file.pth"))


# --- claims --------------------------------------------------------------------------------------


def claim_expanded():
    """A tensor of 2**30 numbers over one number."""
    state = {**SMALL, "backbone.norm.weight": torch.zeros(1).expand(1 << 30)}
    buffer = io.BytesIO()
    torch.save({n: t for n, t in state.items() if t.numel() < 100 or t.numel() > 1e9}, buffer)
    return buffer.getvalue()


def claim_safetensors():
    header = {"a": {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 1 << 32]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(900)


def claim_header():
    return struct.pack("<Q", 1 << 32) + b"{" + bytes(1000)


def claim_zip_sizes():
    """A torch.save file whose directory says that its storage has 4 GB."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(4)}, buffer)
    data = buffer.getvalue()
    at = data.rindex(b"archive/data/0") - 46  # the entry in the central directory
    big = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    return data[: at + 20] + big + data[at + 28 :]


def claim_compressed():
    """Zeros that unpack to 64 MB, as a zip bomb would to gigabytes."""
    source = io.BytesIO()
    torch.save({"a": torch.zeros(1 << 24)}, source)
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return packed.getvalue()


def claim_legacy():
    """The older stream: a storage said to have 2**30 numbers."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(4)}, buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    at = data.index(b"cpu") + 3
    small = data[at:].index(b"K\x04") + at
    return data[:small] + b"J" + struct.pack("<i", 1 << 30) + data[small + 2 :]


class Filled:
    """Unpickling it takes memory: the call is one of those that `weights_only` allows."""

    def __reduce__(self):
        return bytearray, (1 << 32,)


def claim_bytearray(legacy=False):
    buffer = io.BytesIO()
    content = {"a": torch.zeros(4), "b": Filled()}
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def claim_legacy_bytearray():
    return claim_bytearray(legacy=True)


CLAIMS = [
    claim_bytearray,
    claim_legacy_bytearray,
    claim_expanded,
    claim_safetensors,
    claim_header,
    claim_zip_sizes,
    claim_compressed,
    claim_legacy,
]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda f: f.__name__)
def test_a_claim_of_gigabytes_in_a_small_file_is_refused(claim, tmp_path):
    path = tmp_path / "file.pth"
    path.write_bytes(claim())
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_claims_take_no_memory(tmp_path):
    for claim in CLAIMS:
        (tmp_path / f"{claim.__name__}.pth").write_bytes(claim())
    script = f"""
import resource
from pathlib import Path
from video_swin_transformer.errors import CheckpointError
from video_swin_transformer.weights import load_checkpoint
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in Path({str(tmp_path)!r}).glob("*.pth"):
    try:
        load_checkpoint(path)
    except CheckpointError:
        pass
    else:
        raise SystemExit(f"{{path}} was loaded")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True)
    assert int(grown) < 64_000  # kilobytes


# --- damage --------------------------------------------------------------------------------------


def files():
    stream, legacy = io.BytesIO(), io.BytesIO()
    few = {n: t for n, t in SMALL.items() if t.numel() < 2000 or n.endswith("bias_table")}
    torch.save(official_container(few), stream)
    torch.save(official_container(few), legacy, _use_new_zipfile_serialization=False)
    return {
        "zip": stream.getvalue(),
        "legacy": legacy.getvalue(),
        "safetensors": safetensors_bytes(few),
    }


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_cut_and_scribbled_files_raise_only_our_errors(kind, tmp_path):
    data = files()[kind]
    numbers = torch.Generator().manual_seed(0)
    path = tmp_path / "file"
    for position in torch.randint(len(data), (40,), generator=numbers).tolist():
        path.write_bytes(data[:position])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
    # Names and sizes stand at the beginning and at the end: scribble there most.
    spots = torch.randint(4000, (60,), generator=numbers).tolist()
    for spot in [*spots, *(-1 - s for s in spots[:30])]:
        scribbled = bytearray(data)
        scribbled[spot] ^= 0x5A
        path.write_bytes(scribbled)
        try:
            load_checkpoint(path)
        except VideoSwinError as error:
            assert str(error).strip()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (
            b"<html><body>404: Not found</body></html>" * 20,
            "damaged, truncated, or not written by torch.save",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n",
            "damaged, truncated, or not written by torch.save",
        ),
        (b"PK\x03\x04 and no zip", "damaged or truncated"),
        (pickle.dumps({"a": [1, 2]}), "damaged, truncated, or not written"),
    ],
)
def test_what_is_no_file_of_weights_gets_a_sentence(content, says, tmp_path):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "contains no tensors"),
        ([torch.zeros(2)], "contains a list, not a dict"),
        (torch.zeros(2), "contains a Tensor, not a dict"),
        ({"epoch": 3, "state_dict": {}}, "contains no tensors"),
        (
            {"fc.weight": torch.zeros(2, 2)},
            r"not in a supported format: its 1 tensors are named fc\.weight",
        ),
        ({"a": torch.zeros(2, device="meta")}, "'meta'; only dense CPU tensors"),
        ({"a": torch.eye(3).to_sparse()}, "only dense CPU tensors"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # sparse tensors warn while being saved
def test_pickles_without_weights_of_ours(content, says, tmp_path):
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(save(content, tmp_path / "file.pth"))


def test_paths_that_lead_to_nothing(tmp_path):
    for source in (tmp_path / "absent.pth", str(tmp_path / "a" / "b.pth"), "bad\0name.pth"):
        with pytest.raises(CheckpointError, match="no file or folder"):
            load_checkpoint(source)
    with pytest.raises(CheckpointError, match="contains neither"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no file or folder"):
        read_weights_file(tmp_path / "absent.pth")


def test_the_config_of_another_library_beside_the_file_is_none_of_ours(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(SMALL))
    (tmp_path / "config.json").write_text('{"model_type": "swin"}')
    model, report = load_checkpoint(tmp_path)
    assert model.num_classes == 50 and report.format.startswith("official")
    (tmp_path / "config.json").write_text('{"model_type": "video_swin"}')
    with pytest.raises(CheckpointError, match="is invalid"):
        load_checkpoint(tmp_path)
