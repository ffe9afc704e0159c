"""Reads checkpoint files without executing any code they contain.

Supported are safetensors files and files of `torch.save` (.pth, .pt, .bin; zip or legacy pickle
format). Pickles are loaded with `weights_only=True`. The format is detected from the first bytes,
not from the file name. Declared sizes are checked against the file size before memory is
allocated.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import WEIGHTS_FILE, BundleConfig
from ..errors import CheckpointError, ConfigError
from ..file_names import plain_text
from ..files import read_text_file, require_regular
from ..saving import METADATA_KEY, read_bundle, read_safetensors
from ..strict_json import parse_json
from .pickle_check import PickleRefused, check_pickle

# Prefixes added by DistributedDataParallel, torch.compile, Lightning and other wrappers.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
# Keys of the state dict, in order of preference: raw weights before averaged (EMA) ones.
CONTAINER_KEYS = ("state_dict", "model", "model_state_dict", "model_state", "module", "net")
AVERAGED_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
FOLDER_FILES = (WEIGHTS_FILE, "pytorch_model.bin")  # in order of preference
INDEX_SUFFIX = ".index.json"  # of a file that lists the shards of a large model
_MAX_INDEX_BYTES = 2**26
_MAX_NESTING = 3  # of state dicts in a file
_MAX_PICKLE_BYTES = 2**27  # of a zip file; the tensors are beside the pickle
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
        other_state_dicts: Keys of further state dicts in the file, such as "state_dict_ema".
        dropped: Names of small tensors next to the weights, such as the counts of a metric.
        metadata: The other entries of the file.
        bundle: Configuration stored in the file or next to it; None if there is none.
    """

    path: Path
    kind: str
    num_bytes: int
    tensors: dict[str, Tensor]
    unwrapped: tuple[str, ...]
    other_state_dicts: tuple[str, ...]
    dropped: tuple[str, ...]
    metadata: dict[str, Any]
    bundle: BundleConfig | None


def read_weights_file(source: str | Path, state_dict_key: str | None = None) -> RawCheckpoint:
    """Reads a checkpoint file, or the one in a folder.

    Args:
        source: The file or folder. A model in several files is given by its folder or by its
            index (.index.json).
        state_dict_key: Key of the state dict in a pickle; None for the first of the usual ones.

    Raises:
        CheckpointError: The file does not exist, is damaged or is unsafe to load, or lacks the
            key.
    """
    path = _weights_file(Path(source))
    try:
        num_bytes = path.stat().st_size
        require_regular(path)
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read ({error.strerror}).") from error
    if num_bytes == 0:
        raise CheckpointError(f"{str(path)!r} is empty; copy or download it again.")
    is_index = path.name.endswith(INDEX_SUFFIX)
    is_safetensors = head[8:9] == b"{" or path.suffix == ".safetensors"
    if state_dict_key is not None and (is_index or is_safetensors):
        raise CheckpointError(
            f"{str(path)!r} contains a single state dict, so it has no key {state_dict_key!r}."
        )
    if is_index:
        return _read_shards(path)
    if is_safetensors:
        tensors, metadata = read_safetensors(path)
        return _raw_safetensors(path, num_bytes, tensors, metadata, path)
    is_zip = head.startswith(b"PK")
    content = _unwrap(path, _read_pickle(path, num_bytes, is_zip), state_dict_key)
    state, wrappers, dropped = _strip_wrappers(content.tensors)
    _check_tensors(path, state, num_bytes)
    return RawCheckpoint(
        path,
        "pickle (zip)" if is_zip else "pickle (legacy)",
        num_bytes,
        state,
        (*content.keys, *wrappers),
        content.other_keys,
        dropped,
        content.metadata,
        _bundle_in_pickle(path, content.metadata),
    )


def _weights_file(path: Path) -> Path:
    try:
        if not path.is_dir():
            if path.is_file():
                return path
            raise CheckpointError(f"There is no file or folder {str(path)!r}.")
        for name in (*FOLDER_FILES, *(f"{name}{INDEX_SUFFIX}" for name in FOLDER_FILES)):
            if (path / name).is_file():
                return path / name
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CheckpointError(f"{str(path)!r} cannot be read ({error}).") from error
    raise CheckpointError(
        f"The folder {str(path)!r} contains neither {' nor '.join(FOLDER_FILES)}; "
        "give the path of the weights file."
    )


# --- safetensors --------------------------------------------------------------------------------


