"""A model on disk: a folder of `config.json` and `model.safetensors`.

The weights file also contains the config in its metadata, so it can be loaded without the folder.
Two more files are used by transformers only; they name the processor classes (in `hf.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .config import CONFIG_FILE, MODEL_TYPE, WEIGHTS_FILE, BundleConfig
from .errors import CheckpointError, ConfigError
from .file_names import plain_text
from .files import os_error_reason, read_file, write_atomic

TRAINED_MODEL = "model"  # in the output folder of a training run
METADATA_KEY = "video_swin_config"
_METADATA = "__metadata__"  # of the safetensors format
MAX_CONFIG_BYTES = 2**26
PROCESSOR_FILES = {
    "video_preprocessor_config.json": '{\n  "video_processor_type": "VideoSwinVideoProcessor"\n}\n',
    "preprocessor_config.json": '{\n  "image_processor_type": "VideoSwinImageProcessor"\n}\n',
}


def write_folder(
    folder: str | Path,
    bundle: BundleConfig,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
) -> None:
    """Writes a model folder.

    Args:
        folder: The folder; it is created if necessary.
        bundle: Configuration of the model.
        tensors: State dict of the model.
        dtype: Dtype for floating-point tensors; None keeps theirs.

    Raises:
        CheckpointError: The folder cannot be written.
    """
    folder = Path(folder)
    cpu_tensors = {
        name: tensor.detach()
        .to("cpu", dtype if dtype and tensor.is_floating_point() else None)
        .contiguous()
        for name, tensor in tensors.items()
    }
    text = bundle.to_json()
    try:
        data = safetensors_bytes(cpu_tensors, text)
        write_atomic(folder / WEIGHTS_FILE, data)
        for name, content in PROCESSOR_FILES.items():
            write_atomic(folder / name, content.encode())
        write_atomic(folder / CONFIG_FILE, text.encode())
    except OSError as error:
        raise CheckpointError(
            f"The model cannot be written to {str(folder)!r}: {os_error_reason(error)}."
        ) from error


def safetensors_bytes(tensors: Mapping[str, Tensor], config: str) -> bytes:
    """Returns the content of a safetensors file, the same for equal tensors and config.

    The library writes metadata in random order, so files of equal content would differ in their
    digests, which caches depend on.

    Args:
        tensors: Contiguous tensors on the CPU.
        config: JSON text of the configuration, for the metadata.
    """
    from safetensors.torch import save

    data = save(dict(tensors), metadata={"format": "pt", METADATA_KEY: config})
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header = {_METADATA: dict(sorted(header.pop(_METADATA).items())), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def read_folder(folder: str | Path) -> tuple[BundleConfig, dict[str, Tensor]]:
    """Reads a model folder or a single safetensors file.

    Args:
        folder: A folder written by `write_folder`, its safetensors file, or the output folder of a
            training run.

    Returns:
        The configuration, and the tensors on the CPU.

    Raises:
        CheckpointError: A file is missing or damaged, or has NaN among the weights.
    """
    path = Path(folder)
    if (path / TRAINED_MODEL / CONFIG_FILE).is_file() and not (path / CONFIG_FILE).exists():
        path = path / TRAINED_MODEL
    weights = path / WEIGHTS_FILE if path.is_dir() else path
    if not weights.is_file():
        expected = f"a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, or a .safetensors file"
        raise CheckpointError(f"There is no model at {str(folder)!r}; expected {expected}.")
    tensors, metadata = read_safetensors(weights)
    bundle = read_bundle(weights, metadata)
    if bundle is None:
        raise CheckpointError(
            f"{str(weights)!r} has no configuration, neither in its metadata nor in {CONFIG_FILE}; "
            "use a model saved with save_pretrained, or load_checkpoint for other files."
        )
    require_finite(tensors, weights)
    num_values = sum(tensor.numel() for tensor in tensors.values())
    # Smaller differences are described by name, when the network is built.
    if bundle.model.num_params > 4 * num_values + 10_000_000:
        raise CheckpointError(
            f"The weights in {str(folder)!r} do not match its config.json: they have {num_values} "
            f"values, but the network has {bundle.model.num_params} parameters."
        )
    return bundle, tensors


def nonfinite_names(tensors: Mapping[str, Tensor]) -> list[str]:
    """Returns the names of the tensors with a NaN or an infinite value.

    Args:
        tensors: Tensors by name.
    """
    return [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]


def require_finite(tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Rejects weights with a NaN or an infinite value, which make every score NaN.

    Args:
        tensors: State dict of a model.
        source: Where it comes from, for the message.

    Raises:
        CheckpointError: A tensor has such a value.
    """
    if names := nonfinite_names(tensors):
        more = f" and {len(names) - 1} other tensors" if len(names) > 1 else ""
        raise CheckpointError(
            f"The weights in {str(source)!r} contain NaN or infinite values, in {names[0]!r}"
            f"{more}; the training diverged or the file is damaged. Use an earlier checkpoint, or "
            "download the file again."
        )


def has_config(folder: Path) -> bool:
    """Returns whether a folder has the `config.json` of a model of this package.

    Args:
        folder: The folder.
    """
    return _config_text(folder / CONFIG_FILE) is not None


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads the tensors and the metadata of a safetensors file.

    Args:
        path: The file.

    Returns:
        The tensors by name, on the CPU, and the metadata.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if plain_text(str(path)) != str(path):
        raise CheckpointError(
            f"{str(path)!r} has bytes that are not UTF-8, which the library safetensors cannot "
            "open; rename it."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} is not a readable safetensors file ({error}); it is damaged or "
            "truncated."
        ) from error


def read_bundle(weights: Path, metadata: Mapping[str, str]) -> BundleConfig | None:
    """Reads the configuration stored with a safetensors file.

    In a model folder, `config.json` takes precedence, so that it can be edited. For a file of any
    other name, the metadata take precedence: `config.json` may belong to another file.

    Args:
        weights: The file.
        metadata: Metadata of the file.

    Returns:
        The configuration; None if there is none.

    Raises:
        CheckpointError: The configuration is invalid.
    """
    stored = metadata.get(METADATA_KEY)
    try:
        text = stored
        if stored is None or weights.name == WEIGHTS_FILE:
            text = _config_text(weights.with_name(CONFIG_FILE)) or stored
        return None if text is None else BundleConfig.from_json(text)
    except ConfigError as error:
        raise CheckpointError(f"The config of {str(weights)!r} is invalid. {error}") from error


def _config_text(path: Path) -> str | None:
    """Returns the content of a config file; None if it is that of another library."""
    if not path.is_file():
        return None
    data = read_file(path, max_bytes=MAX_CONFIG_BYTES, what="config", error=CheckpointError)
    text = data.decode("utf-8", errors="replace")
    return text if re.search(rf'"model_type"\s*:\s*"{MODEL_TYPE}"', text) else None
