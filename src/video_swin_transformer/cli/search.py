"""videoswin search: where a clip, or something like it, occurs in other videos."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from ..file_names import one_line, path_to_text
from .console import print_json, refuse_without_effect
from .options import Device, Model, Precision, RuntimeName, Threads

EXAMPLES = (
    "videoswin search query.mp4 features",
    "videoswin search query.npz features --windows --top-k 3",
)


def search(
    context: typer.Context,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="A video, or a feature file of one video.")
    ],
    features: Annotated[
        Path, typer.Argument(metavar="FEATURES", help="Feature file, or a folder of them.")
    ],
    top_k: Annotated[int, typer.Option(metavar="N", min=1, help="Number of results.")] = 5,
    windows: Annotated[
        bool,
        typer.Option("--windows", help="The nearest windows of each window of the query."),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per result, one per line.")
    ] = False,
    model: Model = None,
    runtime: RuntimeName = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    threads: Threads = None,
) -> int:
    """Find the places in videos that are most similar to a query clip, with their times."""
    from ..features import FORMATS, extract_query, load_features, nearest_windows, search_features

    has_features = Path(query).suffix[1:] in FORMATS
    if has_features:
        names = ("model", "runtime", "precision", "device", "threads")
        refuse_without_effect(context, names, "with a feature file as the query")
    table = load_features(features)
    if has_features:
        query_table = load_features(query)
    else:
        from ..predictor import Predictor

        settings = table.settings
        needs_maps = settings.mode == "stream" or settings.pooling in ("tokens", "map")
        predictor = Predictor.load(
            model,
            runtime="torch" if runtime == "auto" and needs_maps else runtime,
            precision=precision,
            device=device,
            threads=threads,
        )
        query_table = extract_query(predictor, query, table)
    find = nearest_windows if windows else search_features
    for hit in find(query_table, table, top_k=top_k):
        if json:
            print_json({**dataclasses.asdict(hit), "video": path_to_text(hit.video)})
            continue
        row = "" if hit.query_row is None else f"{hit.query_row:5d}  "
        times = f"{hit.start_seconds:9.3f} - {hit.end_seconds:9.3f} s"
        print(f"{row}{hit.similarity:6.3f}  {times}  {one_line(hit.video)}", flush=True)
    return 0
