"""Reads checkpoint files without executing any code they contain.

Supported are safetensors files and files of `torch.save` (.pth, .pt, .bin; zip or legacy pickle
format). Pickles are loaded with `weights_only=True`. The format is detected from the first bytes,
not from the file name. Declared sizes are checked against the file size before memory is
allocated.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ..config import WEIGHTS_FILE, BundleConfig
from ..errors import CheckpointError, ConfigError
from ..saving import METADATA_KEY, read_bundle, read_safetensors

WRAPPERS = ("module.", "_orig_mod.")  # prefixes added by DistributedDataParallel, torch.compile
CONTAINER_KEYS = ("state_dict", "model")  # keys of the state dict, in order of preference
FOLDER_FILES = (WEIGHTS_FILE, "pytorch_model.bin")  # in order of preference
_LEGACY_PICKLES = 5  # a legacy file starts with magic number, protocol, system, content, keys


@dataclass(frozen=True, eq=False)
class RawCheckpoint:
    """The content of a checkpoint file.

    Attributes:
        path: Path of the file.
        kind: Container: "safetensors", "pickle (zip)" or "pickle (legacy)".
        num_bytes: File size.
        tensors: Tensors by name, without wrapper prefixes. They may be memory-mapped.
        unwrapped: Keys and prefixes that were removed, such as "state_dict" or "module.".
        metadata: The other entries of the file.
        bundle: Configuration stored in the file or next to it; None if there is none.
    """

    path: Path
    kind: str
    num_bytes: int
    tensors: dict[str, Tensor]
    unwrapped: tuple[str, ...]
    metadata: dict[str, Any]
    bundle: BundleConfig | None


def read_weights_file(source: str | Path) -> RawCheckpoint:
    """Reads a checkpoint file, or the one in a folder.

    Raises:
        CheckpointError: The file does not exist, is damaged or is unsafe to load.
    """
    path = _weights_file(Path(source))
    try:
        num_bytes = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read ({error.strerror}).") from error
    if num_bytes == 0:
        raise CheckpointError(f"{str(path)!r} is empty; copy or download it again.")
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return _read_safetensors(path, num_bytes)
    is_zip = head.startswith(b"PK")
    content = _read_pickle(path, num_bytes, is_zip)
    state, metadata, unwrapped = _unwrap(path, content)
    _check_tensors(path, state, num_bytes)
    kind = "pickle (zip)" if is_zip else "pickle (legacy)"
    return RawCheckpoint(
        path, kind, num_bytes, state, unwrapped, metadata, _bundle_in_pickle(path, metadata)
    )


def _weights_file(path: Path) -> Path:
    try:
        if not path.is_dir():
            if path.is_file():
                return path
            raise CheckpointError(f"There is no file or folder {str(path)!r}.")
        for name in FOLDER_FILES:
            if (path / name).is_file():
                return path / name
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CheckpointError(f"{str(path)!r} cannot be read ({error}).") from error
    raise CheckpointError(
        f"The folder {str(path)!r} contains neither {' nor '.join(FOLDER_FILES)}; "
        "give the path of the weights file."
    )


# --- safetensors --------------------------------------------------------------------------------


def _read_safetensors(path: Path, num_bytes: int) -> RawCheckpoint:
    tensors, metadata = read_safetensors(path)
    state, wrappers = _strip_wrappers(tensors)
    _check_tensors(path, state, num_bytes)
    bundle = read_bundle(path, metadata)
    return RawCheckpoint(path, "safetensors", num_bytes, state, wrappers, metadata, bundle)


# --- pickles ------------------------------------------------------------------------------------


def _bundle_in_pickle(path: Path, metadata: Mapping[str, Any]) -> BundleConfig | None:
    meta = metadata.get("meta")  # location of metadata in official checkpoints
    text = metadata.get(METADATA_KEY) or (
        meta.get(METADATA_KEY) if isinstance(meta, Mapping) else None
    )
    try:
        return BundleConfig.from_json(text) if isinstance(text, str) else None
    except ConfigError as error:
        raise CheckpointError(f"The config of {str(path)!r} is invalid. {error}") from error


class _NumPyNumber:
    """Takes the place of a NumPy number, such as an accuracy next to the weights, or its dtype.

    Nothing of NumPy is called, and the value is dropped.
    """

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


_NUMPY_NUMBERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_NumPyNumber, "numpy.dtype"),
    (_NumPyNumber, "numpy.core.multiarray.scalar"),  # written by NumPy 1
    (_NumPyNumber, "numpy._core.multiarray.scalar"),
]


def _read_pickle(path: Path, num_bytes: int, is_zip: bool) -> object:
    """Loads a pickle with `torch.load`, restricted to tensors and plain data."""
    if is_zip:
        _check_zip(path, num_bytes)
    try:
        if not is_zip:
            with path.open("rb") as stream:
                for _ in range(_LEGACY_PICKLES):
                    _reject_bytearray(path, stream)
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        except pickle.UnpicklingError as error:
            if "multiarray.scalar" not in str(error):
                raise
        with torch.serialization.safe_globals(_NUMPY_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except CheckpointError:
        raise
    except Exception as error:
        # A damaged pickle can raise almost any exception.
        raise CheckpointError(_pickle_error_message(path, error)) from error


def _check_zip(path: Path, num_bytes: int) -> None:
    """Rejects compressed or oversized entries (zip bombs); torch.save does not compress."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            claimed = sum(entry.file_size for entry in entries)
            if claimed > num_bytes or any(entry.compress_type for entry in entries):
                raise CheckpointError(
                    f"{str(path)!r} has {num_bytes} bytes, but claims to unpack to {claimed}, "
                    "which torch.save never writes; it was rejected. Download it again from a "
                    "source you trust."
                )
            for entry in entries:
                if entry.filename.endswith("/data.pkl"):
                    with archive.open(entry) as stream:
                        _reject_bytearray(path, stream)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{str(path)!r} is damaged or truncated ({error}); copy or download it again."
        ) from error


