"""Reads segments from the files of annotation tools and of published datasets.

activitynet   {"database": {id: {"duration", "subset", "annotations": [{"segment", "label"}]}}},
              or predictions, {"results": {id: [{"segment", "label", "score"}]}}; in seconds
labelstudio   tasks with regions of type timelinelabels (JSON or JSON-MIN): frames, from 1,
              inclusive, at the frame rate of the project
fiftyone      labels.json of a FiftyOneTemporalDetectionDataset: "support" in frames of the file,
              from 1, inclusive, or "timestamps" in seconds
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ..errors import DataError, VideoSwinError
from ..video import VideoReader
from ..video.discovery import video_suffixes
from ..video.segment import frame_edges
from .columns import seconds_of
from .lists import Entry
from .path_resolver import PathResolver

SEGMENT_FORMATS = ("activitynet", "labelstudio", "fiftyone")
_RATE_KEYS = ("fps", "frame_rate", "framerate", "frameRate")
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # Label Studio puts this before names of uploads


@dataclass(frozen=True)
class ListedVideo:
    """A video of an annotation, with or without segments.

    Attributes:
        path: Path of its file.
        duration: Seconds, if the annotation has it.
        fps: Frames per second, if the annotation has it.
        subset: Its split.
    """

    path: str
    duration: float | None = None
    fps: float | None = None
    subset: str | None = None


@dataclass(frozen=True)
class SegmentList:
    """The content of an annotation file.

    Attributes:
        format: One of `SEGMENT_FORMATS`.
        entries: The segments, in the order of the file; their paths are those of `videos`.
        videos: All videos.
        notes: Messages for the user.
    """

    format: str
    entries: list[Entry]
    videos: list[ListedVideo]
    notes: list[str] = field(default_factory=list)


def recognize_segments(data: Any) -> str | None:
    """Returns the format of JSON data; None if it is none of `SEGMENT_FORMATS`.

    Args:
        data: Parsed JSON.
    """
    if isinstance(data, dict):
        if any(isinstance(data.get(key), dict) for key in ("database", "results")):
            return "activitynet"
        if isinstance(data.get("labels"), dict):
            return "fiftyone"
    if isinstance(data, list) and data and all(isinstance(task, dict) for task in data):
        is_task = isinstance(data[0].get("data"), dict)
        if is_task or any(_min_regions(task) for task in data):
            return "labelstudio"
    return None


def read_segments_of(
    source: Path, data: Any, format: str, resolver: PathResolver, fps: float | None = None
) -> SegmentList:
    """Reads an annotation of segments.

    Args:
        source: The file, for messages.
        data: Its content.
        format: One of `SEGMENT_FORMATS`.
        resolver: Finds the videos.
        fps: The frame rate of the Label Studio project, for tasks that do not have it.

    Raises:
        DataError: An object is not as the format requires, or a frame rate is missing.
    """
    if recognize_segments(data) != format:
        raise DataError(
            f"{str(source)!r} is not an annotation of the format {format}; omit format (--format) "
            "to detect it."
        )
    if format == "activitynet":
        return _read_activitynet(source, data, resolver)
    if format == "labelstudio":
        return _read_label_studio(source, data, resolver, fps)
    return _read_fiftyone(source, data, resolver)


# --- ActivityNet ----------------------------------------------------------------------------------


def _read_activitynet(source: Path, data: Mapping[str, Any], resolver: PathResolver) -> SegmentList:
    entries: list[Entry] = []
    videos: list[ListedVideo] = []
    is_database = isinstance(data.get("database"), dict)
    for name, video in data["database" if is_database else "results"].items():
        place = f"video {name!r}"
        path = _find(resolver, (name, f"v_{name}"))
        if is_database:
            if not isinstance(video, dict):
                raise DataError(f"{place.capitalize()} of {str(source)!r} is not an object.")
            subset = video.get("subset")
            listed = ListedVideo(
                path,
                _positive(video.get("duration")),
                _positive(video.get("fps")),
                str(subset) if subset else None,
            )
            annotations = video.get("annotations") or []
        else:
            listed, annotations = ListedVideo(path), video
        videos.append(listed)
        for one in _objects(source, place, annotations):
            start, end = _pair(source, place, one, "segment")
            label = _label(source, place, one.get("label"))
            entries.append(
                Entry(
                    path,
                    (label,),
                    place=place,
                    split=listed.subset,
                    start=start,
                    end=end,
                    score=_number(one.get("score")),
                )
            )
    return SegmentList("activitynet", entries, videos)


# --- Label Studio ---------------------------------------------------------------------------------


def _read_label_studio(
    source: Path, tasks: list[dict[str, Any]], resolver: PathResolver, fps: float | None
) -> SegmentList:
    entries: list[Entry] = []
    videos: list[ListedVideo] = []
    num_predicted = num_several = 0
    for number, task in enumerate(tasks):
        place = f"task {task.get('id', number)}"
        data = task["data"] if isinstance(task.get("data"), dict) else task
        path = _find(resolver, _label_studio_names(source, place, data))
        rate = next((found for key in _RATE_KEYS if (found := _positive(data.get(key)))), fps)
        listed = ListedVideo(path, _positive(data.get("duration")), rate)
        videos.append(listed)
        submitted = [
            one
            for one in _objects(source, place, task.get("annotations") or [])
            if not one.get("was_cancelled")
        ]
        num_several += len(submitted) > 1
        num_predicted += not submitted and bool(task.get("predictions"))
        chosen = next((one for one in submitted if one.get("ground_truth")), None)
        if chosen is None and submitted:
            chosen = max(submitted, key=lambda one: str(one.get("updated_at", "")))
        regions = (
            _min_regions(task) if chosen is None else _regions(source, place, chosen.get("result"))
        )
        for labels, begin, end, is_frames in regions:
            if is_frames and rate is None:
                raise DataError(
                    f"{place.capitalize()} of {str(source)!r} has segments in frames, but no frame "
                    "rate. Give that of the Label Studio project with annotation_fps "
                    "(--annotation-fps): frameRate of its Video tag, 24 if it has none."
                )
            divisor = rate if is_frames and rate is not None else 1.0
            start = (begin - 1) / divisor if is_frames else begin
            entries.append(Entry(path, labels, place=place, start=start, end=end / divisor))
    notes = []
    if num_several:
        notes.append(
            f"{num_several} tasks have several annotations; the ground truth or else the last "
            "updated one is used."
        )
    if num_predicted:
        notes.append(
            f"{num_predicted} tasks have predictions, but no annotation, and count as empty."
        )
    return SegmentList("labelstudio", entries, videos, notes)


_Region = tuple[tuple[str, ...], float, float, bool]  # labels, start, end, whether these are frames


def _regions(source: Path, place: str, result: Any) -> Iterator[_Region]:
    for region in _objects(source, place, result or []):
        value = region.get("value")
        if not isinstance(value, dict):
            continue
        kind = str(region.get("type", "")).lower()
        if kind == "timelinelabels" and "ranges" in value:
            yield from _timeline_ranges(source, place, value)
        elif kind == "labels" and {"start", "end"} <= set(value):  # an audio region, in seconds
            labels = _labels(value.get("labels"))
            try:
                yield labels, seconds_of(value["start"]), seconds_of(value["end"]), False
            except ValueError as error:
                raise DataError(f"{place.capitalize()} of {str(source)!r}: {error}.") from None


def _min_regions(task: Mapping[str, Any]) -> list[_Region]:
    """The regions of JSON-MIN, where a key of the task holds the values."""
    found: list[_Region] = []
    for value in task.values():
        for one in value if isinstance(value, list) else ():
            if isinstance(one, dict) and "ranges" in one and "timelinelabels" in one:
                found += _timeline_ranges(Path(), "", one)
    return found


def _timeline_ranges(source: Path, place: str, value: Mapping[str, Any]) -> Iterator[_Region]:
    labels = _labels(value.get("timelinelabels"))
    for one in _objects(source, place, value["ranges"]):
        start, end = _number(one.get("start")), _number(one.get("end"))
        if start is None or end is None or start < 1:
            raise DataError(
                f"{place.capitalize()} of {str(source)!r} has a range from {one.get('start')!r} to "
                f"{one.get('end')!r}; they must be frame numbers, counted from 1."
            )
        yield labels, start, end, True


def _label_studio_names(source: Path, place: str, data: Mapping[str, Any]) -> list[str]:
    """The names that the file of a task may have, the most specific one first."""
    texts = [value for value in data.values() if isinstance(value, str)]
    video = data.get("video") if isinstance(data.get("video"), str) else None
    suffixes = video_suffixes()
    if video is None:
        video = next(
            (t for t in texts if PurePosixPath(_local(t)).suffix.lower() in suffixes), None
        )
    if video is None:
        raise DataError(
            f"{place.capitalize()} of {str(source)!r} names no video; its data has the keys "
            f"{', '.join(map(str, data))}. Videos are expected under video."
        )
    local = _local(video)
    name = PurePosixPath(local).name
    return list(dict.fromkeys([local, name, _UPLOAD.sub("", name, count=1)]))


def _local(url: str) -> str:
    """The path in a URL such as /data/local-files/?d=folder/a.mp4; other text as it is."""
    parts = urlsplit(url)
    named = parse_qs(parts.query).get("d")
    if named:
        return named[0]
    return unquote(parts.path).lstrip("/") if parts.scheme or url.startswith("/data/") else url


# --- FiftyOne -------------------------------------------------------------------------------------


def _read_fiftyone(source: Path, data: Mapping[str, Any], resolver: PathResolver) -> SegmentList:
    entries: list[Entry] = []
    videos: list[ListedVideo] = []
    left_out: list[str] = []
    classes = data.get("classes") or []
    for name, detections in data["labels"].items():
        place = f"video {name!r}"
        path = _find(resolver, (f"data/{name}", name))
        videos.append(ListedVideo(path))
        edges = None
        for one in _objects(source, place, detections or []):
            label = one.get("label")
            if isinstance(label, int) and not isinstance(label, bool):
                if not 0 <= label < len(classes):
                    raise DataError(
                        f"{place.capitalize()} of {str(source)!r} has class {label}, but there are "
                        f"{len(classes)} classes."
                    )
                label = classes[label]
            if one.get("timestamps") is not None:
                start, end = _pair(source, place, one, "timestamps")
            else:
                first, last = _support(source, place, one)
                try:
                    edges = _edges_of(path) if edges is None else edges
                except VideoSwinError as error:
                    left_out.append(str(error))
                    break
                if last > len(edges) - 1:
                    raise DataError(
                        f"{place.capitalize()} of {str(source)!r} has a segment of the frames "
                        f"{first} to {last}, but {path!r} has {len(edges) - 1} frames."
                    )
                start, end = float(edges[first - 1]), float(edges[last])
            entries.append(
                Entry(
                    path,
                    (_label(source, place, label),),
                    place=place,
                    start=start,
                    end=end,
                    score=_number(one.get("confidence")),
                )
            )
    notes = []
    if left_out:
        notes.append(
            f"{len(left_out)} videos of {str(source)!r} were left out, because their segments are "
            f"in frames and the files cannot be read: {left_out[0]}"
        )
    return SegmentList("fiftyone", entries, videos, notes)


def _support(source: Path, place: str, one: Mapping[str, Any]) -> tuple[int, int]:
    support = one.get("support")
    numbers = support if isinstance(support, list) and len(support) == 2 else []
    are_integers = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
    if not numbers or not are_integers or not 1 <= numbers[0] <= numbers[1]:
        raise DataError(
            f"{place.capitalize()} of {str(source)!r} has the support {support!r}; it must be "
            "[first, last] in frames, counted from 1."
        )
    return numbers[0], numbers[1]


def _edges_of(path: str) -> Any:
    with VideoReader(path) as video:
        if video.times_seconds is None:
            raise DataError(f"{path!r} has no times.")
        return frame_edges(video.times_seconds, video.fps)


# --- values ---------------------------------------------------------------------------------------


def _find(resolver: PathResolver, names: Iterable[str]) -> str:
    """The first name of a video that exists; else the first one."""
    first: Path | None = None
    for name in names:
        # The suffix keeps a dot in an id from being read as one.
        has_suffix = PurePosixPath(name).suffix.lower() in video_suffixes()
        path, file_exists = resolver.find_below(name if has_suffix else f"{name}.mp4")
        if file_exists:
            return str(path)
        first = path if first is None else first
    assert first is not None
    return str(first)


def _objects(source: Path, place: str, values: Any) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise DataError(
            f"{place.capitalize()} of {str(source)!r} must have a list of objects, not "
            f"{str(values)[:80]!r}."
        )
    return values


def _pair(source: Path, place: str, one: Mapping[str, Any], key: str) -> tuple[float, float]:
    value = one.get(key)
    try:
        start, end = value if isinstance(value, list) else (None, None)
        return seconds_of(start), seconds_of(end)
    except ValueError:
        raise DataError(
            f"{place.capitalize()} of {str(source)!r} has the {key} {value!r}; it must be [start, "
            "end] in seconds."
        ) from None


def _label(source: Path, place: str, label: Any) -> str:
    if not isinstance(label, str) or not label:
        raise DataError(
            f"{place.capitalize()} of {str(source)!r} has a segment with the label {label!r}; it "
            "must be a name."
        )
    return label


def _labels(value: Any) -> tuple[str, ...]:
    return tuple(str(label) for label in value) if isinstance(value, list) else ()


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _positive(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if 0 < found < float("inf") else None
