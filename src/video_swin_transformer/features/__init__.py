"""Features of clips and streams, with the frames and seconds that each row covers.

options      which features
placement    times of a video -> windows of frames
decoding     frames, decoded and resized once each in a thread
network      views -> rows, on any runtime for vectors and in torch for maps
extraction   extract_features: the steps above for one video, FeatureExtractor for many
streaming    StreamingFeatures: one pass over a whole video while it plays
table        FeatureTable: rows, times and everything that determined them
storage      save_features and load_features; layouts: files of other projects
writing      write_features: one file per video, resumable
probe        probe_features: cross-validated classifiers
search       search_features: a clip inside longer videos

Names that need torch are loaded when they are first used, so that exported models give features
without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .extraction import extract_features
from .options import FeatureOptions
from .probe import ProbeResult, ProbeScore, probe_features, read_video_labels
from .projection import Projection, load_projection, random_projection
from .search import SearchHit, extract_query, nearest_windows, search_features
from .storage import FORMATS, load_features, save_features
from .table import FeatureSettings, FeatureTable, VideoInfo, concatenate
from .writing import WrittenFeatures, read_segments, write_features

if TYPE_CHECKING:
    from .streaming import StreamingFeatures, StreamingLag, streaming_lag

__all__ = [
    "FORMATS",
    "FeatureOptions",
    "FeatureSettings",
    "FeatureTable",
    "ProbeResult",
    "ProbeScore",
    "Projection",
    "SearchHit",
    "StreamingFeatures",
    "StreamingLag",
    "VideoInfo",
    "WrittenFeatures",
    "concatenate",
    "extract_features",
    "extract_query",
    "load_features",
    "load_projection",
    "nearest_windows",
    "probe_features",
    "random_projection",
    "read_segments",
    "read_video_labels",
    "save_features",
    "search_features",
    "streaming_lag",
    "write_features",
]


def __getattr__(name: str) -> Any:
    if name not in ("StreamingFeatures", "StreamingLag", "streaming_lag"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import streaming

    return getattr(streaming, name)


def __dir__() -> list[str]:
    return sorted(__all__)
