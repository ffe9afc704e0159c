"""Datasets: annotation formats, dataset checks, quarantine lists, and clips for the model.

annotations.py    a dataset split: clips and their labels
columns.py        names of columns and keys
lists.py          text lists, one clip per line
tables.py         published CSV and JSON formats
segments.py       labeled segments of videos
segment_formats.py  segments from files of annotation tools
segment_writing.py  segments to files of annotation tools
path_resolver.py  annotation paths -> files on disk
targets.py        lists of clips with numbers
readers.py        detect the format, locate the clips, number the classes
quarantine.py     unusable clips that later runs skip
worker_pool.py    worker processes that may crash or hang
probe.py          check one clip
checking.py       check a dataset, its splits and classes
report.py         the results of a check
dataset.py        clips for training and evaluation
transcoding.py    a smaller copy of a video
list_rewriting.py  lists with other paths
preparing.py      a dataset with smaller videos
"""

from .annotations import (
    Annotations,
    ClipRecord,
    TimeRange,
    hold_out,
    require_disjoint,
    require_same_labels,
)
from .checking import CheckPlan, check_dataset
from .dataset import EvalClips, Sample, TrainClips, clip_source
from .preparing import PreparedData, prepare
from .quarantine import Quarantine, default_quarantine
from .readers import (
    FORMATS,
    find_splits,
    label_map,
    read_annotations,
    read_segment_annotations,
)
from .report import CheckReport, Problem
from .segment_writing import SEGMENT_FILE_FORMATS, write_segment_annotations
from .segments import Segment, VideoSegments
from .targets import read_target_annotations

__all__ = [
    "FORMATS",
    "SEGMENT_FILE_FORMATS",
    "Annotations",
    "CheckPlan",
    "CheckReport",
    "ClipRecord",
    "EvalClips",
    "PreparedData",
    "Problem",
    "Quarantine",
    "Sample",
    "Segment",
    "TimeRange",
    "TrainClips",
    "VideoSegments",
    "check_dataset",
    "clip_source",
    "default_quarantine",
    "find_splits",
    "hold_out",
    "label_map",
    "prepare",
    "read_annotations",
    "read_segment_annotations",
    "read_target_annotations",
    "require_disjoint",
    "require_same_labels",
    "write_segment_annotations",
]
