"""Configuration dataclasses: frozen, and converted to JSON and back.

`ModelConfig` describes the network, `ClipSampling` the frames and `Preprocessing` the views.
`BundleConfig` combines them with the labels and is what a saved folder's `config.json` contains.
This module imports only the standard library.
"""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .errors import ConfigError
from .strict_json import parse_json

MODEL_TYPE = "video_swin"
CONFIG_FILE = "config.json"  # the files of a saved folder
WEIGHTS_FILE = "model.safetensors"
EXPORT_FORMATS = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}  # by suffix
SAMPLING_RULES = ("official", "mmaction2", "uniform")
INTERPOLATIONS = ("bilinear", "area")
AVERAGES = ("prob", "score")  # mmaction2's names: its "score" is our logit
GLOBAL_POOLS = ("avg", "")
ALLOWED_NUM_CROPS = (1, 3, 5, 10)

# Channels, frames, height, width of one view.
ClipShape: TypeAlias = tuple[int, int, int, int]

# Limits of what a file may ask for, far above every published model: see docs/reliability.md.
MAX_STAGES = 8
MAX_BLOCKS = 512
MAX_CHANNELS = 8192  # of the first stage
MAX_PARAMS = 10**10
MAX_CLASSES = 10**6
MAX_FRAMES = 16384  # of a clip
MAX_SIDE = 8192  # of a frame, in pixels
MAX_VIEW_VALUES = 2**28  # channels x frames x height x width of one view

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def require(condition: bool, setting: str, got: object, allowed: str) -> None:
    """Raises ConfigError unless `condition` holds."""
    if not condition:
        raise ConfigError(f"{setting} is {got!r}, but must be {allowed}.")


def is_integer(value: object, minimum: int = 1, maximum: int | None = None) -> bool:
    """Returns whether `value` is an int, not a bool, and within the limits."""
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return value >= minimum and (maximum is None or value <= maximum)


def is_number(value: object, minimum: float, maximum: float) -> bool:
    """Returns whether `value` is a finite int or float, not a bool, and within the limits."""
    is_right_type = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_right_type and minimum <= value <= maximum  # type: ignore[operator]


def _triple(setting: str, value: Sequence[int]) -> tuple[int, int, int]:
    ok = (
        isinstance(value, Sequence)
        and len(value) == 3
        and all(is_integer(v, 1, 256) for v in value)
    )
    require(ok, setting, value, "three integers of 1 to 256 (time, height, width)")
    return (value[0], value[1], value[2])


def _tuple(setting: str, value: Sequence[Any], allowed: str) -> tuple[Any, ...]:
    require(isinstance(value, (list, tuple)), setting, value, allowed)
    return tuple(value)


