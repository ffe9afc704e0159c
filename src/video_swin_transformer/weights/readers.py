"""A file of weights -> named tensors and plain metadata. No code of the file ever runs.

Read are `.safetensors` and what `torch.save` writes (`.pth`, `.pt`, `.bin`; zip and the older
pickle stream), the latter with `weights_only=True` only. Which of the two a file is, its first
bytes say, not its name. Before a tensor is believed, it must fit into its file: a kilobyte that
claims four gigabytes is refused before memory is taken.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ..config import MODEL_TYPE, BundleConfig
from ..errors import CheckpointError, ConfigError
from ..saving import CONFIG_FILE, METADATA_KEY, WEIGHTS_FILE

WRAPPERS = ("module.", "_orig_mod.")  # put before every name by DistributedDataParallel, compile
CONTAINER_KEYS = ("state_dict", "model")  # where tools keep the weights, in order of preference
FOLDER_FILES = (WEIGHTS_FILE, "pytorch_model.bin")  # what a folder is opened for, in that order
_LEGACY_PICKLES = 5  # magic, protocol, system, content, keys: what the older stream begins with


@dataclass(frozen=True, eq=False)
class RawCheckpoint:
    """What a file holds: tensors under its own names (wrappers removed), and what stands around.

    kind: "safetensors", "pickle (zip)" or "pickle (legacy)". unwrapped: what was taken off, such
    as "state_dict" or "module.". metadata: the other entries, plain values only. bundle: our own
    config, where one lies inside or beside the file. Tensors may be views of the file on disk.
    """

    path: Path
    kind: str
    num_bytes: int
    tensors: dict[str, Tensor]
    unwrapped: tuple[str, ...]
    metadata: dict[str, Any]
    bundle: BundleConfig | None


def read_weights_file(source: str | Path) -> RawCheckpoint:
    """Opens a file, or the weights file of a folder. Raises CheckpointError, and nothing else."""
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
    state, around, unwrapped = _unwrap(path, content)
    _check_tensors(path, state, num_bytes)
    kind = "pickle (zip)" if is_zip else "pickle (legacy)"
    return RawCheckpoint(
        path, kind, num_bytes, state, unwrapped, around, _bundle(path, around, False)
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
        f"The folder {str(path)!r} holds neither {' nor '.join(FOLDER_FILES)}; "
        "name the file with the weights."
    )


# --- safetensors --------------------------------------------------------------------------------


def _read_safetensors(path: Path, num_bytes: int) -> RawCheckpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{str(path)!r} is not a readable safetensors file ({error}); it is damaged or "
            "truncated."
        ) from error
    state, wrappers = _without_wrappers(tensors)
    _check_tensors(path, state, num_bytes)
    bundle = _bundle(path, metadata, True)
    return RawCheckpoint(path, "safetensors", num_bytes, state, wrappers, metadata, bundle)


def _bundle(path: Path, metadata: Mapping[str, Any], may_lie_beside: bool) -> BundleConfig | None:
    """Our config: `config.json` beside a safetensors file comes first, as in `saving`."""
    beside = path.with_name(CONFIG_FILE)
    meta = metadata.get("meta")  # where official files keep what they say of themselves
    text = metadata.get(METADATA_KEY) or (
        meta.get(METADATA_KEY) if isinstance(meta, Mapping) else None
    )
    try:
        if may_lie_beside and beside.is_file():
            content = beside.read_text(encoding="utf-8", errors="replace")
            if re.search(rf'"model_type"\s*:\s*"{MODEL_TYPE}"', content):
                text = content  # else the config of another library, e.g. transformers
        return BundleConfig.from_json(text) if isinstance(text, str) else None
    except (ConfigError, OSError) as error:
        raise CheckpointError(f"The config of {str(path)!r} is not usable. {error}") from error


# --- pickles ------------------------------------------------------------------------------------


def _read_pickle(path: Path, num_bytes: int, is_zip: bool) -> object:
    """What `torch.load` makes of the file, restricted to tensors and plain data."""
    if is_zip:
        _check_zip(path, num_bytes)
    try:
        if not is_zip:
            with path.open("rb") as stream:
                for _ in range(_LEGACY_PICKLES):
                    _check_calls(path, stream)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except CheckpointError:
        raise
    except Exception as error:
        # A damaged pickle can raise nearly anything, from KeyError to RuntimeError: all of it
        # means that the file cannot be read.
        raise CheckpointError(_pickle_refusal(path, error)) from error


def _check_zip(path: Path, num_bytes: int) -> None:
    """torch.save stores without compression: what claims more than the file has is a trap."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            claimed = sum(entry.file_size for entry in entries)
            if claimed > num_bytes or any(entry.compress_type for entry in entries):
                raise CheckpointError(
                    f"{str(path)!r} has {num_bytes} bytes, but claims to unpack to {claimed}; "
                    "torch.save writes no such file. It is refused."
                )
            for entry in entries:
                if entry.filename.endswith("/data.pkl"):
                    with archive.open(entry) as stream:
                        _check_calls(path, stream)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{str(path)!r} is damaged or truncated ({error}); copy or download it again."
        ) from error


