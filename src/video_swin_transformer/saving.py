"""A model on disk: a folder of `config.json` and `model.safetensors`.

The weights file carries the config in its metadata too, so that it rebuilds its model alone.
A third file is for transformers only: it names the class (in `hf.py`) that reads videos.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .config import CONFIG_FILE as CONFIG_FILE
from .config import WEIGHTS_FILE as WEIGHTS_FILE
from .config import BundleConfig
from .errors import CheckpointError, ConfigError
from .files import write_atomic

METADATA_KEY = "video_swin_config"
PROCESSOR_FILE = "video_preprocessor_config.json"
PROCESSOR_TEXT = '{\n  "video_processor_type": "VideoSwinVideoProcessor"\n}\n'


def write_folder(
    folder: str | Path,
    bundle: BundleConfig,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
) -> None:
    """Writes the files; floating-point tensors are stored as `dtype` where it is given."""
    from safetensors.torch import save

    folder = Path(folder)
    stored = {
        name: tensor.detach()
        .to("cpu", dtype if dtype and tensor.is_floating_point() else None)
        .contiguous()
        for name, tensor in tensors.items()
    }
    text = bundle.to_json()
    try:
        data = save(stored, metadata={"format": "pt", METADATA_KEY: text})
        write_atomic(folder / WEIGHTS_FILE, data)
        write_atomic(folder / PROCESSOR_FILE, PROCESSOR_TEXT.encode())
        write_atomic(folder / CONFIG_FILE, text.encode())
    except OSError as error:
        raise CheckpointError(
            f"The model cannot be written to {str(folder)!r} ({error.strerror or error}); "
            "name a folder that can be created and written to."
        ) from error


def read_folder(folder: str | Path) -> tuple[BundleConfig, dict[str, Tensor]]:
    """Config and tensors (on the CPU) of a saved folder, or of one `.safetensors` file.

    Raises CheckpointError if something is missing or is not what `write_folder` writes.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(folder)
    weights = path / WEIGHTS_FILE if path.is_dir() else path
    if not weights.is_file():
        expected = f"a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, or a .safetensors file"
        raise CheckpointError(f"There is no model at {str(folder)!r}; expected {expected}.")
    try:
        with safe_open(weights, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{str(weights)!r} is not a readable safetensors file ({error}); it is damaged or "
            "truncated."
        ) from error
    beside = weights.with_name(CONFIG_FILE)
    if beside.is_file():
        text = beside.read_text(encoding="utf-8", errors="replace")
    elif METADATA_KEY in metadata:
        text = metadata[METADATA_KEY]
    else:
        raise CheckpointError(
            f"{str(weights)!r} says nothing about its network: there is no {CONFIG_FILE} beside it "
            "and no config inside. Only files written by save_pretrained carry one."
        )
    try:
        return BundleConfig.from_json(text), tensors
    except ConfigError as error:
        raise CheckpointError(f"The config of {str(weights)!r} is not usable. {error}") from error