def _raw_safetensors(
    path: Path, num_bytes: int, tensors: dict[str, Tensor], metadata: dict[str, str], file: Path
) -> RawCheckpoint:
    """Returns the checkpoint. Its configuration belongs to `file`."""
    state, wrappers, dropped = _strip_wrappers(tensors)
    _check_tensors(path, state, num_bytes)
    bundle = read_bundle(file, metadata)
    kind = "safetensors"
    return RawCheckpoint(path, kind, num_bytes, state, wrappers, (), dropped, metadata, bundle)


def _read_shards(index: Path) -> RawCheckpoint:
    """Reads all files that an index lists, as `save_pretrained` of transformers writes them."""
    text = read_text_file(
        index, max_bytes=_MAX_INDEX_BYTES, what="index of weights", error=CheckpointError
    )
    try:
        weight_map = parse_json(text)["weight_map"]
        names = sorted(set(weight_map.values()))
        if any(not name or Path(name).name != name or name == index.name for name in names):
            raise ValueError("it lists files outside of its folder")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{str(index)!r} is not an index of weights ({error}); it must have a weight_map from "
            "tensor names to file names."
        ) from error
    tensors: dict[str, Tensor] = {}
    num_bytes = 0
    for shard in map(index.with_name, names):
        if not shard.is_file():
            raise CheckpointError(f"{str(index)!r} lists {shard.name!r}, which does not exist.")
        shard_bytes = shard.stat().st_size
        if shard.suffix == ".safetensors":
            tensors |= read_safetensors(shard)[0]
        else:
            is_zip = zipfile.is_zipfile(shard)
            content = _unwrap(shard, _read_pickle(shard, shard_bytes, is_zip), None)
            tensors |= content.tensors
        num_bytes += shard_bytes
    if missing := sorted(weight_map.keys() - tensors.keys()):
        raise CheckpointError(
            f"The files that {str(index)!r} lists lack {len(missing)} of its tensors, such as "
            f"{missing[0]!r}; copy or download them again."
        )
    model_file = index.with_name(index.name.removesuffix(INDEX_SUFFIX))
    return _raw_safetensors(index, num_bytes, tensors, {}, model_file)


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


_FACTORIES = ("list", "dict", "int", "float", "set", "str", "bool", "tuple")


class DroppedObject:
    """Takes the place of an object next to the weights, such as the arguments of a training script.

    Nothing of the object's class is called, and its content is dropped.
    """

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _plain_dict(*_: object) -> dict[Any, Any]:
    """Takes the place of `defaultdict`."""
    return {}


# Classes and functions that only hold data in checkpoints.
_DATA_GLOBALS = (
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",  # written by NumPy 1
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "argparse.Namespace",
    "types.SimpleNamespace",
    "datetime.datetime",
    "datetime.date",
    "datetime.timedelta",
    "datetime.timezone",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib.PurePosixPath",
    "pathlib._local.PosixPath",  # Python 3.13
    "pathlib._local.WindowsPath",
    "mmengine.logging.history_buffer.HistoryBuffer",
    # Factories of defaultdicts.
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _FACTORIES),
)
_PLACEHOLDER_NAMES = frozenset(_DATA_GLOBALS)
_PLACEHOLDERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_plain_dict, "collections.defaultdict"),
    *((DroppedObject, name) for name in _DATA_GLOBALS),
]


def _load(path: Path, is_zip: bool) -> object:
    if plain_text(str(path)) == str(path):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    with path.open("rb") as stream:  # torch opens files of UTF-8 names only
        return torch.load(stream, map_location="cpu", weights_only=True)


def _read_pickle(path: Path, num_bytes: int, is_zip: bool) -> object:
    """Loads a pickle with `torch.load`, restricted to tensors and plain data."""
    try:
        if is_zip:
            _check_zip(path, num_bytes)
        else:
            with path.open("rb") as stream:
                for _ in range(_LEGACY_PICKLES):
                    check_pickle(stream, _PLACEHOLDER_NAMES)
        try:
            return _load(path, is_zip)
        except pickle.UnpicklingError as error:
            if "GLOBAL" not in str(error):
                raise
        with torch.serialization.safe_globals(_PLACEHOLDERS):
            return _load(path, is_zip)
    except CheckpointError:
        raise
    except PickleRefused as error:
        raise CheckpointError(
            f"{str(path)!r} is a pickle that {error}; it was rejected and nothing was loaded. "
            "Download it again from a source you trust, or get the weights as safetensors."
        ) from error
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
                # torch compares names without regard to case.
                if entry.filename.lower().endswith("data.pkl"):
                    if entry.file_size > _MAX_PICKLE_BYTES:
                        raise CheckpointError(
                            f"{str(path)!r} has a pickle of {entry.file_size} bytes, but at most "
                            f"{_MAX_PICKLE_BYTES} are read; save the state dict alone."
                        )
                    with archive.open(entry) as stream:
                        check_pickle(stream, _PLACEHOLDER_NAMES)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        if isinstance(error, (CheckpointError, PickleRefused)):
            raise
        raise CheckpointError(
            f"{str(path)!r} is damaged or truncated ({error}); copy or download it again."
        ) from error


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


