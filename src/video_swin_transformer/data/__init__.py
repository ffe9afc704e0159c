"""Datasets: annotations of every common kind, checks, quarantine, and clips for the network.

items.py       a dataset: a list of clips with their classes
lists.py       text lists, one clip a line
tables.py      CSV and JSON as publishers give them
places.py      where the clips lie on this disk
reading.py     recognize the format, find the clips, number the classes
quarantine.py  clips found unusable, left out by later runs
processes.py   work in processes that may crash or hang
probe.py       one clip, looked at from all sides
checking.py    a whole dataset, its splits and classes
report.py      what was found, as data
dataset.py     frames of clips, for training and for testing
"""

from .annotations import Annotations, ClipRecord, hold_out, require_disjoint
from .checking import CheckPlan, check_dataset
from .dataset import EvalClips, Sample, TrainClips
from .quarantine import Quarantine, default_quarantine
from .readers import FORMATS, find_splits, label_map, read_annotations
from .report import CheckReport, Problem

__all__ = [
    "FORMATS",
    "Annotations",
    "CheckPlan",
    "CheckReport",
    "ClipRecord",
    "EvalClips",
    "Problem",
    "Quarantine",
    "Sample",
    "TrainClips",
    "check_dataset",
    "default_quarantine",
    "find_splits",
    "hold_out",
    "label_map",
    "read_annotations",
    "require_disjoint",
]
