"""videoswin models: the model zoo."""

from __future__ import annotations

import dataclasses
import json as jsonlib
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ..errors import ConfigError, UnknownNameError
from ..registry import (
    ModelCard,
    find_card,
    list_cards,
    list_models,
    weights_path,
    weights_state,
)
from .console import text_table

_WIDEST_NAME = 44  # longer names are shown by their alias


EXAMPLES = (
    "videoswin models 'swin-b*'",
    "videoswin models --json",
)


def models(
    pattern: Annotated[
        str,
        typer.Argument(metavar="PATTERN", help="Glob pattern for model names.", show_default=False),
    ] = "*",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the published models as a Markdown table.")
    ] = False,
) -> int:
    """List available models with size, accuracy, license and availability of weights."""
    if json and markdown:
        raise ConfigError("--json and --markdown are two forms of one list; give one of them.")
    cards = [find_card(name) for name in list_models(pattern)]
    if not cards:
        known = [name for card in list_cards() for name in (card.name, *card.aliases)]
        raise UnknownNameError("model", pattern, known)
    if json:
        for card in cards:
            print(jsonlib.dumps(_row(card)))
        return 0
    print(_markdown(cards) if markdown else _text_table(cards))
    return 0


def _row(card: ModelCard) -> dict[str, Any]:
    """The model card as JSON data."""
    bundle, weights = card.bundle, card.weights
    accuracy = None if weights is None else weights.accuracy
    path = weights_path(card)
    return {
        "name": card.name,
        "aliases": list(card.aliases),
        "kind": card.kind,
        "architecture": card.architecture,
        "summary": card.summary,
        "parameters": bundle.model.num_params,
        "classes": bundle.model.num_classes,
        "label_set": card.label_set,
        "input": [bundle.sampling.num_frames, bundle.preprocessing.crop_size],
        "views": _views(card),
        "accuracy_top1": None if accuracy is None else accuracy.top1,
        "accuracy_top5": None if accuracy is None else accuracy.top5,
        "accuracy_views": None if accuracy is None else accuracy.views,
        "accuracy_protocol": None if accuracy is None else accuracy.protocol,
        "license": None if weights is None else weights.license or None,
        "license_note": None if weights is None else weights.license_note or None,
        "publisher": None if weights is None else weights.publisher,
        "trained_on": None if weights is None else weights.trained_on,
        "weights": weights_state(card),
        "url": None if weights is None else weights.url,
        "sha256_prefix": None if weights is None else weights.sha256_prefix or None,
        "file": None if path is None else str(path),
        "model": dataclasses.asdict(bundle.model),
        "sampling": dataclasses.asdict(bundle.sampling),
        "preprocessing": dataclasses.asdict(bundle.preprocessing),
        "note": card.note or None,
    }


def _views(card: ModelCard) -> str:
    return f"{card.bundle.sampling.num_clips}x{card.bundle.preprocessing.crops}"


def _text_table(cards: list[ModelCard]) -> str:
    head = ("name", "params", "input", "views", "top-1", "license", "weights", "description")
    return text_table([head, *(_cells(card) for card in cards)])


def _cells(card: ModelCard) -> tuple[str, ...]:
    accuracy = None if card.weights is None else card.weights.accuracy
    if card.kind == "image":
        accuracy = None  # on images: not comparable with video accuracy
    return (
        _short_name(card),
        f"{card.bundle.model.num_params / 1e6:.1f} M",
        f"{card.bundle.sampling.num_frames}x{card.bundle.preprocessing.crop_size}px",
        _views(card),
        "-" if accuracy is None else f"{accuracy.top1:.1f}%",
        "-" if card.weights is None else card.weights.license or "-",
        weights_state(card) or "none",
        card.summary,
    )


def _short_name(card: ModelCard) -> str:
    """The name, or an alias if it is too long for a table."""
    return card.name if len(card.name) <= _WIDEST_NAME or not card.aliases else card.aliases[-1]


# --- markdown ---------------------------------------------------------------------------------


def _markdown(cards: list[ModelCard]) -> str:
    """The published weights, their accuracy and the command that measures it."""
    videos = [_video_cells(card) for card in cards if card.kind == "video"]
    images = [_image_cells(card) for card in cards if card.kind == "image"]
    tables = []
    if videos:
        head = ("weights", "trained on", "top-1 / top-5", "measured on", "download", "evaluate")
        tables.append(_markdown_table(head, videos))
    if images:
        head_of_images = ("image weights", "trained on", "top-1 / top-5 on images", "inflate to")
        tables.append(_markdown_table(head_of_images, images))
    return "\n\n".join(tables)


def _markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


def _video_cells(card: ModelCard) -> tuple[str, ...]:
    assert card.weights is not None
    accuracy, weights = card.weights.accuracy, card.weights
    views = _views(card) if accuracy is None else accuracy.views
    command = f"`videoswin evaluate DATA --model {card.aliases[0]} --views {views}`"
    source = "not released"
    if weights.shipped_folder is not None:
        source = "included"
    elif weights.url is not None:
        source = f"[{weights.publisher}]({weights.url})"
    return (
        f"`{card.name}`",
        weights.trained_on,
        _accuracies(card),
        "-" if accuracy is None else accuracy.protocol,
        source,
        "-" if source == "not released" else command,
    )


def _image_cells(card: ModelCard) -> tuple[str, ...]:
    assert card.weights is not None
    linked = f"[`{card.name}`]({card.weights.url})"
    return linked, card.weights.trained_on, _accuracies(card), f"`{card.architecture}`"


def _accuracies(card: ModelCard) -> str:
    accuracy = None if card.weights is None else card.weights.accuracy
    if accuracy is None:
        return "not published"
    return f"{accuracy.top1} / {'-' if accuracy.top5 is None else accuracy.top5}"
