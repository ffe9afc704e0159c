"""From a name or a path to a network."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from ..config import BundleConfig
from ..errors import CheckpointError, UnknownNameError
from ..model import VideoSwinTransformer
from ..registry import ModelCard, find_card
from .checkpoint import load_checkpoint
from .download import download_weights, labels_of
from .sources import embedded_folder as embedded_folder


def create_model(
    name: str,
    pretrained: bool = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_path_rate: float | None = None,
) -> VideoSwinTransformer:
    """A network by the name of an architecture or of weights, in training mode unless pretrained.

    pretrained: fill it with the named weights (float32, eval mode), which are downloaded if need
    be; `num_classes` then gives it a fresh classifier, and `in_chans` must stay as trained. Image
    weights are inflated and have no classifier unless `num_classes` gives them one.
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
    if in_chans not in (None, card.bundle.model.in_chans):
        raise CheckpointError(
            f"in_chans is {in_chans}, but {card.name!r} was trained with "
            f"{card.bundle.model.in_chans}; build it with pretrained=False, or keep its channels."
        )
    folder = embedded_folder(card)
    if folder is None:
        model = _downloaded(card, drop_path_rate)
    else:
        model = VideoSwinTransformer.from_pretrained(folder, drop_path_rate=drop_path_rate)
    if num_classes not in (None, model.num_classes):
        model.reset_classifier(num_classes)
    return model


def _downloaded(card: ModelCard, drop_path_rate: float | None) -> VideoSwinTransformer:
    """The network of a card with its published weights, fully covered by the file."""
    path = download_weights(card)
    wanted = card.bundle.model
    if drop_path_rate is not None:
        wanted = dataclasses.replace(wanted, drop_path_rate=drop_path_rate)
    # Image weights become a video network, and their classifier of pictures is left out.
    allow = ("inflate", "head") if card.kind == "image" else ()
    model, _ = load_checkpoint(path, architecture=wanted, allow=allow)
    model.bundle = dataclasses.replace(card.bundle, model=wanted, labels=labels_of(card))
    return model


def load_model(source: str | Path, bundle: BundleConfig | None = None) -> VideoSwinTransformer:
    """Weights by name, folder or file of any known format: float32, eval mode, fully covered.

    What exists as a path is taken as one, also if a model has the same name. `bundle` says what
    the network is and how it is fed, instead of what the file or name says.
    """
    if bundle is not None:
        model, _ = load_checkpoint(source, architecture=bundle.model)
        model.bundle = bundle
        return model
    if os.path.isdir(source):  # noqa: PTH112 (pathlib raises for a forbidden parent)
        return VideoSwinTransformer.from_pretrained(source)
    if os.path.exists(source):  # noqa: PTH110
        model, _ = load_checkpoint(source)
        return model
    try:
        return create_model(str(source), pretrained=True)
    except UnknownNameError as error:
        if Path(source).suffix or len(Path(source).parts) > 1:
            raise CheckpointError(f"There is no file or folder {str(source)!r}.") from error
        raise
