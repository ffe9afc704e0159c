"""From a name or a path to a network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..config import BundleConfig
from ..errors import CheckpointError
from ..model import VideoSwinTransformer
from ..registry import ModelCard, find_card
from .checkpoint import load_checkpoint
from .download import labels_of
from .resolve import ResolvedModel, resolve_model


def create_model(
    name: str,
    pretrained: bool = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_path_rate: float | None = None,
) -> VideoSwinTransformer:
    """Creates a network by name.

    Args:
        name: An architecture or weights, from `list_models`.
        pretrained: Load the named weights (float32, eval mode), downloading them if necessary.
            Image weights are inflated and have no classifier unless `num_classes` asks for one.
        num_classes: Number of classes; 0 omits the classifier, None keeps that of the model card.
            With `pretrained` and a different number, the classifier is new.
        in_chans: Number of input channels; None keeps that of the model card. With `pretrained` it
            must be the number of the weights.
        drop_path_rate: Stochastic depth rate of the last block; None keeps that of the model card.

    Returns:
        The network, in training mode unless `pretrained`.

    Raises:
        UnknownNameError: There is no model of that name.
        CheckpointError: There are no weights of that name, or they cannot be read.
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
    path = resolve_model(card.name).path
    if path.is_dir():
        model = VideoSwinTransformer.from_pretrained(path, drop_path_rate=drop_path_rate)
    else:
        model = _published(card, path, drop_path_rate)
    if num_classes not in (None, model.num_classes):
        model.reset_classifier(num_classes)
    return model


def _published(card: ModelCard, path: Path, drop_path_rate: float | None) -> VideoSwinTransformer:
    """The network of a card with its published weights."""
    config = card.bundle.model
    if drop_path_rate is not None:
        config = dataclasses.replace(config, drop_path_rate=drop_path_rate)
    # Image weights become a video network without their image classifier.
    allow = ("inflate", "head") if card.kind == "image" else ()
    model, _ = load_checkpoint(path, architecture=config, allow=allow)
    model.bundle = dataclasses.replace(card.bundle, model=config, labels=labels_of(card))
    return model


def load_model(
    source: str | Path | ResolvedModel, bundle: BundleConfig | None = None
) -> VideoSwinTransformer:
    """Loads a model by name, folder or file of any known format.

    Args:
        source: see `resolve_model`.
        bundle: network and settings to use instead of those the file or name comes with.

    Returns:
        The model (float32, eval mode); every tensor of the file matched it.

    Raises:
        CheckpointError: the weights cannot be found, read or do not fit.
        UnknownNameError: there is no model of that name.
    """
    resolved = resolve_model(source)
    if bundle is not None:
        model, _ = load_checkpoint(resolved, architecture=bundle.model)
        model.bundle = bundle
        return model
    if resolved.path.is_dir():
        return VideoSwinTransformer.from_pretrained(resolved.path)
    if resolved.card is None:
        return load_checkpoint(resolved)[0]
    return _published(resolved.card, resolved.path, drop_path_rate=None)
