"""Interprets official and mmaction2 configs: model, sampling, preprocessing and averaging."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import (
    AVERAGES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    BundleConfig,
    ClipSampling,
    ModelConfig,
    Preprocessing,
)
from ..errors import ConfigError, UnknownNameError
from ..model import VideoSwinTransformer
from ..registry import find_card
from ..weights import load_checkpoint
from .config_parser import read_config

# mmaction2 1.x: embed_dims, depths, num_heads by the name of `arch`.
_ARCHITECTURES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
_FULL_NAMES = {"t": "tiny", "s": "small", "b": "base", "l": "large"}
# Test pipeline steps that decode, pack or rename without changing values.
_DECODE_STEPS = (
    "DecordInit",
    "DecordDecode",
    "OpenCVInit",
    "OpenCVDecode",
    "PyAVInit",
    "PyAVDecode",
)
_PACK_STEPS = ("RawFrameDecode", "FormatShape", "Collect", "ToTensor", "PackActionInputs")
_NEUTRAL_STEPS = frozenset((*_DECODE_STEPS, *_PACK_STEPS))


@dataclass(frozen=True)
class RecognizerConfig:
    """A parsed config file.

    Attributes:
        bundle: Model, sampling and preprocessing; labels are those of the registered weights of
            the same name, if any.
        average_clips: "prob" or "score"; None if the file does not specify it.
        has_test_pipeline: Whether the file defines a test pipeline.
    """

    bundle: BundleConfig
    average_clips: str | None
    has_test_pipeline: bool


class Recognizer(VideoSwinTransformer):
    """A model with the `extract_feat` method of the official recognizer."""

    def extract_feat(self, imgs: Tensor) -> Tensor:
        """Computes the feature map, as in the mmaction2 0.x recognizer.

        Args:
            imgs: (B, in_chans, T, H, W) float, normalized.

        Returns:
            (B, C, D, h, w) float.
        """
        return self.forward_features(imgs)


def load_recognizer(config: str | Path, checkpoint: str | Path) -> Recognizer:
    """Builds the model of a config file and loads a checkpoint.

    Replaces `build_model(cfg.model, ...)` and `load_checkpoint(model, file, map_location="cpu")`
    of mmaction2 and mmcv, but raises an error if any tensor does not match.

    Args:
        config: The config file.
        checkpoint: The weights file.

    Returns:
        The model: float32, on the CPU, in eval mode.

    Raises:
        ConfigError: The config file is invalid.
        CheckpointError: The weights cannot be read or do not match.
    """
    bundle = parse_config(config).bundle
    model, _ = load_checkpoint(checkpoint, architecture=bundle.model)
    recognizer = Recognizer(bundle)
    recognizer.load_state_dict(model.state_dict())
    return recognizer.eval()


def parse_config(path: str | Path) -> RecognizerConfig:
    """Reads the model and inference settings of a config file.

    Args:
        path: The config file.

    Returns:
        The parsed settings.

    Raises:
        ConfigError: The file is invalid or unsupported.
    """
    try:
        return _parse_config(Path(path), read_config(path))
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"The config {str(path)!r} has a value of the wrong type ({error!r})."
        ) from error


def _parse_config(path: Path, config: Mapping[str, Any]) -> RecognizerConfig:
    model = _require_dict(config, "model", str(path))
    backbone, head = (
        _require_dict(model, "backbone", "model"),
        _require_dict(model, "cls_head", "model"),
    )
    pipeline = _test_pipeline(config)
    is_v1 = "arch" in backbone or "data_preprocessor" in model
    sampling, preprocessing = _read_pipeline(pipeline or [], is_v1)
    if is_v1:
        preprocessing = _with_normalization(model.get("data_preprocessor") or {}, preprocessing)
    bundle = BundleConfig(
        model=_model_config(backbone, head, is_v1),
        sampling=sampling,
        preprocessing=preprocessing,
        labels=_registered_labels(path.stem, head),
        name=path.stem,
    )
    return RecognizerConfig(bundle, _average_clips(config, model, head), pipeline is not None)


def bundle_for_testing(path: str | Path) -> BundleConfig:
    """Returns the sampling and preprocessing of the test pipeline of a config file.

    Args:
        path: The config file.

    Returns:
        The model configuration, including `average_clips`.

    Raises:
        ConfigError: The file has no test pipeline or no valid average_clips.
    """
    config = parse_config(path)
    if not config.has_test_pipeline:
        raise ConfigError(
            f"The config {str(path)!r} has no test pipeline (data.test.pipeline or test_pipeline), "
            "so its sampling and preprocessing are unknown; use the recipe's config, not a _base_."
        )
    if config.average_clips not in AVERAGES:
        raise ConfigError(
            f"The config {str(path)!r} has average_clips {config.average_clips!r}, but must have "
            "'prob' or 'score' in model.test_cfg or model.cls_head."
        )
    return dataclasses.replace(config.bundle, average_clips=config.average_clips)


def _require_dict(config: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    part = config.get(name)
    if not isinstance(part, dict):
        raise ConfigError(
            f"{where} has no dict {name!r}; it is not a config of a video recognizer."
        )
    return part


def _model_config(backbone: Mapping[str, Any], head: Mapping[str, Any], is_v1: bool) -> ModelConfig:
    if backbone.get("type") != "SwinTransformer3D":
        raise ConfigError(
            f"The backbone is a {backbone.get('type')!r}, but must be a 'SwinTransformer3D'."
        )
    if head.get("type", "I3DHead") != "I3DHead" or head.get("spatial_type", "avg") != "avg":
        raise ConfigError(
            f"The head is {head.get('type')!r} with spatial_type {head.get('spatial_type')!r}, but "
            "must be an I3DHead that averages ('avg')."
        )
    embed_dim, depths, num_heads = _model_size(backbone, is_v1)
    # Missing values take the defaults of the original class.
    model = ModelConfig(
        embed_dim=embed_dim,
        depths=tuple(depths),
        num_heads=tuple(num_heads),
        patch_size=backbone.get("patch_size", (2, 4, 4) if is_v1 else (4, 4, 4)),
        window_size=backbone.get("window_size", (8, 7, 7) if is_v1 else (2, 7, 7)),
        mlp_ratio=float(backbone.get("mlp_ratio", 4)),
        qkv_bias=backbone.get("qkv_bias", True),
        qk_scale=backbone.get("qk_scale"),
        patch_norm=backbone.get("patch_norm", is_v1),
        in_chans=backbone.get("in_channels" if is_v1 else "in_chans", 3),
        num_classes=head.get("num_classes", 0),
        drop_rate=backbone.get("drop_rate", 0.0),
        attn_drop_rate=backbone.get("attn_drop_rate", 0.0),
        drop_path_rate=backbone.get("drop_path_rate", 0.1 if is_v1 else 0.2),
        head_drop_rate=head.get("dropout_ratio", 0.5),
    )
    if head.get("in_channels", model.num_features) != model.num_features:
        raise ConfigError(
            f"cls_head.in_channels is {head['in_channels']}, but the backbone outputs "
            f"{model.num_features} channels."
        )
    return model


def _model_size(
    backbone: Mapping[str, Any], is_v1: bool
) -> tuple[int, Sequence[int], Sequence[int]]:
    if not is_v1:
        return (
            backbone.get("embed_dim", 96),
            backbone.get("depths", (2, 2, 6, 2)),
            backbone.get("num_heads", (3, 6, 12, 24)),
        )
    return architecture_size(backbone.get("arch"))


def architecture_size(arch: object) -> tuple[int, Sequence[int], Sequence[int]]:
    """Channels, depths and heads for the `arch` of mmaction2, a name or a dict.

    Raises:
        UnknownNameError: There is no architecture of that name.
    """
    if isinstance(arch, Mapping):
        return arch["embed_dims"], arch["depths"], arch["num_heads"]
    name = _FULL_NAMES.get(str(arch).lower(), str(arch).lower())
    if name not in _ARCHITECTURES:
        raise UnknownNameError("backbone arch", str(arch), _ARCHITECTURES)
    return _ARCHITECTURES[name]


def _test_pipeline(config: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """0.x: data.test.pipeline; 1.x: test_dataloader.dataset.pipeline or test_pipeline."""
    for keys in (("data", "test"), ("test_dataloader", "dataset")):
        found: Any = config
        for name in (*keys, "pipeline"):
            found = found.get(name) if isinstance(found, dict) else None
        if isinstance(found, list):
            return found
    found = config.get("test_pipeline")
    return found if isinstance(found, list) else None


def _read_pipeline(
    pipeline: Sequence[Mapping[str, Any]], is_v1: bool
) -> tuple[ClipSampling, Preprocessing]:
    sampling, preprocessing = ClipSampling(), Preprocessing()
    short_side, crop_size, num_crops = 224, 224, 3
    mean, std = preprocessing.mean, preprocessing.std
    for step in pipeline:
        kind = str(step.get("type"))
        if kind == "SampleFrames":
            sampling = _sampling(step, is_v1)
        elif kind == "Resize":
            short_side = _short_side(step)
        elif kind in ("ThreeCrop", "CenterCrop"):
            size = step["crop_size"]
            is_square = isinstance(size, (list, tuple)) and len(set(size)) == 1
            crop_size = size[0] if is_square and size else size
            num_crops = 3 if kind == "ThreeCrop" else 1
        elif kind == "Normalize":
            mean, std = _mean_and_std(step)
        elif kind == "Flip" and step.get("flip_ratio", 0.5) == 0:
            continue
        elif kind not in _NEUTRAL_STEPS:
            raise ConfigError(
                f"The test pipeline has an unsupported step {kind!r}, which could change the "
                "results. Supported: SampleFrames, Resize, ThreeCrop, CenterCrop, Normalize, Flip "
                "with flip_ratio 0, and decoding."
            )
    return sampling, Preprocessing(short_side, crop_size, num_crops, mean, std)


def _sampling(step: Mapping[str, Any], is_v1: bool) -> ClipSampling:
    if step.get("out_of_bound_opt", "loop") != "loop":
        raise ConfigError(
            f"SampleFrames has out_of_bound_opt {step['out_of_bound_opt']!r}; only 'loop' is "
            "supported."
        )
    uniform = step.get("frame_uniform", False)
    return ClipSampling(
        num_frames=step.get("clip_len", 0),
        stride=step.get("frame_interval", 1),
        num_clips=1 if uniform else step.get("num_clips", 1),
        rule="uniform" if uniform else "mmaction2" if is_v1 else "official",
    )


def _short_side(step: Mapping[str, Any]) -> int:
    scale = step.get("scale")
    if (
        not isinstance(scale, (list, tuple))
        or len(scale) != 2
        or scale[0] != -1
        or not step.get("keep_ratio", True)
        or step.get("interpolation", "bilinear") != "bilinear"
    ):
        raise ConfigError(
            f"Resize has scale {scale!r}; only (-1, short side) with keep_ratio and bilinear "
            "interpolation is supported."
        )
    return scale[1]  # type: ignore[no-any-return]


def _mean_and_std(step: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if step.get("to_bgr", False) or step.get("to_rgb", False):
        raise ConfigError(
            "Normalize converts between RGB and BGR, which is not supported; frames must stay RGB."
        )
    return tuple(step.get("mean", IMAGENET_MEAN)), tuple(step.get("std", IMAGENET_STD))


def _with_normalization(step: Mapping[str, Any], preprocessing: Preprocessing) -> Preprocessing:
    mean, std = _mean_and_std(step)
    p = preprocessing
    return Preprocessing(p.short_side, p.crop_size, p.num_crops, mean, std, p.interpolation)


def _average_clips(
    config: Mapping[str, Any], model: Mapping[str, Any], head: Mapping[str, Any]
) -> str | None:
    for holder in (model.get("test_cfg"), head, config.get("test_cfg")):
        if isinstance(holder, dict) and holder.get("average_clips") is not None:
            return str(holder["average_clips"])
    return None


def _registered_labels(name: str, head: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the labels of the registered weights with this name; config files have none."""
    try:
        labels = find_card(name).bundle.labels
    except UnknownNameError:
        return ()
    return labels if len(labels) == head.get("num_classes") else ()
