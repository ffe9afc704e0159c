"""videoswin check-data: problems of a dataset, found before a long run."""

from __future__ import annotations

import json as jsonlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import counted
from ..file_names import one_line, plain_text
from ..files import check_output, is_json_with, write_atomic
from .console import progress_bar, refuse_without_effect, say, text_table
from .options import (
    AnnotationFps,
    Background,
    DataFormat,
    Delimiter,
    Force,
    QuarantineFile,
    Root,
)

if TYPE_CHECKING:
    from ..data import Annotations, CheckReport, Problem, Quarantine

_NUM_SHOWN = 5  # of each kind of problem that leaves a clip usable; the JSON has all


EXAMPLES = (
    "videoswin check-data clips",
    "videoswin check-data train.txt --val val.txt --root videos --json report.json",
)


def check_data(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder of class folders, a folder with train, val and test, or a list file.",
            show_default=False,
        ),
    ],
    val: Annotated[
        list[str] | None,
        typer.Option("--val", metavar="DATA2", help="Another split to compare with. Repeatable."),
    ] = None,
    root: Root = None,
    format: DataFormat = None,
    delimiter: Delimiter = None,
    background: Background = "ignore",
    annotation_fps: AnnotationFps = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE|SET", help="Label map: a file, or a set such as kinetics400."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes.", show_default="one per core")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the report as JSON.")
    ] = None,
    force: Force = False,
    quarantine: QuarantineFile = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every frame instead of only two clips per video.")
    ] = False,
    clip_length: Annotated[
        int, typer.Option(min=1, metavar="FRAMES", help="Report videos shorter than this.")
    ] = 64,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Time limit per clip.")
    ] = 120.0,
) -> int:
    """Read every clip of a dataset; report corrupt files, duplicates and class imbalance."""
    from ..config import ClipSampling
    from ..data import CheckPlan, check_dataset

    if json is None:
        refuse_without_effect(context, ["force"], "without --json")
    else:
        check_output(json, "a report of check-data", _is_report, force=force)
    splits = _read_splits(
        data, val or [], root, format, delimiter, labels, background, annotation_fps
    )
    quarantines = _open_quarantines(splits, quarantine)
    for name, split in splits.items():
        for note in split.notes:
            say(f"{name}: {note}")
    plan = CheckPlan(
        sampling=ClipSampling(num_frames=clip_length, stride=1, num_clips=2),
        deep=deep,
        num_workers=workers or os.cpu_count() or 1,
        timeout_seconds=timeout,
    )
    with progress_bar("checking") as progress:
        report = check_dataset(splits, plan, quarantines, progress)
    print(_as_text(report))
    if json is not None:
        write_atomic(
            json, (jsonlib.dumps(report.to_data(), indent=2, ensure_ascii=False) + "\n").encode()
        )
    _write_quarantines(report, quarantines)
    return 1 if report.num_unusable else 0


def _is_report(path: Path) -> bool:
    return is_json_with(path, "splits", "problems")


def _read_splits(
    data: str,
    others: list[str],
    root: Path | None,
    format: str | None,
    delimiter: str | None,
    labels: str | None,
    background: str,
    annotation_fps: float | None,
) -> dict[str, Annotations]:
    """All splits by name; the first one numbers the classes."""
    from ..data import find_splits, label_map, read_annotations, require_same_labels

    names = None if labels is None else label_map(labels)
    splits: dict[str, Annotations] = {}
    for source in (data, *others):
        inner: list[str | None] = [None]
        if Path(source).exists():
            inner = [*find_splits(source, format)] or inner
        for split in inner:
            annotations = read_annotations(
                source,
                root=root,
                format=format,
                delimiter=delimiter,
                labels=names,
                split=split,
                background=background,
                annotation_fps=annotation_fps,
            )
            names = names or annotations.classes or None
            if splits:
                require_same_labels(next(iter(splits.values())), annotations)
            name = split or Path(source).name or source
            splits[name if name not in splits else f"{source} {split or ''}".strip()] = annotations
    return splits


def _open_quarantines(
    splits: Mapping[str, Annotations], path: Path | None
) -> dict[str, Quarantine]:
    """The list of each split; the same object where splits share one."""
    from ..data import Quarantine, default_quarantine

    paths = {name: path or default_quarantine(split.source) for name, split in splits.items()}
    opened = {path: Quarantine(path) for path in dict.fromkeys(paths.values())}
    return {name: opened[path] for name, path in paths.items()}


def _write_quarantines(report: CheckReport, quarantines: Mapping[str, Quarantine]) -> None:
    for quarantine in dict.fromkeys(quarantines.values()):
        found = [
            (problem.path, problem.detail)
            for problem in report.problems
            if problem.is_unusable
            and quarantines[problem.split] is quarantine
            # Errors of the list, which the next run reads again.
            and problem.kind not in ("outside_map", "fewer_frames")
        ]
        if found:
            quarantine.add(found)
            added = f"{counted(len(found), 'clip')} {'was' if len(found) == 1 else 'were'} added"
            say(
                f"{added} to {quarantine.path}; later runs skip "
                f"{'it' if len(found) == 1 else 'them'}. --quarantine FILE chooses another place."
            )


def _where(problem: Problem) -> str:
    """The path of a clip, or a class and its split."""
    is_class = problem.kind in ("singleton_class", "empty_class")
    path = one_line(problem.path)
    return f"{path} in {one_line(problem.split)}" if is_class else path


def _as_text(report: CheckReport) -> str:
    from ..data.report import KINDS

    head = ("split", "format", "clips", "usable", "frames", "classes", "largest : smallest")
    rows = [head]
    parts = []
    for split in report.splits:
        rows.append(
            (
                one_line(split.name),
                split.format,
                str(split.num_listed),
                str(split.num_usable),
                str(split.num_frames),
                str(len(split.class_counts)),
                f"{split.imbalance:.1f}",
            )
        )
        if split.quarantined:
            num_skipped = len(split.quarantined)
            parts.append(
                f"{one_line(split.name)}: skipped {counted(num_skipped, 'clip')} of the quarantine "
                "list; remove the list to check again."
            )
    for kind, (is_unusable, title) in KINDS.items():
        problems = report.of(kind)
        if not problems:
            continue
        shown = problems if is_unusable else problems[:_NUM_SHOWN]
        lines = [f"{'UNUSABLE' if is_unusable else 'note'}: {title}: {len(problems)}"]
        lines += [f"    {_where(problem)}: {plain_text(problem.detail)}" for problem in shown]
        if len(shown) < len(problems):
            lines.append(f"    ... and {len(problems) - len(shown)} more; --json FILE has all")
        parts.append("\n".join(lines))
    if not report.problems:
        parts.append("No problems found.")
    return "\n\n".join([text_table(rows), *parts])
