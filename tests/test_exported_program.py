"""Exported programs from untrusted sources: run or rejected."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.samples import CLIP, fresh, small_bundle, views_of
from video_swin_transformer import CheckpointError, VideoSwinTransformer, load_model
from video_swin_transformer.exporters import exported_program
from video_swin_transformer.exporters.exported_program import read_program, save_program
from video_swin_transformer.exporters.tracing import LogitsAndFeatures, trace

ODD = (3, 5, 37, 45)  # padded on every axis
MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


def variant(**changes: Any) -> VideoSwinTransformer:
    bundle = small_bundle()
    model = dataclasses.replace(bundle.model, **changes)
    labels = bundle.labels if model.num_classes else ()
    torch.manual_seed(0)
    return VideoSwinTransformer(dataclasses.replace(bundle, model=model, labels=labels)).eval()


@pytest.fixture(scope="module")
def archive() -> bytes:
    return save_program(trace(fresh().eval(), CLIP))


@pytest.mark.parametrize(
    ("make", "shape", "any_batch"),
    [
        (lambda: fresh().eval(), CLIP, True),
        (lambda: variant(num_classes=0), ODD, False),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (lambda: fresh().eval(), CLIP, False),
                (lambda: variant(patch_norm=False, qkv_bias=False, qk_scale=0.5), CLIP, True),
                (lambda: variant(drop_rate=0.1, attn_drop_rate=0.1), CLIP, False),
                (lambda: variant(drop_path_rate=0.3), ODD, True),
                (lambda: load_model("camera-motion"), (3, 7, 113, 75), True),
            )
        ),
    ],
)
def test_every_export_of_ours_is_read_and_computes(make, shape, any_batch, tmp_path):
    model = make()
    (tmp_path / "m.pt2").write_bytes(save_program(trace(model, shape, any_batch)))
    program = read_program(tmp_path / "m.pt2", shape, 3 if any_batch else 1)
    for count in (1, 3) if any_batch else (1,):
        views = torch.from_numpy(views_of(shape, count))
        with torch.inference_mode():
            for got, expected in zip(program(views), LogitsAndFeatures(model)(views), strict=True):
                torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_no_operator_is_allowed_that_writes_or_is_given_text():
    assert "as_string" not in exported_program._ARGUMENT_KINDS  # a name of a file, say
    for name in exported_program._OPERATORS:
        packet, _, overload = name.removeprefix("torch.ops.aten.").partition(".")
        schema = getattr(getattr(torch.ops.aten, packet), overload)._schema
        assert not schema.is_mutable, name
        assert "Generator" not in str(schema), name


# --- hostile archives, made from an export of ours ----------------------------------------------


def edited(
    archive: bytes,
    path: Path,
    edit: dict[str, Callable[[Any], Any]] | None = None,
    extra: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """A copy of the archive: JSON entries changed by functions, entries added or replaced."""
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as whole,
        zipfile.ZipFile(path, "w", compression) as copy,
    ):
        extra = dict(extra or {})
        for name in whole.namelist():
            inner = name.partition("/")[2]
            data = extra.pop(inner) if inner in extra else whole.read(name)
            if edit and inner in edit:
                content = json.loads(data)
                content = edit[inner](content) or content
                data = json.dumps(content).encode()
            copy.writestr(name, data)
        for inner, data in extra.items():
            copy.writestr(f"archive/{inner}", data)
    return path


def nodes_of(model: dict) -> list[dict]:
    return model["graph_module"]["graph"]["nodes"]


def refused(path: Path, says: str, seconds: float = 10) -> None:
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=says) as caught:
        read_program(path, CLIP, 4)
    assert time.monotonic() - began < seconds
    assert "export it again" in str(caught.value)


def argument(name: str, **value: Any) -> dict:
    return {"name": name, "arg": value, "kind": 1}


def first(model: dict, operator: str) -> dict:
    return next(n for n in nodes_of(model) if n["target"].startswith(f"torch.ops.aten.{operator}."))


def opening_a_file(canary: Path) -> Callable[[dict], None]:
    """The first GELU of the graph becomes a file, and the next one zeros in its place."""

    def edit(model: dict) -> None:
        gelus = [n for n in nodes_of(model) if n["target"] == "torch.ops.aten.gelu.default"]
        gelus[0]["target"] = "torch.ops.aten.from_file.default"
        gelus[0]["inputs"] = [
            argument("filename", as_string=str(canary)),
            argument("shared", as_bool=True),
            argument("size", as_int=4),
        ]
        gelus[1]["target"] = "torch.ops.aten.zero_.default"
        gelus[1]["inputs"] = [
            argument("self", as_tensor={"name": gelus[0]["outputs"][0]["as_tensor"]["name"]})
        ]

    return edit


def test_a_file_of_the_user_is_not_overwritten(archive, tmp_path):
    canary = tmp_path / "canary"
    canary.write_bytes(b"precious " * 10)
    refused(edited(archive, tmp_path / "m.pt2", {MODEL: opening_a_file(canary)}), "is not allowed")
    assert canary.read_bytes() == b"precious " * 10


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        ("from_file.default", {"filename": {"as_string": "x"}}),
        ("zero_.default", None),
        ("fill_.Scalar", None),
        ("add_.Tensor", None),
        ("add.out", None),
        ("copy_.default", None),
        ("set_.source_Tensor", None),
        ("resize_.default", None),
        ("full.default", {"size": {"as_ints": [1 << 40]}, "fill_value": {"as_float": 0.0}}),
        ("empty.memory_format", {"size": {"as_ints": [1 << 40]}}),
        ("zeros.default", {"size": {"as_ints": [1 << 40]}}),
        ("ones.default", {"size": {"as_ints": [1 << 40]}}),
        ("arange.default", {"end": {"as_int": 1 << 40}}),
        ("repeat.default", None),
        ("as_strided.default", None),
        ("rand.default", {"size": {"as_ints": [4]}}),
        ("gelu.out", None),
        ("gelu", None),
    ],
)
def test_other_operators_are_refused(operator, inputs, archive, tmp_path):
    def edit(model: dict) -> None:
        node = first(model, "gelu")
        node["target"] = f"torch.ops.aten.{operator}"
        if inputs is not None:
            node["inputs"] = [argument(name, **value) for name, value in inputs.items()]

    refused(edited(archive, tmp_path / "m.pt2", {MODEL: edit}), "is not allowed")


@pytest.mark.parametrize(
    "target",
    ["torch.os.system", "os.system", "_operator.mul", "torch.ops.prim.Print.default", "math.exp"],
)
def test_other_functions_are_refused(target, archive, tmp_path):
    def as_target(model: dict) -> None:
        first(model, "gelu")["target"] = target

    def as_argument(model: dict) -> None:
        first(model, "gelu")["inputs"].append(argument("approximate", as_operator=target))

    for number, edit in enumerate((as_target, as_argument)):
        refused(edited(archive, tmp_path / f"{number}.pt2", {MODEL: edit}), "is not allowed")


def huge_zeros(model: dict) -> None:
    node = first(model, "gelu")
    node["target"] = "torch.ops.aten.new_zeros.default"
    size = [{"as_int": 1 << 20}, {"as_int": 1 << 20}]
    node["inputs"] = [node["inputs"][0], argument("size", as_sym_ints=size)]


def huge_padding(model: dict) -> None:
    node = first(model, "gelu")
    node["target"] = "torch.ops.aten.pad.default"
    node["inputs"] = [node["inputs"][0], argument("pad", as_ints=[1 << 30, 1 << 30])]


def doubling(model: dict) -> None:
    """Forty concatenations of a value with itself."""
    graph = nodes_of(model)
    where = next(i for i, n in enumerate(graph) if n["target"] == "torch.ops.aten.gelu.default")
    value, result = graph[where]["inputs"][0], graph[where]["outputs"][0]["as_tensor"]["name"]
    values = model["graph_module"]["graph"]["tensor_values"]
    name = value["arg"]["as_tensor"]["name"]
    added: list[dict] = []
    for number in range(40):
        new = result if number == 39 else f"doubled_{number}"
        values[new] = values[result]
        tensors = [{"name": name}, {"name": name}]
        added.append(
            {
                "target": "torch.ops.aten.cat.default",
                "inputs": [argument("tensors", as_tensors=tensors), argument("dim", as_int=1)],
                "outputs": [{"as_tensor": {"name": new}}],
                "metadata": {},
                "is_hop_single_tensor_return": None,
            }
        )
        name = new
    graph[where : where + 1] = added


@pytest.mark.parametrize("edit", [huge_zeros, huge_padding, doubling])
def test_operators_of_ours_that_would_take_all_memory_are_refused(edit, archive, tmp_path):
    refused(edited(archive, tmp_path / "m.pt2", {MODEL: edit}), "bytes of memory at node", 20)


def claim(**meta: Any) -> Callable[[dict], None]:
    def edit(config: dict) -> None:
        for payload in list(config["config"].values())[:1]:
            payload["tensor_meta"].update(meta)

    return edit


def in_another_file(name: str) -> Callable[[dict], None]:
    def edit(config: dict) -> None:
        next(iter(config["config"].values()))["path_name"] = name

    return edit


HUGE = [{"as_int": 1 << 20}, {"as_int": 1 << 20}]


@pytest.mark.parametrize("where", [WEIGHTS, CONSTANTS])
def test_tensors_that_claim_more_than_the_archive_holds_are_refused(where, archive, tmp_path):
    strides = [{"as_int": 0}, {"as_int": 0}]
    edit = claim(sizes=HUGE, strides=strides)
    refused(edited(archive, tmp_path / "m.pt2", {where: edit}), "claims 1099511627776 values")
    # An entry without bytes makes torch allocate what is claimed.
    name = "weight_0" if where == WEIGHTS else "tensor_0"
    empty = {f"{where.rpartition('/')[0]}/{name}": b""}
    refused(edited(archive, tmp_path / "n.pt2", None, empty), "claims")


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["custom_obj_0", "opaque_obj_0"])
def test_objects_that_torch_unpickles_unmarked_are_refused(name, archive, tmp_path):
    canary = tmp_path / "canary"
    extra = {f"data/constants/{name}": pickle.dumps(Canary(canary))}
    hidden = edited(archive, tmp_path / "m.pt2", {CONSTANTS: in_another_file(name)}, extra)
    refused(hidden, "unexpected entry")
    named = edited(archive, tmp_path / "n.pt2", {CONSTANTS: in_another_file(name)})
    refused(named, "its tensor file")
    assert not canary.exists()


def test_pickles_and_code_are_refused(archive, tmp_path):
    canary = tmp_path / "canary"
    pickled = {"data/sample_inputs/model.pt": pickle.dumps(Canary(canary))}
    refused(edited(archive, tmp_path / "a.pt2", None, pickled), "pickled inputs")

    def marked(config: dict) -> None:
        next(iter(config["config"].values()))["use_pickle"] = True

    def guarded(model: dict) -> None:
        model["guards_code"] = ["print(1)"]

    edits: list[dict[str, Callable[[Any], Any]]]
    edits = [{WEIGHTS: marked}, {CONSTANTS: marked}, {MODEL: guarded}]
    for number, edit in enumerate(edits):
        refused(edited(archive, tmp_path / f"{number}.pt2", edit), "pickled objects or Python code")
    assert not canary.exists()


def test_expressions_are_numbers_and_symbols_and_quickly_read(archive, tmp_path):
    def spoilt(text: str) -> Callable[[dict], None]:
        def edit(value: Any) -> None:
            for item in value.values() if isinstance(value, dict) else value:
                if isinstance(item, (dict, list)):
                    edit(item)
            if isinstance(value, dict) and "expr_str" in value:
                value["expr_str"] = text

        return edit

    for number, text in enumerate(("__import__('os')", "1" * 900 + "!", "9**9**9", "1" * 2000)):
        path = edited(archive, tmp_path / f"{number}.pt2", {MODEL: spoilt(text)})
        refused(path, "expr_str .* is not allowed")


def nested(depth: int) -> bytes:
    return b'{"graph_module": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("extra", "compression", "says"),
    [
        ({"data/weights/weight_0": bytes(1 << 28)}, zipfile.ZIP_DEFLATED, "is compressed"),
        ({MODEL: b"[" + b"0," * (1 << 24) + b"0]"}, zipfile.ZIP_STORED, "its JSON has"),
        pytest.param(
            {MODEL: b"[" + b"[]," * (2 << 20) + b"0]"},
            zipfile.ZIP_STORED,
            "not a program exported by this package",
            marks=pytest.mark.slow,
        ),
        ({MODEL: nested(40)}, zipfile.ZIP_STORED, "is nested deeper than"),
        ({MODEL: nested(1 << 20)}, zipfile.ZIP_STORED, "not a program exported by this package"),
        ({"models/other.json": b"{}"}, zipfile.ZIP_STORED, "unexpected entry"),
        ({"../evil": b""}, zipfile.ZIP_STORED, "unexpected entry"),
        ({"data/weights/WEIGHT_0": b""}, zipfile.ZIP_STORED, "unexpected entry"),
        ({"data/weights/weight_\u0661": b""}, zipfile.ZIP_STORED, "unexpected entry"),
    ],
)
def test_bombs_and_strangers_are_refused(extra, compression, says, archive, tmp_path):
    refused(edited(archive, tmp_path / "m.pt2", None, extra, compression), says, 20)


def test_too_many_nodes_are_refused(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(exported_program, "_MAX_NODES", 100)
    (tmp_path / "m.pt2").write_bytes(archive)
    refused(tmp_path / "m.pt2", "nodes, more than the maximum of 100")


def test_entries_that_share_their_bytes_are_refused(archive, tmp_path):
    """A bomb without compression: entries of the directory that point at the same bytes."""
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w") as copy:
        copy.writestr("archive/data/weights/weight_0", bytes(1 << 20))
        for number in range(1, 100):
            other = zipfile.ZipInfo(f"archive/data/weights/weight_{number}")
            other.file_size = other.compress_size = 1 << 20
            other.header_offset = copy.filelist[0].header_offset
            other.CRC = copy.filelist[0].CRC
            copy.filelist.append(other)
            copy.NameToInfo[other.filename] = other
    assert path.stat().st_size < 2 << 20
    refused(path, "its entries overlap")


@pytest.mark.skipif(sys.platform != "linux", reason="how much a process held is told in KiB")
@pytest.mark.slow
def test_refusing_a_bomb_takes_little_memory(archive, tmp_path):
    bomb = edited(
        archive,
        tmp_path / "m.pt2",
        None,
        {"data/weights/weight_0": bytes(1 << 30), MODEL: nested(1 << 22)},
        zipfile.ZIP_DEFLATED,
    )
    assert bomb.stat().st_size < 4 << 20
    script = """
        import resource, sys
        from pathlib import Path
        from video_swin_transformer import CheckpointError
        from video_swin_transformer.exporters.exported_program import read_program
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            read_program(Path(sys.argv[1]), (3, 4, 32, 32), 4)
        except CheckpointError:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(bomb)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert int(done.stdout) < 100 << 10  # KiB
