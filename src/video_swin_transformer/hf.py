"""A bridge to the transformers library: import this module, and its Auto classes read our folders.

>>> import video_swin_transformer.hf                                         # doctest: +SKIP
>>> pipeline("video-classification", model=folder)("clip.mp4")               # doctest: +SKIP

Frames are decoded, chosen and prepared by our own reader, one clip and one crop of each video, so
that the scores are those of `videoswin classify --views 1x1`; torchcodec is not needed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from .config import MODEL_TYPE, BundleConfig, ClipSampling, Preprocessing
from .errors import CheckpointError, ConfigError, MissingExtraError
from .layers import WindowAttention3D
from .model import VideoSwinTransformer
from .preprocess import views_from_frames
from .sampling import clip_indices
from .telemetry import without_telemetry
from .video import VideoReader

try:
    with without_telemetry():
        from transformers import (
            AutoConfig,
            AutoModelForVideoClassification,
            AutoVideoProcessor,
            BatchFeature,
            PreTrainedConfig,
            PreTrainedModel,
        )
        from transformers import initialization as init
        from transformers.modeling_outputs import ImageClassifierOutput
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES,
        )
        from transformers.video_processing_utils import BaseVideoProcessor
except ImportError as error:
    raise MissingExtraError("transformers", "hf", "The bridge to transformers") from error

_HEAD = "cls_head."
_HUB_OPTIONS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "subfolder",
    "token",
)


class VideoSwinConfig(PreTrainedConfig):
    """Our `config.json` as transformers sees it; what either side writes, the other reads.

    The number of labels decides the size of the classifier, as everywhere in transformers:
    `num_labels` and `id2label` win over `model["num_classes"]`. Classes without names are called
    by their number.
    """

    model_type: ClassVar[str] = MODEL_TYPE

    dtype: Any = None
    id2label: dict[int, str] | dict[str, str] | None = None
    name: str | None = None
    num_frames: int | None = None
    model: dict[str, Any] | None = None
    sampling: dict[str, Any] | None = None
    preprocessing: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        whole = BundleConfig()
        self.model = dict(dataclasses.asdict(whole.model) if self.model is None else self.model)
        if self.sampling is None:
            self.sampling = dataclasses.asdict(whole.sampling)
        if self.preprocessing is None:
            self.preprocessing = dataclasses.asdict(whole.preprocessing)
        self.num_frames = self.sampling.get("num_frames")
        if self.dtype is None and kwargs.get("torch_dtype") is None:
            self.dtype = "float32"  # as `VideoSwinTransformer.from_pretrained`, however stored
        count = kwargs.pop("num_labels", None)
        if count is None:
            count = len(self.id2label or {}) or self.model.get("num_classes", 0)
        if len(self.id2label or {}) != count:
            self.id2label = {index: str(index) for index in range(count)}
        self.label2id = {label: int(index) for index, label in (self.id2label or {}).items()}
        super().__post_init__(**kwargs)

    @property
    def bundle(self) -> BundleConfig:
        """The same as our own data. Raises ConfigError where a setting is not allowed."""
        return BundleConfig.from_json(json.dumps(self.to_dict(), default=str))

    @classmethod
    def from_bundle(cls, bundle: BundleConfig) -> VideoSwinConfig:
        """The config of a model of ours."""
        return cls(**json.loads(bundle.to_json()))

    def to_dict(self) -> dict[str, Any]:
        """All settings, with the classifier's size in `model` and only real names as labels."""
        settings: dict[str, Any] = super().to_dict()
        labels = settings.get("id2label") or {}
        settings["model"] = {**settings["model"], "num_classes": len(labels)}
        if all(str(index) == label for index, label in labels.items()):
            settings["id2label"], settings["label2id"] = {}, {}
        return settings


class VideoSwinForVideoClassification(PreTrainedModel):
    """VideoSwinTransformer for transformers: same tensors by the same names, frames before colors.

    `from_pretrained` refuses whatever does not fit. Only a classifier of another size may be
    replaced by a fresh one, where `ignore_mismatched_sizes=True` asks for it.
    """

    config_class = VideoSwinConfig
    main_input_name = "pixel_values"
    input_modalities = "video"
    base_model_prefix = ""
    supports_gradient_checkpointing = True

    def __init__(self, config: VideoSwinConfig) -> None:
        super().__init__(config)
        network = VideoSwinTransformer(config.bundle)
        self.backbone = network.backbone
        self.cls_head = network.cls_head
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> ImageClassifierOutput | tuple[Tensor, ...]:
        """(B, T, C, H, W) float, normalized -> logits (B, num_labels), and the loss of `labels`."""
        logits = self.cls_head(self.backbone(pixel_values.transpose(1, 2)))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        return ImageClassifierOutput(loss=loss, logits=logits)

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Recomputes block activations in the backward pass: every block, non-reentrant."""
        if every_n_layers != 1 or offload:
            raise ConfigError(
                f"every_n_layers is {every_n_layers} and offload {offload}, but must be 1 and "
                "False: this network recomputes all of its blocks or none, and offloads nothing."
            )
        self.backbone.use_checkpoint = True

    def gradient_checkpointing_disable(self) -> None:
        """Keeps activations again."""
        self.backbone.use_checkpoint = False

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed."""
        return self.backbone.use_checkpoint

    def _init_weights(self, module: nn.Module) -> None:
        """A fresh module's values, as `SwinTransformer3D.init_weights` and `I3DHead` give them."""
        if isinstance(module, nn.Linear):
            if module is self.cls_head.fc_cls:
                init.normal_(module.weight, std=0.01)
            else:
                init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, WindowAttention3D):
            init.trunc_normal_(module.relative_position_bias_table, std=0.02)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any
    ) -> Any:
        """As in transformers, except that weights which do not fit are a CheckpointError."""
        wants_info = kwargs.pop("output_loading_info", False)
        new_head_allowed = kwargs.pop("ignore_mismatched_sizes", False)
        model, info = super().from_pretrained(
            pretrained_model_name_or_path,
            *model_args,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to name them below in one sentence
            **kwargs,
        )
        other_shape = {
            entry[0]
            for entry in info["mismatched_keys"]
            if not (new_head_allowed and entry[0].startswith(_HEAD))
        }
        problems = [
            f"{what}: {', '.join(sorted(names)[:5])}" + (", ..." if len(names) > 5 else "")
            for what, names in (
                ("missing", set(info["missing_keys"])),
                ("unexpected", set(info["unexpected_keys"])),
                ("of another shape", other_shape),
            )
            if names
        ]
        if problems:
            hint = ""
            if all(name.startswith(_HEAD) for name in other_shape) and len(problems) == 1:
                hint = " For a fresh classifier pass ignore_mismatched_sizes=True."
            raise CheckpointError(
                f"The weights in {str(pretrained_model_name_or_path)!r} do not fit their config "
                f"({'; '.join(problems)}).{hint if other_shape else ''}"
            )
        return (model, info) if wants_info else model


