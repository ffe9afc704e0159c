"""Reads annotations: detects the format, locates the clips and numbers the classes."""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, DataError, UnknownNameError, VideoSwinError
from ..file_names import path_to_text
from ..files import require_path
from ..labels import LABEL_SETS, read_labels, shipped_labels
from ..strict_json import parse_json
from ..video import VideoReader
from ..video.discovery import describe_passed_over, find_videos, video_suffixes
from ..video.segment import frame_edges
from .annotations import Annotations, ClipRecord, RejectedEntry, TimeRange
from .columns import LABELS, first_key
from .lists import Entry, class_index, is_float, list_splits, read_list, read_text
from .path_resolver import PathResolver, plain_name
from .segment_formats import (
    SEGMENT_FORMATS,
    ListedVideo,
    read_segments_of,
    recognize_segments,
)
from .segments import Segment, VideoSegments
from .tables import (
    JSON_LINES_SUFFIXES,
    is_json,
    is_kinetics,
    kinetics_entries,
    kinetics_splits,
    object_entries,
    read_json,
    read_kinetics_rows,
    recognize_json,
    sthv2_entries,
)

FORMATS = (
    "folder", "list", "frames", "multilabel", "kinetics", "sthv2", "mmaction", "json",
    *SEGMENT_FORMATS,
)  # fmt: skip
SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")
BACKGROUND = "background"  # the class of the parts of videos outside of all segments
MIN_BACKGROUND_SECONDS = 1.0
_NAMED_FORMATS = (
    "kinetics",
    "sthv2",
    *SEGMENT_FORMATS,
)  # labels are names even if they look like numbers
_STHV2_MAPS = ("something-something-v2-labels.json", "labels.json")


class _Written(NamedTuple):
    """A parsed annotation, before paths and labels are resolved."""

    format: str
    entries: list[Entry]
    is_multilabel: bool = False
    notes: tuple[str, ...] = ()
    videos: tuple[ListedVideo, ...] = ()  # of annotations of segments


def read_annotations(
    source: str | Path,
    *,
    root: str | Path | None = None,
    format: str | None = None,
    labels: Sequence[str] | None = None,
    num_classes: int | None = None,
    delimiter: str | None = None,
    split: str | None = None,
    background: str = "ignore",
    annotation_fps: float | None = None,
) -> Annotations:
    """Reads an annotation list or a folder of classes.

    Missing files are kept and fail when they are read. Videos are not opened, except for segments
    in frames of the file (FiftyOne) and for the background of videos whose duration is not listed.
    Entries whose label is not in the label map are collected in `Annotations.refused`.

    Args:
        source: The list, or a folder with one subfolder per class.
        root: Folder that paths in the list are relative to. None: the folder of the list.
        format: One of `FORMATS`. None detects it.
        labels: Class names by class index. None numbers class names alphabetically and keeps
            numeric labels.
        num_classes: Number of classes. Larger class indices are rejected; the number of class names
            must be the same.
        delimiter: Separator between path and label in a text list. None: whitespace.
        split: The split to read, from a list with a column of splits or a folder of splits.
        background: For lists of segments. "class": the parts of at least `MIN_BACKGROUND_SECONDS`
            outside of all segments are clips of the class "background", which becomes the last
            one unless the labels contain it. "ignore": they are not used.
        annotation_fps: Frame rate of a Label Studio project, if its tasks do not contain it.

    Returns:
        The clips and their labels.

    Raises:
        ConfigError: A path is an empty string, or `background` is unknown.
        DataError: The source cannot be read or contains no clips, a line is invalid or has several
            meanings, or the number of class names differs from `num_classes`.
        UnknownNameError: Unknown format or split.
    """
    require_path(source, "dataset")
    require_path(root, "root folder")
    source = Path(source)
    if format is not None and format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    if background not in ("ignore", "class"):
        raise ConfigError(f"background is {background!r}, but must be 'ignore' or 'class'.")
    if not source.exists():
        raise DataError(
            f"File not found: {str(source)!r}; give an annotation list or a folder of classes."
        )
    reject_video(source)
    if source.is_dir() or format == "folder":
        written, root = _read_folder(source, split)
    else:
        root = source.parent if root is None else Path(root)
        if not root.is_dir():
            raise DataError(
                f"The root folder {str(root)!r} for the paths in {str(source)!r} does not exist."
            )
        written = _read_file(source, format, delimiter, split, root, annotation_fps)
    if not written.entries:
        raise DataError(f"{str(source)!r} contains no clips; give a list with at least one.")
    if written.format == "sthv2" and labels is None:
        labels = _sthv2_labels(source)
    return _resolved(source, Path(root), written, labels, num_classes, background)


