"""Model creation: `create_model` and `load_model`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

from ..config import BundleConfig
from ..errors import CheckpointError, ConfigError
from ..model import VideoSwinFeatures, VideoSwinTransformer
from ..registry import ModelCard, find_card
from ..saving import has_config
from .checkpoint import load_checkpoint
from .download import load_card_labels
from .resolve import ResolvedModel, resolve_model


@overload
def create_model(
    name: str,
    pretrained: bool = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_path_rate: float | None = None,
    *,
    global_pool: str | None = None,
    patch_size: Sequence[int] | None = None,
    window_size: Sequence[int] | None = None,
    drop_rate: float | None = None,
    num_frames: int | None = None,
    img_size: int | None = None,
    checkpoint_path: str | Path | None = None,
    features_only: Literal[False] = False,
    out_indices: None = None,
) -> VideoSwinTransformer: ...


@overload
def create_model(
    name: str,
    pretrained: bool = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_path_rate: float | None = None,
    *,
    global_pool: None = None,
    patch_size: Sequence[int] | None = None,
    window_size: Sequence[int] | None = None,
    drop_rate: float | None = None,
    num_frames: int | None = None,
    img_size: int | None = None,
    checkpoint_path: str | Path | None = None,
    features_only: Literal[True],
    out_indices: Sequence[int] | None = None,
) -> VideoSwinFeatures: ...


def create_model(
    name: str,
    pretrained: bool = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_path_rate: float | None = None,
    *,
    global_pool: str | None = None,
    patch_size: Sequence[int] | None = None,
    window_size: Sequence[int] | None = None,
    drop_rate: float | None = None,
    num_frames: int | None = None,
    img_size: int | None = None,
    checkpoint_path: str | Path | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> VideoSwinTransformer | VideoSwinFeatures:
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
        global_pool: "avg", or "" to return the feature map instead of the pooled feature, which
            requires `num_classes=0`. None means "avg".
        patch_size: Frames, rows and columns per patch; None uses the value of the model card. With
            `pretrained`, the weights are summed over time for patches of one frame; other changes
            are rejected.
        window_size: Frames, rows and columns of tokens per window; None uses the value of the model
            card. With `pretrained`, the bias tables are interpolated.
        drop_rate: Dropout rate before the classifier, as in timm; None uses the value of the model
            card.
        num_frames: Frames per clip that `model.bundle` asks for; the network takes any number.
        img_size: Height and width of a view in pixels that `model.bundle` asks for; its short side
            changes in proportion. The network takes any size.
        checkpoint_path: A weights file to load, instead of `pretrained`. All tensors must match.
        features_only: Return feature maps of stages instead of logits.
        out_indices: Stages to return with `features_only`, counted from 0; None returns all.

    Returns:
        The model, in eval mode if `pretrained`, else in training mode. With `features_only`, the
        backbone.

    Raises:
        UnknownNameError: No model has this name.
        CheckpointError: The model has no weights, or they cannot be loaded.
        ConfigError: The arguments contradict each other.
    """
    if features_only and (num_classes or global_pool):
        raise ConfigError(
            f"features_only is True with num_classes {num_classes} and global_pool "
            f"{global_pool!r}, but feature maps have neither; leave both out."
        )
    if out_indices is not None and not features_only:
        raise ConfigError(
            f"out_indices is {tuple(out_indices)}, but applies to features_only=True; pass both."
        )
    card = find_card(name)
    if pretrained and checkpoint_path is not None:
        raise ConfigError("pretrained and checkpoint_path both give weights; pass one of them.")
    changes: dict[str, Any] = {
        "drop_path_rate": drop_path_rate,
        "head_drop_rate": drop_rate,
        "patch_size": None if patch_size is None else tuple(patch_size),
        "window_size": None if window_size is None else tuple(window_size),
    }
    changes = {setting: value for setting, value in changes.items() if value is not None}
    if pretrained:
        model = _create_pretrained(card, in_chans, changes)
        if num_classes not in (None, model.num_classes):
            model.reset_classifier(num_classes)
    else:
        ends = {"num_classes": num_classes, "in_chans": in_chans}
        changes |= {setting: value for setting, value in ends.items() if value is not None}
        model = _create_untrained(card, changes)
    if global_pool not in (None, model.global_pool):
        model.reset_classifier(model.num_classes, global_pool)
    if checkpoint_path is not None:
        loaded, _ = load_checkpoint(checkpoint_path, architecture=model.bundle.model)
        model.load_state_dict(loaded.state_dict())
    model.bundle = _for_input(model.bundle, num_frames, img_size)
    if not features_only:
        return model
    num_stages = model.backbone.num_layers
    return VideoSwinFeatures(model, range(num_stages) if out_indices is None else out_indices)


def _for_input(bundle: BundleConfig, num_frames: int | None, img_size: int | None) -> BundleConfig:
    """The same configuration for clips of another length or size."""
    sampling, preprocessing = bundle.sampling, bundle.preprocessing
    if num_frames is not None:
        sampling = dataclasses.replace(sampling, num_frames=num_frames)
    if img_size is not None:
        short_side = round(preprocessing.short_side * img_size / preprocessing.crop_size)
        preprocessing = dataclasses.replace(
            preprocessing, crop_size=img_size, short_side=max(short_side, img_size)
        )
    return dataclasses.replace(bundle, sampling=sampling, preprocessing=preprocessing)


def _create_untrained(card: ModelCard, changes: dict[str, Any]) -> VideoSwinTransformer:
    model = dataclasses.replace(card.bundle.model, **changes)
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
    card: ModelCard, in_chans: int | None, changes: dict[str, Any]
) -> VideoSwinTransformer:
    if in_chans not in (None, card.bundle.model.in_chans):
        raise CheckpointError(
            f"in_chans is {in_chans}, but the weights {card.name!r} have "
            f"{card.bundle.model.in_chans} input channels; omit in_chans, use pretrained=False, or "
            'adapt the weights: load_checkpoint(..., allow={"in_chans"}).'
        )
    path = resolve_model(card.name).path
    if path.is_dir() and changes.keys() <= {"drop_path_rate"}:
        return VideoSwinTransformer.from_pretrained(path, **changes)
    return _load_card_weights(card, path, changes)


def _load_card_weights(
    card: ModelCard, path: Path, changes: dict[str, Any]
) -> VideoSwinTransformer:
    """Loads the downloaded weights of a model card."""
    config = dataclasses.replace(card.bundle.model, **changes)
    # Image weights are inflated, and the image classifier is dropped.
    allow = {"inflate", "head"} if card.kind == "image" else set()
    if "patch_size" in changes:
        allow.add("patch_time")
    if "window_size" in changes:
        allow.add("window")
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
    if resolved.path.is_dir() and (resolved.card is not None or has_config(resolved.path)):
        return VideoSwinTransformer.from_pretrained(resolved.path)
    if resolved.card is None:
        return load_checkpoint(resolved)[0]
    return _load_card_weights(resolved.card, resolved.path, changes={})
