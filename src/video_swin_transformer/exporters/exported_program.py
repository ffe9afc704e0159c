"""torch.export programs (.pt2), read only if nothing in them can do more than arithmetic.

torch.export.load trusts its file: it unpickles what the file marks as pickled, evaluates its
expressions and guards as Python, and looks up any function that a node names. So the archive is
looked through first, and what our own exports do not hold is refused.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from ..errors import CheckpointError

_ENTRIES = re.compile(
    r"[^/]+/(models/model\.json|data/(weights|constants)/\w+(\.json)?|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|byteorder|version|\.format_version|\.data/\w+)"
)
_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+\.\w+")
_NAME = re.compile(r"[\w.,+-]*")
_TREE = re.compile(r"[\w\s.,:\"\[\]{}-]*")  # JSON inside of JSON: how inputs and outputs nest
_EXPRESSION = re.compile(r"(Mul|Add|Integer|Symbol|positive|integer|True|'s\d+'|[\d\s(),=-]+)*")


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


def read_program(path: Path) -> nn.Module:
    """The module (B, C, T, H, W) -> logits, features. Raises CheckpointError."""
    try:
        data = path.read_bytes()
        _require_harmless(data)
        return torch.export.load(io.BytesIO(data)).module()
    except Exception as error:  # a damaged archive makes torch raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{str(path)!r} is no exported program of ours ({reason}); export it again: "
            "videoswin export MODEL --format torch."
        ) from error


def _require_harmless(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        for name in names:
            if not _ENTRIES.fullmatch(name) or names.count(name) > 1:
                raise CheckpointError(f"it holds an unexpected entry {name!r}")
            if name.endswith(".json"):
                _check(json.loads(archive.read(name)), "")
            if name.endswith("/sample_inputs/model.pt") and (pickled := archive.read(name)):
                torch.load(io.BytesIO(pickled), weights_only=True)


def _check(value: Any, key: str) -> None:
    """Raises CheckpointError unless every text is of the kind that belongs under its key."""
    if isinstance(value, dict):
        if value.get("use_pickle") or value.get("guards_code"):
            raise CheckpointError("it holds pickled objects or Python code")
        for name, item in value.items():
            _check(name, "")
            _check(item, name)
    elif isinstance(value, list):
        for item in value:
            _check(item, key)
    elif isinstance(value, str):
        allowed = {"target": _OPERATOR, "expr_str": _EXPRESSION}.get(key, _NAME)
        if key in ("in_spec", "out_spec"):
            allowed = _TREE
        if not allowed.fullmatch(value):
            raise CheckpointError(f"its {key or 'name'} {value[:80]!r} is not allowed")