def read_segment_annotations(
    source: str | Path,
    *,
    root: str | Path | None = None,
    format: str | None = None,
    delimiter: str | None = None,
    split: str | None = None,
    annotation_fps: float | None = None,
) -> tuple[VideoSegments, ...]:
    """Reads the segments of videos: annotations or predictions.

    Args:
        source: An annotation of segments, or a list with columns of start and end.
        root: Folder of the videos. None: the folder of the file.
        format: One of `FORMATS`. None detects it.
        delimiter: Separator of a text list. None: as in its heading.
        split: The split to read, from a file with several.
        annotation_fps: Frame rate of a Label Studio project, if its tasks do not contain it.

    Returns:
        The videos in the order of the file, each with its segments in order of time. Paths are
        those of files that exist, else as written.

    Raises:
        DataError: The file cannot be read, or has clips that are not segments.
        UnknownNameError: Unknown format or split.
    """
    require_path(source, "list of segments")
    require_path(root, "root folder")
    source = Path(source)
    if format is not None and format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    root = source.parent if root is None else Path(root)
    written = _read_file(source, format, delimiter, split, root, annotation_fps)
    find = _as_found if written.format in SEGMENT_FORMATS else PathResolver(root).find
    videos = {video.path: video for video in written.videos}
    found: dict[str, list[Segment]] = {path: [] for path in videos}
    for entry in written.entries:
        if entry.start is None or entry.end is None:
            raise DataError(
                f"{entry.place.capitalize()} of {str(source)!r} has no start and end, so it is not "
                "a list of segments; give their times in seconds, such as in the columns "
                "start_seconds and end_seconds."
            )
        path = str(find(entry.path)[0])
        for label in entry.labels:
            segment = Segment(label, entry.start, entry.end, entry.score)
            found.setdefault(path, []).append(segment)
    result = []
    for path, segments in found.items():
        video = videos.get(path, ListedVideo(path))
        ordered = tuple(sorted(segments, key=lambda one: (one.start, one.end)))
        result.append(VideoSegments(path, ordered, video.duration, video.fps, video.subset))
    return tuple(result)


def reject_video(source: Path) -> None:
    """Raises DataError if a path is a video, which is not a dataset.

    Args:
        source: The path of a dataset.
    """
    if source.suffix.lower() in video_suffixes() and source.is_file():
        raise DataError(
            f"{str(source)!r} is a video, not a dataset; give a folder of classes or a list of "
            "clips. To see its labels, use: videoswin classify."
        )


def find_splits(source: str | Path, format: str | None = None) -> list[str]:
    """Finds the splits in a list with a column of splits, or in a folder.

    Args:
        source: The list or folder.
        format: One of `FORMATS`. None detects it.

    Returns:
        Split names; empty if the source is a single split.

    Raises:
        DataError: The source is a video, or a list that cannot be read.
    """
    source = Path(source)
    reject_video(source)
    if source.is_dir():
        names = sorted(p.name for p in _subfolders(source))
        are_splits = bool(names) and all(name.lower() in SPLIT_FOLDERS for name in names)
        order = {name: position for position, name in enumerate(SPLIT_FOLDERS)}
        return sorted(names, key=lambda n: order[n.lower()]) if are_splits else []
    if _is_json(source, format):
        data = _segments_data(source, format)
        if data is not None:
            database = data.get("database") if isinstance(data, dict) else None
            videos = database.values() if isinstance(database, dict) else ()
            subsets = (one.get("subset") for one in videos if isinstance(one, dict))
            return list(dict.fromkeys(str(subset) for subset in subsets if subset))
        rows = read_json(source)
        known = recognize_json(rows) in ("mmaction", "json")
        return _splits_of(object_entries(source, rows)[0]) if known else []
    if format == "kinetics" or (format is None and is_kinetics(read_text(source))):
        return kinetics_splits(read_kinetics_rows(source))
    return list_splits(source, format)


