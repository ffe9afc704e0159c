"""Safe loading of torch.export programs (.pt2).

torch.export.load is not safe for untrusted files: it unpickles objects, evaluates expressions and
guards as Python, and runs any operator that a node names, including those that overwrite files.
Therefore the archive is validated first against an allowlist of what this package exports:
operators, argument kinds and archive entries. Compressed entries and tensors larger than their
data are rejected. torch reads a new archive written from the validated entries. Finally the
program is run on fake tensors to bound its memory use.
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
# The operators in graphs made by `tracing.trace`; tested in tests/test_exported_program.py.
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
_TENSOR_FILE = re.compile(r"(weight|tensor)_\d+", re.ASCII)  # torch unpickles all others
_NAME = re.compile(r"[\w.,+-]*")
_TREE_SPEC = re.compile(r"[\w\s.,:\"\[\]{}-]*")  # JSON in JSON: the nesting of inputs and outputs
_EXPRESSION = re.compile(r"(?:Mul|Add|Integer|Symbol|positive|integer|True|'s\d+'|[\d\s(),=-])*")

_MAX_ARCHIVE_BYTES = 4 << 30  # five times the largest published model
_MAX_ENTRIES = 20_000
_MAX_JSON_BYTES = 8 << 20  # in total; 24 blocks on odd sizes take 2.5 MB
_MAX_DEPTH = 32  # of JSON; our exports: 11
_MAX_NODES = 20_000  # 24 blocks on odd sizes: 2,600
_MAX_TEXT = 1_000  # characters of a name or an expression
_MAX_LIVE_BYTES = 8 << 30  # of values that are live at the same time


def save_program(program: ExportedProgram) -> bytes:
    """Serializes a program as a .pt2 archive.

    Stack traces and example inputs are removed, since they contain local paths and data.

    Args:
        program: The program; its node metadata is modified.

    Returns:
        The content of the file.
    """
    for node in program.graph.nodes:
        for trace in ("stack_trace", "nn_module_stack", "torch_fn"):
            node.meta.pop(trace, None)
    program.example_inputs = None
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about weights that share memory
        torch.export.save(program, file)
    return file.getvalue()


def read_program(path: Path, clip_shape: ClipShape, num_views: int) -> nn.Module:
    """Loads a program after validating it.

    Args:
        path: The .pt2 file.
        clip_shape: Shape of one view, (C, T, H, W).
        num_views: Largest batch size B.

    Returns:
        A module that maps views (B, C, T, H, W) to logits and features.

    Raises:
        CheckpointError: The file is damaged, or contains anything that this package does not
            export.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_ARCHIVE_BYTES:
            raise CheckpointError(
                f"it has {size} bytes, more than the maximum of {_MAX_ARCHIVE_BYTES}"
            )
        module = torch.export.load(_checked_copy(path.read_bytes())).module()
        for count in {1, num_views}:
            _check_memory(module, (count, *clip_shape))
        return module
    except Exception as error:  # a damaged archive can raise almost any exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{str(path)!r} is not a program exported by this package ({reason}); export it again: "
            "videoswin export MODEL --format torch."
        ) from error


def _checked_copy(data: bytes) -> io.BytesIO:
    """Copies the archive entry by entry. Raises CheckpointError if one is not allowed.

    torch and Python parse zip archives differently, so torch must not read the original archive.
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
    """Raises CheckpointError for unexpected, compressed or overlapping entries."""
    if len(entries) > _MAX_ENTRIES:
        raise CheckpointError(
            f"it has {len(entries)} entries, more than the maximum of {_MAX_ENTRIES}"
        )
    names = set()
    for entry in entries:
        name = entry.filename
        if not _ENTRIES.fullmatch(name) or name in names:
            raise CheckpointError(f"it contains an unexpected entry {name[:80]!r}")
        names.add(name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise CheckpointError(f"its entry {name!r} is compressed")
        if name.endswith("/sample_inputs/model.pt") and entry.file_size:
            raise CheckpointError("it contains pickled inputs")
    if sum(entry.file_size for entry in entries) > num_bytes:
        raise CheckpointError("its entries overlap")
    text = sum(entry.file_size for entry in entries if entry.filename.endswith(".json"))
    if text > _MAX_JSON_BYTES:
        raise CheckpointError(
            f"its JSON has {text} bytes, more than the maximum of {_MAX_JSON_BYTES}"
        )


def _check_json(value: Any, key: str, sizes: dict[str, int], depth: int) -> None:
    """Raises CheckpointError if a value in the JSON is not allowed for its key.

    Args:
        value: A JSON value.
        key: The key of the value; "" for a key itself.
        sizes: Size of each archive entry in bytes, by file name.
        depth: Nesting depth.
    """
    if depth > _MAX_DEPTH:
        raise CheckpointError(f"its JSON is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        if value.get("use_pickle") or value.get("guards_code"):
            raise CheckpointError("it contains pickled objects or Python code")
        if "path_name" in value:
            _check_tensor_size(value, sizes)
        for name, item in value.items():
            if name.startswith("as_") and name not in _ARGUMENT_KINDS:
                raise CheckpointError(f"its argument {name[:80]!r} is not allowed")
            _check_json(name, "", sizes, depth)
            _check_json(item, name, sizes, depth + 1)
    elif isinstance(value, list):
        if key == "nodes" and len(value) > _MAX_NODES:
            raise CheckpointError(
                f"it has {len(value)} nodes, more than the maximum of {_MAX_NODES}"
            )
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
    """Raises CheckpointError if a tensor has more values than its entry has bytes."""
    name = payload["path_name"]
    if not isinstance(name, str) or not _TENSOR_FILE.fullmatch(name):
        raise CheckpointError(f"its tensor file {str(name)[:80]!r} is not allowed")
    num_values = math.prod(size["as_int"] for size in payload["tensor_meta"]["sizes"])
    if not 0 <= num_values <= sizes.get(name, 0):
        raise CheckpointError(
            f"its tensor {name!r} claims {num_values} values, but its data is smaller"
        )


def _check_memory(module: nn.Module, views_shape: tuple[int, ...]) -> None:
    """Raises CheckpointError if running the program needs more than _MAX_LIVE_BYTES."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    assert isinstance(module, GraphModule)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        _MemoryTracker(module).run(torch.empty(views_shape))


class _MemoryTracker(Interpreter):
    """Tracks the total size of live values; views count like copies."""

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
                f"it needs more than {_MAX_LIVE_BYTES} bytes of memory at node {n.name}"
            )
        for used in self.user_to_last_uses.get(n, ()):
            self._live_bytes -= self._sizes.pop(used, 0)
        return value
