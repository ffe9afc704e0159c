"""Segments of long videos: when, not only what.

timeline.py      scores of sliding windows over a video
decoding.py      scores over time -> segments: thresholds, lengths, merging, soft-NMS
detection.py     detect_segments: a video -> segments, SegmentDetector for many
fitting.py       fit_thresholds: thresholds from annotated videos; files of thresholds
shots.py         label_shots: one answer for each shot
shot_files.py    shots as CSV, JSON, JSON Lines and Parquet
"""

from .decoding import SegmentRules, Thresholds, decode_segments, smooth_scores, soft_nms
from .detection import DetectedSegments, SegmentDetector, detect_segments
from .fitting import FittedThresholds, fit_thresholds, read_thresholds, write_thresholds
from .shot_files import SHOT_FORMATS, write_shots
from .shots import LabeledShots, Shot, find_shots, label_shots
from .timeline import ScoreTimeline, score_timeline

__all__ = [
    "SHOT_FORMATS",
    "DetectedSegments",
    "FittedThresholds",
    "LabeledShots",
    "ScoreTimeline",
    "SegmentDetector",
    "SegmentRules",
    "Shot",
    "Thresholds",
    "decode_segments",
    "detect_segments",
    "find_shots",
    "fit_thresholds",
    "label_shots",
    "read_thresholds",
    "score_timeline",
    "smooth_scores",
    "soft_nms",
    "write_shots",
    "write_thresholds",
]
