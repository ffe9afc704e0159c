"""Reads annotations: detects the format, locates the clips and numbers the classes."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, UnknownNameError
from ..files import path_to_text
from ..labels import LABEL_SETS, read_labels, shipped_labels
from ..video.discovery import describe_passed_over, find_videos
from .annotations import Annotations, ClipRecord, RejectedEntry
from .lists import Entry, list_lines, read_list, read_text, recognize_list
from .path_resolver import PathResolver, plain_name
from .tables import (
    is_kinetics,
    kinetics_entries,
    kinetics_splits,
    mmaction_entries,
    read_json,
    read_kinetics_rows,
    recognize_json,
    sthv2_entries,
)

FORMATS = ("folder", "list", "frames", "multilabel", "kinetics", "sthv2", "mmaction")
SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")
_STHV2_MAPS = ("something-something-v2-labels.json", "labels.json")


class _Written(NamedTuple):
    """A parsed annotation, before paths and labels are resolved."""

    format: str
    entries: list[Entry]
    is_multilabel: bool = False
    notes: tuple[str, ...] = ()


def read_annotations(
    source: str | Path,
    *,
    root: str | Path | None = None,
    format: str | None = None,
    labels: Sequence[str] | None = None,
    num_classes: int | None = None,
    delimiter: str | None = None,
    split: str | None = None,
) -> Annotations:
    """Reads an annotation list or a folder of classes.

    Videos are not opened; missing files are kept and fail when they are read. Entries whose label
    is not in the label map are collected in `Annotations.refused`.

    Args:
        source: The list, or a folder with one subfolder per class.
        root: Folder that paths in the list are relative to. None: the folder of the list.
        format: One of `FORMATS`. None detects it.
        labels: Class names by class index. None numbers class names alphabetically and keeps
            numeric labels.
        num_classes: Number of classes, for numeric labels without names.
        delimiter: Separator between path and label in a text list. None: whitespace.
        split: The split to read, from a list with a `split` column or a folder of splits.

    Returns:
        The clips and their labels.

    Raises:
        DataError: The source cannot be read or contains no clips.
        UnknownNameError: Unknown format or split.
    """
    source = Path(source)
    if format is not None and format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    if not source.exists():
        raise DataError(
            f"File not found: {str(source)!r}; give an annotation list or a folder of classes."
        )
    if source.is_dir() or format == "folder":
        written, root = _read_folder(source, split)
    else:
        written = _read_file(source, format, delimiter, split)
        root = source.parent if root is None else Path(root)
        if not root.is_dir():
            raise DataError(
                f"The root folder {str(root)!r} for the paths in {str(source)!r} does not exist."
            )
    if not written.entries:
        raise DataError(f"{str(source)!r} contains no clips; give a list with at least one.")
    if written.format == "sthv2" and labels is None:
        labels = _sthv2_labels(source)
    return _resolved(source, Path(root), written, labels, num_classes)


def find_splits(source: str | Path, format: str | None = None) -> list[str]:
    """Finds the splits in a Kinetics list or a folder.

    Args:
        source: The list or folder.
        format: One of `FORMATS`. None detects it.

    Returns:
        Split names; empty if the source is a single split.
    """
    source = Path(source)
    if source.is_dir():
        names = sorted(p.name for p in _subfolders(source))
        are_splits = bool(names) and all(name.lower() in SPLIT_FOLDERS for name in names)
        order = {name: position for position, name in enumerate(SPLIT_FOLDERS)}
        return sorted(names, key=lambda n: order[n.lower()]) if are_splits else []
    if format == "kinetics" or (format is None and source.suffix.lower() == ".csv"):
        if format is None and not is_kinetics(read_text(source)):
            return []
        return kinetics_splits(read_kinetics_rows(source))
    return []


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
        below = sorted(find_videos(folder, passed_over))
        name = path_to_text(folder.name)
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
    source: Path, format: str | None, delimiter: str | None, split: str | None
) -> _Written:
    if format in ("sthv2", "mmaction") or (format is None and source.suffix.lower() == ".json"):
        _refuse_split(source, split)
        return _read_json_file(source, format)
    text = read_text(source)
    if format == "kinetics" or (format is None and is_kinetics(text)):
        rows = read_kinetics_rows(source)
        splits = kinetics_splits(rows)
        if split is not None:
            _require_split(split, splits, source)
        elif len(splits) > 1:
            raise DataError(
                f"The list {str(source)!r} contains the splits {', '.join(splits)}; select one "
                "with --split."
            )
        return _Written("kinetics", kinetics_entries(rows, split))
    _refuse_split(source, split)
    lines = list_lines(text)
    kind = format or recognize_list(lines)
    return _Written(kind, read_list(source, lines, kind, delimiter), kind == "multilabel")


def _refuse_split(source: Path, split: str | None) -> None:
    if split is not None:
        raise DataError(
            f"The list {str(source)!r} is a single split, so {split!r} cannot be selected; omit "
            "--split, or give a Kinetics list or a folder of splits."
        )


def _read_json_file(source: Path, format: str | None) -> _Written:
    rows = read_json(source)
    kind = format or recognize_json(rows)
    if kind == "sthv2":
        return _Written("sthv2", sthv2_entries(source, rows))
    if kind == "mmaction" or not rows:
        entries, is_multilabel = mmaction_entries(source, rows)
        return _Written("mmaction", entries, is_multilabel)
    raise DataError(
        f"The objects in {str(source)!r} have the keys {', '.join(sorted(rows[0]))}; they must "
        "have id and template (Something-Something), or filename or frame_dir and label."
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
) -> Annotations:
    resolver = PathResolver(root)
    is_published = written.format in ("kinetics", "sthv2")  # files are found by name
    find = resolver.find_below if is_published else resolver.find
    are_names = written.format == "folder" and labels is None
    numbers = _Numbers(written.entries, labels, num_classes, are_names=are_names)
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
            refused.append(RejectedEntry(str(path), str(error.args[0])))
            continue
        items.append(ClipRecord(str(path), labeled, entry.num_frames))
    notes = [
        f"{count} paths listed with {was or 'no suffix'} were found with {now}."
        for (was, now), count in renamed.items()
    ]
    return Annotations(
        str(source),
        written.format,
        tuple(items),
        numbers.classes,
        written.is_multilabel,
        tuple(refused),
        (*written.notes, *notes),
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
        look_like_numbers = all(label.lstrip("-").isdecimal() for label in written)
        are_known = labels is not None and written <= set(labels)
        self._are_numbers = look_like_numbers and not are_known and not are_names
        self.classes: tuple[str, ...] = tuple(labels or ())
        if not self.classes and not self._are_numbers:
            # Numeric folder names are sorted as numbers: 2 before 10.
            self.classes = tuple(sorted(written, key=int if look_like_numbers else None))
        self._limit = len(self.classes) or num_classes
        self._by_name = {plain_name(n): i for i, n in reversed(list(enumerate(self.classes)))}
        self._by_name |= {name: i for i, name in enumerate(self.classes)}
        highest = max((int(label) for label in written), default=0) if self._are_numbers else 0
        self._starts_at_one = self._are_numbers and "0" not in written and highest == self._limit

    def of(self, label: str) -> int:
        """Returns the index of a class. Raises LookupError with the allowed labels."""
        if self._are_numbers:
            number = int(label)
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
