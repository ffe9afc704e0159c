"""Transformers integration: importing this module registers the models with the Auto classes.

>>> import video_swin_transformer.hf                                         # doctest: +SKIP
>>> pipeline("video-classification", model=folder)("clip.mp4")               # doctest: +SKIP

Videos are decoded and preprocessed by this package, one clip and one crop per video, so the scores
match `videoswin classify --views 1x1`; torchcodec is not needed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from .config import MODEL_TYPE, BundleConfig, ClipSampling, Preprocessing
from .errors import CheckpointError, ConfigError, MissingExtraError
from .layers import WindowAttention3D
from .model import SwinTransformer3D, VideoSwinTransformer
from .preprocess import channel_hint, views_from_frames
from .sampling import clip_indices
from .telemetry import without_telemetry
from .video import VideoReader
from .video.inputs import is_frame

try:
    with without_telemetry():
        from transformers import (
            AutoConfig,
            AutoImageProcessor,
            AutoModel,
            AutoModelForVideoClassification,
            AutoVideoProcessor,
            BatchFeature,
            PreTrainedConfig,
            PreTrainedModel,
        )
        from transformers import initialization as init
        from transformers.image_processing_utils import BaseImageProcessor
        from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
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
    """Transformers configuration of a Video Swin Transformer.

    Compatible with the `config.json` of `VideoSwinTransformer.save_pretrained` in both
    directions. As usual in transformers, `num_labels` and `id2label` determine the size of the
    classifier and override `model["num_classes"]`. Classes without names are named by their index.

    Args:
        name: Name of the model.
        model: Fields of `ModelConfig`. None: the defaults.
        sampling: Fields of `ClipSampling`. None: the defaults.
        preprocessing: Fields of `Preprocessing`. None: the defaults.
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
        """The equivalent `BundleConfig`. Raises ConfigError for invalid settings."""
        return BundleConfig.from_json(json.dumps(self.to_dict(), default=str))

    @classmethod
    def from_bundle(cls, bundle: BundleConfig) -> VideoSwinConfig:
        """Creates a config from a `BundleConfig`.

        Args:
            bundle: The configuration.
        """
        return cls(**json.loads(bundle.to_json()))

    def to_dict(self) -> dict[str, Any]:
        """Returns all settings, with the classifier size in `model` and no generated labels."""
        settings: dict[str, Any] = super().to_dict()
        labels = settings.get("id2label") or {}
        settings["model"] = {**settings["model"], "num_classes": len(labels)}
        if all(str(index) == label for index, label in labels.items()):
            settings["id2label"], settings["label2id"] = {}, {}
        return settings


