"""The pass: every clip of a dataset through the network, its logits onto the disk."""

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
from .scores import IN_QUARANTINE, NOT_FINITE, Plan, ScoreStore

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
        "engine": predictor.runtime.description,
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
    ranks: ProcessGroup,
    left_out: Mapping[str, str],
    num_readers: int = 1,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """This process's share of what is not done yet.

    left_out: reason by path of clips in quarantine; they are counted as failed and not read.
    """
    done = store.done()
    share = ranks.share(len(plan.paths))
    pending = [item for item in share if item not in done]
    num_done = len(share) - len(pending)
    advance(num_done, len(share))
    nothing = np.empty((0, int(plan.settings["num_classes"])), np.float32)
    if not pending:
        return
    with store.append(ranks.rank) as part:
        for item in [item for item in pending if plan.paths[item] in left_out]:
            path = plan.paths[item]
            part.add(item, path, nothing, IN_QUARANTINE + left_out[path])
            num_done += 1
        readable = [item for item in pending if plan.paths[item] not in left_out]
        paths = [plan.paths[item] for item in readable]
        results = predictor.view_logits_many(paths, num_readers)
        for item, result in zip(readable, results, strict=True):
            if result.error is not None:
                part.add(item, result.source, nothing, str(result.error))
            elif not np.isfinite(result.logits).all():
                part.add(item, result.source, nothing, NOT_FINITE)
            else:
                part.add(item, result.source, result.logits)
            num_done += 1
            advance(num_done, len(share))


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
