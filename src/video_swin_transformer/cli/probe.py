"""videoswin probe: what simple classifiers read from features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import print_json, refuse_without_effect

EXAMPLES = (
    "videoswin probe features clips",
    r"videoswin probe features train.txt --group-by '_g(\d+)_'",
)


def probe(
    context: typer.Context,
    features: Annotated[
        Path, typer.Argument(metavar="FEATURES", help="Feature file, or a folder of them.")
    ],
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help="Annotation list of any known format, or a folder with a subfolder per class.",
        ),
    ],
    test_labels: Annotated[
        Path | None,
        typer.Option(
            "--test",
            metavar="LABELS",
            help="Train on LABELS and test on these videos, without cross-validation.",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(metavar="N", min=2, help="Number of folds.")] = 5,
    num_neighbors: Annotated[
        int, typer.Option(metavar="N", min=1, help="Neighbors of the nearest-neighbor classifier.")
    ] = 5,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="Keep videos with the same match in their name in one fold."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the folds.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Cross-validate a linear and a nearest-neighbor classifier on features."""
    from ..features import load_features, probe_features, read_video_labels

    if test_labels is not None:
        names = ("folds", "group_by", "seed")
        refuse_without_effect(context, names, "with --test, which has no folds")
    table = load_features(features)
    result = probe_features(
        table,
        read_video_labels(labels, table),
        test_labels=None if test_labels is None else read_video_labels(test_labels, table),
        folds=folds,
        num_neighbors=num_neighbors,
        group_by=group_by,
        seed=seed,
    )
    if not json:
        print(result)
        return 0
    scores = {
        name: {"accuracy": score.accuracy, "fold_accuracies": score.fold_accuracies}
        for name, score in (("linear", result.linear), ("knn", result.knn))
    }
    line = {
        "num_videos": len(result.videos),
        "labels": result.labels,
        "majority": result.majority,
        **scores,
    }
    print_json(line)
    return 0
