"""`evaluate` and `evaluate_scores`, the entry points for evaluation."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import AVERAGES
from ..data import Annotations, Quarantine, default_quarantine, read_annotations
from ..errors import ConfigError, DataError, counted
from .distributed import process_group
from .metrics import MEAN_CLASS_RULES
from .outputs import check_results_folder, write_results
from .runner import plan_evaluation, run_evaluation
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
    background: str = "ignore",
    annotation_fps: float | None = None,
    average: str | None = None,
    mean_class_accuracy: str = "present",
    quarantine: str | Path | None = None,
    resume: bool = False,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationResult | None:
    """Evaluates a model on labeled clips with its multi-view protocol.

    The logits of every view are stored, so that interrupted runs can be resumed and metrics can be
    recomputed without the videos (`evaluate_scores`). Processes started by `torchrun` or
    `accelerate launch` share the clips; `out` must then be a folder that all of them can access.

    Args:
        predictor: The model with its sampling and views.
        data: A folder of classes or an annotation list; see docs/data.md.
        out: Output folder for metrics, report and scores.
        root: Folder that paths in a list are relative to; None uses the folder of the list.
        format: Annotation format; None detects it.
        delimiter: Separator of path and label in a text list; None means whitespace.
        split: Split of a folder or of a list with several.
        background: For lists of segments. "class": what is outside of them counts as the class
            "background"; "ignore": it is not used.
        annotation_fps: Frame rate of a Label Studio project whose tasks do not contain it.
        average: "prob" (mean of softmax) or "score" (mean of logits); None uses the model's
            setting.
        mean_class_accuracy: "present" averages over classes that occur, "official" also over
            classes that are only predicted.
        quarantine: List of unusable clips; None uses the default next to the data.
        resume: Continue an interrupted run in `out`.
        num_workers: Number of videos to decode in parallel.
        progress: Called as progress(done, total) after each clip.

    Returns:
        The results; None in all processes except rank 0.

    Raises:
        ConfigError: The arguments contradict each other, or `out` contains scores and `resume` is
            False.
        DataError: The annotations are invalid, or no clip can be read.
    """
    _check_choices(average, mean_class_accuracy)
    out = Path(out)
    was_there = out.exists()
    with process_group() as group:
        annotations = read_annotations(
            data,
            root=root,
            format=format,
            labels=predictor.bundle.labels or None,
            num_classes=predictor.bundle.model.num_classes,
            delimiter=delimiter,
            split=split,
            background=background,
            annotation_fps=annotation_fps,
        )
        plan = plan_evaluation(predictor, annotations)
        quarantined = Quarantine(quarantine or default_quarantine(data))
        skipped = quarantined.filter(annotations)[1]
        store = ScoreStore(out / SCORES_FOLDER)
        if group.is_first:
            check_results_folder(out, SCORES_FOLDER)
            store.begin(plan, resume=resume)
            _log_notes(predictor, annotations, len(skipped), quarantined.path)
        group.wait_for_all()
        report = progress if group.is_first and progress is not None else _no_progress
        run_evaluation(
            predictor, store, plan, annotations.items, group, skipped, num_workers, report
        )
        group.wait_for_all()
        if not group.is_first:
            return None
        store.finish()
        try:
            result = evaluate_scores(out, average=average, mean_class_accuracy=mean_class_accuracy)
        except DataError:
            if not was_there:  # no clip could be read: nothing worth keeping, or continuing
                shutil.rmtree(out)
            raise
        _quarantine_failures(result, quarantined)
        return result


def evaluate_scores(
    scores: str | Path,
    out: str | Path | None = None,
    *,
    average: str | None = None,
    mean_class_accuracy: str = "present",
) -> EvaluationResult:
    """Recomputes the metrics of an evaluation from its stored scores.

    Args:
        scores: The `out` folder of the evaluation.
        out: Output folder; None overwrites the files in `scores`.
        average: See `evaluate`.
        mean_class_accuracy: See `evaluate`.

    Returns:
        The results.

    Raises:
        ConfigError: An argument has an unknown value.
        DataError: The folder does not contain complete scores.
    """
    _check_choices(average, mean_class_accuracy)
    stored = ScoreStore(Path(scores) / SCORES_FOLDER).load()
    result = summarize(stored, average, mean_class_accuracy)
    check_results_folder(Path(scores if out is None else out), SCORES_FOLDER)
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


def _no_progress(done: int, total: int) -> None:
    pass


def _log_notes(
    predictor: Predictor, annotations: Annotations, num_skipped: int, quarantine: Path
) -> None:
    for note in annotations.notes:
        _log.info(note)
    if annotations.classes and not predictor.bundle.labels:
        _log.info(
            "The model has no class names; the classes of the data are numbered alphabetically."
        )
    if num_skipped:
        _log.info("Skipping %d clips in the quarantine list %s.", num_skipped, quarantine)


def _quarantine_failures(result: EvaluationResult, quarantine: Quarantine) -> None:
    """Adds clips that could not be read to the quarantine list."""
    unreadable = [(f.path, f.reason) for f in result.failures if f.kind == "unreadable"]
    if not unreadable:
        return
    try:
        quarantine.add(unreadable)
        _log.info(
            "Added to the quarantine list %s, which later runs skip: %s. Choose another place with "
            "--quarantine FILE.",
            quarantine.path,
            counted(len(unreadable), "unreadable clip"),
        )
    except DataError as error:  # the results are complete without it
        _log.warning("%s", error)