def label_map(name_or_file: str) -> tuple[str, ...]:
    """Reads class names from a label file or a label set that is shipped with the package.

    Args:
        name_or_file: A file (see `labels.read_labels`) or a name such as "kinetics400".

    Returns:
        Class names by class index.

    Raises:
        DataError: The file cannot be read, or the label set is not shipped.
    """
    if name_or_file in LABEL_SETS and not Path(name_or_file).exists():
        if names := shipped_labels(name_or_file):
            return names
        raise DataError(
            f"The label set {name_or_file!r} is not shipped with the package; download "
            f"{LABEL_SETS[name_or_file].url} and give the path of the file."
        )
    return read_labels(name_or_file, None)


# --- parsing ------------------------------------------------------------------------------------


def _read_folder(source: Path, split: str | None) -> tuple[_Written, Path]:
    splits = find_splits(source)
    if split is not None:
        _require_split(split, splits or [p.name for p in _subfolders(source)], source)
        source = source / split
    elif splits:
        raise DataError(
            f"The folder {str(source)!r} contains the splits {', '.join(splits)}; select one "
            f"with --split, or give {str(source / splits[0])!r}."
        )
    entries = []
    passed_over: Counter[str] = Counter()
    for folder in _subfolders(source):
        name = path_to_text(folder.name)
        below = sorted(find_videos(folder, passed_over))
        entries += [Entry(path.relative_to(source).as_posix(), (name,)) for path in below]
    note = describe_passed_over(passed_over)
    if not entries:
        raise DataError(
            f"The folder {str(source)!r} is not a folder of classes; it must contain one subfolder "
            f"per class with its clips.{f' {note}' if note else ''}"
        )
    return _Written("folder", entries, notes=() if note is None else (note,)), source


def _subfolders(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"Cannot list the folder {str(folder)!r}: {error}.") from error
    return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _require_split(split: str, known: list[str], source: Path) -> None:
    if split not in known:
        raise UnknownNameError(f"split of {str(source)!r}", split, known)


def _read_file(
    source: Path,
    format: str | None,
    delimiter: str | None,
    split: str | None,
    root: Path,
    annotation_fps: float | None,
) -> _Written:
    if _is_json(source, format):
        data = _segments_data(source, format)
        if data is not None:
            return _read_segment_file(source, data, format, split, root, annotation_fps)
        written = _read_json_file(source, format)
        return written._replace(entries=_select_split(source, written.entries, split))
    if format == "kinetics" or (format is None and is_kinetics(read_text(source))):
        rows = read_kinetics_rows(source)
        _require_selection(source, kinetics_splits(rows), split)
        return _Written("kinetics", kinetics_entries(rows, split))
    found = read_list(source, format, delimiter)
    entries = _select_split(source, found.entries, split)
    return _Written(found.kind, entries, found.kind == "multilabel", found.notes)


def _is_json(source: Path, format: str | None) -> bool:
    if format is not None:
        return format in ("sthv2", "mmaction", "json", *SEGMENT_FORMATS)
    suffix = source.suffix.lower()
    return suffix in (".json", *JSON_LINES_SUFFIXES) or is_json(read_text(source))


