"""Looks at every clip of a dataset and at how its splits fit together."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..config import ClipSampling
from ..sampling import at_fps
from .annotations import Annotations, ClipRecord
from .path_resolver import PathResolver
from .probe import ClipFacts, ProbeTask, count_images, digest_clip, probe_clip
from .quarantine import Quarantine
from .report import KINDS, CheckReport, Problem, SplitReport
from .worker_pool import TaskFailure, run_in_processes

MAX_CLASS_IMBALANCE = 10.0  # largest class over smallest above which it is reported
_MAX_GUESSES = 200  # near paths are looked for this often: each may list large folders


@dataclass(frozen=True)
class CheckPlan:
    """How to look.

    sampling: clips shorter than num_frames * stride are `short`. deep: decode every frame.
    timeout_seconds: a clip that takes longer is given up.
    """

    sampling: ClipSampling = field(default_factory=ClipSampling)
    deep: bool = False
    num_workers: int = 1
    timeout_seconds: float = 120.0


def check_dataset(
    splits: Mapping[str, Annotations],
    plan: CheckPlan,
    quarantines: Mapping[str, Quarantine] | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
    probe: Callable[[ProbeTask], ClipFacts] = probe_clip,
) -> CheckReport:
    """The report on all splits, the first of which is the one to train on.

    quarantines: by split; what stands there is not looked at again. advance(done, total) is called
    after each clip. probe: what looks at a clip, in another process.
    """
    usable: dict[str, Annotations] = {}
    left_out: dict[str, dict[str, str]] = {}
    for name, split in splits.items():
        usable[name], left_out[name] = split, {}
        if quarantines is not None and name in quarantines:
            usable[name], left_out[name] = quarantines[name].filter(split)
    facts = _probed(usable, plan, advance, probe)
    readable = {name: split.where(_is_readable(facts)) for name, split in usable.items()}
    problems = [
        *(problem for name in splits for problem in _refusals(name, splits[name])),
        *(problem for name in splits for problem in _of_clips(name, usable[name], facts, plan)),
        *_same_content(usable, facts, plan),
        *(problem for name in splits for problem in _of_classes(name, readable[name])),
    ]
    order = {kind: place for place, kind in enumerate(KINDS)}
    problems.sort(key=lambda problem: order[problem.kind])  # stable: split and list order stay
    reports = [
        _split_report(name, splits[name], readable[name], left_out[name], facts) for name in splits
    ]
    return CheckReport(tuple(reports), tuple(problems))


def _probed(
    splits: Mapping[str, Annotations],
    plan: CheckPlan,
    advance: Callable[[int, int], None],
    probe: Callable[[ProbeTask], ClipFacts],
) -> dict[str, ClipFacts | TaskFailure]:
    """Facts by path; a clip that stands in several places is looked at once."""
    paths = list(dict.fromkeys(item.path for split in splits.values() for item in split.items))
    tasks = [ProbeTask(path, plan.sampling, plan.deep) for path in paths]
    facts: dict[str, ClipFacts | TaskFailure] = {}
    for number, result in run_in_processes(probe, tasks, plan.num_workers, plan.timeout_seconds):
        facts[paths[number]] = result
        advance(len(facts), len(paths))
    return facts


def _is_readable(facts: Mapping[str, ClipFacts | TaskFailure]) -> Callable[[ClipRecord], bool]:
    def is_readable(item: ClipRecord) -> bool:
        fact = facts[item.path]
        return isinstance(fact, ClipFacts) and fact.error is None

    return is_readable


def _refusals(name: str, annotations: Annotations) -> Iterator[Problem]:
    for refusal in annotations.refused:
        yield Problem(name, "outside_map", refusal.path, refusal.reason)


def _of_clips(
    name: str,
    annotations: Annotations,
    facts: Mapping[str, ClipFacts | TaskFailure],
    plan: CheckPlan,
) -> Iterator[Problem]:
    places = PathResolver(Path(annotations.source).parent)
    num_guesses = 0
    seen: set[str] = set()
    for item in annotations.items:
        if item.path in seen:
            yield Problem(name, "listed_twice", item.path, "the list names it again")
            continue
        seen.add(item.path)
        if not item.labels and not annotations.is_multilabel:
            yield Problem(name, "unlabeled", item.path, "the list gives no label")
        fact = facts[item.path]
        if isinstance(fact, TaskFailure):
            kind = "crashed" if fact.has_crashed else "timeout"
            yield Problem(name, kind, item.path, fact.reason)
        elif fact.is_absent:
            num_guesses += 1
            guess = places.guess(Path(item.path)) if num_guesses <= _MAX_GUESSES else None
            hint = f"; there is {str(guess)!r}" if guess is not None else ""
            yield Problem(name, "absent", item.path, f"there is no such file or folder{hint}")
        elif fact.error is not None:
            yield Problem(name, "unreadable", item.path, fact.error)
        else:
            yield from _oddities(name, item, fact, plan.sampling)


def _oddities(
    name: str, item: ClipRecord, fact: ClipFacts, sampling: ClipSampling
) -> Iterator[Problem]:
    """What is worth knowing of a clip that can be read."""
    num = fact.num_frames
    counted = count_images(item.path)
    if item.num_frames is not None and item.num_frames != (counted or num):
        there = f"{num} frames" if counted is None else f"{counted} pictures"
        detail = f"the list says {item.num_frames}, there are {there}"
        yield Problem(name, "listed_count", item.path, detail)
    if fact.stated_num_frames is not None and fact.stated_num_frames != num:
        detail = f"the container says {fact.stated_num_frames}, {num} come out of the decoder"
        yield Problem(name, "stated_count", item.path, detail)
    if fact.rotation_degrees:
        detail = f"by {fact.rotation_degrees} degrees; it is read upright"
        yield Problem(name, "rotated", item.path, detail)
    if fact.has_variable_rate:
        detail = f"{fact.fps:.2f} frames a second on average" if fact.fps else "uneven times"
        yield Problem(name, "variable_rate", item.path, detail)
    at_rate = at_fps(sampling, fact.fps)
    span = at_rate.num_frames if sampling.rule == "uniform" else at_rate.num_frames * at_rate.stride
    if num < span:
        detail = f"{num} frames, a clip spans {span}; the sampler repeats frames"
        yield Problem(name, "short", item.path, detail)


def _same_content(
    splits: Mapping[str, Annotations], facts: Mapping[str, ClipFacts | TaskFailure], plan: CheckPlan
) -> Iterator[Problem]:
    """Clips that are equal byte for byte, and paths that stand in several splits.

    Only files of equal size are read for their digests.
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
    """Problems of clips with one content: each is set against the first of its kind."""
    first_split, first = group[0]
    first_in = {first_split: first}
    for split, item in group[1:]:
        if split in first_in:
            original = first_in[split]
            other = " and another label" if item.labels != original.labels else ""
            yield Problem(split, "duplicate", item.path, f"the same as {original.path}{other}")
        else:
            first_in[split] = item
            yield Problem(split, "shared", item.path, f"the same as {first.path} of {first_split}")


def _of_classes(name: str, annotations: Annotations) -> Iterator[Problem]:
    counts = annotations.class_counts()
    for label, count in enumerate(counts.tolist()):
        if count == 1:
            detail = "it cannot be learned and measured"
            yield Problem(name, "singleton_class", annotations.class_name(label), detail)
        elif count == 0:
            yield Problem(name, "empty_class", annotations.class_name(label), "no clip has it")
    present = counts[counts > 0]
    if len(present) and present.max() / present.min() > MAX_CLASS_IMBALANCE:
        most, least = int(counts.argmax()), int((counts + (counts == 0) * counts.max()).argmin())
        detail = (
            f"{annotations.class_name(most)} has {counts[most]} clips, "
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
