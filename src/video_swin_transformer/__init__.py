"""Video Swin Transformer in plain PyTorch: labels, features and fine-tuning for your own videos.

Names are loaded when they are first used (PEP 562), so importing the package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import openmmlab as openmmlab
    from .config import BundleConfig, ClipSampling, ModelConfig, Preprocessing
    from .errors import (
        CheckpointError,
        ConfigError,
        DataError,
        MissingExtraError,
        UnknownNameError,
        VideoDecodeError,
        VideoSwinError,
    )
    from .model import SwinTransformer3D, VideoSwinTransformer
    from .predictor import Classification, ClipFeatures, Predictor
    from .preprocess import views_from_frames
    from .registry import ModelCard, list_models
    from .sampling import clip_indices, train_clip_indices
    from .training import TrainResult, train
    from .video import VideoReader
    from .weights import LoadReport, create_model, load_checkpoint, load_model

_LAZY_IMPORTS = {
    "BundleConfig": "config",
    "CheckpointError": "errors",
    "Classification": "predictor",
    "ClipFeatures": "predictor",
    "ClipSampling": "config",
    "ConfigError": "errors",
    "LoadReport": "weights",
    "DataError": "errors",
    "MissingExtraError": "errors",
    "ModelCard": "registry",
    "ModelConfig": "config",
    "Predictor": "predictor",
    "Preprocessing": "config",
    "SwinTransformer3D": "model",
    "TrainResult": "training",
    "UnknownNameError": "errors",
    "VideoDecodeError": "errors",
    "VideoReader": "video",
    "VideoSwinError": "errors",
    "VideoSwinTransformer": "model",
    "clip_indices": "sampling",
    "create_model": "weights",
    "list_models": "registry",
    "load_checkpoint": "weights",
    "load_model": "weights",
    "train": "training",
    "train_clip_indices": "sampling",
    "views_from_frames": "preprocess",
}

__all__ = [
    "BundleConfig",
    "CheckpointError",
    "Classification",
    "ClipFeatures",
    "ClipSampling",
    "ConfigError",
    "DataError",
    "LoadReport",
    "MissingExtraError",
    "ModelCard",
    "ModelConfig",
    "Predictor",
    "Preprocessing",
    "SwinTransformer3D",
    "TrainResult",
    "UnknownNameError",
    "VideoDecodeError",
    "VideoReader",
    "VideoSwinError",
    "VideoSwinTransformer",
    "clip_indices",
    "create_model",
    "list_models",
    "load_checkpoint",
    "load_model",
    "train",
    "train_clip_indices",
    "views_from_frames",
]


def __getattr__(name: str) -> Any:
    if name == "openmmlab":  # a room of its own: vst.openmmlab.load_recognizer(...)
        return importlib.import_module(f".{name}", __name__)
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY_IMPORTS[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
