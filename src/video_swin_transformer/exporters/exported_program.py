"""torch.export programs (.pt2), read only if they can do no more than our own exports.

torch.export.load trusts its file: it unpickles what the file marks as pickled or as an object,
evaluates its expressions and guards as Python, and runs any operator that a node names, those that
open and overwrite files included. So the archive is checked first, and what our own exports do not
hold is refused: other operators, kinds of argument and entries, compressed entries, tensors that
claim more values than the archive holds. What torch then reads is a new archive, written from the
entries that were checked. At last the program is run on tensors without memory (fake tensors), to
find how much memory a real run would take.
"""

from __future__ import annotations

import io
import json
import math
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Interpreter, Node

from ..config import ClipShape
from ..errors import CheckpointError

_ENTRIES = re.compile(
    r"\w+/(models/model\.json|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|byteorder|version|\.format_version|\.data/\w+)",
    re.ASCII,
)
# Exactly those of the graphs that `tracing.trace` makes; tests/test_exported_program.py says so.
_OPERATORS = frozenset(
    f"torch.ops.aten.{name}"
    for name in (
        "_assert_tensor_metadata.default",
        "add.Tensor",
        "cat.default",
        "clone.default",
        "conv3d.default",
        "dropout.default",
        "gelu.default",
        "index.Tensor",
        "index_select.default",
        "layer_norm.default",
        "lift_fresh_copy.default",
        "linear.default",
        "mean.dim",
        "mul.Tensor",
        "new_zeros.default",
        "pad.default",
        "permute.default",
        "reshape.default",
        "scaled_dot_product_attention.default",
        "slice.Tensor",
        "split_with_sizes.default",
        "sym_size.int",
        "t.default",
        "to.dtype",
        "transpose.int",
        "unbind.int",
        "unsqueeze.default",
        "view.default",
    )
)
_ARGUMENT_KINDS = frozenset(
    f"as_{kind}"
    for kind in (
        "bool",
        "device",
        "expr",
        "float",
        "int",
        "ints",
        "layout",
        "memory_format",
        "name",
        "none",
        "optional_tensors",
        "scalar_type",
        "sym_int",
        "sym_ints",
        "tensor",
        "tensors",
    )
)
_TENSOR_FILE = re.compile(r"(weight|tensor)_\d+", re.ASCII)  # others are unpickled, marked or not
_NAME = re.compile(r"[\w.,+-]*")
_TREE_SPEC = re.compile(r"[\w\s.,:\"\[\]{}-]*")  # JSON inside of JSON: how inputs and outputs nest
_EXPRESSION = re.compile(r"(?:Mul|Add|Integer|Symbol|positive|integer|True|'s\d+'|[\d\s(),=-])*")

_MAX_ARCHIVE_BYTES = 4 << 30  # five times the largest network that was ever published
_MAX_ENTRIES = 20_000
_MAX_JSON_BYTES = 8 << 20  # together; 24 blocks on odd sizes take 2.5 MB
_MAX_DEPTH = 32  # of JSON; our exports: 11
_MAX_NODES = 20_000  # 24 blocks on odd sizes: 2,600
_MAX_TEXT = 1_000  # characters of a name or an expression
_MAX_LIVE_BYTES = 8 << 30  # of the values held at a time while the program runs


def save_program(program: ExportedProgram) -> bytes:
    """A .pt2 archive without traces of where it was made."""
    for node in program.graph.nodes:
        for trace in ("stack_trace", "nn_module_stack", "torch_fn"):
            node.meta.pop(trace, None)
    program.example_inputs = None
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about weights that share memory; the proof looks at them
        torch.export.save(program, file)
    return file.getvalue()


