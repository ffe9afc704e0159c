"""The training recipe: pydantic models that validate one YAML file.

In `clip` and `model`, None means: as in the initial weights.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from ..errors import MissingExtraError

try:
    from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
except ImportError as error:
    raise MissingExtraError("pydantic", "train", "Training with a recipe") from error

SCRATCH = "scratch"

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Size3 = Annotated[list[Count], Field(min_length=3, max_length=3)]
Range = Annotated[list[Positive], Field(min_length=2, max_length=2)]


class RecipeSection(BaseModel):
    """Strict: strings are not converted to numbers; unknown keys and empty strings are rejected."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @field_validator("*")
    @classmethod
    def _require_text(cls, value: Any) -> Any:
        if value == "":  # pathlib would take it for the current folder
            raise ValueError("it must not be empty; leave it out, or write null")
        return value


class SizesConfig(RecipeSection):
    """The sizes of a custom network; see `ModelConfig`."""

    embed_dim: Count
    depths: list[Count]
    num_heads: list[Count]
    patch_size: Size3 = [2, 4, 4]
    window_size: Size3 = [8, 7, 7]


class NetworkConfig(RecipeSection):
    """The network and its initial weights.

    Attributes:
        init_from: The initial weights: a name that `videoswin models` lists, a file, a folder, or
            "scratch" for random weights.
        pretrained: "required" rejects a recipe without initial weights unless `init_from` is
            "scratch".
        architecture: The network by name. If this and `sizes` are None, the network of the weights.
        sizes: The network by its sizes.
        allow: How the weights may differ from the network. The classifier may always differ.
        train: "head" trains the classifier only (linear probe).
        frozen_stages: As in the reference implementation; -1 freezes nothing.
        drop_path_rate: Stochastic depth; None: as in the initial weights.
        head_drop_rate: Dropout before the classifier; None: as in the initial weights.
        drop_rate: Dropout after projections.
        attn_drop_rate: Dropout of attention weights.
    """

    init_from: str | None = None
    pretrained: Literal["required", "optional"] = "required"
    architecture: str | None = None
    sizes: SizesConfig | None = None
    allow: list[Literal["inflate", "window", "in_chans"]] = ["inflate"]
    train: Literal["all", "head"] = "all"
    frozen_stages: Annotated[int, Field(ge=-1)] = -1
    drop_path_rate: Fraction | None = None
    head_drop_rate: Fraction | None = None
    drop_rate: Fraction = 0.0
    attn_drop_rate: Fraction = 0.0

    @model_validator(mode="after")
    def _one_network(self) -> NetworkConfig:
        if self.architecture is not None and self.sizes is not None:
            raise ValueError("give architecture or sizes, not both")
        return self


class DataConfig(RecipeSection):
    """The datasets; docs/data.md describes the formats.

    Attributes:
        train: A folder of classes or an annotation file.
        val: Validation clips. None: a split `val` inside `train`, else `val_fraction` of the
            training clips.
        test: Test clips, evaluated once at the end with all views of the model.
        root: The folder that paths in annotation files are relative to.
        format: The annotation format; None: detected.
        delimiter: The delimiter of text lists; None: detected.
        labels: A file of class names, or the name of an included label set.
        num_classes: Number of classes; None: as in the annotation.
        split: The split of `train` to train on; None: the one whose name starts with "train".
        val_fraction: Fraction of the training clips, per class, that becomes the validation set.
        group: A regular expression. Clips whose file names have the same match stay in the same
            set when the validation set is split off.
        quarantine: The list of unreadable clips; None: beside the data.
        background: For lists of segments. "class": what is outside of all segments is a class,
            "background"; "ignore": it is not used.
        annotation_fps: Frame rate of a Label Studio project whose tasks do not contain it.
        targets: For loss.kind=regression: the columns or keys of the numbers to predict.
        class_balanced: Sample clips so that each class is equally likely.
        frame_order: "natural"; or a control experiment without temporal order, in training,
            validation and test: "single_frame" repeats the middle frame of the clip, "shuffled"
            puts its frames in random order.
    """

    train: str | None = None
    val: str | None = None
    test: str | None = None
    root: str | None = None
    format: str | None = None
    delimiter: str | None = None
    labels: str | None = None
    num_classes: Count | None = None
    split: str | None = None
    val_fraction: Fraction = 0.0
    group: str | None = None
    quarantine: str | None = None
    background: Literal["ignore", "class"] = "ignore"
    annotation_fps: Positive | None = None
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    class_balanced: bool = False
    frame_order: Literal["natural", "single_frame", "shuffled"] = "natural"


class ClipConfig(RecipeSection):
    """Frames and pixels of a clip, and the test views of the finished model.

    Attributes:
        num_frames: Frames per clip.
        stride: Distance between frames, in frames.
        stride_seconds: Distance between frames, in seconds.
        rule: The sampling rule.
        crop_size: Height and width of the input, in pixels.
        train_short_side: Short side of a frame before the random crop, in pixels. None: 8/7 of
            `crop_size`, as 256 is to 224.
        interpolation: How frames are resized.
        test_clips: Clips per video at test time.
        test_crops: Crops per clip at test time.
    """

    num_frames: Count | None = None
    stride: Count | None = None
    stride_seconds: Positive | None = None
    rule: Literal["official", "mmaction2", "uniform"] | None = None
    crop_size: Count | None = None
    train_short_side: Count | None = None
    interpolation: Literal["bilinear", "area"] | None = None
    test_clips: Count | None = None
    test_crops: Literal[1, 3, 5] | None = None


