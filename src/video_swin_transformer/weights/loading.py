"""From a name or a path to a network."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from ..config import BundleConfig
from ..errors import CheckpointError, UnknownNameError
from ..model import VideoSwinTransformer
from ..registry import ModelCard, find_card, list_models

_EMBEDDED = Path(__file__).parent.parent / "embedded"


def embedded_folder(card: ModelCard) -> Path | None:
    """The folder of weights that ship with the package, if the card has such."""
    return None if card.weights is None else _EMBEDDED / card.weights.embedded


def create_model(
    name: str,
    pretrained: bool = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_path_rate: float | None = None,
) -> VideoSwinTransformer:
    """A network by the name of an architecture or of weights, in training mode unless pretrained.

    pretrained: fill it with the named weights (float32, eval mode); `num_classes` then gives it a
    fresh classifier, and `in_chans` must stay as trained.
    num_classes: 0 leaves the classifier out. None keeps what the card says.
    Raises UnknownNameError; CheckpointError where there are no weights of that name.
    """
    card = find_card(name)
    if pretrained:
        return _pretrained(card, num_classes, in_chans, drop_path_rate)
    model = card.bundle.model
    if num_classes is not None:
        model = dataclasses.replace(model, num_classes=num_classes)
    if in_chans is not None:
        model = dataclasses.replace(model, in_chans=in_chans)
    if drop_path_rate is not None:
        model = dataclasses.replace(model, drop_path_rate=drop_path_rate)
    if model == card.bundle.model:
        return VideoSwinTransformer(card.bundle)
    fresh = BundleConfig.for_model(model)
    preprocessing = dataclasses.replace(
        card.bundle.preprocessing, mean=fresh.preprocessing.mean, std=fresh.preprocessing.std
    )
    return VideoSwinTransformer(
        dataclasses.replace(card.bundle, model=model, preprocessing=preprocessing, labels=())
    )


def _pretrained(
    card: ModelCard, num_classes: int | None, in_chans: int | None, drop_path_rate: float | None
) -> VideoSwinTransformer:
    folder = embedded_folder(card)
    if folder is None:
        with_weights = ", ".join(list_models(pretrained=True))
        raise CheckpointError(
            f"{card.name!r} is an architecture without weights. Names with weights: {with_weights}."
        )
    if in_chans not in (None, card.bundle.model.in_chans):
        raise CheckpointError(
            f"in_chans is {in_chans}, but {card.name!r} was trained with "
            f"{card.bundle.model.in_chans}; build it with pretrained=False, or keep its channels."
        )
    model = VideoSwinTransformer.from_pretrained(folder, drop_path_rate=drop_path_rate)
    if num_classes not in (None, model.num_classes):
        model.reset_classifier(num_classes)
    return model


def load_model(source: str | Path) -> VideoSwinTransformer:
    """Weights by name, folder or `.safetensors` file: float32, eval mode, every tensor matched.

    What exists as a path is taken as one, also if a model has the same name.
    """
    if os.path.exists(source):  # noqa: PTH110 (pathlib raises for a forbidden parent)
        return VideoSwinTransformer.from_pretrained(source)
    try:
        return create_model(str(source), pretrained=True)
    except UnknownNameError as error:
        if Path(source).suffix or len(Path(source).parts) > 1:
            raise CheckpointError(f"There is no file or folder {str(source)!r}.") from error
        raise
