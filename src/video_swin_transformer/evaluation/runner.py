"""Runs the network on every clip of a dataset and stores the logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..data import Annotations
from ..errors import DataError
from ..files import sha256_files
from ..predictor import Predictor
from .distributed import ProcessGroup
from .scores import Plan, ScoreStore

_NUM_NAMED = 3


def plan_evaluation(predictor: Predictor, annotations: Annotations) -> Plan:
    """What will be computed, in full: two equal plans give equal logits.

    Raises DataError where the clips have no labels, or labels the model does not know.
    """
    annotations.require_sound()
    bundle = predictor.bundle
    num_classes = bundle.model.num_classes
    if annotations.num_classes > num_classes:
        raise DataError(
            f"{annotations.source!r} has {annotations.num_classes} classes, but the model "
            f"{predictor.name} knows {num_classes}; evaluate a model that was made for these."
        )
    without = [item.path for item in annotations.items if not item.labels]
    if without and not annotations.is_multilabel:
        raise DataError(
            f"{len(without)} of {len(annotations.items)} clips of {annotations.source!r} have no "
            f"label, such as {', '.join(without[:_NUM_NAMED])}; a test list cannot be evaluated."
        )
    settings = {
        "model": predictor.name,
        "weights_sha256": _digest(predictor.name),
        "num_classes": num_classes,
        "classes": list(bundle.labels or annotations.classes),
        "runtime": predictor.runtime.description,
        "sampling": dataclasses.asdict(bundle.sampling),
        "preprocessing": _as_json(dataclasses.asdict(bundle.preprocessing)),
        "data": annotations.source,
        "format": annotations.format,
        "is_multilabel": annotations.is_multilabel,
        "average": bundle.average_clips,
        "multi_label": bundle.multi_label,
    }
    return Plan(
        settings,
        tuple(item.path for item in annotations.items),
        tuple(item.labels for item in annotations.items),
    )


def run_pass(
    predictor: Predictor,
    store: ScoreStore,
    plan: Plan,
    group: ProcessGroup,
    quarantined: Mapping[str, str],
    num_workers: int,
    progress: Callable[[int, int], None],
) -> None:
    """Runs this process's share of the clips that are not done yet.

    Args:
        predictor: the model.
        store: where the logits go.
        plan: the clips.
        group: the processes that share them.
        quarantined: reason by path of clips that are counted as failed and not read.
        num_workers: videos decoded at a time.
        progress: called as progress(done, total) after each clip.
    """
    done = store.done()
    share = group.share(len(plan.paths))
    pending = [item for item in share if item not in done]
    num_done = len(share) - len(pending)
    progress(num_done, len(share))
    nothing = np.empty((0, int(plan.settings["num_classes"])), np.float32)
    if not pending:
        return
    with store.append(group.rank) as part:
        for item in [item for item in pending if plan.paths[item] in quarantined]:
            path = plan.paths[item]
            part.add(item, path, nothing, "quarantined", quarantined[path])
            num_done += 1
        readable = [item for item in pending if plan.paths[item] not in quarantined]
        paths = [plan.paths[item] for item in readable]
        results = predictor.view_logits_many(paths, num_workers)
        for item, result in zip(readable, results, strict=True):
            if result.error is not None:
                part.add(item, result.source, nothing, "unreadable", str(result.error))
            elif not np.isfinite(result.logits).all():
                error = "the network's outputs are not finite"
                part.add(item, result.source, nothing, "not_finite", error)
            else:
                part.add(item, result.source, result.logits)
            num_done += 1
            progress(num_done, len(share))


def _digest(model: str) -> str | None:
    """SHA-256 of a model's file or files; None for names of published weights: they stay."""
    path = Path(model)
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    if not path.exists():
        return None
    return sha256_files(files)


def _as_json(data: dict[str, object]) -> dict[str, object]:
    """Tuples as lists, as they come back from JSON."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in data.items()}
