"""Video Swin Transformer in plain PyTorch: labels, features and fine-tuning for your own videos.

Names are loaded when they are first used (PEP 562), so importing the package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import openmmlab as openmmlab
    from .config import BundleConfig, ClipSampling, ModelConfig, Preprocessing
    from .data import PreparedData, prepare
    from .errors import (
        CheckpointError,
        ConfigError,
        DataError,
        DeviceMemoryError,
        ExportError,
        MissingExtraError,
        RuntimeMismatchError,
        TrainingDivergedError,
        UnknownNameError,
        VideoDecodeError,
        VideoLimitError,
        VideoSwinError,
    )
    from .evaluation import (
        EvaluationResult,
        evaluate,
        evaluate_regression,
        evaluate_scores,
        segment_map,
    )
    from .explanation import Explanation, SampledViews, explain, sampled_views
    from .exporting import ExportResult, export
    from .feature_info import FeatureInfo
    from .features import (
        FeatureOptions,
        FeatureTable,
        StreamingFeatures,
        extract_features,
        load_features,
        write_features,
    )
    from .live import LiveEvent, Watcher, watch
    from .model import SwinTransformer3D, VideoSwinFeatures, VideoSwinTransformer
    from .predictor import Classification, ClipFeatures, Prediction, Predictor
    from .preprocess import views_from_frames
    from .receipt import Receipt, read_receipts, write_receipts
    from .registry import ModelCard, list_models
    from .replaying import Replay, replay
    from .sampling import clip_indices, train_clip_indices
    from .segments import (
        DetectedSegments,
        LabeledShots,
        SegmentRules,
        Thresholds,
        detect_segments,
        label_shots,
    )
    from .training import TrainResult, train
    from .video import VideoReader, VideoSegment
    from .weights import LoadReport, create_model, load_checkpoint, load_model

_LAZY_IMPORTS = {
    "BundleConfig": "config",
    "CheckpointError": "errors",
    "Classification": "predictor",
    "ClipFeatures": "predictor",
    "ClipSampling": "config",
    "ConfigError": "errors",
    "DataError": "errors",
    "DetectedSegments": "segments",
    "DeviceMemoryError": "errors",
    "EvaluationResult": "evaluation",
    "Explanation": "explanation",
    "ExportError": "errors",
    "ExportResult": "exporting",
    "FeatureInfo": "feature_info",
    "FeatureOptions": "features",
    "FeatureTable": "features",
    "LabeledShots": "segments",
    "LiveEvent": "live",
    "LoadReport": "weights",
    "MissingExtraError": "errors",
    "ModelCard": "registry",
    "ModelConfig": "config",
    "Prediction": "predictor",
    "Predictor": "predictor",
    "PreparedData": "data",
    "Preprocessing": "config",
    "Receipt": "receipt",
    "Replay": "replaying",
    "RuntimeMismatchError": "errors",
    "SampledViews": "explanation",
    "SegmentRules": "segments",
    "StreamingFeatures": "features",
    "SwinTransformer3D": "model",
    "Thresholds": "segments",
    "TrainResult": "training",
    "TrainingDivergedError": "errors",
    "UnknownNameError": "errors",
    "VideoDecodeError": "errors",
    "VideoLimitError": "errors",
    "VideoReader": "video",
    "VideoSegment": "video",
    "VideoSwinError": "errors",
    "VideoSwinFeatures": "model",
    "VideoSwinTransformer": "model",
    "Watcher": "live",
    "clip_indices": "sampling",
    "create_model": "weights",
    "detect_segments": "segments",
    "evaluate": "evaluation",
    "evaluate_regression": "evaluation",
    "evaluate_scores": "evaluation",
    "explain": "explanation",
    "export": "exporting",
    "extract_features": "features",
    "label_shots": "segments",
    "list_models": "registry",
    "load_checkpoint": "weights",
    "load_features": "features",
    "load_model": "weights",
    "prepare": "data",
    "read_receipts": "receipt",
    "replay": "replaying",
    "sampled_views": "explanation",
    "segment_map": "evaluation",
    "train": "training",
    "train_clip_indices": "sampling",
    "views_from_frames": "preprocess",
    "watch": "live",
    "write_features": "features",
    "write_receipts": "receipt",
}

__all__ = [
    "BundleConfig",
    "CheckpointError",
    "Classification",
    "ClipFeatures",
    "ClipSampling",
    "ConfigError",
    "DataError",
    "DetectedSegments",
    "DeviceMemoryError",
    "EvaluationResult",
    "Explanation",
    "ExportError",
    "ExportResult",
    "FeatureInfo",
    "FeatureOptions",
    "FeatureTable",
    "LabeledShots",
    "LiveEvent",
    "LoadReport",
    "MissingExtraError",
    "ModelCard",
    "ModelConfig",
    "Prediction",
    "Predictor",
    "PreparedData",
    "Preprocessing",
    "Receipt",
    "Replay",
    "RuntimeMismatchError",
    "SampledViews",
    "SegmentRules",
    "StreamingFeatures",
    "SwinTransformer3D",
    "Thresholds",
    "TrainResult",
    "TrainingDivergedError",
    "UnknownNameError",
    "VideoDecodeError",
    "VideoLimitError",
    "VideoReader",
    "VideoSegment",
    "VideoSwinError",
    "VideoSwinFeatures",
    "VideoSwinTransformer",
    "Watcher",
    "clip_indices",
    "create_model",
    "detect_segments",
    "evaluate",
    "evaluate_regression",
    "evaluate_scores",
    "explain",
    "export",
    "extract_features",
    "label_shots",
    "list_models",
    "load_checkpoint",
    "load_features",
    "load_model",
    "prepare",
    "read_receipts",
    "replay",
    "sampled_views",
    "segment_map",
    "train",
    "train_clip_indices",
    "views_from_frames",
    "watch",
    "write_features",
    "write_receipts",
]


def __getattr__(name: str) -> Any:
    if name == "openmmlab":  # a subpackage: vst.openmmlab.load_recognizer(...)
        return importlib.import_module(f".{name}", __name__)
    if name == "__version__":
        from importlib.metadata import version

        return version("video-swin-transformer")
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY_IMPORTS[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
