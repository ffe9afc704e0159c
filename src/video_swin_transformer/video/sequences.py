"""Which images of a folder are the frames of a video, from their names alone.

Names that differ only in their numbers form a pattern: img_00001.jpg, img_00002.jpg -> img_#.jpg.
One pattern is one sequence. Images without a common pattern are one sequence, too, if there is no
other.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

_NUMBER = re.compile(r"([0-9]+)")
_FLOW_WORDS = frozenset({"flow", "flowx", "flowy"})
_FLOW_AXES = (frozenset({"x", "y"}), frozenset({"u", "v"}))  # x_00001.jpg beside img_00001.jpg
_COLOR_WORDS = frozenset({"img", "image", "images", "im", "frame", "frames", "rgb", "color"})
_MAX_NAMED = 6  # patterns in a message
# Names with digits at random places, such as hashes, have many patterns of few images.
_MIN_PATTERNS_OF_RANDOM_NAMES = 9
_MAX_IMAGES_PER_RANDOM_PATTERN = 3.0


class AmbiguousImagesError(ValueError):
    """The images of a folder are several sequences; the message names them."""


@dataclass(frozen=True)
class ImageSequence:
    """The frames of one folder.

    Attributes:
        names: File names in the order of the frames; at most the annotated number.
        num_images: Number of images of the sequence, also those after the annotated number.
        passed_over: File names of images that are not frames, sorted.
        missing: Numbers missing between the first and the last one.
    """

    names: tuple[str, ...]
    num_images: int
    passed_over: tuple[str, ...] = ()
    missing: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Group:
    """The images of one pattern."""

    pattern: str
    names: tuple[str, ...]

    @property
    def words(self) -> frozenset[str]:
        return frozenset(re.split(r"[^a-z]+", self.pattern.rpartition(".")[0])) - {""}

    @property
    def is_numbered(self) -> bool:
        return "#" in self.pattern


def choose_sequence(names: Iterable[str], num_frames: int | None = None) -> ImageSequence:
    """Chooses the images that are the frames of a folder.

    - One pattern is the sequence.
    - Optical flow (flow_x_#, flow_y_#) beside other images is passed over.
    - A pattern wins over single images, such as a cover, and over patterns of another number of
      images than `num_frames`. img_#, image_#, frame_# and rgb_# win over other patterns.
    - Of images stored in two formats (1.jpg, 1.png), the format that all of them have is used.
    - Images without numbers are one sequence.

    Args:
        names: Names of image files.
        num_frames: The number of frames according to an annotation. Only the first `num_frames`
            images are used.

    Returns:
        The sequence, in natural order (img_2 before img_10).

    Raises:
        AmbiguousImagesError: There are several sequences.
    """
    names = list(names)
    groups = _groups(names)
    chosen = _best(_without_flow(groups), num_frames)
    kept = _one_format(chosen)
    ordered = sorted(kept, key=lambda name: (natural_key(PurePath(name).stem), name))
    passed_over = tuple(sorted(set(names) - set(kept), key=natural_key))
    missing = _missing_numbers(ordered)
    return ImageSequence(tuple(ordered[:num_frames]), len(ordered), passed_over, missing)


def is_numbered_sequence(names: Iterable[str]) -> bool:
    """Returns whether at least two images have a common pattern with a number.

    Args:
        names: Names of image files.
    """
    return any(group.is_numbered and len(group.names) > 1 for group in _groups(list(names)))


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that compares numbers in names by value: img_2 before img_10.

    Names that differ only in case or leading zeros are ordered by the name itself.
    """
    parts = _NUMBER.split(name.lower())
    key = [(0, int(part), "") if index % 2 else (1, 0, part) for index, part in enumerate(parts)]
    return [*(item for item in key if item != (1, 0, "")), (-1, 0, name)]


def _groups(names: list[str]) -> list[_Group]:
    by_template: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in names:
        by_template[tuple(_NUMBER.split(PurePath(name).stem.lower())[0::2])].append(name)
    groups: list[_Group] = []
    unnumbered: list[str] = []
    for template, members in by_template.items():
        if len(template) == 1:
            unnumbered += members
        else:
            groups += _split_by_identifier(template, members)
    if unnumbered:
        groups.append(_Group("*", tuple(unnumbered)))
    return groups


def _split_by_identifier(template: tuple[str, ...], names: list[str]) -> list[_Group]:
    """Splits cam1_#, cam2_# but not times such as 12-30-01.

    A number before the last one tells sequences apart if a word is in front of it and the last
    numbers recur.
    """
    numbers = {name: _numbers(name) for name in names}
    identifiers = [
        at
        for at in range(len(template) - 2)
        if re.search(r"(?:^|[^a-z0-9])[a-z]+$", template[at] if at == 0 else f"0{template[at]}")
        and len({found[at] for found in numbers.values()}) > 1
    ]
    last = {(found[-1], *(found[at] for at in identifiers)) for found in numbers.values()}
    if not identifiers or len({found[-1] for found in numbers.values()}) == len(last):
        return [_Group(_pattern(template, {}, names), tuple(names))]
    members: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name in names:
        members[tuple(numbers[name][at] for at in identifiers)].append(name)
    return [
        _Group(_pattern(template, dict(zip(identifiers, values, strict=True)), some), tuple(some))
        for values, some in members.items()
    ]


def _pattern(template: Sequence[str], fixed: dict[int, int], names: Sequence[str]) -> str:
    """img_#.jpg; numbers in `fixed` are written out."""
    text = template[0]
    for at, part in enumerate(template[1:]):
        text += f"{fixed.get(at, '#')}{part}"
    return f"{text}{'/'.join(sorted({_format(name) for name in names}))}"


def _numbers(name: str) -> list[int]:
    return [int(part) for part in _NUMBER.split(PurePath(name).stem)[1::2]]


def _format(name: str) -> str:
    suffix = PurePath(name).suffix.lower()
    return {".jpeg": ".jpg", ".jpe": ".jpg", ".tiff": ".tif"}.get(suffix, suffix)


def _without_flow(groups: list[_Group]) -> list[_Group]:
    """Removes optical flow, if there are other images."""
    flow = [group for group in groups if group.is_numbered and group.words & _FLOW_WORDS]
    if any(group.words & _COLOR_WORDS for group in groups):
        for axes in _FLOW_AXES:
            pair = [group for group in groups if group.is_numbered and group.words & axes]
            if {word for group in pair for word in group.words} == axes:
                flow += pair
    rest = [group for group in groups if group not in flow]
    if not rest and len(flow) > 1:
        raise AmbiguousImagesError(
            f"its images are optical flow ({_listed(flow)}), not the frames of a video"
        )
    return rest or groups


def _best(groups: list[_Group], num_frames: int | None) -> list[str]:
    """The images of the sequence, in all their formats."""
    everything = [name for group in groups for name in group.names]
    sequences = [group for group in groups if group.is_numbered and len(group.names) > 1]
    num_single = len(everything) - sum(len(group.names) for group in sequences)
    are_random = (
        len(groups) >= _MIN_PATTERNS_OF_RANDOM_NAMES
        and len(everything) / len(groups) < _MAX_IMAGES_PER_RANDOM_PATTERN
    )
    if not sequences or are_random:
        return everything
    color = [group for group in sequences if group.words & _COLOR_WORDS]
    enough = [group for group in color if len(_stems(group.names)) >= (num_frames or 0)]
    exact = [group for group in sequences if len(_stems(group.names)) == num_frames]
    for candidates in (enough, exact, color, sequences):
        if len(candidates) == 1 and (candidates is not sequences or len(groups) == 1):
            return list(candidates[0].names)
    if len(sequences) == 1 and num_single < len(sequences[0].names):
        return list(sequences[0].names)
    raise AmbiguousImagesError(
        f"it contains several image sequences: {_listed(groups)}; keep one per folder"
    )


def _listed(groups: Sequence[_Group]) -> str:
    named = [
        f"{group.pattern} ({len(group.names)} image{'s' * (len(group.names) > 1)})"
        for group in sorted(groups, key=lambda group: -len(group.names))
    ]
    return ", ".join(named[:_MAX_NAMED]) + (", ..." if len(named) > _MAX_NAMED else "")


def _stems(names: Iterable[str]) -> set[str]:
    return {PurePath(name).stem for name in names}


def _one_format(names: list[str]) -> list[str]:
    """Removes the copies of images that are stored in two formats."""
    if len(_stems(names)) == len(names):
        return names
    by_format: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_format[_format(name)].append(name)
    stems = _stems(names)
    complete = [found for found in by_format.values() if _stems(found) == stems]
    if len(complete) == 1 and len(complete[0]) == len(stems):
        return complete[0]
    counts = ", ".join(f"{len(found)} {suffix}" for suffix, found in sorted(by_format.items()))
    raise AmbiguousImagesError(
        f"several of its images have the same name and different formats ({counts}); keep one "
        "format per folder"
    )


def _missing_numbers(names: Sequence[str]) -> tuple[int, ...]:
    """The numbers that a regular sequence lacks; of every second frame, none is missing."""
    numbers = [_numbers(name) for name in names]
    if len(numbers) < 3 or len({len(found) for found in numbers}) > 1 or not numbers[0]:
        return ()
    varying = [at for at in range(len(numbers[0])) if len({found[at] for found in numbers}) > 1]
    if len(varying) != 1:
        return ()
    found = sorted({number[varying[0]] for number in numbers})
    step = math.gcd(*(after - before for before, after in itertools.pairwise(found)))
    num_missing = (found[-1] - found[0]) // step + 1 - len(found)
    if not 0 < num_missing < len(found):  # more: not an index of frames, but a time, for example
        return ()
    return tuple(sorted(set(range(found[0], found[-1], step)) - set(found)))
