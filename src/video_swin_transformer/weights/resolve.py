"""From a model's name or path to its file: the one place that decides what a name means."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..config import CONFIG_FILE
from ..errors import CheckpointError, UnknownNameError
from ..hub import download_folder, is_repo_id
from ..registry import ModelCard, find_card
from .download import download_weights

_PRETRAINED = Path(__file__).parent.parent / "pretrained"
_TRAINED_MODEL = "model"  # where `train` puts the model inside its output folder


@dataclass(frozen=True)
class ResolvedModel:
    """A model that was found.

    Attributes:
        name: what to call it: the card's name, or the path or repository as given.
        path: its file or folder on this machine.
        card: its card, if the model was named after one.
    """

    name: str
    path: Path
    card: ModelCard | None = None

    def torch_missing(self, error: ImportError) -> CheckpointError:
        """The error to raise where torch, which reads its weights, cannot be imported."""
        return CheckpointError(
            f"The weights {self.name!r} cannot be opened: torch cannot be imported here ({error}). "
            "Install it with: pip install torch; or use a model exported on another machine with: "
            "videoswin export."
        )


def resolve_model(source: str | Path | ResolvedModel) -> ResolvedModel:
    """Finds a model and downloads it if needed.

    Args:
        source: a file or folder, the output folder of a training, a name from `list_models`, or
            "owner/name" on huggingface.co. A path that exists wins over a name.

    Raises:
        CheckpointError: the file does not exist or cannot be downloaded.
        UnknownNameError: there is no model of that name.
    """
    if isinstance(source, ResolvedModel):
        return source
    if os.path.exists(source):  # noqa: PTH110 (pathlib raises where a parent is forbidden)
        path = Path(source)
        trained = path / _TRAINED_MODEL
        if (trained / CONFIG_FILE).is_file() and not (path / CONFIG_FILE).exists():
            path = trained
        return ResolvedModel(str(source), path)
    if "/" in str(source) and is_repo_id(source):
        return ResolvedModel(str(source), download_folder(str(source)))
    try:
        card = find_card(str(source))
    except UnknownNameError as error:
        if Path(source).suffix or len(Path(source).parts) > 1:
            raise CheckpointError(f"There is no file or folder {str(source)!r}.") from error
        raise
    return ResolvedModel(card.name, pretrained_folder(card) or download_weights(card), card)


def pretrained_folder(card: ModelCard) -> Path | None:
    """The folder of weights that ship with the package, or None if the card has none."""
    if card.weights is None or card.weights.shipped_folder is None:
        return None
    return _PRETRAINED / card.weights.shipped_folder
