"""Runs a model on the clips of a dataset and stores the logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..data import Annotations, ClipRecord, clip_source
from ..errors import DataError, counted
from ..file_names import path_to_text
from ..files import sha256_files
from ..predictor import Predictor
from .distributed import ProcessGroup
from .scores import Plan, ScoreStore

_NUM_EXAMPLES = 3


def plan_evaluation(predictor: Predictor, annotations: Annotations) -> Plan:
    """Creates the plan of an evaluation. Equal plans yield equal logits.

    Args:
        predictor: The model with its sampling and views.
        annotations: The clips.

    Returns:
        The plan.

    Raises:
        DataError: The annotations are invalid, have no labels, or have more classes than the
            model.
    """
    annotations.require_valid()
    bundle = predictor.bundle
    num_classes = bundle.model.num_classes
    if annotations.num_classes > num_classes:
        raise DataError(
            f"{annotations.source!r} has {annotations.num_classes} classes, but the model "
            f"{predictor.name} has {num_classes}; use a model trained on these classes."
        )
    unlabeled = [item.name for item in annotations.items if not item.labels]
    if unlabeled and not annotations.is_multilabel:
        raise DataError(
            f"{len(unlabeled)} of {counted(len(annotations.items), 'clip')} of "
            f"{annotations.source!r} have no label, such as "
            f"{', '.join(unlabeled[:_NUM_EXAMPLES])}; evaluation needs labels."
        )
    settings = {
        "model": path_to_text(predictor.name),
        "weights_sha256": _digest(predictor.name),
        "num_classes": num_classes,
        "classes": list(bundle.labels or annotations.classes),
        "runtime": predictor.runtime.description,
        "sampling": dataclasses.asdict(bundle.sampling),
        "preprocessing": _as_json(dataclasses.asdict(bundle.preprocessing)),
        "data": path_to_text(annotations.source),
        "format": annotations.format,
        "is_multilabel": annotations.is_multilabel,
        "average": bundle.average_clips,
        "multi_label": bundle.multi_label,
    }
    counts = tuple(item.num_frames for item in annotations.items)
    return Plan(
        settings,
        tuple(item.name for item in annotations.items),
        tuple(item.labels for item in annotations.items),
        counts if any(count is not None for count in counts) else (),
    )


def run_evaluation(
    predictor: Predictor,
    store: ScoreStore,
    plan: Plan,
    clips: Sequence[ClipRecord],
    group: ProcessGroup,
    quarantined: Mapping[str, str],
    num_workers: int,
    progress: Callable[[int, int], None],
) -> None:
    """Runs the model on the remaining clips of this process.

    Args:
        predictor: The model.
        store: The store to write the logits to.
        plan: What is computed.
        clips: The clips of the plan.
        group: The processes that share the clips.
        quarantined: Clips that count as failed without being read: reason by name.
        num_workers: Number of videos to decode in parallel.
        progress: Called as progress(done, total) after each clip.
    """
    done = store.finished_items()
    share = group.share(len(plan.paths))
    pending = [item for item in share if item not in done]
    num_done = len(share) - len(pending)
    progress(num_done, len(share))
    no_logits = np.empty((0, int(plan.settings["num_classes"])), np.float32)
    if not pending:
        return
    with store.open_writer(group.rank) as part:
        for item in [item for item in pending if plan.paths[item] in quarantined]:
            path = plan.paths[item]
            part.add(item, path, no_logits, "quarantined", quarantined[path])
            num_done += 1
        readable = [item for item in pending if plan.paths[item] not in quarantined]
        sources = [clip_source(clips[item]) for item in readable]
        results = predictor.view_logits_many(sources, num_workers)
        for item, result in zip(readable, results, strict=True):
            if result.error is not None:
                part.add(item, result.source, no_logits, "unreadable", str(result.error))
            elif not np.isfinite(result.logits).all():
                error = "the network's outputs are not finite"
                part.add(item, result.source, no_logits, "not_finite", error)
            else:
                part.add(item, result.source, result.logits)
            num_done += 1
            progress(num_done, len(share))


def _digest(model: str) -> str | None:
    """Returns the SHA-256 of a local model; None if the model is given by name."""
    path = Path(model)
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    if not path.exists():
        return None
    return sha256_files(files)


def _as_json(data: dict[str, object]) -> dict[str, object]:
    """Converts tuples to lists, as in a JSON round trip."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in data.items()}
