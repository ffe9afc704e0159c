"""videoswin evaluate: how often a model is right on labeled clips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, DataError
from .options import (
    CheckpointFile,
    ConfigFile,
    DataFormat,
    Delimiter,
    Device,
    Model,
    Precision,
    QuarantineFile,
    Root,
    RuntimeName,
    Threads,
    Verbose,
    Views,
)
from .output import progress_bar, say, text_table

if TYPE_CHECKING:
    from ..data import Annotations, Quarantine
    from ..evaluation import ProcessGroup
    from ..predictor import Predictor

_SCORES = "scores"  # the folder inside --out


def evaluate(
    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help="A folder of classes or a list.", show_default=False),
    ] = None,
    model: Model = None,
    config: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    views: Views = None,
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where clips begin: official, mmaction2 or uniform. [default: the model's]",
        ),
    ] = None,
    average: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT", help="prob: mean of softmax; score: of logits. [default: the model's]"
        ),
    ] = None,
    mean_class_accuracy: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="present: over the classes that occur; official: predicted ones count, too.",
        ),
    ] = "present",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where results and scores go. [default: evaluation]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run in --out.")
    ] = False,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Compute again from the scores of an earlier --out, no pass."
        ),
    ] = None,
    root: Root = None,
    format: DataFormat = None,
    delimiter: Delimiter = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which split of a folder or Kinetics list."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Label file instead of the model's.")
    ] = None,
    quarantine: QuarantineFile = None,
    workers: Annotated[int, typer.Option(min=1, help="Videos read at a time.")] = 1,
    runtime: RuntimeName = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    threads: Threads = None,
    verbose: Verbose = False,
) -> int:
    """Measure accuracy by the multi-view protocol, with intervals, per class and as a report.

    Starts in several processes with accelerate launch or torchrun; --out is then a folder that
    all of them see.
    """
    _check_words(average, mean_class_accuracy)
    if scores is not None and data is None:
        return _report(scores, out or scores, average, mean_class_accuracy)
    if data is None or scores is not None:
        raise ConfigError("Give DATA to evaluate, or --scores FOLDER to compute again; not both.")
    from ..data import Quarantine, default_quarantine
    from ..evaluation import ScoreStore, process_group
    from ..evaluation.runner import plan_evaluation, run_pass

    out = out or Path("evaluation")
    with process_group() as ranks:
        if device == "auto" and ranks.world_size > 1:
            device = _own_device(ranks)
        predictor = _open(
            model, config, checkpoint, views, rule, labels, runtime, precision, device, threads
        )
        annotations = _read(predictor, data, root, format, delimiter, split)
        plan = plan_evaluation(predictor, annotations)
        kept_out = Quarantine(quarantine or default_quarantine(data))
        left_out = kept_out.filter(annotations)[1]
        store = ScoreStore(out / _SCORES)
        if ranks.is_first:
            store.begin(plan, resume=resume)
            _introduce(predictor, annotations, len(left_out), kept_out.path, verbose)
        ranks.wait_for_all()
        try:
            with progress_bar("evaluating") as show:
                advance = show if ranks.is_first else lambda done, total: None
                run_pass(predictor, store, plan, ranks, left_out, workers, advance)
        except KeyboardInterrupt:
            say(f"What is done is kept in {out}; go on with --resume.")
            raise
        ranks.wait_for_all()
        if not ranks.is_first:
            return 0
        store.finish()
        return _report(out, out, average, mean_class_accuracy, kept_out)


def _check_words(average: str | None, rule: str) -> None:
    """A wrong word is refused before the pass, not after it."""
    from ..config import AVERAGES
    from ..evaluation.metrics import MEAN_CLASS_RULES

    if average is not None and average not in AVERAGES:
        raise ConfigError(f"--average is {average!r}, but must be {' or '.join(AVERAGES)}.")
    if rule not in MEAN_CLASS_RULES:
        raise ConfigError(
            f"--mean-class-accuracy is {rule!r}, but must be {' or '.join(MEAN_CLASS_RULES)}."
        )


def _own_device(ranks: ProcessGroup) -> str:
    """The GPU of this process, where there are any; else all share the processor."""
    import torch

    return f"cuda:{ranks.local_rank}" if torch.cuda.is_available() else "auto"


def _open(
    model: str | None,
    config: str | None,
    checkpoint: str | None,
    views: str | None,
    rule: str | None,
    labels: Path | None,
    runtime: str,
    precision: str,
    device: str,
    threads: int | None,
) -> Predictor:
    from ..predictor import parse_views
    from .opening import open_predictor

    wanted = None if views is None else parse_views(views)
    # The rule comes before the views: "uniform" allows one clip only.
    predictor = open_predictor(
        model, config, checkpoint, None, runtime, precision, device, False, threads
    )
    if rule is not None:
        predictor = predictor.with_rule(rule)
    if wanted is not None:
        predictor = predictor.with_views(*wanted)
    return predictor if labels is None else predictor.with_labels(labels)


def _read(
    predictor: Predictor,
    data: str,
    root: Path | None,
    format: str | None,
    delimiter: str | None,
    split: str | None,
) -> Annotations:
    """The clips, numbered by the model's classes."""
    from ..data import read_annotations

    return read_annotations(
        data,
        root=root,
        format=format,
        labels=predictor.bundle.labels or None,
        num_classes=predictor.bundle.model.num_classes,
        delimiter=delimiter,
        split=split,
    )