def _reject_bytearray(path: Path, stream: IO[bytes]) -> None:
    """Rejects bytearray, which `weights_only` allows with an arbitrary size in the file."""
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name == "GLOBAL" and str(argument).endswith(" bytearray"):
            raise CheckpointError(
                f"{str(path)!r} is a pickle that creates a bytearray, which no checkpoint needs; "
                "it was rejected. Download it again from a source you trust."
            )


# Modules whose objects are often pickled into checkpoints, and how to describe them.
_PICKLED_EXTRAS = {
    "numpy": "NumPy arrays",
    "mmengine": "mmengine's training history",
    "mmcv": "mmcv's config objects",
    "yacs": "a yacs config",
    "omegaconf": "an OmegaConf config",
    "argparse": "the arguments of a training script",
    "pathlib": "paths",
}


def _pickle_error_message(path: Path, error: Exception) -> str:
    message = str(error)
    found = re.search(r"GLOBAL (\S+)", message) or re.search(r"class(?:es)? (\S+)", message)
    if found is None:
        why = message.split("\n")[0].split(". ")[0] or type(error).__name__
        if "eights only" in why:
            why = "not a pickle of tensors"
        return (
            f"{str(path)!r} cannot be read as weights ({type(error).__name__}: {why}); it is "
            "damaged, truncated, or not written by torch.save or safetensors."
        )
    name = found[1].rstrip(".,")
    what = _PICKLED_EXTRAS.get(name.split(".")[0])
    if what is None:
        return (
            f"{str(path)!r} is a pickle that calls {name!r} when it is loaded. Such files can run "
            "arbitrary code, so it was rejected and nothing was run. Get the weights as "
            "safetensors, or from a source you trust."
        )
    return (
        f"{str(path)!r} contains {what} ({name}) in addition to the weights, which cannot be "
        "loaded without running code. If you trust the file, convert it where it was written: "
        'c = torch.load(FILE, weights_only=False); torch.save({"state_dict": c.get("state_dict") '
        'or c["model"]}, NEW_FILE)'
    )


# --- content ------------------------------------------------------------------------------------


def _unwrap(path: Path, content: object) -> tuple[dict[str, Tensor], dict[str, Any], Any]:
    """Splits the content of a pickle into tensors, metadata and removed keys."""
    metadata: dict[str, Any] = {}
    unwrapped: list[str] = []
    for key in CONTAINER_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            metadata = {str(k): v for k, v in content.items() if k != key}
            unwrapped.append(key)
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{str(path)!r} contains a {type(content).__name__}, not a dict of named tensors; save "
            "a state dict instead: torch.save(model.state_dict(), FILE)."
        )
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    metadata |= {str(k): v for k, v in content.items() if not isinstance(v, Tensor)}
    if not tensors:
        names = ", ".join(repr(str(name)) for name in list(content)[:5]) or "nothing"
        raise CheckpointError(
            f"{str(path)!r} contains no tensors, neither at the top level nor under "
            f"{' or '.join(map(repr, CONTAINER_KEYS))}; it contains {names}."
        )
    tensors, wrappers = _strip_wrappers(tensors)
    return tensors, metadata, (*unwrapped, *wrappers)


def _strip_wrappers(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Removes wrapper prefixes that all names share."""
    removed: list[str] = []
    while tensors:
        for wrapper in WRAPPERS:
            if all(name.startswith(wrapper) for name in tensors):
                tensors = {name.removeprefix(wrapper): t for name, t in tensors.items()}
                removed.append(wrapper)
                break
        else:
            break
    return tensors, tuple(removed)


def _check_tensors(path: Path, tensors: Mapping[str, Tensor], num_bytes: int) -> None:
    """Raises CheckpointError unless all tensors are dense and fully stored in the file."""
    for name, tensor in tensors.items():
        is_plain = type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_quantized
        if not is_plain or tensor.layout is not torch.strided or tensor.device.type != "cpu":
            raise CheckpointError(
                f"{name!r} in {str(path)!r} is a {type(tensor).__name__} of layout "
                f"{tensor.layout} on {tensor.device.type!r}; only dense CPU tensors are supported."
            )
        claimed = tensor.numel() * tensor.element_size()
        if claimed > tensor.untyped_storage().nbytes() or claimed > num_bytes:
            raise CheckpointError(
                f"{name!r} in {str(path)!r} has shape {tuple(tensor.shape)} ({claimed} "
                f"bytes), but the file has only {num_bytes} bytes; copy or download it again."
            )
