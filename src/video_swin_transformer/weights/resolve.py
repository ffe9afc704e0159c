"""Resolves a model name or path to a local file or folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..config import CONFIG_FILE
from ..errors import CheckpointError, ConfigError, UnknownNameError
from ..files import require_path
from ..hub import FILE_SUFFIXES, download_folder, is_repo_id
from ..registry import DEFAULT_MODEL, ModelCard, find_card
from .download import download_weights

_PRETRAINED = Path(__file__).parent.parent / "pretrained"
_TRAINED_MODEL = "model"  # where `train` puts the model inside its output folder


@dataclass(frozen=True)
class ResolvedModel:
    """A model on this machine.

    Attributes:
        name: Name for display: the card's name, or the path or repository as given.
        path: Local file or folder.
        card: The model card; None if the model was given by path or repository.
    """

    name: str
    path: Path
    card: ModelCard | None = None

    def torch_missing(self, error: ImportError) -> CheckpointError:
        """Returns the error to raise if torch, which is needed to read weights, is missing."""
        return CheckpointError(
            f"The weights {self.name!r} cannot be loaded because torch cannot be imported "
            f"({error}). Install it with: pip install torch. Or use a model exported on another "
            "machine with: videoswin export."
        )


def resolve_model(source: str | Path | ResolvedModel | None) -> ResolvedModel:
    """Finds a model and downloads it if necessary.

    Args:
        source: A file or folder, the output folder of a training run, a name from `list_models`,
            or "owner/name" on huggingface.co. An existing path takes precedence over a name. None
            for the model shipped with the package, whatever paths exist.

    Returns:
        The model and its local path.

    Raises:
        ConfigError: The source is an empty string.
        CheckpointError: The file does not exist or cannot be downloaded.
        UnknownNameError: No model has this name.
    """
    if isinstance(source, ResolvedModel):
        return source
    if source is not None and not isinstance(source, str | Path):
        raise ConfigError(
            f"model is a {type(source).__name__} object, but must be a name or a path; save it "
            "with model.save_pretrained(FOLDER) and give the folder."
        )
    require_path(source, "model")
    # pathlib raises without permission on a parent.
    if source is not None and os.path.exists(source):  # noqa: PTH110
        path = Path(source)
        trained = path / _TRAINED_MODEL
        if (trained / CONFIG_FILE).is_file() and not (path / CONFIG_FILE).exists():
            path = trained
        return ResolvedModel(str(source), path)
    if isinstance(source, str) and "/" in source and is_repo_id(source):
        return ResolvedModel(source, download_folder(source))
    name = DEFAULT_MODEL if source is None else str(source)
    try:
        card = find_card(name)
    except UnknownNameError as error:
        path = Path(name)
        if path.suffix.lower() in FILE_SUFFIXES or len(path.parts) > 1:
            raise CheckpointError(f"There is no file or folder {name!r}.") from error
        raise
    return ResolvedModel(card.name, pretrained_folder(card) or download_weights(card), card)


def pretrained_folder(card: ModelCard) -> Path | None:
    """Returns the folder of weights shipped with the package.

    Args:
        card: The model card.

    Returns:
        The folder; None if the weights are not shipped.
    """
    if card.weights is None or card.weights.shipped_folder is None:
        return None
    return _PRETRAINED / card.weights.shipped_folder