class _VideoSwinPreTrainedModel(PreTrainedModel):
    """What the models share."""

    config_class = VideoSwinConfig
    main_input_name = "pixel_values"
    input_modalities = "video"
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    backbone: SwinTransformer3D

    def _features(
        self, pixel_values: Tensor, output_hidden_states: bool | None
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """The normalized map (B, C, D, h, w), and the tokens after the embedding and each stage."""
        shape, channels = tuple(pixel_values.shape), self.backbone.in_chans
        if len(shape) != 5 or shape[2] != channels or 0 in shape:
            raise ConfigError(
                f"pixel_values has shape {shape}, but must be (batch, frames, {channels} channels, "
                f"height, width), none of them empty.{channel_hint(shape, channels, 2)}"
            )
        x = pixel_values.transpose(1, 2)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if not output_hidden_states:
            return self.backbone(x), None
        maps = [self.backbone.pos_drop(self.backbone.patch_embed(x))]
        for layer in self.backbone.layers:
            maps.append(layer(maps[-1]))
        norm = self.backbone.get_submodule("norm")
        normed = norm(maps[-1].permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
        return normed, tuple(one.flatten(2).transpose(1, 2) for one in maps)

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Recomputes the activations of all blocks in the backward pass (non-reentrant).

        Raises:
            ConfigError: every_n_layers is not 1, or offload is True.
        """
        if every_n_layers != 1 or offload:
            raise ConfigError(
                f"every_n_layers is {every_n_layers} and offload {offload}, but must be 1 and "
                "False: this model checkpoints all blocks or none and does not offload."
            )
        self.backbone.use_checkpoint = True

    def gradient_checkpointing_disable(self) -> None:
        """Disables gradient checkpointing."""
        self.backbone.use_checkpoint = False

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether gradient checkpointing is enabled."""
        return self.backbone.use_checkpoint

    def _init_weights(self, module: nn.Module) -> None:
        """Initializes a module like `SwinTransformer3D` and `I3DHead`."""
        if isinstance(module, nn.Linear):
            if isinstance(self, VideoSwinForVideoClassification) and module is self.cls_head.fc_cls:
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
        """Loads a model as in transformers, but requires all weights to match.

        Raises:
            CheckpointError: Weights are missing, unexpected or of a different shape.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        new_head_allowed = kwargs.pop("ignore_mismatched_sizes", False)
        model, info = super().from_pretrained(
            pretrained_model_name_or_path,
            *model_args,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below
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
                ("unexpected", {k for k in info["unexpected_keys"] if not cls._ignores(k)}),
                ("mismatched shape", other_shape),
            )
            if names
        ]
        if problems:
            hint = ""
            if all(name.startswith(_HEAD) for name in other_shape) and len(problems) == 1:
                hint = " Pass ignore_mismatched_sizes=True to reinitialize the classifier."
            raise CheckpointError(
                f"The weights in {str(pretrained_model_name_or_path)!r} do not match the config "
                f"({'; '.join(problems)}).{hint if other_shape else ''}"
            )
        return (model, info) if wants_info else model

    @classmethod
    def _ignores(cls, key: str) -> bool:
        """Whether a tensor of a file has no place in the model and is left out."""
        return False


class VideoSwinModel(_VideoSwinPreTrainedModel):
    """The backbone as a transformers model, for feature extraction (`AutoModel`).

    Inputs are (B, T, C, H, W). The classifier of a saved folder is left out; all other weights must
    match.

    Args:
        config: The configuration.
    """

    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"^cls_head\."]

    def __init__(self, config: VideoSwinConfig) -> None:
        super().__init__(config)
        self.backbone = VideoSwinTransformer(config.bundle).backbone
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPooling | tuple[Any, ...]:
        """Features of a batch of clips.

        Args:
            pixel_values: (B, T, C, H, W) float, normalized.
            output_hidden_states: Also return the tokens after the patch embedding and after each
                stage, (B, D*h*w, C) each. None: as configured.
            return_dict: False returns a tuple.

        Returns:
            `last_hidden_state` (B, D*h*w, C), normalized, and its mean `pooler_output` (B, C).
        """
        features, hidden_states = self._features(pixel_values, output_hidden_states)
        tokens = features.flatten(2).transpose(1, 2)  # (B, C, D, h, w) -> (B, D*h*w, C)
        output = BaseModelOutputWithPooling(
            last_hidden_state=tokens,
            pooler_output=features.mean(dim=(2, 3, 4)),
            hidden_states=hidden_states,
        )
        return output.to_tuple() if return_dict is False else output

    @classmethod
    def _ignores(cls, key: str) -> bool:
        return key.startswith(_HEAD)


class VideoSwinForVideoClassification(_VideoSwinPreTrainedModel):
    """`VideoSwinTransformer` as a transformers model, with the same parameter names.

    Inputs are (B, T, C, H, W). `from_pretrained` raises an error if any tensor does not match;
    only a classifier of a different size is reinitialized with `ignore_mismatched_sizes=True`.

    Args:
        config: The configuration.
    """

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
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ImageClassifierOutput | tuple[Any, ...]:
        """Classifies a batch of clips.

        Args:
            pixel_values: (B, T, C, H, W) float, normalized.
            labels: (B,) int64 class indices to compute the loss for.
            output_hidden_states: As `VideoSwinModel.forward`.
            return_dict: False returns a tuple, with the loss first if there is one.

        Returns:
            Logits (B, num_labels), the loss if `labels` is given, and the hidden states if asked.
        """
        features, hidden_states = self._features(pixel_values, output_hidden_states)
        logits = self.cls_head(features)
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        output = ImageClassifierOutput(loss=loss, logits=logits, hidden_states=hidden_states)
        return output.to_tuple() if return_dict is False else output


class VideoSwinVideoProcessor(BaseVideoProcessor):
    """Preprocesses videos to `pixel_values` (B, T, C, H, W), one clip and one crop per video.

    Reads videos like `Predictor`. Without a processor file, settings come from `config.json`.

    Args:
        sampling: Fields of `ClipSampling`. None: the defaults.
        preprocessing: Fields of `Preprocessing`. None: the defaults.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values"]

    def __init__(
        self,
        sampling: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        **kwargs: Any,  # settings stored by the base class
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
        """Preprocesses one video or a list of videos.

        Args:
            videos: A video or a list of them: a file, a frame folder, an array or tensor of uint8
                (T, H, W, 3) or (T, 3, H, W), or a list of frames, which are PIL images, arrays or
                tensors. An array or tensor with five axes is a batch.
            num_frames: Frames per clip. None: as configured.
            do_sample_frames: False uses all frames.
            return_tensors: Tensor type of the result, as in transformers.

        Returns:
            `pixel_values`, (B, T, C, H, W) float32.

        Raises:
            VideoDecodeError: A video cannot be read.
        """
        many = _videos(videos)
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
        """Returns the contents of `video_preprocessor_config.json`."""
        return {
            "video_processor_type": type(self).__name__,
            "sampling": dict(self.sampling),
            "preprocessing": dict(self.preprocessing),
        }

    @classmethod
    def get_video_processor_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the settings of the processor file, or of `config.json` without one."""
        settings, rest = super().get_video_processor_dict(pretrained_model_name_or_path, **kwargs)
        return _with_config(settings, pretrained_model_name_or_path, kwargs), rest


class VideoSwinImageProcessor(BaseImageProcessor):
    """Preprocesses frames that are already sampled, for `AutoImageProcessor`.

    Settings are those of `VideoSwinVideoProcessor`. All frames are used.

    Args:
        sampling: Fields of `ClipSampling`. None: the defaults.
        preprocessing: Fields of `Preprocessing`. None: the defaults.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values"]

    def __init__(
        self,
        sampling: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        **kwargs: Any,  # settings stored by the base class
    ) -> None:
        super().__init__(**kwargs)
        self.sampling = dict(sampling or dataclasses.asdict(ClipSampling()))
        self.preprocessing = dict(preprocessing or dataclasses.asdict(Preprocessing()))

    def __call__(self, images: Any, return_tensors: str | None = "pt") -> BatchFeature:
        """Preprocesses one video or a list of videos.

        Args:
            images: The frames of a video, or a list of videos; see `VideoSwinVideoProcessor`.
            return_tensors: Tensor type of the result, as in transformers.

        Returns:
            `pixel_values`, (B, T, C, H, W) float32.

        Raises:
            VideoDecodeError: The frames have another type or layout.
        """
        processor = VideoSwinVideoProcessor(self.sampling, self.preprocessing)
        return processor(images, do_sample_frames=False, return_tensors=return_tensors)

    preprocess = __call__

    def to_dict(self) -> dict[str, Any]:
        """Returns the contents of `preprocessor_config.json`."""
        return {
            "image_processor_type": type(self).__name__,
            "sampling": dict(self.sampling),
            "preprocessing": dict(self.preprocessing),
        }

    @classmethod
    def get_image_processor_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the settings of the processor file, or of `config.json` without one."""
        settings, rest = super().get_image_processor_dict(pretrained_model_name_or_path, **kwargs)
        return _with_config(settings, pretrained_model_name_or_path, kwargs), rest


def _with_config(
    settings: dict[str, Any], source: Any, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Adds sampling and preprocessing of `config.json` to settings without them."""
    if "sampling" in settings and "preprocessing" in settings:
        return settings
    chosen = {name: options[name] for name in _HUB_OPTIONS if name in options}
    config = VideoSwinConfig.from_pretrained(source, **chosen)
    return {"sampling": config.sampling, "preprocessing": config.preprocessing, **settings}


def _videos(videos: Any) -> list[Any]:
    """One video or several, as a list of videos."""
    if getattr(videos, "ndim", None) == 5:
        return list(videos)
    is_list = isinstance(videos, Sequence) and not isinstance(videos, str | bytes)
    return list(videos) if is_list and not all(map(is_frame, videos)) else [videos]


def _clip(video: Any, sampling: ClipSampling | None, preprocessing: Preprocessing) -> Any:
    """Reads one clip, or all frames if `sampling` is None, as (T, C, H, W) float32."""
    with VideoReader(video) as reader:
        if sampling is None:
            indices = np.arange(reader.num_frames)
        else:
            indices = clip_indices(reader.num_frames, sampling, reader.fps)[0]
        frames = reader.frames_at(indices)
    view = views_from_frames(frames[None], preprocessing)[0]  # (C, T, H, W)
    return np.ascontiguousarray(view.swapaxes(0, 1))


def register() -> None:
    """Registers the models with the Auto classes and the "video-classification" pipeline."""
    AutoConfig.register(MODEL_TYPE, VideoSwinConfig, exist_ok=True)
    AutoModel.register(VideoSwinConfig, VideoSwinModel, exist_ok=True)
    AutoModelForVideoClassification.register(
        VideoSwinConfig, VideoSwinForVideoClassification, exist_ok=True
    )
    AutoVideoProcessor.register(VideoSwinConfig, VideoSwinVideoProcessor, exist_ok=True)
    processors = {"pil": VideoSwinImageProcessor, "torchvision": VideoSwinImageProcessor}
    AutoImageProcessor.register(VideoSwinConfig, image_processor_classes=processors, exist_ok=True)
    # The pipeline logs an error if the model class is not in this mapping.
    MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES[MODEL_TYPE] = (
        VideoSwinForVideoClassification.__name__
    )


register()