class VideoSwinVideoProcessor(BaseVideoProcessor):
    """Videos -> `pixel_values` (B, T, C, H, W), one clip and one crop of each.

    Takes files, frame folders or (T, H, W, 3) uint8 arrays, one or a list of them, and reads them
    as `Predictor` does. In a folder of ours its settings are those of `config.json`.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values"]

    def __init__(
        self,
        sampling: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        **kwargs: Any,  # what the base class keeps in its files
    ) -> None:
        super().__init__(**kwargs)
        self.sampling = dict(sampling or dataclasses.asdict(ClipSampling()))
        self.preprocessing = dict(preprocessing or dataclasses.asdict(Preprocessing()))

    def __call__(
        self,
        videos: Any,
        num_frames: int | None = None,
        do_sample_frames: bool = True,
        return_tensors: str | None = "pt",
    ) -> BatchFeature:
        """`do_sample_frames=False` takes every frame there is. Raises VideoDecodeError."""
        many = list(videos) if isinstance(videos, Sequence) and not _is_path(videos) else [videos]
        sampling = ClipSampling(**{**self.sampling, "num_clips": 1})
        if num_frames is not None:
            sampling = dataclasses.replace(sampling, num_frames=num_frames)
        preprocessing = Preprocessing(**{**self.preprocessing, "num_crops": 1})
        clips = [
            _clip(video, sampling if do_sample_frames else None, preprocessing) for video in many
        ]
        pixels = np.stack(clips) if len({clip.shape for clip in clips}) == 1 else clips
        return BatchFeature({"pixel_values": pixels}, tensor_type=return_tensors)

    preprocess = __call__

    def to_dict(self) -> dict[str, Any]:
        """What goes into `video_preprocessor_config.json`."""
        return {
            "video_processor_type": type(self).__name__,
            "sampling": dict(self.sampling),
            "preprocessing": dict(self.preprocessing),
        }

    @classmethod
    def get_video_processor_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The settings of the processor's file, or where it has none those of `config.json`."""
        settings, rest = super().get_video_processor_dict(pretrained_model_name_or_path, **kwargs)
        if "sampling" not in settings or "preprocessing" not in settings:
            options = {name: kwargs[name] for name in _HUB_OPTIONS if name in kwargs}
            config = VideoSwinConfig.from_pretrained(pretrained_model_name_or_path, **options)
            settings = {
                "sampling": config.sampling,
                "preprocessing": config.preprocessing,
                **settings,
            }
        return settings, rest


def _is_path(video: object) -> bool:
    return isinstance(video, (str, Path))


def _clip(video: Any, sampling: ClipSampling | None, preprocessing: Preprocessing) -> Any:
    """(T, C, H, W) float32: the clip of a video, or all its frames without `sampling`."""
    source = video.numpy() if isinstance(video, torch.Tensor) else video
    with VideoReader(source) as reader:
        if sampling is None:
            indices = np.arange(reader.num_frames)
        else:
            indices = clip_indices(reader.num_frames, sampling, reader.fps)[0]
        frames = reader.frames_at(indices)
    view = views_from_frames(frames[None], preprocessing)[0]  # (C, T, H, W)
    return np.ascontiguousarray(view.swapaxes(0, 1))


def register() -> None:
    """Makes the Auto classes and the "video-classification" pipeline know our folders."""
    AutoConfig.register(MODEL_TYPE, VideoSwinConfig, exist_ok=True)
    AutoModelForVideoClassification.register(
        VideoSwinConfig, VideoSwinForVideoClassification, exist_ok=True
    )
    AutoVideoProcessor.register(VideoSwinConfig, VideoSwinVideoProcessor, exist_ok=True)
    # The pipeline compares the model's class with this list of names and complains otherwise.
    MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES[MODEL_TYPE] = (
        VideoSwinForVideoClassification.__name__
    )


register()