def _segments_data(source: Path, format: str | None) -> Any:
    """The content of a JSON annotation of segments; None if it is another kind of list."""
    if format is not None and format not in SEGMENT_FORMATS:
        return None
    try:
        data = parse_json(read_text(source))
    except ValueError as error:
        if format is None:
            return None  # JSON Lines
        raise DataError(f"The list {str(source)!r} is not JSON: {error}.") from error
    return data if format is not None or recognize_segments(data) is not None else None


def _read_segment_file(
    source: Path,
    data: Any,
    format: str | None,
    split: str | None,
    root: Path,
    annotation_fps: float | None,
) -> _Written:
    kind = format or recognize_segments(data)
    assert kind is not None
    found = read_segments_of(source, data, kind, PathResolver(root), annotation_fps)
    subsets = list(dict.fromkeys(video.subset for video in found.videos if video.subset))
    _require_selection(source, subsets, split)
    videos = tuple(video for video in found.videos if split in (None, video.subset))
    entries = [entry for entry in found.entries if split in (None, entry.split)]
    return _Written(kind, entries, False, tuple(found.notes), videos)


def _merge_labels(entries: Iterable[Entry]) -> list[Entry]:
    """One entry for the labels of the same segment."""
    merged: dict[tuple[str, float | None, float | None], Entry] = {}
    for entry in entries:
        key = (entry.path, entry.start, entry.end)
        if key in merged:
            labels = tuple(dict.fromkeys((*merged[key].labels, *entry.labels)))
            merged[key] = dataclasses.replace(merged[key], labels=labels)
        else:
            merged[key] = entry
    return list(merged.values())


def _splits_of(entries: Iterable[Entry]) -> list[str]:
    return list(dict.fromkeys(entry.split for entry in entries if entry.split))


def _select_split(source: Path, entries: list[Entry], split: str | None) -> list[Entry]:
    _require_selection(source, _splits_of(entries), split)
    return entries if split is None else [entry for entry in entries if entry.split == split]


def _require_selection(source: Path, splits: list[str], split: str | None) -> None:
    if split is not None and not splits:
        raise DataError(
            f"The list {str(source)!r} is a single split, so {split!r} cannot be selected; omit "
            "--split, or give a list with a column of splits or a folder of splits."
        )
    if split is not None:
        _require_split(split, splits, source)
    elif len(splits) > 1:
        raise DataError(
            f"The list {str(source)!r} contains the splits {', '.join(splits)}; select one "
            "with --split."
        )


def _read_json_file(source: Path, format: str | None) -> _Written:
    rows = read_json(source)
    kind = format or recognize_json(rows)
    if kind == "sthv2":
        return _Written("sthv2", sthv2_entries(source, rows))
    if kind in ("mmaction", "json") or not rows:
        entries, is_multilabel = object_entries(source, rows)
        if kind == "json" and not any(first_key(row, LABELS) for row in rows):
            raise DataError(
                f"The objects in {str(source)!r} have no label; their keys are "
                f"{', '.join(rows[0])}. Add label: a number, a name or a list of them."
            )
        return _Written(kind or "json", entries, is_multilabel)
    raise DataError(
        f"The objects in {str(source)!r} have the keys {', '.join(sorted(rows[0]))}; they must "
        "have id and template (Something-Something), or a path (path, video, filename or "
        "frame_dir) and a label."
    )


def _sthv2_labels(source: Path) -> tuple[str, ...]:
    for name in _STHV2_MAPS:
        if (source.parent / name).is_file():
            return read_labels(source.parent / name, None)
    raise DataError(
        f"The list {str(source)!r} has class names, and the class indices are in a separate file, "
        f"{_STHV2_MAPS[0]}; give it with --labels, or place it next to the list."
    )


# --- paths and class indices ------------------------------------------------------------------