class AugmentConfig(RecipeSection):
    """Augmentation of a training clip, the same in all of its frames.

    Attributes:
        scale: Range of the area of the random crop, relative to the frame. The crop is resized to
            `clip.crop_size`.
        ratio: Range of the aspect ratio of the random crop.
        flip: Probability of a horizontal flip; 0 if classes distinguish left from right.
        randaugment_ops: How many of the 18 operations are applied.
        randaugment_magnitude: Their strength, 0 to 30.
        erase: Probability of random erasing (one box, filled with the mean color).
        mixup: Alpha of the Beta distribution; 0 disables it. If both are enabled, each applies
            to half of the clips.
        cutmix: Alpha of the Beta distribution; 0 disables it.
    """

    scale: Range = [0.08, 1.0]
    ratio: Range = [0.75, 4 / 3]
    flip: Probability = 0.5
    randaugment_ops: Annotated[int, Field(ge=0, le=18)] = 0
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 7
    erase: Probability = 0.0
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> AugmentConfig:
        if self.scale[0] > self.scale[1] or self.scale[1] > 1 or self.ratio[0] > self.ratio[1]:
            raise ValueError("scale and ratio are ranges [min, max], and scale is at most 1")
        return self


class LossConfig(RecipeSection):
    """The loss.

    Attributes:
        kind: "cross_entropy", one correct class per clip; or "binary", a binary cross-entropy per
            class, so that a clip may show several classes or none; or "regression", the
            distance to the numbers in `data.targets`, standardized by the training clips. None: as
            the annotation requires.
        distance: Of a regression: mean squared error, or Huber loss.
        huber_delta: Where the Huber loss becomes linear, in standard deviations.
        label_smoothing: Label smoothing.
        class_weights: "balanced" (1 / number of clips), or one number per class. They are scaled
            so that their mean over the clips is 1.
    """

    kind: Literal["cross_entropy", "binary", "regression"] | None = None
    distance: Literal["mse", "huber"] = "mse"
    huber_delta: Positive = 1.0
    label_smoothing: Fraction = 0.0
    class_weights: Literal["balanced"] | list[Positive] | None = None


class OptimizerConfig(RecipeSection):
    """AdamW and its parameter groups.

    Attributes:
        learning_rate: The learning rate of the head, for the total batch size.
        weight_decay: Weight decay.
        betas: Betas of AdamW.
        groups: The preset of parameter groups, see `optim.py`.
        backbone_multiplier: Factor of the backbone's learning rate.
        layer_decay: Factor of the learning rate from each block to the one before it.
        grad_clip_norm: Maximum norm of the gradients.
    """

    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.02
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    groups: Literal["official", "mmaction2"] = "official"
    backbone_multiplier: Positive = 0.1
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    grad_clip_norm: Positive | None = None


class ScheduleConfig(RecipeSection):
    """A cosine learning-rate schedule that ends at 0, with a linear warm-up; see `optim.py`.

    Attributes:
        epochs: Number of epochs.
        warmup_epochs: Length of the warm-up.
        warmup_factor: Factor of the learning rate at the first step.
        cosine: Whether the cosine changes per epoch (as published) or per step.
    """

    epochs: Count = 30
    warmup_epochs: NonNegative = 2.5
    warmup_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    cosine: Literal["epoch", "step"] = "epoch"


class RunConfig(RecipeSection):
    """Settings of the run that are not part of the method.

    Attributes:
        precision: Precision of the forward pass.
        grad_checkpointing: Recompute blocks in the backward pass to save memory.
        workers: Data loading processes per training process; 0: load in the training process.
            None: by the number of cores.
        checkpoint_minutes: Maximum time between two checkpoints. There is also one per epoch.
        max_checkpoints: How many checkpoints are kept.
        val_epochs: Validate every N epochs.
        keep_checkpoint: Which weights become the finished model: of the best or the last epoch.
    """

    precision: Literal["f32", "bf16", "fp16"] = "f32"
    grad_checkpointing: bool = False
    workers: Annotated[int, Field(ge=0)] | None = None
    checkpoint_minutes: Positive = 10.0
    max_checkpoints: Count = 2
    val_epochs: Count = 1
    keep_checkpoint: Literal["best", "last"] = "best"


class Recipe(RecipeSection):
    """A complete training recipe.

    Attributes:
        model: The network and its initial weights.
        data: The datasets.
        clip: Frames, pixels and test views.
        augment: Augmentation.
        loss: The loss.
        optimizer: AdamW.
        schedule: Epochs and learning-rate schedule.
        batch_size: Clips per optimizer step, over all processes and micro batches.
        micro_batch_size: Clips per forward pass of one process; None: as many as fit in memory.
        run: Settings of the run that are not part of the method.
        ema_decay: Exponential moving average of the weights; None is off.
        seed: Seed for all random number generators.
    """

    model: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    clip: ClipConfig = ClipConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    batch_size: Count = 64
    micro_batch_size: Count | None = None
    run: RunConfig = RunConfig()
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
