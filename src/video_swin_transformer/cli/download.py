"""videoswin download: published weights into the cache, before they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UnknownNameError, VideoSwinError
from ..registry import ModelCard, find_card
from .console import say

EXAMPLES = (
    "videoswin download swin-t-k400",
    "videoswin download swin-t-k400 swin-b-k600 --force",
)


def download(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help="Names from `videoswin models`.", show_default=False),
    ],
    force: Annotated[bool, typer.Option("--force", help="Download again.")] = False,
) -> int:
    """Download published weights and their labels; print the path of each file."""
    cards, num_failed = _known_cards(names)
    for card in cards:
        try:
            print(_fetch(card, force), flush=True)
        except VideoSwinError as error:
            num_failed += 1
            say(f"error: {error}")
    if num_failed and len(names) > 1:
        rest = "; the others are done" if num_failed < len(names) else ""
        say(f"{num_failed} of {len(names)} could not be downloaded{rest}.")
    return 1 if num_failed else 0


def _known_cards(names: list[str]) -> tuple[list[ModelCard], int]:
    """The cards of the names that exist, and how many do not; if none does, it is a misuse."""
    cards: list[ModelCard] = []
    unknown: list[UnknownNameError] = []
    for name in names:
        try:
            cards.append(find_card(name))
        except UnknownNameError as error:
            unknown.append(error)
    if not cards:
        raise unknown[0]
    for one in unknown:
        say(f"error: {one}")
    return cards, len(unknown)


def _fetch(card: ModelCard, force: bool) -> Path:
    from ..weights import pretrained_folder
    from ..weights.download import download_weights, load_card_labels

    folder = pretrained_folder(card)
    if folder is not None:
        return folder
    path = download_weights(card, force)
    load_card_labels(card)
    return path