def _fields_from(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """Checks that `data` has only fields of `cls`. Raises ConfigError for an unknown key."""
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ConfigError(
            f"{cls.__name__} has no setting {unknown[0]!r}. Known settings: "
            f"{', '.join(sorted(known))}."
        )
    return dict(data)


def _has_controls(text: str) -> bool:
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


@dataclass(frozen=True)
class ModelConfig:
    """Hyperparameters of the network.

    The defaults are those of the released configs (patch (2,4,4), window (8,7,7), patch norm),
    not the constructor defaults of the official class, which match no released weights.
    """

    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    patch_size: tuple[int, int, int] = (2, 4, 4)
    patch_stride: tuple[int, int, int] | None = None  # None: patch_size
    window_size: tuple[int, int, int] = (8, 7, 7)
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    qk_scale: float | None = None  # None: head_dim ** -0.5
    patch_norm: bool = True
    in_chans: int = 3
    num_classes: int = 400  # 0: no classifier, the pooled feature is the output
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.1
    head_drop_rate: float = 0.5
    global_pool: str = "avg"  # "": without a classifier, the feature map is the output

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        for name in ("depths", "num_heads"):
            value = _tuple(name, getattr(self, name), "a list of integers, one per stage")
            set_field(self, name, value)
        set_field(self, "patch_size", _triple("patch_size", self.patch_size))
        set_field(self, "window_size", _triple("window_size", self.window_size))
        if self.patch_stride is not None:
            stride = _triple("patch_stride", self.patch_stride)
            require(
                all(step <= side for step, side in zip(stride, self.patch_size, strict=True)),
                "patch_stride",
                stride,
                f"at most patch_size {self.patch_size} on every axis, or pixels would be skipped",
            )
            # Normalized so that equal networks compare equal.
            set_field(self, "patch_stride", None if stride == self.patch_size else stride)
        require(
            is_integer(self.embed_dim, 1, MAX_CHANNELS),
            "embed_dim",
            self.embed_dim,
            f"a positive integer, at most {MAX_CHANNELS}",
        )
        require(
            0 < len(self.depths) <= MAX_STAGES
            and all(is_integer(d) for d in self.depths)
            and sum(self.depths) <= MAX_BLOCKS,
            "depths",
            self.depths,
            f"positive integers, one per stage; at most {MAX_STAGES} stages and {MAX_BLOCKS} "
            "blocks in all",
        )
        require(
            len(self.num_heads) == len(self.depths) and all(is_integer(h) for h in self.num_heads),
            "num_heads",
            self.num_heads,
            f"{len(self.depths)} positive integers, one for each of depths {self.depths}",
        )
        for stage, heads in enumerate(self.num_heads):
            dim = self.embed_dim * 2**stage
            require(
                dim % heads == 0, f"num_heads[{stage}]", heads, f"a divisor of its {dim} channels"
            )
        for name in ("qkv_bias", "patch_norm"):
            value = getattr(self, name)
            require(isinstance(value, bool), name, value, "true or false")
        require(
            is_integer(self.in_chans, 1, 1024), "in_chans", self.in_chans, "an integer of 1 to 1024"
        )
        require(
            is_integer(self.num_classes, 0, MAX_CLASSES),
            "num_classes",
            self.num_classes,
            f"an integer of 0 to {MAX_CLASSES}",
        )
        require(
            is_number(self.mlp_ratio, 0, 64) and self.mlp_ratio > 0,
            "mlp_ratio",
            self.mlp_ratio,
            "above 0, and at most 64",
        )
        require(
            self.qk_scale is None or is_number(self.qk_scale, -1e6, 1e6),
            "qk_scale",
            self.qk_scale,
            "None or a number of at most a million",
        )
        for name in ("drop_rate", "attn_drop_rate", "drop_path_rate", "head_drop_rate"):
            rate = getattr(self, name)
            require(is_number(rate, 0, 1) and rate < 1, name, rate, "at least 0 and below 1")
        require(
            self.global_pool in GLOBAL_POOLS, "global_pool", self.global_pool, "'avg' or '' (none)"
        )
        require(
            self.global_pool == "avg" or self.num_classes == 0,
            "global_pool",
            self.global_pool,
            "'avg' with a classifier; for the feature map pass num_classes=0",
        )
        if self.num_params > MAX_PARAMS:
            raise ConfigError(
                f"This network has {self.num_params} parameters, but at most {MAX_PARAMS} are "
                "allowed; lower embed_dim, depths, mlp_ratio or num_classes."
            )

    @property
    def num_features(self) -> int:
        """Channels of the last feature map."""
        return self.embed_dim << (len(self.depths) - 1)

    @property
    def num_params(self) -> int:
        """Parameters of backbone and classifier, counted without building the network."""
        patch = self.patch_size[0] * self.patch_size[1] * self.patch_size[2]
        offsets = 1
        for length in self.window_size:
            offsets *= 2 * length - 1
        total = self.embed_dim * (self.in_chans * patch + 1 + 2 * self.patch_norm)
        for stage, (depth, heads) in enumerate(zip(self.depths, self.num_heads, strict=True)):
            dim = self.embed_dim * 2**stage
            hidden = int(dim * self.mlp_ratio)
            attention = 3 * dim * (dim + self.qkv_bias) + dim * (dim + 1) + offsets * heads
            mlp = hidden * (dim + 1) + dim * (hidden + 1)
            total += depth * (attention + mlp + 4 * dim)
            if stage < len(self.depths) - 1:
                total += 8 * dim + 8 * dim * dim  # patch merging: norm and reduction
        features = self.num_features
        return total + 2 * features + self.num_classes * (features + 1)


@dataclass(frozen=True)
class ClipSampling:
    """The frames of a video that form its clips (see `clip_indices`).

    Attributes:
        num_frames: Frames per clip.
        stride: Step between consecutive frames of a clip, in frames.
        num_clips: Clips per video.
        rule: "official" and "mmaction2" differ in where the clips begin. "uniform" is the
            Something-Something rule: one clip spread over the whole video; `stride` and `num_clips`
            have no effect.
        stride_seconds: Step in seconds, instead of `stride`, so that 15, 30 and 60 frames per
            second of one scene give the same clip. Official models never use it: they were trained
            on frames, whatever their rate.
    """

    num_frames: int = 32
    stride: int = 2
    num_clips: int = 4
    rule: str = "official"
    stride_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, most in (("num_frames", MAX_FRAMES), ("stride", 10**6), ("num_clips", 10**5)):
            value = getattr(self, name)
            require(is_integer(value, 1, most), name, value, f"a positive integer, at most {most}")
        require(
            self.rule in SAMPLING_RULES, "rule", self.rule, f"one of {', '.join(SAMPLING_RULES)}"
        )
        seconds = self.stride_seconds
        require(
            seconds is None or (is_number(seconds, 0, 86400) and seconds > 0),
            "stride_seconds",
            seconds,
            "above 0 and at most 86400 (a day), or None",
        )


@dataclass(frozen=True)
class Preprocessing:
    """How frames are converted to views (see `views_from_frames`).

    Attributes:
        short_side: Frames are resized so that their short side has this many pixels.
        crop_size: Side of the square crops, in pixels.
        num_crops: 1: center; 3: both ends of the long side and the middle; 5: evenly along the long
            side; 10: the corners and the center, then the mirror images of the five.
        mean: Mean pixel value in 0..255, one per channel; a single value means grayscale.
        std: Standard deviation, on the same scale.
        interpolation: "bilinear" as in the official pipeline, or "area", which antialiases.
        whole_frame: No crop: the resized frame is the one view. Cheaper than overlapping crops, and
            not the protocol of any published number.
    """

    short_side: int = 224
    crop_size: int = 224
    num_crops: int = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"
    whole_frame: bool = False

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = _tuple(name, getattr(self, name), "a list of numbers, one per channel")
            object.__setattr__(self, name, value)
        for name in ("short_side", "crop_size"):
            value = getattr(self, name)
            require(
                is_integer(value, 1, MAX_SIDE),
                name,
                value,
                f"a positive integer of pixels, at most {MAX_SIDE}",
            )
        require(
            isinstance(self.whole_frame, bool), "whole_frame", self.whole_frame, "true or false"
        )
        require(
            self.crop_size <= self.short_side,
            "crop_size",
            self.crop_size,
            f"at most short_side ({self.short_side})",
        )
        require(
            self.num_crops in ALLOWED_NUM_CROPS,
            "num_crops",
            self.num_crops,
            "1 (center), 3 (three-crop), 5 (evenly along the long side) or 10 (ten-crop)",
        )
        require(
            self.num_crops == 1 or not self.whole_frame,
            "num_crops",
            self.num_crops,
            "1 with whole_frame, which cuts nothing",
        )
        require(
            len(self.mean) == len(self.std) and len(self.mean) in (1, 3),
            "mean and std",
            (self.mean, self.std),
            "of one length, 1 (gray) or 3 (RGB)",
        )
        require(
            all(is_number(m, -1e6, 1e6) for m in self.mean), "mean", self.mean, "finite numbers"
        )
        require(
            all(is_number(s, 1e-6, 1e6) for s in self.std),
            "std",
            self.std,
            "numbers above 0 (at least 1e-6)",
        )
        require(
            self.interpolation in INTERPOLATIONS,
            "interpolation",
            self.interpolation,
            f"one of {', '.join(INTERPOLATIONS)}",
        )

    @property
    def crops(self) -> str:
        """The C of "KxC" views: the number of crops, or "full" for the whole frame."""
        return "full" if self.whole_frame else str(self.num_crops)


@dataclass(frozen=True)
class RegressionTarget:
    """A number that a model predicts.

    The network predicts it standardized: value = output * std + mean.

    Attributes:
        name: Name of the number.
        mean: Mean over the training clips.
        std: Standard deviation over the training clips, above 0.
    """

    name: str
    mean: float
    std: float

    def __post_init__(self) -> None:
        require(
            isinstance(self.name, str) and 0 < len(self.name) <= 1000, "name", self.name, "a string"
        )
        require(is_number(self.mean, -1e12, 1e12), "mean", self.mean, "a finite number")
        require(is_number(self.std, 1e-12, 1e12), "std", self.std, "a number above 0")


@dataclass(frozen=True)
class BundleConfig:
    """A saved model's `config.json`: network, sampling, preprocessing and labels together."""

    model: ModelConfig = ModelConfig()
    sampling: ClipSampling = ClipSampling()
    preprocessing: Preprocessing = Preprocessing()
    labels: tuple[str, ...] = ()  # empty: classes have numbers only
    name: str | None = None
    average_clips: str = "prob"  # mean of softmax; "score": softmax of the mean of logits
    multi_label: bool = False  # several classes may apply: sigmoid instead of softmax
    targets: tuple[RegressionTarget, ...] = ()  # numbers instead of classes

    def __post_init__(self) -> None:
        targets = _tuple("targets", self.targets, "a list of regression targets")
        object.__setattr__(self, "targets", targets)
        require(
            not targets or len(targets) == self.model.num_classes,
            "The number of regression targets",
            len(targets),
            f"the number of outputs, {self.model.num_classes}",
        )
        labels = _tuple("labels", self.labels, "a list of class names")
        object.__setattr__(self, "labels", labels)
        for label in labels:
            require(
                isinstance(label, str) and len(label) <= 1000 and not _has_controls(label),
                "A label",
                label,
                "a string of at most 1000 characters, without control characters",
            )
        require(
            self.name is None or isinstance(self.name, str), "name", self.name, "a string or None"
        )
        require(
            self.average_clips in AVERAGES, "average_clips", self.average_clips, "prob or score"
        )
        require(
            isinstance(self.multi_label, bool), "multi_label", self.multi_label, "true or false"
        )
        if self.labels and len(self.labels) != self.model.num_classes:
            raise ConfigError(
                f"There are {len(self.labels)} labels for {self.model.num_classes} classes; "
                "give one label for each class, or none."
            )
        require(
            math.prod(self.clip_shape) <= MAX_VIEW_VALUES,
            "The clip (channels, frames, height, width)",
            self.clip_shape,
            f"at most {MAX_VIEW_VALUES} values in all; lower num_frames or crop_size",
        )
        channels = len(self.preprocessing.mean)
        if channels != self.model.in_chans and self.model.in_chans in (1, 3):
            raise ConfigError(
                f"The network takes {self.model.in_chans} channels, but preprocessing has "
                f"{channels} means; give one mean and std for each channel."
            )

    @property
    def clip_shape(self) -> ClipShape:
        """The shape of one view that sampling and preprocessing produce."""
        size = self.preprocessing.crop_size
        return self.model.in_chans, self.sampling.num_frames, size, size

    @classmethod
    def for_model(cls, model: ModelConfig) -> BundleConfig:
        """Combines a network with the official sampling and preprocessing."""
        if model.in_chans == 1:
            # One mean for the one channel.
            gray = Preprocessing(mean=(sum(IMAGENET_MEAN) / 3,), std=(sum(IMAGENET_STD) / 3,))
            return cls(model=model, preprocessing=gray)
        return cls(model=model)

    def to_json(self) -> str:
        """Returns JSON text; `from_json` returns an equal object."""
        data: dict[str, Any] = {
            "model_type": MODEL_TYPE,
            "name": self.name,
            "num_frames": self.sampling.num_frames,
            "model": dataclasses.asdict(self.model),
            "sampling": dataclasses.asdict(self.sampling),
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "average_clips": self.average_clips,
            "multi_label": self.multi_label,
            "id2label": {str(index): label for index, label in enumerate(self.labels)},
        }
        if self.targets:
            data["targets"] = [dataclasses.asdict(target) for target in self.targets]
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> BundleConfig:
        """Reads the output of `to_json`.

        Args:
            text: Contents of a `config.json`.

        Returns:
            The configuration.

        Raises:
            ConfigError: The text is not JSON, is incomplete, or has an unknown or invalid value.
        """
        try:
            data = parse_json(text)
        except ValueError as error:
            raise ConfigError(f"This config is not JSON: {error}.") from error
        if not isinstance(data, dict) or data.get("model_type") != MODEL_TYPE:
            got = data.get("model_type") if isinstance(data, dict) else type(data).__name__
            raise ConfigError(
                f"This config has model_type {got!r}, but must have {MODEL_TYPE!r}: "
                "it belongs to another kind of model."
            )
        id2label = data.get("id2label") or {}
        try:
            labels = tuple(id2label[str(index)] for index in range(len(id2label)))
            return cls(
                model=ModelConfig(**_fields_from(ModelConfig, data["model"])),
                sampling=ClipSampling(**_fields_from(ClipSampling, data["sampling"])),
                preprocessing=Preprocessing(**_fields_from(Preprocessing, data["preprocessing"])),
                labels=labels,
                name=data.get("name"),
                average_clips=data.get("average_clips", "prob"),
                multi_label=data.get("multi_label", False),
                targets=tuple(
                    RegressionTarget(**_fields_from(RegressionTarget, one))
                    for one in data.get("targets") or ()
                ),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"This config is incomplete or malformed ({error!r}); it must hold model, "
                "sampling, preprocessing, and id2label numbered from 0."
            ) from error
