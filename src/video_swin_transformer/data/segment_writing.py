"""Writes segments of videos in the formats of annotation tools.

A tool that counts frames gets those whose begin is nearest to the times, so that a border moves by
half a frame at most.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, UnknownNameError
from ..file_names import csv_cell, path_to_text
from ..files import require_path, write_atomic
from ..video import VideoReader
from ..video.segment import Seconds, frame_edges, is_variable_rate
from .segments import Segment, VideoSegments

SEGMENT_FILE_FORMATS = ("activitynet", "csv", "jsonl", "labelstudio", "fiftyone")
_TAG = "segments"  # name of the TimelineLabels tag in the labeling configuration
_DIGITS = 6  # microseconds: less than the distance at which two times count as different

_log = logging.getLogger(__name__)


def write_segment_annotations(
    videos: Iterable[VideoSegments],
    path: str | Path,
    *,
    format: str,
    media_prefix: str = "",
    classes: Sequence[str] = (),
) -> list[Path]:
    """Writes segments for an annotation tool.

    Args:
        videos: The videos. For "labelstudio" and "fiftyone" their files are opened, since these
            formats count frames.
        path: The file. Existing files are replaced.
        format: One of `SEGMENT_FILE_FORMATS`: "activitynet" (JSON with `database` and, if there are
            scores, `results`), "csv", "jsonl" (one segment per line), "labelstudio" (tasks with
            predictions) or "fiftyone" (labels.json of a FiftyOneTemporalDetectionDataset).
        media_prefix: For "labelstudio": what precedes the name of a file in the URL of a video,
            such as "/data/local-files/?d=videos/". Empty: the path as it is.
        classes: For "labelstudio" and "fiftyone": the class names that annotators choose from;
            others of the segments are added.

    Returns:
        The files that were written. For "labelstudio" these are the tasks and, with the suffix
        .xml, the labeling configuration of the project.

    Raises:
        UnknownNameError: Unknown format.
        DataError: A video cannot be read, or the file cannot be written.
    """
    require_path(path, "file of segments")
    path, videos = Path(path), list(videos)
    texts: list[tuple[Path, str]]
    if format == "activitynet":
        texts = [(path, activitynet_text(videos))]
    elif format == "csv":
        texts = [(path, _csv(videos))]
    elif format == "jsonl":
        texts = [(path, _json_lines(videos))]
    elif format == "labelstudio":
        config = path.with_suffix(".xml")
        tasks = _json(_label_studio(videos, media_prefix))
        texts = [(path, tasks), (config, _labeling_config(_classes(videos, classes)))]
    elif format == "fiftyone":
        texts = [(path, _json(_fiftyone(videos, _classes(videos, classes))))]
    else:
        raise UnknownNameError("format of segments", format, SEGMENT_FILE_FORMATS)
    for file, text in texts:
        try:
            write_atomic(file, text.encode("utf-8"))
        except OSError as error:
            raise DataError(f"Cannot write {str(file)!r}: {error.strerror or error}.") from error
    return [file for file, _ in texts]


# --- formats in seconds ---------------------------------------------------------------------------


def activitynet_text(videos: Sequence[VideoSegments]) -> str:
    """Returns ActivityNet JSON: `database` and, if there are scores, `results`.

    Args:
        videos: The videos.

    Raises:
        DataError: Two files have the same name, which is their id.
    """
    names = _unique_names(videos)
    database: dict[str, Any] = {}
    results: dict[str, Any] = {}
    for name, video in zip(names, videos, strict=True):
        rows = [
            {"segment": _pair(segment), "label": segment.label}
            | ({} if segment.score is None else {"score": round(segment.score, _DIGITS)})
            for segment in video.segments
        ]
        entry: dict[str, Any] = {"subset": video.subset or "validation", "annotations": rows}
        if video.duration is not None:
            entry["duration"] = round(video.duration, _DIGITS)
        if video.fps is not None:
            entry["fps"] = video.fps
        database[name], results[name] = entry, rows
    data: dict[str, Any] = {"version": "VERSION 1.3", "database": database}
    if any(segment.score is not None for video in videos for segment in video.segments):
        data |= {"results": results, "external_data": {}}
    return _json(data)


def _csv(videos: Sequence[VideoSegments]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("video", "start_seconds", "end_seconds", "label", "score"))
    for video in videos:
        for segment in video.segments:
            score = "" if segment.score is None else f"{segment.score:.{_DIGITS}f}"
            start, end = _pair(segment)
            name = csv_cell(path_to_text(video.video))
            writer.writerow((name, start, end, csv_cell(segment.label), score))
    return text.getvalue()


def _json_lines(videos: Sequence[VideoSegments]) -> str:
    lines = []
    for video in videos:
        for segment in video.segments:
            start, end = _pair(segment)
            row: dict[str, Any] = {
                "video": path_to_text(video.video),
                "start_seconds": start,
                "end_seconds": end,
                "label": segment.label,
            }
            if segment.score is not None:
                row["score"] = round(segment.score, _DIGITS)
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(lines)


# --- formats in frames ----------------------------------------------------------------------------


def _label_studio(videos: Sequence[VideoSegments], media_prefix: str) -> list[dict[str, Any]]:
    """Tasks for import. The player shows frame n + 1 from n / fps seconds on."""
    tasks = []
    for video in videos:
        times, fps = _times_of(video.video)
        if is_variable_rate(times):
            _log.warning(
                "%s has a variable frame rate, and Label Studio assumes a constant one: borders "
                "are at the right time, to %.0f ms, but not at the frame numbers of the file. For "
                "exact frames, convert the file to a constant rate first.",
                video.video,
                500 / fps,
            )
        results = []
        for number, segment in enumerate(video.segments):
            first = round(segment.start * fps)
            stop = max(first + 1, round(segment.end * fps))
            region: dict[str, Any] = {
                "id": f"segment{number}",
                "from_name": _TAG,
                "to_name": "video",
                "type": "timelinelabels",
                "value": {
                    "ranges": [{"start": first + 1, "end": stop}],
                    "timelinelabels": [segment.label],
                },
            }
            if segment.score is not None:
                region["score"] = round(segment.score, _DIGITS)
            results.append(region)
        name = path_to_text(video.video)
        url = media_prefix + os.path.basename(name) if media_prefix else name  # noqa: PTH119
        prediction = {"model_version": "video-swin-transformer", "result": results}
        tasks.append({"data": {"video": url, "fps": fps}, "predictions": [prediction]})
    return tasks


def _classes(videos: Sequence[VideoSegments], classes: Sequence[str]) -> list[str]:
    found = sorted({segment.label for video in videos for segment in video.segments})
    return list(dict.fromkeys((*classes, *found)))


def _labeling_config(classes: Sequence[str]) -> str:
    lines = [f'    <Label value="{escape(label)}"/>\n' for label in classes]
    return (
        "<View>\n"
        f'  <TimelineLabels name="{_TAG}" toName="video">\n{"".join(lines)}  </TimelineLabels>\n'
        '  <Video name="video" value="$video" frameRate="$fps" timelineHeight="120"/>\n'
        "</View>\n"
    )


def _fiftyone(videos: Sequence[VideoSegments], classes: list[str]) -> dict[str, Any]:
    """Frames of the file, so that a variable rate makes no difference."""
    index_of = {label: index for index, label in enumerate(classes)}
    labels: dict[str, Any] = {}
    for name, video in zip(_unique_names(videos), videos, strict=True):
        times, fps = _times_of(video.video)
        edges = frame_edges(times, fps)
        rows = []
        for segment in video.segments:
            first = min(_nearest(edges, segment.start), len(times) - 1)
            stop = max(first + 1, _nearest(edges, segment.end))
            row: dict[str, Any] = {"label": index_of[segment.label], "support": [first + 1, stop]}
            if segment.score is not None:
                row["confidence"] = round(segment.score, _DIGITS)
            rows.append(row)
        labels[name] = rows
    return {"classes": classes, "labels": labels}


def _times_of(path: str) -> tuple[Seconds, float]:
    """The times of the frames of a file, and their mean rate."""
    with VideoReader(path) as video:
        times, fps = video.times_seconds, video.fps
    if times is None:
        raise DataError(f"{path!r} has frames without times; give a video file.")
    if len(times) > 1:
        fps = float((len(times) - 1) / times[-1])
    return times, fps or 1.0


def _nearest(edges: Seconds, seconds: float) -> int:
    return int(np.abs(edges - seconds).argmin())


# --- values ---------------------------------------------------------------------------------------


def _pair(segment: Segment) -> list[float]:
    return [round(segment.start, _DIGITS), round(segment.end, _DIGITS)]


def _unique_names(videos: Sequence[VideoSegments]) -> list[str]:
    """The stems of the files, which are the ids of these formats."""
    names = [path_to_text(Path(video.video).stem) for video in videos]
    seen: dict[str, str] = {}
    for name, video in zip(names, videos, strict=True):
        if seen.setdefault(name, video.video) != video.video:
            raise DataError(
                f"{seen[name]!r} and {video.video!r} have the same name, which is their id in this "
                "format; rename one of them, or write csv or jsonl."
            )
    return names


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
