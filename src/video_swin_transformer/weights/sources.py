"""Which file is meant: a path, or a name whose weights ship with the package or are fetched."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import CheckpointError, UnknownNameError
from ..registry import ModelCard, find_card
from .download import download_weights

_EMBEDDED = Path(__file__).parent.parent / "embedded"


def embedded_folder(card: ModelCard) -> Path | None:
    """The folder of weights that ship with the package, if the card has such."""
    if card.weights is None or card.weights.embedded is None:
        return None
    return _EMBEDDED / card.weights.embedded


def find_weights(source: str | Path) -> tuple[Path, ModelCard | None]:
    """The file or folder, and the card if `source` is a name; its file is fetched if need be.

    What exists as a path is taken as one, also if a model has the same name.
    Raises CheckpointError for an absent file or a name without weights, UnknownNameError.
    """
    if os.path.exists(source):  # noqa: PTH110 (pathlib raises for a forbidden parent)
        return Path(source), None
    try:
        card = find_card(str(source))
    except UnknownNameError as error:
        if Path(source).suffix or len(Path(source).parts) > 1:
            raise CheckpointError(f"There is no file or folder {str(source)!r}.") from error
        raise
    return embedded_folder(card) or download_weights(card), card
