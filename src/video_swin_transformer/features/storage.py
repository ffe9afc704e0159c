"""Feature files: one table in .npz, .npy with a .json beside it, .safetensors or .parquet.

Every file is written atomically and carries the digest of its request. The .npy format has two
files, so its .json comes last and holds the digest of the array: a .npy without a matching .json
is not finished.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, MissingExtraError, UnknownNameError
from ..files import is_json_with, read_file, read_text_file, require_regular, write_atomic
from ..strict_json import parse_json
from .table import FeatureSettings, FeatureTable, Ints, Seconds, VideoInfo, concatenate

FORMATS = ("npz", "npy", "safetensors", "parquet")
_FORMAT_VERSION = 1
_MAX_BYTES = 2**34
MAX_SIDECAR_BYTES = 2**28
_METADATA = "video_swin_features"  # key in safetensors and Parquet files
_ROW_COLUMNS = ("video_index", "start_frames", "end_frames", "start_seconds", "end_seconds")


def save_features(table: FeatureTable, path: str | Path) -> None:
    """Writes a table. The suffix chooses the format: .npz, .npy, .safetensors or .parquet.

    A .npy file gets a .json file of the same name with the times and everything else. The `id`
    and `embedding` columns of a .parquet file are followed by the times; the embedding is a
    fixed-size list of float32 (tokens and maps are flattened).

    Args:
        table: The features.
        path: The file to write; its folder is created.

    Raises:
        UnknownNameError: The suffix is unknown.
        MissingExtraError: Parquet needs pyarrow.
        OSError: The file cannot be written.
    """
    path = Path(path)
    _writer_of(path)(table, path)


def load_features(path: str | Path) -> FeatureTable:
    """Reads what `save_features`, `write_features` and `videoswin features` write.

    Args:
        path: A file, or a folder, whose files are joined in the order of their names.

    Returns:
        The features.

    Raises:
        DataError: There are no features, or a file is damaged.
        ConfigError: The files of a folder differ in mode, weights or sampling.
        MissingExtraError: Parquet needs pyarrow.
    """
    path = Path(path)
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if _is_feature_file(file)]
        if not files:
            raise DataError(
                f"The folder {str(path)!r} contains no features; write some with: videoswin "
                "features VIDEO --out FOLDER."
            )
        return concatenate([_load_file(file) for file in files])
    if not path.exists():
        raise DataError(f"There is no file or folder {str(path)!r}.")
    return _load_file(path)


def _is_feature_file(path: Path) -> bool:
    suffix = path.suffix[1:]
    if path.name.startswith(".") or suffix not in FORMATS or not path.is_file():
        return False
    if suffix == "npy" and path.stem.rpartition("__")[2] not in ("0", path.stem):
        return sidecar_of(path).is_file()  # the first file of several crops stands for all
    return suffix != "npy" or _sidecar_for(path).is_file()


def _load_file(path: Path) -> FeatureTable:
    try:
        require_regular(path)
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    reader = _READERS.get(path.suffix[1:])
    if reader is None:
        raise UnknownNameError("feature format", path.suffix, [f".{name}" for name in FORMATS])
    try:
        return reader(path)
    except MissingExtraError:
        raise
    except Exception as error:  # whatever the readers of damaged files raise
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{str(path)!r} is not a readable feature file ({type(error).__name__}: {error}); "
            "extract it again."
        ) from error


def is_foreign(path: Path, *, resume: bool) -> bool:
    """Whether writing features to a path would replace a file that this module did not write.

    Args:
        path: A feature file, or the .json file of a layout.
        resume: An array without its .json file is what a killed run has left.
    """
    suffix = path.suffix[1:]
    if suffix in ("npy", "json"):
        sidecar, array = path.with_suffix(".json"), path.with_suffix(".npy")
        if sidecar.exists():
            return not is_json_with(sidecar, "format_version", "settings", "request", "files")
        return array.is_file() and not resume
    if not path.is_file():
        return False
    try:
        if suffix == "npz":
            with zipfile.ZipFile(path) as archive:
                return "metadata.npy" not in archive.namelist()
        if suffix == "safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="numpy") as file:
                return _METADATA not in (file.metadata() or {})
        _, pq = _pyarrow()
        return _METADATA.encode() not in (pq.read_schema(path).metadata or {})
    except MissingExtraError:
        raise
    except Exception:  # damaged: there is nothing to lose
        return False


def _writer_of(path: Path) -> Callable[[FeatureTable, Path], None]:
    writer = _WRITERS.get(path.suffix[1:])
    if writer is None:
        raise UnknownNameError("feature format", path.suffix, [f".{name}" for name in FORMATS])
    return writer


# Metadata ---------------------------------------------------------------------------------------


def metadata_of(table: FeatureTable) -> dict[str, Any]:
    """Returns everything but the rows, as JSON types."""
    return {
        "format_version": _FORMAT_VERSION,
        "settings": dataclasses.asdict(table.settings),
        "videos": [dataclasses.asdict(video) for video in table.videos],
        "placement": table.placement,
        "lag_frames": table.lag_frames,
        "library_version": table.library_version,
        "request": table.request,
    }


def _table(values: Any, rows: dict[str, Any], metadata: dict[str, Any]) -> FeatureTable:
    settings = FeatureSettings(**metadata["settings"])
    lag = metadata["lag_frames"]
    columns: dict[str, Any] = {
        name: np.asarray(rows[name], np.float64 if name.endswith("seconds") else np.int64)
        for name in _ROW_COLUMNS
    }
    values = np.asarray(values, np.float32)
    if any(len(column) != len(values) for column in columns.values()):
        raise ValueError("its columns differ in length")
    return FeatureTable(
        values=values,
        **columns,
        videos=tuple(VideoInfo(**video) for video in metadata["videos"]),
        settings=settings,
        placement=metadata["placement"],
        lag_frames=None if lag is None else (lag[0], lag[1]),
        library_version=metadata["library_version"],
        request=metadata["request"],
    )


def _to_json(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, sort_keys=True)


# One writer and reader per format ---------------------------------------------------------------


def _write_npz(table: FeatureTable, path: Path) -> None:
    data = io.BytesIO()
    np.savez(
        data,
        features=table.values,
        metadata=np.array(_to_json(metadata_of(table))),
        **{name: getattr(table, name) for name in _ROW_COLUMNS},
    )
    write_atomic(path, data.getvalue())


def _read_npz(path: Path) -> FeatureTable:
    # From memory: NumPy leaves a damaged file open.
    content = read_file(path, max_bytes=_MAX_BYTES)
    with np.load(io.BytesIO(content), allow_pickle=False) as data:
        return _table(data["features"], dict(data), parse_json(str(data["metadata"])))


def sidecar_of(path: Path) -> Path:
    """Returns the .json file beside a .npy file."""
    return path.with_suffix(".json")


def _sidecar_for(path: Path) -> Path:
    """Returns the .json file that belongs to a .npy file; one file per crop shares one."""
    sidecar = sidecar_of(path)
    if not sidecar.is_file() and "__" in path.stem:
        sidecar = path.with_name(f"{path.stem.rpartition('__')[0]}.json")
    return sidecar


def write_sidecar(
    table: FeatureTable, path: Path, arrays: dict[str, bytes], layout: dict[str, Any] | None = None
) -> None:
    """Writes .npy files, then the .json file that makes them complete.

    Args:
        table: The features.
        path: The .json file.
        arrays: Content of the .npy files by name.
        layout: What else the .json file tells about the arrays.
    """
    for name, data in arrays.items():
        write_atomic(path.parent / name, data)
    rows = {name: _json_numbers(getattr(table, name)) for name in _ROW_COLUMNS}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in arrays.items()}
    document = {"files": digests, "layout": layout, "rows": rows, **metadata_of(table)}
    write_atomic(path, (_to_json(document) + "\n").encode())


def _json_numbers(column: Ints | Seconds) -> list[Any]:
    return [None if value != value else value for value in column.tolist()]  # NaN is not JSON


def npy_bytes(array: Any) -> bytes:
    """Returns the content of a .npy file."""
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    return data.getvalue()


def _write_npy(table: FeatureTable, path: Path) -> None:
    write_sidecar(table, sidecar_of(path), {path.name: npy_bytes(table.values)})


def _read_npy(path: Path) -> FeatureTable:
    sidecar = _sidecar_for(path)
    if not sidecar.is_file():
        raise DataError(
            f"{str(path)!r} has no {sidecar.name} beside it: it was written by another tool, or is "
            "not complete."
        )
    document = parse_json(read_text_file(sidecar, max_bytes=MAX_SIDECAR_BYTES))
    arrays = []
    for name, digest in document["files"].items():
        if not name or Path(name).name != name:
            raise DataError(
                f"{str(sidecar)!r} lists the file {name!r}, which is in another folder."
            )
        data = read_file(path.parent / name, max_bytes=_MAX_BYTES)
        if hashlib.sha256(data).hexdigest() != digest:
            raise DataError(f"{str(path.parent / name)!r} does not belong to {sidecar.name}.")
        arrays.append(np.load(io.BytesIO(data), allow_pickle=False))
    # One file per crop: (N, C) each -> (N, crops, C)
    values = arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=1)
    rows = {
        name: [np.nan if value is None else value for value in column]
        for name, column in document["rows"].items()
    }
    return _table(values, rows, document)


def _write_safetensors(table: FeatureTable, path: Path) -> None:
    from safetensors.numpy import save

    tensors = {"features": table.values, **{name: getattr(table, name) for name in _ROW_COLUMNS}}
    write_atomic(path, save(tensors, metadata={_METADATA: _to_json(metadata_of(table))}))


def _read_safetensors(path: Path) -> FeatureTable:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _table(tensors["features"], tensors, parse_json(file.metadata()[_METADATA]))


def _write_parquet(table: FeatureTable, path: Path) -> None:
    pa, pq = _pyarrow()
    row_shape = table.values.shape[1:]
    size = int(np.prod(row_shape))
    flat = pa.array(table.values.ravel())
    columns = {
        "id": pa.array(table.ids, pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, size),
        "video": pa.array(table.names, pa.string()),
        **{name: pa.array(getattr(table, name)) for name in _ROW_COLUMNS},
    }
    metadata = metadata_of(table) | {"row_shape": row_shape}
    arrow = pa.table(columns).replace_schema_metadata({_METADATA: _to_json(metadata)})
    data = io.BytesIO()
    pq.write_table(arrow, data)
    write_atomic(path, data.getvalue())


def _read_parquet(path: Path) -> FeatureTable:
    _, pq = _pyarrow()
    arrow = pq.read_table(path)
    metadata = parse_json(arrow.schema.metadata[_METADATA.encode()].decode())
    embedding = arrow["embedding"].combine_chunks()
    flat = embedding.flatten().to_numpy(zero_copy_only=False)
    rows = {name: arrow[name].to_numpy() for name in _ROW_COLUMNS}
    return _table(flat.reshape(-1, *metadata["row_shape"]), rows, metadata)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "features", "The Parquet format") from error
    return pyarrow, pyarrow.parquet


_WRITERS: dict[str, Callable[[FeatureTable, Path], None]] = {
    "npz": _write_npz,
    "npy": _write_npy,
    "safetensors": _write_safetensors,
    "parquet": _write_parquet,
}
_READERS: dict[str, Callable[[Path], FeatureTable]] = {
    "npz": _read_npz,
    "npy": _read_npy,
    "safetensors": _read_safetensors,
    "parquet": _read_parquet,
}
