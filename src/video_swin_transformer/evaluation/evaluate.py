"""`evaluate`: labeled clips -> scores on disk -> metrics, files and a report."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import AVERAGES
from ..data import Annotations, Quarantine, default_quarantine, read_annotations
from ..errors import ConfigError, DataError
from .distributed import process_group
from .metrics import MEAN_CLASS_RULES
from .outputs import write_results
from .runner import plan_evaluation, run_pass
from .scores import ScoreStore
from .summary import EvaluationResult, summarize

if TYPE_CHECKING:
    from ..predictor import Predictor

SCORES_FOLDER = "scores"  # inside the output folder

_log = logging.getLogger(__name__)


def evaluate(
    predictor: Predictor,
    data: str | Path,
    out: str | Path = "evaluation",
    *,
    root: str | Path | None = None,
    format: str | None = None,
    delimiter: str | None = None,
    split: str | None = None,
    average: str | None = None,
    mean_class_accuracy: str = "present",
    quarantine: str | Path | None = None,
    resume: bool = False,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationResult | None:
    """Measures a model on labeled clips by its multi-view protocol.

    Every view's logits are stored, so that an interrupted run can resume and other metrics can be
    computed without the videos (`evaluate_scores`). Processes started by `torchrun` or
    `accelerate launch` share the clips; `out` must then be a folder that all of them see.

    Args:
        predictor: the model with its sampling and views.
        data: a folder of classes or an annotation list; see docs/data.md.
        out: the folder for the metrics, the report and the scores.
        root: the folder that paths in a list are relative to; None for the list's own.
        format: the kind of annotation; None recognizes it.
        delimiter: what separates path and label in a text list; None for whitespace.
        split: a split of a folder or Kinetics list.
        average: "prob" (mean of softmax) or "score" (mean of logits); None for the model's.
        mean_class_accuracy: "present" averages over classes that occur, "official" also over
            those that are only predicted.
        quarantine: the list of unusable clips; None for the one beside the data.
        resume: continue an interrupted run in `out`.
        num_workers: videos decoded at a time.
        progress: called as progress(done, total) after each clip.

    Returns:
        The metrics; None in all processes but the first.

    Raises:
        ConfigError: a contradiction, or `out` holds scores and `resume` is False.
        DataError: the annotations cannot be used, or no clip can be read.
    """
    _check_choices(average, mean_class_accuracy)
    out = Path(out)
    with process_group() as group:
        annotations = read_annotations(
            data,
            root=root,
            format=format,
            labels=predictor.bundle.labels or None,
            num_classes=predictor.bundle.model.num_classes,
            delimiter=delimiter,
            split=split,
        )
        plan = plan_evaluation(predictor, annotations)
        quarantined = Quarantine(quarantine or default_quarantine(data))
        skipped = quarantined.filter(annotations)[1]
        store = ScoreStore(out / SCORES_FOLDER)
        if group.is_first:
            store.begin(plan, resume=resume)
            _log_notes(predictor, annotations, len(skipped), quarantined.path)
        group.wait_for_all()
        report = progress if group.is_first and progress is not None else _ignore
        run_pass(predictor, store, plan, group, skipped, num_workers, report)
        group.wait_for_all()
        if not group.is_first:
            return None
        store.finish()
        result = evaluate_scores(out, average=average, mean_class_accuracy=mean_class_accuracy)
        _quarantine_failures(result, quarantined)
        return result


def evaluate_scores(
    scores: str | Path,
    out: str | Path | None = None,
    *,
    average: str | None = None,
    mean_class_accuracy: str = "present",
) -> EvaluationResult:
    """Computes the metrics of an earlier evaluation again, from its stored scores.

    Args:
        scores: the `out` folder of the evaluation.
        out: the folder for the new files; None replaces those in `scores`.
        average: see `evaluate`.
        mean_class_accuracy: see `evaluate`.

    Raises:
        ConfigError: an unknown choice.
        DataError: there are no complete scores in the folder.
    """
    _check_choices(average, mean_class_accuracy)
    stored = ScoreStore(Path(scores) / SCORES_FOLDER).load()
    result = summarize(stored, average, mean_class_accuracy)
    write_results(result, Path(scores if out is None else out))
    return result


def _check_choices(average: str | None, mean_class_accuracy: str) -> None:
    if average is not None and average not in AVERAGES:
        raise ConfigError(f"average is {average!r}, but must be {' or '.join(AVERAGES)}.")
    if mean_class_accuracy not in MEAN_CLASS_RULES:
        raise ConfigError(
            f"mean_class_accuracy is {mean_class_accuracy!r}, but must be "
            f"{' or '.join(MEAN_CLASS_RULES)}."
        )


def _ignore(done: int, total: int) -> None:
    pass


def _log_notes(
    predictor: Predictor, annotations: Annotations, num_skipped: int, quarantine: Path
) -> None:
    for note in annotations.notes:
        _log.info(note)
    if annotations.classes and not predictor.bundle.labels:
        _log.info("The model has no class names; the data's classes are numbered alphabetically.")
    if num_skipped:
        _log.info("%d clips in the quarantine list %s are skipped.", num_skipped, quarantine)


def _quarantine_failures(result: EvaluationResult, quarantine: Quarantine) -> None:
    """Adds clips that could not be read to the quarantine list."""
    unreadable = [(f.path, f.reason) for f in result.failures if f.kind == "unreadable"]
    if not unreadable:
        return
    try:
        quarantine.add(unreadable)
        _log.info(
            "%d unreadable clips were added to %s; later runs skip them.",
            len(unreadable),
            quarantine.path,
        )
    except DataError as error:  # the results are complete, only the list is not
        _log.warning("%s", error)