def _introduce(
    predictor: Predictor, annotations: Annotations, num_left_out: int, path: Path, verbose: bool
) -> None:
    if verbose:
        bundle = predictor.bundle
        say(
            f"{predictor.name}: {predictor.runtime.description}, {bundle.sampling.num_clips}x"
            f"{bundle.preprocessing.crops} views, rule {bundle.sampling.rule}"
        )
    for note in annotations.notes:
        say(note)
    if annotations.classes and not predictor.bundle.labels:
        say("The model has no names of classes; those of the data are numbered alphabetically.")
    if num_left_out:
        say(f"{num_left_out} clips are left out: they stand in the quarantine list {path}.")


def _report(
    folder: Path,
    out: Path,
    average: str | None,
    mean_class_accuracy: str,
    quarantine: Quarantine | None = None,
) -> int:
    """Figures from the scores in `folder`, as files in `out` and a table."""
    from ..evaluation import TITLES, ScoreStore, percent, protocol, summarize, write_results

    result = summarize(ScoreStore(folder / _SCORES).load(), average, mean_class_accuracy)
    files = write_results(result, out)
    new = [(path, reason) for path, reason in result.failures if not _is_known(reason)]
    for path, reason in new if quarantine is not None else ():
        say(f"error: {path}: {reason}" if path not in reason else f"error: {reason}")
    print(f"{result.settings['model']} on {result.settings['data']}: {len(result.clips)} clips")
    print(protocol(result))
    print(text_table([(TITLES[key], percent(found)) for key, found in result.measures.items()]))
    if result.calibration is not None:
        print(f"calibration error {result.calibration.error:.3f}")
    print(f"report: {next(file for file in files if file.suffix == '.html')}")
    if new and quarantine is not None:
        _say_and_quarantine(new, len(result.clips) + len(result.failures), quarantine)
    return 1 if new else 0


def _is_known(reason: str) -> bool:
    from ..evaluation.scores import IN_QUARANTINE

    return reason.startswith(IN_QUARANTINE)


def _say_and_quarantine(
    failures: list[tuple[str, str]], num_clips: int, quarantine: Quarantine
) -> None:
    from ..evaluation.scores import NOT_FINITE

    say(f"{len(failures)} of {num_clips} clips could not be used; the others are done.")
    unreadable = [failure for failure in failures if failure[1] != NOT_FINITE]
    try:
        if unreadable:
            quarantine.add(unreadable)
            say(f"They are now in {quarantine.path}; later runs leave them out.")
    except DataError as error:  # the results are there; only the list is not
        say(f"warning: {error}")
