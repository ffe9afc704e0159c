"""videoswin models: what there is, how good it is, and whether it is here."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Any

import typer

from ..errors import UnknownNameError
from ..registry import ModelCard, find_card, list_cards, list_models


def models(
    pattern: Annotated[
        str, typer.Argument(help="Shell pattern over names and aliases.", show_default=False)
    ] = "*",
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> int:
    """List models with size, accuracy, licence and whether their weights are on this machine."""
    cards = [find_card(name) for name in list_models(pattern)]
    if not cards:
        known = [name for card in list_cards() for name in (card.name, *card.aliases)]
        raise UnknownNameError("model", pattern, known)
    rows = [_row(card) for card in cards]
    if json:
        for row in rows:
            print(jsonlib.dumps(row))
        return 0
    _print_table(rows)
    return 0


def _row(card: ModelCard) -> dict[str, Any]:
    sampling, crops = card.bundle.sampling, card.bundle.preprocessing.num_crops
    weights = card.weights
    return {
        "name": card.name,
        "aliases": list(card.aliases),
        "summary": card.summary,
        "parameters": card.bundle.model.num_params,
        "classes": card.bundle.model.num_classes,
        "input": [sampling.num_frames, card.bundle.preprocessing.crop_size],
        "views": f"{sampling.num_clips}x{crops}",
        "accuracy_top1": None if weights is None else weights.accuracy.top1,
        "accuracy_protocol": None if weights is None else weights.accuracy.protocol,
        "licence": None if weights is None else weights.licence,
        "weights": None if weights is None else "on this machine",
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    header = ("name", "params", "input", "views", "top-1", "licence", "weights", "what it is")
    table = [header]
    for row in rows:
        frames, side = row["input"]
        top1 = "-" if row["accuracy_top1"] is None else f"{row['accuracy_top1']:.1f} %"
        table.append(
            (
                row["name"],
                f"{row['parameters'] / 1e6:.1f} M",
                f"{frames}x{side}px",
                row["views"],
                top1,
                row["licence"] or "-",
                row["weights"] or "none",
                row["summary"],
            )
        )
    widths = [max(len(line[column]) for line in table) for column in range(len(header))]
    for line in table:
        print("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())