def read_program(path: Path, clip_shape: ClipShape, num_views: int) -> nn.Module:
    """The module (B, C, T, H, W) -> logits, features.

    clip_shape: (C, T, H, W) of the views it will be given. num_views: the largest B.
    Raises CheckpointError for a program that could do anything but compute them.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_ARCHIVE_BYTES:
            raise CheckpointError(f"it has {size} bytes, at most {_MAX_ARCHIVE_BYTES} are read")
        module = torch.export.load(_checked_copy(path.read_bytes())).module()
        for count in {1, num_views}:
            _check_memory(module, (count, *clip_shape))
        return module
    except Exception as error:  # a damaged archive makes torch raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{str(path)!r} is no exported program of ours ({reason}); export it again: "
            "videoswin export MODEL --format torch."
        ) from error


def _checked_copy(data: bytes) -> io.BytesIO:
    """A new archive of the same entries. Raises CheckpointError unless they are harmless.

    torch finds entries in another way than Python does, so it is not given the archive that
    Python has checked, but this one.
    """
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(copy, "w") as checked:
        entries = archive.infolist()
        _check_entries(entries, len(data))
        sizes = {entry.filename.rpartition("/")[2]: entry.file_size for entry in entries}
        for entry in entries:
            content = archive.read(entry)
            if entry.filename.endswith(".json"):
                _check_json(json.loads(content), "", sizes, 0)
            checked.writestr(entry.filename, content)
    copy.seek(0)
    return copy


def _check_entries(entries: list[zipfile.ZipInfo], num_bytes: int) -> None:
    """Raises CheckpointError for entries that torch.export does not write, or not like this."""
    if len(entries) > _MAX_ENTRIES:
        raise CheckpointError(f"it holds {len(entries)} entries, at most {_MAX_ENTRIES} are read")
    names = set()
    for entry in entries:
        name = entry.filename
        if not _ENTRIES.fullmatch(name) or name in names:
            raise CheckpointError(f"it holds an unexpected entry {name[:80]!r}")
        names.add(name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise CheckpointError(f"its entry {name!r} is compressed")
        if name.endswith("/sample_inputs/model.pt") and entry.file_size:
            raise CheckpointError("it holds pickled inputs")
    if sum(entry.file_size for entry in entries) > num_bytes:
        raise CheckpointError("its entries overlap")
    text = sum(entry.file_size for entry in entries if entry.filename.endswith(".json"))
    if text > _MAX_JSON_BYTES:
        raise CheckpointError(f"its JSON has {text} bytes, at most {_MAX_JSON_BYTES} are read")


def _check_json(value: Any, key: str, sizes: dict[str, int], depth: int) -> None:
    """Raises CheckpointError unless every value is of the kind that belongs under its key.

    sizes: bytes of each entry by the last part of its name.
    """
    if depth > _MAX_DEPTH:
        raise CheckpointError(f"its JSON nests deeper than {_MAX_DEPTH}")
    if isinstance(value, dict):
        if value.get("use_pickle") or value.get("guards_code"):
            raise CheckpointError("it holds pickled objects or Python code")
        if "path_name" in value:
            _check_tensor_size(value, sizes)
        for name, item in value.items():
            if name.startswith("as_") and name not in _ARGUMENT_KINDS:
                raise CheckpointError(f"its argument {name[:80]!r} is not allowed")
            _check_json(name, "", sizes, depth)
            _check_json(item, name, sizes, depth + 1)
    elif isinstance(value, list):
        if key == "nodes" and len(value) > _MAX_NODES:
            raise CheckpointError(f"it has {len(value)} nodes, at most {_MAX_NODES} are read")
        for item in value:
            _check_json(item, key, sizes, depth + 1)
    elif isinstance(value, str):
        if key == "target":
            allowed = value in _OPERATORS
        elif key == "expr_str":
            allowed = len(value) <= _MAX_TEXT and _EXPRESSION.fullmatch(value) is not None
        elif key in ("in_spec", "out_spec"):
            allowed = len(value) <= _MAX_TEXT and _TREE_SPEC.fullmatch(value) is not None
        else:
            allowed = len(value) <= _MAX_TEXT and _NAME.fullmatch(value) is not None
        if not allowed:
            raise CheckpointError(f"its {key or 'name'} {value[:80]!r} is not allowed")


def _check_tensor_size(payload: dict[str, Any], sizes: dict[str, int]) -> None:
    """Raises CheckpointError for a tensor of more values than its entry has bytes."""
    name = payload["path_name"]
    if not isinstance(name, str) or not _TENSOR_FILE.fullmatch(name):
        raise CheckpointError(f"its tensors are in {str(name)[:80]!r}")
    num_values = math.prod(size["as_int"] for size in payload["tensor_meta"]["sizes"])
    if not 0 <= num_values <= sizes.get(name, 0):
        raise CheckpointError(f"its tensor {name!r} claims {num_values} values, but is smaller")


def _check_memory(module: nn.Module, views_shape: tuple[int, ...]) -> None:
    """Raises CheckpointError where running the program would take more than _MAX_LIVE_BYTES."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    assert isinstance(module, GraphModule)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        _MemoryTracker(module).run(torch.empty(views_shape))


class _MemoryTracker(Interpreter):
    """Counts the bytes of the values that are held at a time; a view counts like a copy."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self._sizes: dict[Node, int] = {}
        self._live_bytes = 0

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        tensors = value if isinstance(value, (list, tuple)) else [value]
        if n.op != "output":
            self._sizes[n] = sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))
        self._live_bytes += self._sizes.get(n, 0)
        if self._live_bytes > _MAX_LIVE_BYTES:
            raise CheckpointError(
                f"it takes more than {_MAX_LIVE_BYTES} bytes of memory to run, at {n.name}"
            )
        for used in self.user_to_last_uses.get(n, ()):
            self._live_bytes -= self._sizes.pop(used, 0)
        return value
