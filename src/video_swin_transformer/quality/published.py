"""The published quality models: networks, sampling and scales of their scores.

Settings are those of the configuration files of FAST-VQA and DOVER, scales those of the inference
script of FAST-VQA. Their weights have not been tested here, since they could not be downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ..config import ModelConfig
from .config import FragmentModelConfig, FragmentSampling, QualityConfig

_BASE = FragmentModelConfig()
_MINI = FragmentModelConfig(
    backbone=ModelConfig(window_size=(4, 4, 4), num_classes=0), fragment_biases=(False,) * 4
)
_THIRDS = FragmentSampling(num_clips=3)
_FASTER = FragmentSampling(num_clips=1, num_segments=8, aligned_frames=8)
_SMALL = FragmentSampling(grid=(4, 4), num_frames=16, aligned_frames=8)

QUALITY_MODELS: Mapping[str, QualityConfig] = MappingProxyType(
    {
        model.name: model
        for model in (
            QualityConfig("fast-vqa", _BASE, FragmentSampling(), -0.110198185, 0.04178565),
            QualityConfig("fast-vqa-m", _MINI, _SMALL, 0.023889644, 0.030781006),
            QualityConfig("faster-vqa", _BASE, _FASTER, 0.14759505, 0.03613452),
            QualityConfig(
                "faster-vqa-ms", _BASE, replace(_FASTER, grid=(5, 5)), 0.15218826, 0.03230298
            ),
            QualityConfig(
                "faster-vqa-mt",
                _BASE,
                replace(_FASTER, num_frames=16, num_segments=4),
                0.14699507,
                0.036453716,
            ),
            QualityConfig("dover-technical", replace(_BASE, adaptive_window=False), _THIRDS),
        )
    }
)
"""The published models by name."""
