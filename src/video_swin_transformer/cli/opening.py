"""The options of a command -> a Predictor. Loads NumPy and more: import inside a command only."""

from __future__ import annotations

from ..predictor import Predictor, parse_views
from .output import say


def open_predictor(
    model: str | None,
    config: str | None,
    checkpoint: str | None,
    views: str | None,
    runtime: str,
    precision: str,
    device: str,
    verbose: bool,
    threads: int | None = None,
) -> Predictor:
    wanted = None if views is None else parse_views(views)
    predictor = Predictor.load(
        model,
        config=config,
        checkpoint=checkpoint,
        runtime=runtime,
        precision=precision,
        device=device,
        threads=threads,
    )
    if wanted is not None:
        predictor = predictor.with_views(*wanted)
    if verbose:
        clips = predictor.bundle.sampling.num_clips
        crops = predictor.bundle.preprocessing.crops
        say(f"{predictor.name}: {predictor.runtime.description}, {clips}x{crops} views")
        if predictor.runtime.selection_reason:
            say(predictor.runtime.selection_reason)
    return predictor
