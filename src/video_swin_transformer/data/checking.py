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
from .annotations import Annotations, ClipRecord
from .path_resolver import PathResolver
from .probe import ClipFacts, ProbeTask, digest_clip, probe_clip
from .quarantine import Quarantine
from .report import KINDS, CheckReport, Problem, SplitReport
from .worker_pool import TaskFailure, run_in_processes

MAX_CLASS_IMBALANCE = 10.0  # a larger ratio of the largest to the smallest class is reported
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
    problems = [
        *(problem for name in splits for problem in _refusals(name, splits[name])),
        *(problem for name in splits for problem in _of_clips(name, usable[name], facts, plan)),
        *_same_content(usable, facts, plan),
        *(problem for name in splits for problem in _of_classes(name, readable[name])),
    ]
    order = {kind: position for position, kind in enumerate(KINDS)}
    problems.sort(key=lambda problem: order[problem.kind])  # stable: keeps split and list order
    reports = [
        _split_report(name, splits[name], readable[name], left_out[name], facts) for name in splits
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
        return isinstance(fact, ClipFacts) and fact.error is None

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
    for item in annotations.items:
        if item.path in seen:
            yield Problem(name, "listed_twice", item.path, "the list contains it more than once")
            continue
        seen.add(item.path)
        if not item.labels and not annotations.is_multilabel:
            yield Problem(name, "unlabeled", item.path, "no label in the list")
        fact = facts[item.path]
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
            yield from _oddities(name, item, fact, plan.sampling)


def _oddities(
    name: str, item: ClipRecord, fact: ClipFacts, sampling: ClipSampling
) -> Iterator[Problem]:
    """Yields warnings about a readable clip."""
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
    at_rate = at_fps(sampling, fact.fps)
    clip_length = (
        at_rate.num_frames if sampling.rule == "uniform" else at_rate.num_frames * at_rate.stride
    )
    if num < clip_length:
        detail = f"{counted(num, 'frame')}, but a clip needs {clip_length}; frames are repeated"
        yield Problem(name, "short", item.path, detail)


def _same_content(
    splits: Mapping[str, Annotations], facts: Mapping[str, ClipFacts | TaskFailure], plan: CheckPlan
) -> Iterator[Problem]:
    """Yields byte-identical clips and paths that are in several splits.

    Only files of equal size are hashed.
    """
    homes: dict[str, list[tuple[str, ClipRecord]]] = defaultdict(list)  # path -> (split, item)
    for name, split in splits.items():
        for item in {item.path: item for item in split.items}.values():
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


def _of_classes(name: str, annotations: Annotations) -> Iterator[Problem]:
    counts = annotations.class_counts()
    for label, count in enumerate(counts.tolist()):
        if count == 1:
            detail = "cannot be split into training and validation"
            yield Problem(name, "singleton_class", annotations.class_name(label), detail)
        elif count == 0:
            yield Problem(name, "empty_class", annotations.class_name(label), "no clips")
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
    left_out: dict[str, str],
    facts: Mapping[str, ClipFacts | TaskFailure],
) -> SplitReport:
    seen = (facts[item.path] for item in readable.items)
    counts = readable.class_counts().tolist()
    return SplitReport(
        name=name,
        source=listed.source,
        format=listed.format,
        num_listed=len(listed.items) + len(listed.refused),
        num_usable=len(readable.items),
        num_frames=sum(fact.num_frames for fact in seen if isinstance(fact, ClipFacts)),
        class_counts={readable.class_name(label): count for label, count in enumerate(counts)},
        quarantined=left_out,
        notes=listed.notes,
    )