def _resolved(
    source: Path,
    root: Path,
    written: _Written,
    labels: Sequence[str] | None,
    num_classes: int | None,
    background: str,
) -> Annotations:
    if written.format in SEGMENT_FORMATS:
        written = written._replace(entries=_merge_labels(written.entries))
    resolver = PathResolver(root)
    is_published = written.format in ("kinetics", "sthv2")  # files are found by name
    find = _as_found if written.format in SEGMENT_FORMATS else resolver.find
    if is_published:
        find = resolver.find_below
    if background == "class":
        written = _with_background(source, written, find)
        if labels is not None and BACKGROUND not in labels:
            labels = (*labels, BACKGROUND)
    if written.format not in ("folder", *_NAMED_FORMATS):
        _require_consistent(source, root, written.entries, labels)
    is_segments = written.format in SEGMENT_FORMATS
    are_names = written.format in ("folder", *_NAMED_FORMATS) and labels is None
    numbers = _Numbers(written.entries, labels, num_classes, are_names=are_names)
    _require_num_classes(source, numbers.classes, num_classes)
    items, refused = [], []
    renamed: Counter[tuple[str, str]] = Counter()
    for entry in written.entries:
        path, file_exists = find(entry.path)
        suffix = Path(entry.path).suffix
        if file_exists and path.suffix != suffix and not is_published:
            renamed[suffix, path.suffix] += 1
        try:
            labeled = tuple(sorted({numbers.of(label) for label in entry.labels}))
        except LookupError as error:
            refused.append(RejectedEntry(str(path), str(error.args[0]), entry.place))
            continue
        segment = None
        if entry.start is not None and entry.end is not None:
            segment = TimeRange(entry.start, entry.end)
        items.append(ClipRecord(str(path), labeled, entry.num_frames, segment))
    notes = [
        f"{count} paths listed with {was or 'no suffix'} were found with {now}."
        for (was, now), count in renamed.items()
    ]
    return Annotations(
        str(source),
        written.format,
        tuple(items),
        numbers.classes,
        written.is_multilabel or (is_segments and any(len(item.labels) > 1 for item in items)),
        tuple(refused),
        (*written.notes, *notes),
    )


def _as_found(written: str) -> tuple[Path, bool]:
    """Segments of annotation tools are read with the paths of their files."""
    return Path(written), True


def _with_background(
    source: Path, written: _Written, find: Callable[[str], tuple[Path, bool]]
) -> _Written:
    """Adds the parts of videos outside of all segments, as entries of the class background."""
    spans: dict[str, list[TimeRange]] = {}
    durations: dict[str, float | None] = {video.path: video.duration for video in written.videos}
    for entry in written.entries:
        if entry.start is None or entry.end is None:
            raise DataError(
                f"{entry.place.capitalize()} of {str(source)!r} is a whole video, but the "
                "background is what is outside of segments; leave out background, or give start "
                "and end."
            )
        spans.setdefault(entry.path, []).append(TimeRange(entry.start, entry.end))
        durations.setdefault(entry.path, None)
    entries = list(written.entries)
    unknown: list[str] = []
    for path, listed in durations.items():
        duration = _duration_of(str(find(path)[0])) if listed is None else listed
        if duration is None:
            unknown.append(path)
            continue
        begin = 0.0
        for span in [*sorted(spans.get(path, ())), TimeRange(duration, duration)]:
            if min(span.start, duration) - begin >= MIN_BACKGROUND_SECONDS:
                end = min(span.start, duration)
                entries.append(Entry(path, (BACKGROUND,), start=begin, end=end, place="background"))
            begin = max(begin, span.end)
    notes = [*written.notes]
    if unknown:
        notes.append(
            f"The background of {len(unknown)} videos is not used, because they cannot be read: "
            f"{unknown[0]}."
        )
    return written._replace(entries=entries, notes=tuple(notes))


def _duration_of(path: str) -> float | None:
    try:
        with VideoReader(path) as video:
            times = video.times_seconds
            return None if times is None else float(frame_edges(times, video.fps)[-1])
    except VideoSwinError:
        return None


