"""Class names, from a file or of published datasets."""

from .label_files import read_labels
from .sets import LABEL_SETS, LabelSet, find_label_set, shipped_labels

__all__ = ["LABEL_SETS", "LabelSet", "find_label_set", "read_labels", "shipped_labels"]
