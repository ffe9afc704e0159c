"""`Receipt`: where the scores or features of a video came from, complete enough to repeat them.

Nothing is computed here; `replay` repeats what a receipt describes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .config import BundleConfig
from .errors import ConfigError, DataError
from .file_names import path_to_text
from .files import read_text_file, write_atomic
from .runtimes.protocol import RuntimeInfo
from .sampled_view import SampledView, sampled_view_from
from .strict_json import parse_json

Floats: TypeAlias = npt.NDArray[np.float32]
Kind: TypeAlias = Literal["scores", "features", "feature_rows"]

KINDS = ("scores", "features", "feature_rows")
_FORMAT = "video-swin-transformer receipt"
_FORMAT_VERSION = 1
_MAX_FILE_BYTES = 2**30
_ADVICE = "give a file that --receipt or Receipt.save wrote."
_PACKAGES = (
    "video-swin-transformer", "numpy", "torch", "openvino", "onnxruntime", "av",
    "opencv-python-headless",
)  # fmt: skip


@dataclass(frozen=True)
class ModelOrigin:
    """What a model was loaded from, with the names of `Predictor.load`.

    Attributes:
        model: Name or path; None for the included model, or with `config`.
        config: Config file of the official repository or mmaction2.
        checkpoint: Weights of that config.
        precision: Precision that was asked for.
        threads: Number of CPU threads; None for the runtime's default.
        allow_truncated: Whether videos whose end is missing are read.
    """

    model: str | None = None
    config: str | None = None
    checkpoint: str | None = None
    precision: str = "f32"
    threads: int | None = None
    allow_truncated: bool = False


@dataclass(frozen=True, eq=False)
class Receipt:
    """Where the scores or features of one video came from.

    Attributes:
        kind: "scores" (`Predictor.classify`), "features" (`Predictor.features`) or "feature_rows"
            (`extract_features`).
        source: The video.
        content_digest: SHA-256 of its content.
        num_video_frames: Frames of the video.
        views: What each view saw. Of feature rows, the clip of a view is the row.
        batches: Numbers of views that ran together.
        model: Name of the model, for display.
        weights_digest: SHA-256 of its files.
        origin: What it was loaded from.
        bundle: Sampling, preprocessing and averaging, without labels.
        runtime: What computed it.
        options: Of feature rows, the keywords of `extract_features`.
        environment: Versions of libraries, and the machine.
        values: The scores or features, float32.
    """

    kind: Kind
    source: str
    content_digest: str
    num_video_frames: int
    views: tuple[SampledView, ...]
    batches: tuple[int, ...]
    model: str
    weights_digest: str
    origin: ModelOrigin
    bundle: BundleConfig
    runtime: RuntimeInfo
    options: Mapping[str, Any] | None
    environment: Mapping[str, str]
    values: Floats

    def __repr__(self) -> str:
        return (
            f"Receipt({self.kind} of {self.source!r}, {len(self.views)} views, {self.model}, "
            f"{self.runtime})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the receipt as JSON data. Values are exact."""
        return {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "kind": self.kind,
            "input": path_to_text(self.source),
            "content_sha256": self.content_digest,
            "num_video_frames": self.num_video_frames,
            "views": [view.to_dict() for view in self.views],
            "batches": list(self.batches),
            "model": path_to_text(self.model),
            "weights_sha256": self.weights_digest,
            "loaded_from": {
                key: path_to_text(value) if isinstance(value, str) else value
                for key, value in dataclasses.asdict(self.origin).items()
            },
            "bundle": json.loads(self.bundle.to_json()),
            "runtime": dataclasses.asdict(self.runtime),
            "options": None if self.options is None else dict(self.options),
            "environment": dict(self.environment),
            "shape": list(self.values.shape),
            "values": self.values.ravel().tolist(),
        }

    def save(self, path: str | Path) -> Path:
        """Writes the receipt as a JSON file.

        Args:
            path: The file.

        Raises:
            OSError: The file cannot be written.
        """
        return write_receipts([self], path)


def write_receipts(receipts: Iterable[Receipt], path: str | Path) -> Path:
    """Writes receipts as JSON Lines: one object per line, so one receipt is a JSON file.

    Args:
        receipts: The receipts.
        path: The file.

    Raises:
        OSError: The file cannot be written.
    """
    lines = [json.dumps(receipt.to_dict(), ensure_ascii=False) + "\n" for receipt in receipts]
    write_atomic(Path(path), "".join(lines).encode("utf-8"))
    return Path(path)


def is_receipts(path: Path) -> bool:
    """Whether a file was written by `write_receipts`.

    Args:
        path: The file.
    """
    start = f'{{"format": "{_FORMAT}"'.encode()
    with path.open("rb") as file:
        return file.read(len(start)) == start


def read_receipts(path: str | Path) -> tuple[Receipt, ...]:
    """Reads the receipts of a file.

    Args:
        path: A JSON or JSON Lines file that `write_receipts` wrote.

    Returns:
        At least one receipt.

    Raises:
        DataError: The file cannot be read, or is something else.
    """
    text = read_text_file(path, max_bytes=_MAX_FILE_BYTES)
    try:
        whole = parse_json(text)
        objects = [("", whole)]
    except ValueError:
        objects = []
        place = repr(str(path))
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                try:
                    objects.append((f"line {number} of ", parse_json(line)))
                except ValueError as error:
                    raise DataError(f"Line {number} of {place} is not JSON: {error}.") from error
    if not objects:
        raise DataError(f"{str(path)!r} is empty; {_ADVICE}")
    return tuple(_from_dict(data, f"{where}{str(path)!r}") for where, data in objects)


def _from_dict(data: Any, where: str) -> Receipt:
    name = where[0].upper() + where[1:]
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        raise DataError(f"{name} is not a receipt; {_ADVICE}")
    if data.get("format_version") != _FORMAT_VERSION:
        raise DataError(
            f"{name} has the format version {data.get('format_version')!r}, but this version reads "
            f"{_FORMAT_VERSION}; install the version in its field environment."
        )
    try:
        if data["kind"] not in KINDS:
            raise ValueError(f"kind is {data['kind']!r}, but must be one of {', '.join(KINDS)}")
        values = np.asarray(data["values"], np.float32).reshape([int(n) for n in data["shape"]])
        receipt = Receipt(
            kind=data["kind"],
            source=str(data["input"]),
            content_digest=str(data["content_sha256"]),
            num_video_frames=int(data["num_video_frames"]),
            views=tuple(sampled_view_from(view) for view in data["views"]),
            batches=tuple(int(size) for size in data["batches"]),
            model=str(data["model"]),
            weights_digest=str(data["weights_sha256"]),
            origin=ModelOrigin(**data["loaded_from"]),
            bundle=BundleConfig.from_json(json.dumps(data["bundle"])),
            runtime=RuntimeInfo(**data["runtime"]),
            options=None if data["options"] is None else dict(data["options"]),
            environment={str(key): str(value) for key, value in data["environment"].items()},
            values=values,
        )
        if sum(receipt.batches) != len(receipt.views) and receipt.kind != "feature_rows":
            raise ValueError("batches do not add up to the number of views")
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{name} is a damaged receipt: {reason}.") from error
    return receipt


def environment() -> dict[str, str]:
    """Returns the versions of the libraries that affect results, and the machine."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["machine"] = f"{platform.system()} {platform.machine()}"
    found["cpus"] = str(os.cpu_count())
    return found
