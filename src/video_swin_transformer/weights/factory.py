"""Model creation: `create_model` and `load_model`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..config import BundleConfig
from ..errors import CheckpointError
from ..model import VideoSwinTransformer
from ..registry import ModelCard, find_card
from .checkpoint import load_checkpoint
from .download import load_card_labels
from .resolve import ResolvedModel, resolve_model


def create_model(
    name: str,
    pretrained: bool = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_path_rate: float | None = None,
) -> VideoSwinTransformer:
    """Creates a model by name.

    Args:
        name: Name of an architecture or of pretrained weights, see `list_models`.
        pretrained: Load the named weights (float32, eval mode), downloading them if necessary.
            Image weights are inflated and get no classifier unless `num_classes` is given.
        num_classes: Number of classes; 0 omits the classifier, None uses the value of the model
            card. With `pretrained`, a different number initializes a new classifier.
        in_chans: Number of input channels; None uses the value of the model card. With
            `pretrained` it must match the weights.
        drop_path_rate: Stochastic depth rate of the last block, in [0, 1); None uses the value of
            the model card.

    Returns:
        The model, in eval mode if `pretrained`, else in training mode.

    Raises:
        UnknownNameError: No model has this name.
        CheckpointError: The model has no weights, or they cannot be loaded.
    """
    card = find_card(name)
    if pretrained:
        return _create_pretrained(card, num_classes, in_chans, drop_path_rate)
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


def _create_pretrained(
    card: ModelCard, num_classes: int | None, in_chans: int | None, drop_path_rate: float | None
) -> VideoSwinTransformer:
    if in_chans not in (None, card.bundle.model.in_chans):
        raise CheckpointError(
            f"in_chans is {in_chans}, but the weights {card.name!r} have "
            f"{card.bundle.model.in_chans} input channels; omit in_chans, use pretrained=False, or "
            'adapt the weights: load_checkpoint(..., allow={"in_chans"}).'
        )
    path = resolve_model(card.name).path
    if path.is_dir():
        model = VideoSwinTransformer.from_pretrained(path, drop_path_rate=drop_path_rate)
    else:
        model = _load_card_weights(card, path, drop_path_rate)
    if num_classes not in (None, model.num_classes):
        model.reset_classifier(num_classes)
    return model


def _load_card_weights(
    card: ModelCard, path: Path, drop_path_rate: float | None
) -> VideoSwinTransformer:
    """Loads the downloaded weights of a model card."""
    config = card.bundle.model
    if drop_path_rate is not None:
        config = dataclasses.replace(config, drop_path_rate=drop_path_rate)
    # Image weights are inflated, and the image classifier is dropped.
    allow = ("inflate", "head") if card.kind == "image" else ()
    model, _ = load_checkpoint(path, architecture=config, allow=allow)
    model.bundle = dataclasses.replace(card.bundle, model=config, labels=load_card_labels(card))
    return model


def load_model(
    source: str | Path | ResolvedModel, bundle: BundleConfig | None = None
) -> VideoSwinTransformer:
    """Loads a model by name, or from a folder or file of any supported format.

    Args:
        source: A model name, folder or file; see `resolve_model`.
        bundle: Configuration to use instead of the model's own.

    Returns:
        The model, float32 and in eval mode. All tensors of the file matched.

    Raises:
        CheckpointError: The weights cannot be found or read, or do not match the configuration.
        UnknownNameError: No model has this name.
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
    return _load_card_weights(resolved.card, resolved.path, drop_path_rate=None)