@dataclass(frozen=True, eq=False)
class _StateDict:
    """The state dict in a pickle.

    Attributes:
        tensors: Its tensors.
        keys: Keys that lead to it.
        other_keys: Keys of other state dicts beside it.
        metadata: All entries that are no tensors of the state dict.
    """

    tensors: dict[str, Tensor]
    keys: tuple[str, ...]
    other_keys: tuple[str, ...]
    metadata: dict[str, Any]


def _unwrap(path: Path, content: object, state_dict_key: str | None) -> _StateDict:
    """Finds the state dict in the content of a pickle."""
    metadata: dict[str, Any] = {}
    keys: list[str] = []
    other_keys: list[str] = []
    wanted = (*CONTAINER_KEYS, *AVERAGED_KEYS) if state_dict_key is None else (state_dict_key,)
    while isinstance(content, Mapping) and len(keys) < _MAX_NESTING:
        found = [key for key in wanted if _has_tensors(content.get(key))]
        if not found:
            break
        metadata |= {k: v for k, v in content.items() if isinstance(k, str) and k != found[0]}
        known = (*CONTAINER_KEYS, *AVERAGED_KEYS)
        other_keys += [k for k in known if k != found[0] and _has_tensors(content.get(k))]
        keys.append(found[0])
        content = content[found[0]]
        wanted = (*CONTAINER_KEYS, *AVERAGED_KEYS)
    if state_dict_key is not None and not keys:
        keys_here = list(content)[:20] if isinstance(content, Mapping) else []
        names = ", ".join(repr(key) for key in keys_here if isinstance(key, str)) or "no names"
        raise CheckpointError(
            f"{str(path)!r} has no state dict under {state_dict_key!r}; its keys are {names[:300]}."
        )
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{str(path)!r} contains a {type(content).__name__}, not a dict of named tensors; save "
            "a state dict instead: torch.save(model.state_dict(), FILE)."
        )
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    metadata |= {key: value for key, value in named.items() if not isinstance(value, Tensor)}
    if not tensors:
        names = ", ".join(repr(name) for name in list(named)[:5]) or "nothing named"
        raise CheckpointError(
            f"{str(path)!r} contains no tensors, neither at the top level nor under "
            f"{', '.join(map(repr, CONTAINER_KEYS))}; it contains {names}."
        )
    return _StateDict(tensors, tuple(keys), tuple(other_keys), metadata)


def _has_tensors(value: object, depth: int = 1) -> bool:
    """Whether a value is a dict with tensors, or with such a dict."""
    return isinstance(value, Mapping) and any(
        isinstance(item, Tensor) or (depth < _MAX_NESTING and _has_tensors(item, depth + 1))
        for item in value.values()
    )


def _strip_wrappers(
    tensors: dict[str, Tensor],
) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Removes wrapper prefixes that all weights share.

    Returns:
        The tensors, the prefixes, and the names of small tensors without the prefix, which belong
        to the training program, not to the model.
    """
    removed: list[str] = []
    dropped: list[str] = []
    while True:
        for wrapper in WRAPPERS:
            others = [name for name in tensors if not name.startswith(wrapper)]
            if len(others) < len(tensors) and all(tensors[name].ndim <= 1 for name in others):
                tensors = {
                    name.removeprefix(wrapper): tensor
                    for name, tensor in tensors.items()
                    if name.startswith(wrapper)
                }
                removed.append(wrapper)
                dropped += others
                break
        else:
            return tensors, tuple(removed), tuple(dropped)


def _check_tensors(path: Path, tensors: Mapping[str, Tensor], num_bytes: int) -> None:
    """Raises CheckpointError unless all tensors are dense and fully stored in the file.

    Tensors may share a storage, as tied weights do, but each is copied into the model.
    """
    total = 0
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
        total += claimed if tensor.is_floating_point() else 0  # index tables may be shared
    if total > 2 * num_bytes:
        raise CheckpointError(
            f"The tensors in {str(path)!r} overlap: they have {total} bytes in all, but the file "
            f"has {num_bytes}; it was rejected. Save a state dict whose tensors are separate."
        )
