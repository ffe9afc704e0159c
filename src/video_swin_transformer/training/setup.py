"""The network of a recipe: its sizes, its initial weights, its sampling and preprocessing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from ..config import (
    BundleConfig,
    ClipSampling,
    ModelConfig,
    Preprocessing,
    RegressionTarget,
)
from ..errors import ConfigError
from ..model import VideoSwinTransformer
from ..registry import find_card
from ..weights import load_checkpoint
from .config import SCRATCH, ClipConfig, NetworkConfig, Recipe


@dataclass(frozen=True)
class TrainSetup:
    """A network that is ready to train.

    Attributes:
        model: The network in training mode. `model.bundle` is that of the finished model, except
            for its name.
        train_sampling: Frames of a training clip.
        train_short_side: Short side of a frame before the random crop, in pixels.
        notes: What was decided, one sentence each.
        warnings: What may be wrong with the recipe, one sentence each.
    """

    model: VideoSwinTransformer
    train_sampling: ClipSampling
    train_short_side: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def val_sampling(self) -> ClipSampling:
        """One clip from the middle of the video, as in validation of the official code."""
        return dataclasses.replace(self.model.bundle.sampling, num_clips=1)

    @property
    def val_preprocessing(self) -> Preprocessing:
        """The center crop of frames as large as in training."""
        return dataclasses.replace(
            self.model.bundle.preprocessing, short_side=self.train_short_side, num_crops=1
        )


def build_setup(
    recipe: Recipe,
    num_classes: int,
    labels: tuple[str, ...],
    *,
    multi_label: bool = False,
    targets: tuple[RegressionTarget, ...] = (),
) -> TrainSetup:
    """Builds the network with its initial weights.

    Args:
        recipe: The recipe.
        num_classes: Number of classes. The classifier is new unless the classes are the same.
        labels: Class names; may be empty.
        multi_label: Whether the loss is a binary cross-entropy per class, see `BundleConfig`.
        targets: The numbers of a regression.

    Raises:
        ConfigError: The recipe requires initial weights but names none, or does not describe a
            network.
        CheckpointError: The weights do not fit or cannot be downloaded.
        UnknownNameError: There are no such weights or no such architecture.
    """
    config = recipe.model
    torch.manual_seed(recipe.seed)
    notes: list[str] = []
    warnings: list[str] = []
    weights = None
    if config.init_from is None and config.pretrained == "required":
        raise ConfigError(
            "The recipe requires pretrained weights and names none (model.pretrained: required). "
            "Set model.init_from to a name or a file (init_from=swin-t-k400), or to scratch for "
            "random weights, which need far more clips and epochs."
        )
    if config.init_from is None or config.init_from == SCRATCH:
        base = _bundle_without_weights(config)
        model_config = base.model
        notes.append("The network starts with random weights.")
        if config.pretrained == "required":
            warnings.append(
                "This recipe and its accuracy are meant for pretrained weights; from scratch, "
                "Kinetics-400 accuracy is about 55% instead of 79%."
            )
    else:
        weights = _load_weights(config, num_classes, notes)
        base, model_config = weights.bundle, weights.config
    bundle = BundleConfig(
        model=_with_dropout(config, model_config, num_classes),
        sampling=_sampling(recipe.clip, base.sampling),
        preprocessing=_preprocessing(recipe.clip, base.preprocessing),
        labels=labels,
        multi_label=multi_label,
        targets=targets,
    )
    model = VideoSwinTransformer(bundle, frozen_stages=config.frozen_stages)
    if weights is not None:
        if labels and labels == base.labels:
            notes.append("The classes are those of the weights, so their classifier is kept.")
        else:
            weights.reset_classifier(num_classes)
        model.load_state_dict(weights.state_dict())
    short_side = recipe.clip.train_short_side or round(bundle.preprocessing.crop_size * 8 / 7)
    if short_side < bundle.preprocessing.crop_size:
        raise ConfigError(
            f"clip.train_short_side is {short_side}, but must be at least the crop size, "
            f"{bundle.preprocessing.crop_size}."
        )
    setup = _train_setup(model, config, short_side)
    return dataclasses.replace(setup, notes=tuple(notes), warnings=tuple(warnings))


def rebuild_setup(recipe: Recipe, bundle: BundleConfig, train_short_side: int) -> TrainSetup:
    """Builds the network of a resumed run; its weights come from the checkpoint."""
    model = VideoSwinTransformer(bundle, frozen_stages=recipe.model.frozen_stages)
    return _train_setup(model, recipe.model, train_short_side)


def _train_setup(
    model: VideoSwinTransformer, config: NetworkConfig, train_short_side: int
) -> TrainSetup:
    if config.train == "head":
        model.backbone.requires_grad_(False)
    sampling = dataclasses.replace(model.bundle.sampling, num_clips=1)
    return TrainSetup(model.train(), sampling, train_short_side)


def set_train_mode(model: VideoSwinTransformer, config: NetworkConfig) -> None:
    """Sets training mode; a backbone that is not trained stays in evaluation mode."""
    model.train()
    if config.train == "head":
        model.backbone.eval()


def _bundle_without_weights(config: NetworkConfig) -> BundleConfig:
    if config.architecture is not None:
        return find_card(config.architecture).bundle
    if config.sizes is not None:
        return BundleConfig.for_model(ModelConfig(**config.sizes.model_dump()))
    raise ConfigError(
        "The recipe describes no network; set model.architecture to a name that `videoswin models` "
        "lists, model.sizes, or model.init_from to weights."
    )


def _load_weights(
    config: NetworkConfig, num_classes: int, notes: list[str]
) -> VideoSwinTransformer:
    assert config.init_from is not None
    allow = ("head", *config.allow)
    if config.architecture is None and config.sizes is None:
        model, report = load_checkpoint(config.init_from, num_classes=num_classes, allow=allow)
    else:
        network = _bundle_without_weights(config).model
        network = dataclasses.replace(network, num_classes=num_classes)
        model, report = load_checkpoint(config.init_from, architecture=network, allow=allow)
    notes.append(f"The network starts with the weights {config.init_from}.")
    notes += report.adaptations
    return model


def _with_dropout(config: NetworkConfig, network: ModelConfig, num_classes: int) -> ModelConfig:
    path, head = config.drop_path_rate, config.head_drop_rate
    return dataclasses.replace(
        network,
        num_classes=num_classes,
        drop_rate=config.drop_rate,
        attn_drop_rate=config.attn_drop_rate,
        drop_path_rate=network.drop_path_rate if path is None else path,
        head_drop_rate=network.head_drop_rate if head is None else head,
    )


def _sampling(config: ClipConfig, base: ClipSampling) -> ClipSampling:
    rule = config.rule or base.rule
    num_clips = config.test_clips or (1 if rule == "uniform" else base.num_clips)
    seconds = config.stride_seconds
    if seconds is None and config.stride is None:
        seconds = base.stride_seconds  # a stride in frames ignores the frame rate
    return ClipSampling(
        num_frames=config.num_frames or base.num_frames,
        stride=config.stride or base.stride,
        num_clips=num_clips,
        rule=rule,
        stride_seconds=seconds,
    )


def _preprocessing(config: ClipConfig, base: Preprocessing) -> Preprocessing:
    size = config.crop_size or base.crop_size
    crops = config.test_crops or base.num_crops
    same_views = size == base.crop_size and crops == base.num_crops
    return dataclasses.replace(
        base,
        short_side=base.short_side if same_views else size,
        crop_size=size,
        num_crops=crops,
        interpolation=config.interpolation or base.interpolation,
        whole_frame=False,
    )
