"""Checks every clip of a dataset, overlap between its splits, and class balance."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..config import ClipSampling
from ..errors import counted
from ..sampling import at_fps
from .annotations import Annotations, ClipRecord, TimeRange
from .path_resolver import PathResolver
from .probe import ClipFacts, ProbeTask, digest_clip, probe_clip
from .quarantine import Quarantine
from .report import KINDS, CheckReport, Problem, SplitReport
from .worker_pool import TaskFailure, run_in_processes

MAX_CLASS_IMBALANCE = 10.0  # a larger ratio of the largest to the smallest class is reported
_MIN_OVERLAP_SECONDS = 0.001  # annotations are rounded
_NOWHERE = TimeRange(0.0, 0.0)
_MAX_NUMBERS = 5  # listed of the missing images of a folder
_MAX_GUESSES = 200  # path suggestions per split; each may list large folders


@dataclass(frozen=True)
class CheckPlan:
    """Settings of a dataset check.

    Attributes:
        sampling: Clips shorter than num_frames * stride frames are reported as `short`.
        deep: Decode every frame instead of only the sampled ones.
        num_workers: Number of worker processes.
        timeout_seconds: Time limit per clip.
    """

    sampling: ClipSampling = field(default_factory=ClipSampling)
    deep: bool = False
    num_workers: int = 1
    timeout_seconds: float = 120.0


def check_dataset(
    splits: Mapping[str, Annotations],
    plan: CheckPlan,
    quarantines: Mapping[str, Quarantine] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    probe: Callable[[ProbeTask], ClipFacts] = probe_clip,
) -> CheckReport:
    """Checks a dataset: every clip, its splits and its classes.

    Args:
        splits: Annotations by split name; the first one is the training split.
        plan: Settings of the check.
        quarantines: Quarantine lists by split name; clips on them are not checked again.
        progress: Called as `progress(done, total)` after each clip.
        probe: Checks one clip, in a worker process. Must be importable by name.

    Returns:
        Statistics per split and all problems found.
    """
    usable: dict[str, Annotations] = {}
    left_out: dict[str, dict[str, str]] = {}
    for name, split in splits.items():
        usable[name], left_out[name] = split, {}
        if quarantines is not None and name in quarantines:
            usable[name], left_out[name] = quarantines[name].filter(split)
    facts = _probed(usable, plan, progress, probe)
    readable = {name: split.where(_is_readable(facts)) for name, split in usable.items()}
    seconds = {name: _class_seconds(split, facts) for name, split in readable.items()}
    problems = [
        *(problem for name in splits for problem in _refusals(name, splits[name])),
        *(problem for name in splits for problem in _of_clips(name, usable[name], facts, plan)),
        *_same_content(usable, facts, plan),
        *(problem for name in splits for problem in _overlaps(name, usable[name])),
        *(
            problem
            for name in splits
            for problem in _of_classes(name, readable[name], seconds[name])
        ),
    ]
    order = {kind: position for position, kind in enumerate(KINDS)}
    problems.sort(key=lambda problem: order[problem.kind])  # stable: keeps split and list order
    reports = [
        _split_report(name, splits[name], readable[name], seconds[name], left_out[name], facts)
        for name in splits
    ]
    return CheckReport(tuple(reports), tuple(problems))


def _probed(
    splits: Mapping[str, Annotations],
    plan: CheckPlan,
    progress: Callable[[int, int], None],
    probe: Callable[[ProbeTask], ClipFacts],
) -> dict[str, ClipFacts | TaskFailure]:
    """Probes each distinct path once."""
    items = {item.path: item for split in splits.values() for item in split.items}
    paths = list(items)
    tasks = [
        ProbeTask(path, plan.sampling, plan.deep, item.num_frames) for path, item in items.items()
    ]
    facts: dict[str, ClipFacts | TaskFailure] = {}
    for number, result in run_in_processes(probe, tasks, plan.num_workers, plan.timeout_seconds):
        facts[paths[number]] = result
        progress(len(facts), len(paths))
    return facts


def _is_readable(facts: Mapping[str, ClipFacts | TaskFailure]) -> Callable[[ClipRecord], bool]:
    def is_readable(item: ClipRecord) -> bool:
        fact = facts[item.path]
        if not isinstance(fact, ClipFacts) or fact.error is not None:
            return False
        return all(problem.kind == "long_segment" for problem in _of_segment("", item, fact))

    return is_readable


def _refusals(name: str, annotations: Annotations) -> Iterator[Problem]:
    for refusal in annotations.refused:
        where = f" ({refusal.place})" if refusal.place else ""
        yield Problem(name, "outside_map", refusal.path, f"{refusal.reason}{where}")


def _of_clips(
    name: str,
    annotations: Annotations,
    facts: Mapping[str, ClipFacts | TaskFailure],
    plan: CheckPlan,
) -> Iterator[Problem]:
    resolver = PathResolver(Path(annotations.source).parent)
    num_guesses = 0
    seen: set[str] = set()
    files: set[str] = set()  # of which segments were reported already
    for item in annotations.items:
        if item.name in seen:
            yield Problem(name, "listed_twice", item.name, "the list contains it more than once")
            continue
        seen.add(item.name)
        if not item.labels and not annotations.is_multilabel:
            yield Problem(name, "unlabeled", item.name, "no label in the list")
        fact = facts[item.path]
        if item.segment is not None:
            if isinstance(fact, ClipFacts) and fact.error is None:
                yield from _of_segment(name, item, fact)
                yield from _shortness(name, item, fact, plan.sampling)
            if item.path in files:
                continue
            files.add(item.path)
        if isinstance(fact, TaskFailure):
            kind = "crashed" if fact.has_crashed else "timeout"
            yield Problem(name, kind, item.path, fact.reason)
        elif fact.is_absent:
            num_guesses += 1
            guess = resolver.guess(Path(item.path)) if num_guesses <= _MAX_GUESSES else None
            hint = f"; did you mean {str(guess)!r}?" if guess is not None else ""
            yield Problem(name, "absent", item.path, f"no such file or folder{hint}")
        elif item.num_frames is not None and (fact.num_images or item.num_frames) < item.num_frames:
            yield Problem(name, "fewer_frames", item.path, str(fact.error))
        elif fact.error is not None:
            yield Problem(name, "unreadable", item.path, fact.error)
        else:
            yield from _oddities(name, item, fact)
            if item.segment is None:
                yield from _shortness(name, item, fact, plan.sampling)


def _of_segment(name: str, item: ClipRecord, fact: ClipFacts) -> Iterator[Problem]:
    """Yields the problems of a segment of a readable file."""
    segment, duration = item.segment, fact.duration_seconds
    if segment is None:
        return
    if segment.start >= segment.end:
        detail = f"it is from {segment.start:g} to {segment.end:g} seconds"
        yield Problem(name, "empty_segment", item.name, detail)
    elif duration is None:
        yield Problem(name, "outside_segment", item.name, "its frames have no times")
    elif segment.start >= duration:
        detail = f"it begins at {segment.start:g} seconds, but the video ends at {duration:.3f}"
        yield Problem(name, "outside_segment", item.name, detail)
    elif segment.end > duration + 1.5 * _frame_seconds(fact):
        detail = f"it ends at {segment.end:g} seconds, but the video ends at {duration:.3f}"
        yield Problem(name, "long_segment", item.name, detail)


def _frame_seconds(fact: ClipFacts) -> float:
    return 1 / fact.fps if fact.fps else 0.0


def _overlaps(name: str, annotations: Annotations) -> Iterator[Problem]:
    """Yields segments that begin before an earlier one has ended, where each has one label."""
    by_path: dict[str, list[ClipRecord]] = defaultdict(list)
    for item in annotations.items:
        if item.segment is not None and not annotations.is_multilabel:
            by_path[item.path].append(item)
    for items in by_path.values():
        items.sort(key=lambda item: item.segment or _NOWHERE)
        last = items[0]
        for item in items[1:]:
            begin, end = (item.segment or _NOWHERE).start, (last.segment or _NOWHERE).end
            if begin < end - _MIN_OVERLAP_SECONDS and item.name != last.name:
                yield Problem(name, "overlap", item.name, f"with {last.name}")
            if (item.segment or _NOWHERE).end > end:
                last = item


def _seconds(item: ClipRecord, fact: ClipFacts) -> float:
    """The length of a clip; 0 if it is unknown."""
    duration = fact.duration_seconds or 0.0
    if item.segment is None:
        return duration
    return max(0.0, min(item.segment.end, duration) - item.segment.start)


def _num_frames(item: ClipRecord, fact: ClipFacts) -> int:
    """The frames of a clip; of a segment at a variable rate, an estimate."""
    if item.segment is None or not fact.fps:
        return fact.num_frames
    return max(1, round(_seconds(item, fact) * fact.fps))


def _class_seconds(
    annotations: Annotations, facts: Mapping[str, ClipFacts | TaskFailure]
) -> dict[str, float]:
    """Seconds by class name, of a list of segments; empty for other lists."""
    if all(item.segment is None for item in annotations.items):
        return {}
    seconds = dict.fromkeys(map(annotations.class_name, range(annotations.num_classes)), 0.0)
    for item in annotations.items:
        fact = facts[item.path]
        if not isinstance(fact, ClipFacts):
            continue
        for label in item.labels:
            seconds[annotations.class_name(label)] += _seconds(item, fact)
    return seconds


def _oddities(name: str, item: ClipRecord, fact: ClipFacts) -> Iterator[Problem]:
    """Yields warnings about a readable file."""
    num = fact.num_frames
    if item.num_frames is not None and item.num_frames != (fact.num_images or num):
        actual = f"{num} frames" if fact.num_images is None else f"{fact.num_images} images"
        detail = f"{item.num_frames} frames listed, {actual} found"
        yield Problem(name, "listed_count", item.path, detail)
    if fact.missing_numbers:
        listed = ", ".join(map(str, fact.missing_numbers[:_MAX_NUMBERS]))
        more = ", ..." if len(fact.missing_numbers) > _MAX_NUMBERS else ""
        detail = f"{len(fact.missing_numbers)} numbers are missing among its images: {listed}{more}"
        yield Problem(name, "gaps", item.path, detail)
    if fact.num_passed_over:
        detail = f"{fact.num_passed_over} images in the folder are not frames of its sequence"
        yield Problem(name, "other_images", item.path, detail)
    if fact.stated_num_frames is not None and fact.stated_num_frames != num:
        detail = f"the container header says {fact.stated_num_frames} frames, {num} were decoded"
        yield Problem(name, "stated_count", item.path, detail)
    if fact.rotation_degrees:
        detail = f"rotated by {fact.rotation_degrees} degrees; it is decoded upright"
        yield Problem(name, "rotated", item.path, detail)
    if fact.has_variable_rate:
        detail = f"{fact.fps:.2f} fps on average" if fact.fps else "uneven timestamps"
        yield Problem(name, "variable_rate", item.path, detail)


def _shortness(
    name: str, item: ClipRecord, fact: ClipFacts, sampling: ClipSampling
) -> Iterator[Problem]:
    num = _num_frames(item, fact)
    at_rate = at_fps(sampling, fact.fps)
    clip_length = (
        at_rate.num_frames if sampling.rule == "uniform" else at_rate.num_frames * at_rate.stride
    )
    if num < clip_length:
        detail = f"{counted(num, 'frame')}, but a clip needs {clip_length}; frames are repeated"
        yield Problem(name, "short", item.name, detail)


def _same_content(
    splits: Mapping[str, Annotations], facts: Mapping[str, ClipFacts | TaskFailure], plan: CheckPlan
) -> Iterator[Problem]:
    """Yields byte-identical clips and paths that are in several splits.

    Only files of equal size are hashed.
    """
    homes: dict[str, list[tuple[str, ClipRecord]]] = defaultdict(list)  # path -> (split, item)
    for name, split in splits.items():
        for item in {item.path: item for item in split.items if item.segment is None}.values():
            homes[os.path.realpath(item.path)].append((name, item))
    by_size: dict[int, list[str]] = defaultdict(list)
    for path, found in homes.items():
        fact = facts[found[0][1].path]
        if isinstance(fact, ClipFacts) and fact.error is None:
            by_size[fact.num_bytes].append(path)
    suspects = [path for paths in by_size.values() if len(paths) > 1 for path in paths]
    sha256_of: dict[str, str] = {}
    results = run_in_processes(digest_clip, suspects, plan.num_workers, plan.timeout_seconds)
    for number, digest in results:
        if isinstance(digest, str):
            sha256_of[suspects[number]] = digest
    groups: dict[str, list[tuple[str, ClipRecord]]] = defaultdict(list)
    for path, found in homes.items():
        groups[sha256_of.get(path, path)] += found
    for group in groups.values():
        yield from _twins(group)
    yield from _shared_segments(splits)


def _twins(group: list[tuple[str, ClipRecord]]) -> Iterator[Problem]:
    """Yields a problem for every clip but the first in a group of identical clips."""
    first_split, first = group[0]
    first_in = {first_split: first}
    for split, item in group[1:]:
        if split in first_in:
            original = first_in[split]
            other = ", with a different label" if item.labels != original.labels else ""
            yield Problem(split, "duplicate", item.path, f"identical to {original.path}{other}")
        else:
            first_in[split] = item
            yield Problem(split, "shared", item.path, f"identical to {first.path} in {first_split}")


def _shared_segments(splits: Mapping[str, Annotations]) -> Iterator[Problem]:
    """Yields segments of a later split that overlap with one of an earlier split."""
    earlier: dict[str, list[tuple[str, TimeRange]]] = defaultdict(list)
    for name, split in splits.items():
        own = [(os.path.realpath(item.path), item) for item in split.items if item.segment]
        for path, item in own:
            segment = item.segment or _NOWHERE
            for other_split, other in earlier[path]:
                overlap = min(segment.end, other.end) - max(segment.start, other.start)
                if overlap > _MIN_OVERLAP_SECONDS:
                    detail = f"overlaps with {other.start:g} to {other.end:g} s in {other_split}"
                    yield Problem(name, "shared", item.name, detail)
                    break
        for path, item in own:
            earlier[path].append((name, item.segment or _NOWHERE))


def _of_classes(
    name: str, annotations: Annotations, seconds: Mapping[str, float]
) -> Iterator[Problem]:
    counts = annotations.class_counts()
    for label, count in enumerate(counts.tolist()):
        if count == 1:
            detail = "cannot be split into training and validation"
            yield Problem(name, "singleton_class", annotations.class_name(label), detail)
        elif count == 0:
            yield Problem(name, "empty_class", annotations.class_name(label), "no clips")
    if seconds:  # of segments, which differ in length
        sizes = {label: size for label, size in seconds.items() if size > 0}
        if sizes and max(sizes.values()) / min(sizes.values()) > MAX_CLASS_IMBALANCE:
            most_name, least_name = (
                max(sizes, key=sizes.__getitem__),
                min(sizes, key=sizes.__getitem__),
            )
            detail = (
                f"{most_name} has {sizes[most_name]:.1f} seconds, {least_name} has "
                f"{sizes[least_name]:.1f}"
            )
            yield Problem(name, "imbalance", annotations.source, detail)
        return
    present = counts[counts > 0]
    if len(present) and present.max() / present.min() > MAX_CLASS_IMBALANCE:
        most, least = int(counts.argmax()), int((counts + (counts == 0) * counts.max()).argmin())
        detail = (
            f"{annotations.class_name(most)} has {counted(int(counts[most]), 'clip')}, "
            f"{annotations.class_name(least)} has {counts[least]}"
        )
        yield Problem(name, "imbalance", annotations.source, detail)


def _split_report(
    name: str,
    listed: Annotations,
    readable: Annotations,
    class_seconds: dict[str, float],
    left_out: dict[str, str],
    facts: Mapping[str, ClipFacts | TaskFailure],
) -> SplitReport:
    seen = ((item, facts[item.path]) for item in readable.items)
    counts = readable.class_counts().tolist()
    return SplitReport(
        name=name,
        source=listed.source,
        format=listed.format,
        num_listed=len(listed.items) + len(listed.refused),
        num_usable=len(readable.items),
        num_frames=sum(
            _num_frames(item, fact) for item, fact in seen if isinstance(fact, ClipFacts)
        ),
        class_counts={readable.class_name(label): count for label, count in enumerate(counts)},
        class_seconds=class_seconds,
        quarantined=left_out,
        notes=listed.notes,
    )
