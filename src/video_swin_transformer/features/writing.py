"""`write_features`: videos -> one feature file each, resumable at any instant."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, UnknownNameError, VideoSwinError
from ..files import check_folder, os_error_reason, output_paths, read_text_file
from ..predictor import Predictor
from ..receipt import Receipt
from ..strict_json import parse_json
from .extraction import FeatureExtractor, Progress, Segments
from .layouts import check_layout, check_layout_config, write_layout_config, write_layout_files
from .options import FeatureOptions
from .storage import FORMATS, MAX_SIDECAR_BYTES, is_foreign, load_features, save_features
from .table import FeatureTable


@dataclass(frozen=True, eq=False)
class WrittenFeatures:
    """What became of one video.

    Attributes:
        source: The video.
        path: Its feature file; None with `error`.
        shape: Shape of the features; () with `error`.
        is_kept: Whether the file was complete before, and was kept.
        lag_frames: In a stream, how far rows trail the input, (fewest, most) frames.
        error: Why there are no features.
        receipt: Where the features came from; see `Predictor.with_receipts`. None for files that
            were kept.
    """

    source: str
    path: Path | None
    shape: tuple[int, ...]
    is_kept: bool = False
    lag_frames: tuple[int, int] | None = None
    error: VideoSwinError | None = None
    receipt: Receipt | None = None


def write_features(
    predictor: Predictor,
    videos: Sequence[str | Path],
    out: str | Path,
    options: FeatureOptions | None = None,
    *,
    segments: Mapping[str, Segments] | None = None,
    format: str = "npz",
    layout: str | None = None,
    resume: bool = False,
    progress: Progress = lambda done, total: None,
) -> Iterator[WrittenFeatures]:
    """Extracts features of videos, one file each. The process may be killed at any instant.

    A file appears when it is complete. With `resume`, a file is kept if it was made by the same
    request: the same content of the video, weights, options, runtime and version of the package.

    Args:
        predictor: The model.
        videos: Video files and folders of frames.
        out: Folder for the files, which are named after the videos.
        options: Which features; None for the defaults.
        segments: (start, end) in seconds for each video, by its path, file name or stem.
        format: "npz", "npy", "safetensors" or "parquet".
        layout: "actionformer", "opentad", "tencrop" or "crop-files" instead of a format.
        resume: Keep complete files of the same request.
        progress: Called with the number of finished rows and of all rows of a video.

    Yields:
        One result per video: first those that are kept, then the others in order. Their `error` is
        set if the video cannot be processed.

    Raises:
        ConfigError: The options contradict each other, the model or the layout.
        DataError: Two videos would be written to the same file, or a video has no segments.
        UnknownNameError: The format or layout does not exist.
    """
    options = options or FeatureOptions()
    if format not in FORMATS:
        raise UnknownNameError("feature format", format, FORMATS)
    if layout is not None:
        check_layout(layout, options)
    if isinstance(videos, str | Path):
        videos = [videos]  # one video, not its characters
    sources = [str(video) for video in videos]
    folder = Path(out)
    targets = output_paths(sources, folder, f".{format if layout is None else 'json'}")
    if layout is not None and any(target.parent != folder for target in targets.values()):
        raise DataError(
            f"Several videos have the same name, by which the layout {layout!r} identifies them; "
            "rename them, or write them to different folders."
        )
    if layout is not None:
        check_layout_config(layout, folder)
    check_folder(folder)
    chosen = None if segments is None else {s: _segments_of(s, segments) for s in sources}
    extractor = FeatureExtractor(predictor, options, chosen)
    return _write(extractor, sources, targets, layout, resume, progress)


def _write(
    extractor: FeatureExtractor,
    sources: list[str],
    targets: dict[str, Path],
    layout: str | None,
    resume: bool,
    progress: Progress,
) -> Iterator[WrittenFeatures]:
    todo = []
    for source in sources:
        kept = None
        if resume:
            kept = _finished(extractor, source, targets[source], layout)
        if kept is None:
            todo.append(source)
        else:
            yield _written(source, targets[source], kept, is_kept=True)
    for extracted in extractor.extract_many(todo, progress):
        source = str(extracted.source)
        try:
            if extracted.table is None:
                assert extracted.error is not None
                raise extracted.error
            if is_foreign(targets[source], resume=resume):
                raise DataError(
                    f"{str(targets[source])!r}, or the file of the same name that belongs to it, "
                    "exists and was not written by this command, so it was not replaced; choose "
                    "another folder."
                )
            if layout is None:
                save_features(extracted.table, targets[source])
            else:
                write_layout_files(
                    layout, extracted.table, targets[source].parent, targets[source].stem
                )
        except VideoSwinError as error:
            yield WrittenFeatures(source, None, (), error=error)
            continue
        except OSError as error:
            reason = f"Cannot write {str(targets[source])!r} ({os_error_reason(error)})."
            yield WrittenFeatures(source, None, (), error=DataError(reason))
            continue
        yield _written(source, targets[source], extracted.table)
    if layout is not None:
        finished = [path for path in targets.values() if path.is_file()]
        documents = [(path.stem, _read_sidecar(path)) for path in finished]
        if documents:
            write_layout_config(layout, finished[0].parent, documents)


def _read_sidecar(path: Path) -> Any:
    return parse_json(read_text_file(path, max_bytes=MAX_SIDECAR_BYTES))


def _written(
    source: str, path: Path, table: FeatureTable, is_kept: bool = False
) -> WrittenFeatures:
    return WrittenFeatures(
        source, path, table.values.shape, is_kept, table.lag_frames, receipt=table.receipt
    )


def _finished(
    extractor: FeatureExtractor, source: str, target: Path, layout: str | None
) -> FeatureTable | None:
    """Returns the complete features of the same request, if there are any."""
    if not target.is_file():
        return None
    path = target
    try:
        if layout is not None:
            document = _read_sidecar(target)
            if document.get("layout", {}).get("name") != layout:
                return None
            path = target.parent / next(iter(document["files"]))
        table = load_features(path)
        return table if table.request == extractor.request(source) else None
    except (OSError, ValueError, KeyError, AttributeError, StopIteration):
        return None  # not complete, or not ours (DataError is a ValueError)


def _segments_of(source: str, segments: Mapping[str, Segments]) -> Segments:
    path = Path(source)
    for name in (source, path.name, path.stem):
        if name in segments:
            return segments[name]
    raise DataError(
        f"There are no segments for {source!r}; name it in the segments by its path, file name or "
        "stem."
    )


def read_segments(path: str | Path) -> dict[str, list[tuple[float, float]]]:
    """Reads a CSV file with the columns video, start_seconds and end_seconds.

    Args:
        path: The file; other columns are ignored.

    Returns:
        The segments of each video, in the order of the file.

    Raises:
        DataError: The file cannot be read, lacks a column or has a cell that is not a number.
    """
    import csv

    found: dict[str, list[tuple[float, float]]] = {}
    text = read_text_file(path, what="list of segments")
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), start=2):
            start, end = float(row["start_seconds"]), float(row["end_seconds"])
            if not np.isfinite([start, end]).all():
                raise ValueError(f"line {number} has a time that is not finite")
            found.setdefault(row["video"], []).append((start, end))
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{str(path)!r} must have the columns video, start_seconds and end_seconds."
        ) from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{str(path)!r} is not a list of segments: {error}.") from error
    if not found:
        raise DataError(f"{str(path)!r} has no segments.")
    return found
