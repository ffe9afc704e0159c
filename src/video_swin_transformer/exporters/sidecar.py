"""Exported models: a file of another engine's format, and a sidecar that says how to feed it.

`model.onnx` has `model.onnx.json` beside it: the content of a saved folder's config.json, and
under "export" the format, precision, clip shape, digests and the proof (see `export/`). Only the
standard library and NumPy are imported here, so that an exported model runs without torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import EXPORT_FORMATS, BundleConfig, ClipShape
from ..errors import CheckpointError, ConfigError
from ..files import sha256_file

FORMAT_RUNTIMES = {
    "onnx": ("openvino", "onnxruntime"),
    "openvino": ("openvino",),
    "torch": ("torch",),
}


@dataclass(frozen=True)
class ExportedModel:
    """An exported model that is whole and knows how it wants to be fed."""

    path: Path
    format: str  # onnx, openvino or torch
    precision: str  # f32 or int8, fixed when it was exported
    clip_shape: ClipShape
    bundle: BundleConfig
    digest: str
    fused: bool  # whether OpenVINO may fuse its attention; see openvino_runtime.py


def sidecar_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def model_files(path: Path) -> list[Path]:
    """The files of an exported model, without its sidecar."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def read_exported_model(source: str | Path) -> ExportedModel:
    """The model of a file and its sidecar. Raises CheckpointError where they are not a pair."""
    path = Path(source)
    sidecar = sidecar_path(path)
    hint = f"export it with: videoswin export MODEL --format {EXPORT_FORMATS[path.suffix.lower()]}"
    try:
        path.stat()
        text = sidecar.read_text(encoding="utf-8")
        digests = {file.name: sha256_file(file) for file in model_files(path)}
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        if missing == path.name:
            raise CheckpointError(f"There is no file {str(path)!r}.") from error
        raise CheckpointError(
            f"{str(path)!r} has no {missing!r} beside it, without which it cannot be used; keep "
            f"the files together, or {hint}."
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be read ({error}).") from error
    try:
        bundle = BundleConfig.from_json(text)
        export = json.loads(text)["export"]
        shape, precision = tuple(export["clip_shape"]), export["precision"]
        if len(shape) != 4 or not all(isinstance(size, int) and size > 0 for size in shape):
            raise ValueError(f"clip_shape is {shape}")
        if precision not in ("f32", "int8"):
            raise ValueError(f"precision is {precision!r}")
        expected, fused = dict(export["sha256"]), bool(export.get("fused_attention", True))
    except (ConfigError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"The sidecar {str(sidecar)!r} is damaged or not one of ours ({error}); {hint}."
        ) from error
    for name, digest in digests.items():
        if expected.get(name) != digest:
            raise CheckpointError(
                f"{str(path.with_name(name))!r} is not the file that {sidecar.name!r} was written "
                f"for: one of them is damaged or of another export; {hint}."
            )
    combined = hashlib.sha256("".join(sorted(digests.values())).encode()).hexdigest()
    format = EXPORT_FORMATS[path.suffix.lower()]
    return ExportedModel(path, format, precision, shape, bundle, combined, fused)


def sidecar_text(bundle: BundleConfig, export: dict[str, Any]) -> str:
    """What `read_exported_model` reads."""
    data = {**json.loads(bundle.to_json()), "export": export}
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