def _check_calls(path: Path, stream: IO[bytes]) -> None:
    """Refuses the one call that torch allows and that fills memory by a number in the file."""
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name == "GLOBAL" and str(argument).endswith(" bytearray"):
            raise CheckpointError(
                f"{str(path)!r} is a pickle that builds a bytearray, which belongs to no weights; "
                "it is refused."
            )


# Modules whose objects tools leave in checkpoints, and what they are.
_PICKLED_EXTRAS = {
    "numpy": "NumPy numbers or arrays",
    "mmengine": "mmengine's training history",
    "mmcv": "mmcv's config objects",
    "yacs": "a yacs config",
    "omegaconf": "an OmegaConf config",
    "argparse": "the arguments of a training script",
    "pathlib": "paths",
}


def _pickle_refusal(path: Path, error: Exception) -> str:
    said = str(error)
    found = re.search(r"GLOBAL (\S+)", said) or re.search(r"class(?:es)? (\S+)", said)
    if found is None:
        why = said.split("\n")[0].split(". ")[0] or type(error).__name__
        if "eights only" in why:
            why = "not a pickle of tensors"
        return (
            f"{str(path)!r} cannot be read as weights ({type(error).__name__}: {why}); it is "
            "damaged, truncated or not a file of torch.save or safetensors."
        )
    name = found[1].rstrip(".,")
    what = _PICKLED_EXTRAS.get(name.split(".")[0])
    if what is None:
        return (
            f"{str(path)!r} is a pickle that calls {name!r} when opened. Such files can run any "
            "program, so it is refused and nothing of it was run. Get the weights as safetensors, "
            "or from a source you trust."
        )
    return (
        f"{str(path)!r} holds {what} ({name}) beside the weights, which cannot be opened without "
        "running code of the file. If you trust it, strip it once in the environment that made it: "
        'c = torch.load(FILE, weights_only=False); torch.save({"state_dict": c.get("state_dict") '
        'or c["model"]}, NEW_FILE)'
    )


# --- what is inside -----------------------------------------------------------------------------


def _unwrap(path: Path, content: object) -> tuple[dict[str, Tensor], dict[str, Any], Any]:
    """Content of a pickle -> (tensors, what stands around them, what was taken off)."""
    around: dict[str, Any] = {}
    unwrapped: list[str] = []
    for key in CONTAINER_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            around = {str(k): v for k, v in content.items() if k != key}
            unwrapped.append(key)
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{str(path)!r} holds a {type(content).__name__}, not a dict of named tensors; save "
            "the state dict of the network instead: torch.save(model.state_dict(), FILE)."
        )
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    around |= {str(k): v for k, v in content.items() if not isinstance(v, Tensor)}
    if not tensors:
        names = ", ".join(repr(str(name)) for name in list(content)[:5]) or "nothing"
        raise CheckpointError(
            f"{str(path)!r} holds no tensors, neither in itself nor under "
            f"{' or '.join(map(repr, CONTAINER_KEYS))}; it holds {names}."
        )
    tensors, wrappers = _without_wrappers(tensors)
    return tensors, around, (*unwrapped, *wrappers)


def _without_wrappers(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Takes off a prefix that stands before every name."""
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
    """Every tensor is a plain one in the file itself. Raises CheckpointError by name."""
    for name, tensor in tensors.items():
        is_plain = type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_quantized
        if not is_plain or tensor.layout is not torch.strided or tensor.device.type != "cpu":
            raise CheckpointError(
                f"{name!r} in {str(path)!r} is a {type(tensor).__name__} of layout "
                f"{tensor.layout} on {tensor.device.type!r}; only plain dense tensors are weights."
            )
        claimed = tensor.numel() * tensor.element_size()
        if claimed > tensor.untyped_storage().nbytes() or claimed > num_bytes:
            raise CheckpointError(
                f"{name!r} in {str(path)!r} claims {claimed} bytes of shape "
                f"{tuple(tensor.shape)}, which the file of {num_bytes} bytes does not hold."
            )