def _require_consistent(
    source: Path, root: Path, entries: Sequence[Entry], labels: Sequence[str] | None
) -> None:
    """Rejects an unknown heading, and numbers with names among them.

    One name among numbers would turn all labels into names.

    Raises:
        DataError: With the place of the first label of the rarer kind.
    """
    first, others = entries[0], entries[1:]
    is_missing = not PathResolver(root).is_there(root / first.path)
    if others and is_missing and not _is_video(first) and all(map(_is_video, others)):
        raise DataError(
            f"{first.place.capitalize()} of {str(source)!r} has the path {first.path!r}, which is "
            "not a video, unlike all others. If it is a heading, call its columns path and label, "
            "or remove it."
        )
    known = frozenset(labels or ())
    numbers: list[tuple[Entry, str]] = []
    names: list[tuple[Entry, str]] = []
    for entry in entries:
        for label in entry.labels:
            if class_index(label) is not None:
                numbers.append((entry, label))
            elif label not in known:
                names.append((entry, label))
    if known and all(label in known for _, label in numbers):
        return
    fraction = next((found for found in names if is_float(found[1])), None)
    if not names or (not numbers and fraction is None):
        return
    rare, kind = (names, "numbers") if len(names) <= len(numbers) else (numbers, "names")
    entry, label = fraction or rare[0]
    reason = "class indices are integers" if fraction else f"most labels of the list are {kind}"
    raise DataError(
        f"{entry.place.capitalize()} of {str(source)!r} has the label {label!r}, but {reason}. "
        "Correct it; -1 means unknown. If the labels are names, give the label map with "
        "labels (--labels)."
    )


def _is_video(entry: Entry) -> bool:
    return Path(entry.path).suffix.lower() in video_suffixes()


def _require_num_classes(source: Path, classes: Sequence[str], num_classes: int | None) -> None:
    """Raises DataError if the class names are not as many as there are classes."""
    if classes and num_classes is not None and len(classes) != num_classes:
        raise DataError(
            f"{str(source)!r} has {len(classes)} class names, but num_classes is {num_classes}; "
            "their numbers are not known. Give the label map with labels (--labels), with one name "
            "per class."
        )


class _Numbers:
    """Maps labels as written to class indices."""

    def __init__(
        self,
        entries: Iterable[Entry],
        labels: Sequence[str] | None,
        num_classes: int | None,
        *,
        are_names: bool,
    ) -> None:
        written = {label for entry in entries for label in entry.labels}
        look_like_numbers = all(class_index(label) is not None for label in written)
        are_known = labels is not None and written <= set(labels)
        self._are_numbers = look_like_numbers and not are_known and not are_names
        self.classes: tuple[str, ...] = tuple(labels or ())
        if not self.classes and not self._are_numbers:
            # Numeric folder names are sorted as numbers: 2 before 10.
            names = sorted(written, key=_index if look_like_numbers else None)
            # The background is the last class.
            self.classes = tuple(sorted(names, key=lambda name: name == BACKGROUND))
        self._limit = len(self.classes) or num_classes
        self._by_name = {plain_name(n): i for i, n in reversed(list(enumerate(self.classes)))}
        self._by_name |= {name: i for i, name in enumerate(self.classes)}
        found = {_index(label) for label in written} if self._are_numbers else set()
        self._starts_at_one = 0 not in found and max(found, default=0) == self._limit

    def of(self, label: str) -> int:
        """Returns the index of a class. Raises LookupError with the allowed labels."""
        if self._are_numbers:
            number = _index(label)
            if number < 0 or (self._limit is not None and number >= self._limit):
                allowed = "0 or more" if self._limit is None else f"0 to {self._limit - 1}"
                hint = "; the labels seem to start at 1" if self._starts_at_one else ""
                raise LookupError(f"label is {number}, but must be {allowed}{hint}")
            return number
        found = self._by_name.get(label, self._by_name.get(plain_name(label)))
        if found is not None and found < (self._limit or 0):
            return found
        near = difflib.get_close_matches(label, self.classes, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise LookupError(f"label {label!r} is not in the label map{hint}")


def _index(label: str) -> int:
    found = class_index(label)
    assert found is not None
    return found
