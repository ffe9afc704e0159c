"""What a training is, as checked data: one YAML file, every key of which stands here.

None for a setting of `clip` or `model` means: as the weights that the training starts from.
"""

from __future__ import annotations

from typing import Annotated, Literal

from ..errors import MissingExtraError

try:
    from pydantic import BaseModel, ConfigDict, Field, model_validator
except ImportError as error:
    raise MissingExtraError("pydantic", "train", "Training by a recipe") from error

SCRATCH = "scratch"

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Size3 = Annotated[list[Count], Field(min_length=3, max_length=3)]
Interval = Annotated[list[Positive], Field(min_length=2, max_length=2)]


class RecipeModel(BaseModel):
    """Strict: a text is no number, and a key that is not here is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class SizesConfig(RecipeModel):
    """A network of one's own; see `ModelConfig`."""

    embed_dim: Count
    depths: list[Count]
    num_heads: list[Count]
    patch_size: Size3 = [2, 4, 4]
    window_size: Size3 = [8, 7, 7]


class ModelConfigPart(RecipeModel):
    """The network and where its weights come from.

    start (`from` in the file): a name of `videoswin models`, a file or folder, or "scratch".
    pretrained: "required" refuses a start without weights unless `from: scratch` is written down.
    architecture, sizes: the network, by name or by numbers; neither: that of the weights.
    allow: how the weights may differ from the network; the classifier may always be another.
    train: "head" leaves the backbone as it is (linear probe).
    """

    start: str | None = Field(default=None, alias="from")
    pretrained: Literal["required", "optional"] = "required"
    architecture: str | None = None
    sizes: SizesConfig | None = None
    allow: list[Literal["inflate", "window", "in_chans"]] = ["inflate"]
    train: Literal["all", "head"] = "all"
    frozen_stages: Annotated[int, Field(ge=-1)] = -1
    drop_path_rate: Rate | None = None
    head_drop_rate: Rate | None = None
    drop_rate: Rate = 0.0
    attn_drop_rate: Rate = 0.0

    @model_validator(mode="after")
    def _one_network(self) -> ModelConfigPart:
        if self.architecture is not None and self.sizes is not None:
            raise ValueError("give architecture or sizes, not both")
        return self


class DataConfig(RecipeModel):
    """The clips; see docs/data.md for the formats.

    val: clips to watch while training; None: a split `val` inside `train`, else `hold_out` of the
    training clips, by class. group: a regular expression; clips whose file names match it alike
    are held out together. test: looked at once, at the end, with the views of the model.
    control: train and test on frames that have lost their order: the clip's middle frame only
    ("single_frame"), or all of its frames in random order ("shuffled").
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
    hold_out: Rate = 0.0
    group: str | None = None
    quarantine: str | None = None
    class_balanced: bool = False
    control: Literal["none", "single_frame", "shuffled"] = "none"


class ClipConfig(RecipeModel):
    """Frames and pixels, and the views of the finished model."""

    num_frames: Count | None = None
    stride: Count | None = None
    stride_seconds: Positive | None = None
    rule: Literal["official", "mmaction2", "uniform"] | None = None
    crop_size: Count | None = None
    train_short_side: Count | None = None  # None: 8/7 of crop_size, as 256 is of 224
    interpolation: Literal["bilinear", "area"] | None = None
    test_clips: Count | None = None
    test_crops: Literal[1, 3, 5] | None = None


class AugmentConfig(RecipeModel):
    """What happens to a training clip, the same in all of its frames.

    area, aspect: ranges of the random crop, which is then resized to the full size.
    flip: probability of mirroring left and right; 0 where classes tell left from right.
    randaugment_ops, randaugment_magnitude: how many of 18 operations, and how strong (0 to 30).
    erase: probability of one gray box. mixup, cutmix: alpha of the Beta distribution, 0 is off;
    with both, half of the clips each.
    """

    area: Interval = [0.08, 1.0]
    aspect: Interval = [0.75, 4 / 3]
    flip: Share = 0.5
    randaugment_ops: Annotated[int, Field(ge=0, le=18)] = 0
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 7
    erase: Share = 0.0
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> AugmentConfig:
        if self.area[0] > self.area[1] or self.area[1] > 1 or self.aspect[0] > self.aspect[1]:
            raise ValueError("area and aspect are ranges [least, most], area at most 1")
        return self


class LossConfig(RecipeModel):
    """kind: "cross_entropy", of which each clip has one right class; "binary", which judges each
    class on its own, so that a clip may show several or none. None: as the list has it.
    class_weights: "balanced", or one number a class; scaled to a mean of 1."""

    kind: Literal["cross_entropy", "binary"] | None = None
    label_smoothing: Rate = 0.0
    class_weights: Literal["balanced"] | list[Positive] | None = None


class OptimizerConfig(RecipeModel):
    """AdamW. learning_rate is the head's and belongs to the total batch.

    groups: which parameters learn slower and which do not decay, see `param_groups.py`.
    layer_decay: each block learns by this factor slower than the one after it.
    grad_clip_norm: gradients longer than this are shortened.
    """

    learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 0.02
    betas: Annotated[list[Rate], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    groups: Literal["official", "mmaction2"] = "official"
    backbone_multiplier: Positive = 0.1
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    grad_clip_norm: Positive | None = None


class ScheduleConfig(RecipeModel):
    """Cosine to 0, see `schedule.py`. cosine: stepped by epoch (published) or by step."""

    epochs: Count = 30
    warmup_epochs: NotNegative = 2.5
    warmup_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    cosine: Literal["epoch", "step"] = "epoch"


class BatchConfig(RecipeModel):
    """clips: in one step of the optimizer, over all processes. micro: at once in one of them;
    None: as fits the memory."""

    clips: Count = 64
    micro: Count | None = None


class RunConfig(RecipeModel):
    """How the machine is used; nothing here is part of the method.

    workers: processes that read, for each that trains; 0: none. None: by the number of cores.
    checkpoint_minutes: at least so often; also after each epoch. product: which weights are kept.
    """

    precision: Literal["f32", "bf16", "fp16"] = "f32"
    checkpointing: bool = False
    workers: Annotated[int, Field(ge=0)] | None = None
    checkpoint_minutes: Positive = 10.0
    keep_checkpoints: Count = 2
    val_epochs: Count = 1
    product: Literal["best", "last"] = "best"


class Recipe(RecipeModel):
    """A whole training. ema_decay: average the weights, None is off."""

    model: ModelConfigPart = ModelConfigPart()
    data: DataConfig = DataConfig()
    clip: ClipConfig = ClipConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    batch: BatchConfig = BatchConfig()
    run: RunConfig = RunConfig()
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
