"""The sidecar file of an exported model.

The sidecar of `model.onnx` is `model.onnx.json`. It has the content of config.json and, under
"export", the format, precision, clip shape, digests and verification results. This module does not
import torch, so exported models run without it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import EXPORT_FORMATS, BundleConfig, ClipShape
from ..errors import CheckpointError, ConfigError
from ..files import read_text_file, sha256_file
from ..strict_json import parse_json
from .onnx_file import has_external_data

_MAX_BYTES = 2**26
FORMAT_RUNTIMES = {
    "onnx": ("openvino", "onnxruntime"),
    "openvino": ("openvino",),
    "torch": ("torch",),
}


@dataclass(frozen=True)
class ExportedModel:
    """An exported model with the settings of its sidecar.

    Attributes:
        path: The main file.
        format: "onnx", "openvino" or "torch".
        precision: "f32" or "int8", as exported.
        clip_shape: Shape of one view, (C, T, H, W).
        bundle: Model, sampling, preprocessing and labels.
        digest: SHA-256 of the model files.
        fused: Whether OpenVINO may fuse attention; see openvino_runtime.py.
    """

    path: Path
    format: str
    precision: str
    clip_shape: ClipShape
    bundle: BundleConfig
    digest: str
    fused: bool


def sidecar_path(path: Path) -> Path:
    """Returns the path of the sidecar of an exported model."""
    return path.with_name(path.name + ".json")


def model_files(path: Path) -> list[Path]:
    """Returns the files of an exported model without the sidecar."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def read_exported_model(source: str | Path) -> ExportedModel:
    """Reads the sidecar of an exported model and verifies the digests of its files.

    Args:
        source: The main file (.onnx, .xml or .pt2).

    Returns:
        The model.

    Raises:
        CheckpointError: A file is missing or damaged, or belongs to a different export.
    """
    path = Path(source)
    if path.suffix.lower() not in EXPORT_FORMATS:
        raise CheckpointError(
            f"{str(path)!r} is not an exported model; give a file with one of the suffixes "
            f"{', '.join(EXPORT_FORMATS)}."
        )
    sidecar = sidecar_path(path)
    hint = f"export it with: videoswin export MODEL --format {EXPORT_FORMATS[path.suffix.lower()]}"
    try:
        missing = [file.name for file in (*model_files(path), sidecar) if not file.exists()]
        if path.name in missing:
            raise CheckpointError(f"There is no file {str(path)!r}.")
        if missing:
            raise CheckpointError(
                f"{str(path)!r} cannot be used without {missing[0]!r} in the same folder; keep the "
                f"files together, or {hint}."
            )
        digests = {file.name: sha256_file(file) for file in model_files(path)}
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read ({error}).") from error
    text = read_text_file(sidecar, max_bytes=_MAX_BYTES, what="sidecar", error=CheckpointError)
    try:
        bundle = BundleConfig.from_json(text)
        export = parse_json(text)["export"]
        shape, precision = tuple(export["clip_shape"]), export["precision"]
        if len(shape) != 4 or not all(isinstance(size, int) and size > 0 for size in shape):
            raise ValueError(f"clip_shape is {shape}")
        if precision not in ("f32", "int8"):
            raise ValueError(f"precision is {precision!r}")
        expected, fused = dict(export["sha256"]), bool(export.get("fused_attention", True))
    except (ConfigError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"The sidecar {str(sidecar)!r} is damaged or was not written by this package "
            f"({error}); {hint}."
        ) from error
    # By suffix: the files may be renamed together.
    by_suffix = {Path(name).suffix: digest for name, digest in expected.items()}
    for name, digest in digests.items():
        if by_suffix.get(Path(name).suffix) != digest:
            raise CheckpointError(
                f"{str(path.with_name(name))!r} does not match {sidecar.name!r}: one of them is "
                f"damaged or belongs to a different export; {hint}."
            )
    if path.suffix.lower() == ".onnx":
        _require_single_file(path)
    combined = hashlib.sha256("".join(sorted(digests.values())).encode()).hexdigest()
    format = EXPORT_FORMATS[path.suffix.lower()]
    return ExportedModel(path, format, precision, shape, bundle, combined, fused)


def _require_single_file(path: Path) -> None:
    try:
        is_single = not has_external_data(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} is not an ONNX model ({error}).") from error
    if not is_single:
        raise CheckpointError(
            f"{str(path)!r} refers to weights in other files, which its sidecar does not cover; "
            "export it again, or save it as a single file."
        )


def sidecar_text(bundle: BundleConfig, export: dict[str, Any]) -> str:
    """Returns the content of a sidecar file.

    Args:
        bundle: Model, sampling, preprocessing and labels.
        export: The "export" entry, as JSON data.
    """
    data = {**json.loads(bundle.to_json()), "export": export}
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
