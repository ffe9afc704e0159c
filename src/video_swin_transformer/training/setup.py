"""The network of a recipe: shape, weights to start from, how it looks at clips."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from ..config import BundleConfig, ClipSampling, ModelConfig, Preprocessing
from ..errors import ConfigError
from ..model import VideoSwinTransformer
from ..registry import find_card
from ..weights import load_checkpoint
from .config import SCRATCH, ClipConfig, ModelConfigPart, Recipe


@dataclass(frozen=True)
class Start:
    """A network that is ready to learn. model.bundle is what the finished model will say of
    itself, but for its name. notes: for people."""

    model: VideoSwinTransformer
    train_sampling: ClipSampling
    train_short_side: int
    notes: tuple[str, ...]

    @property
    def val_sampling(self) -> ClipSampling:
        """One clip from the middle, as the official code watches its training."""
        return dataclasses.replace(self.model.bundle.sampling, num_clips=1)

    @property
    def val_preprocessing(self) -> Preprocessing:
        """The middle of frames as large as in training."""
        return dataclasses.replace(
            self.model.bundle.preprocessing, short_side=self.train_short_side, num_crops=1
        )


def build_setup(
    recipe: Recipe, num_classes: int, labels: tuple[str, ...], *, multi_label: bool = False
) -> Start:
    """The network with its start weights and fresh or kept classifier, in training mode.

    multi_label: what it learns, see `BundleConfig`.
    Raises ConfigError where the recipe wants weights and has none, CheckpointError where they do
    not fit or cannot be had, UnknownNameError.
    """
    plan = recipe.model
    torch.manual_seed(recipe.seed)
    notes: list[str] = []
    weights = None
    if plan.start is None and plan.pretrained == "required":
        raise ConfigError(
            "The recipe needs pretrained weights and names none (pretrained: required). Give "
            "from=NAME or from=FILE; from=scratch begins with random weights, which needs far "
            "more clips and epochs."
        )
    if plan.start is None or plan.start == SCRATCH:
        base = _bundle_without_weights(plan)
        config = base.model
        notes.append("The network begins with random weights.")
        if plan.pretrained == "required":
            notes.append(
                "warning: this recipe is meant for pretrained weights, and its accuracy with them; "
                "from scratch, Kinetics-400 comes to about 55 % instead of 79 %."
            )
    else:
        weights = _load(plan, num_classes, notes)
        base, config = weights.bundle, weights.config
    config = _with_rates(plan, config, num_classes)
    bundle = BundleConfig(
        model=config,
        sampling=_sampling(recipe.clip, base.sampling),
        preprocessing=_preprocessing(recipe.clip, base.preprocessing),
        labels=labels,
        multi_label=multi_label,
    )
    model = VideoSwinTransformer(bundle, frozen_stages=plan.frozen_stages)
    if weights is not None:
        if labels and labels == base.labels:
            notes.append("The classes are those of the weights, so their classifier is kept.")
        else:
            weights.reset_classifier(num_classes)
        model.load_state_dict(weights.state_dict())
    if plan.train == "head":
        model.backbone.requires_grad_(False)
    side = recipe.clip.train_short_side or round(bundle.preprocessing.crop_size * 8 / 7)
    if side < bundle.preprocessing.crop_size:
        raise ConfigError(
            f"clip.train_short_side is {side}, but must be at least the crop of "
            f"{bundle.preprocessing.crop_size}."
        )
    sampling = dataclasses.replace(bundle.sampling, num_clips=1)
    return Start(model.train(), sampling, side, tuple(notes))


def rebuild_setup(recipe: Recipe, bundle: BundleConfig, train_short_side: int) -> Start:
    """The network of a run that goes on; its weights come from the checkpoint."""
    model = VideoSwinTransformer(bundle, frozen_stages=recipe.model.frozen_stages)
    if recipe.model.train == "head":
        model.backbone.requires_grad_(False)
    sampling = dataclasses.replace(bundle.sampling, num_clips=1)
    return Start(model.train(), sampling, train_short_side, ())


def set_training(model: VideoSwinTransformer, plan: ModelConfigPart) -> None:
    """Training mode; a backbone that does not learn drops nothing either."""
    model.train()
    if plan.train == "head":
        model.backbone.eval()


def _bundle_without_weights(plan: ModelConfigPart) -> BundleConfig:
    if plan.architecture is not None:
        return find_card(plan.architecture).bundle
    if plan.sizes is not None:
        return BundleConfig.for_model(ModelConfig(**plan.sizes.model_dump()))
    raise ConfigError(
        "The recipe describes no network: give model.architecture=NAME (videoswin models lists "
        "them), model.sizes, or weights with from=NAME."
    )


def _load(plan: ModelConfigPart, num_classes: int, notes: list[str]) -> VideoSwinTransformer:
    assert plan.start is not None
    allow = ("head", *plan.allow)
    if plan.architecture is None and plan.sizes is None:
        model, report = load_checkpoint(plan.start, num_classes=num_classes, allow=allow)
    else:
        config = _bundle_without_weights(plan).model
        config = dataclasses.replace(config, num_classes=num_classes)
        model, report = load_checkpoint(plan.start, architecture=config, allow=allow)
    notes.append(f"The network begins with the weights of {plan.start}.")
    notes += report.adaptations
    return model


def _with_rates(plan: ModelConfigPart, config: ModelConfig, num_classes: int) -> ModelConfig:
    path, head = plan.drop_path_rate, plan.head_drop_rate
    return dataclasses.replace(
        config,
        num_classes=num_classes,
        drop_rate=plan.drop_rate,
        attn_drop_rate=plan.attn_drop_rate,
        drop_path_rate=config.drop_path_rate if path is None else path,
        head_drop_rate=config.head_drop_rate if head is None else head,
    )


def _sampling(plan: ClipConfig, base: ClipSampling) -> ClipSampling:
    rule = plan.rule or base.rule
    num_clips = plan.test_clips or (1 if rule == "uniform" else base.num_clips)
    seconds = plan.stride_seconds
    if seconds is None and plan.stride is None:
        seconds = base.stride_seconds  # a stride in frames says that the rate does not matter
    return ClipSampling(
        num_frames=plan.num_frames or base.num_frames,
        stride=plan.stride or base.stride,
        num_clips=num_clips,
        rule=rule,
        stride_seconds=seconds,
    )


def _preprocessing(plan: ClipConfig, base: Preprocessing) -> Preprocessing:
    size = plan.crop_size or base.crop_size
    crops = plan.test_crops or base.num_crops
    keeps_views = size == base.crop_size and crops == base.num_crops
    return dataclasses.replace(
        base,
        short_side=base.short_side if keeps_views else size,
        crop_size=size,
        num_crops=crops,
        interpolation=plan.interpolation or base.interpolation,
        whole_frame=False,
    )
