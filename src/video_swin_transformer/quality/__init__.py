"""Video quality assessment: FAST-VQA, FasterVQA and the technical branch of DOVER.

>>> from video_swin_transformer import quality
>>> sorted(quality.QUALITY_MODELS)[:3]
['dover-technical', 'fast-vqa', 'fast-vqa-m']
"""

from .attention import FragmentAttention3D
from .checkpoint import load_quality_model
from .config import FragmentModelConfig, FragmentSampling, QualityConfig
from .fragments import fragment_frame_indices, sample_fragments
from .model import FragmentSwinTransformer3D, QualityHead, VideoQualityModel
from .published import QUALITY_MODELS
from .scoring import QualityScore, normalize_fragments, score_video

__all__ = [
    "QUALITY_MODELS",
    "FragmentAttention3D",
    "FragmentModelConfig",
    "FragmentSampling",
    "FragmentSwinTransformer3D",
    "QualityConfig",
    "QualityHead",
    "QualityScore",
    "VideoQualityModel",
    "fragment_frame_indices",
    "load_quality_model",
    "normalize_fragments",
    "sample_fragments",
    "score_video",
]
