"""Label sets of the published weights, shipped with the package or by URL."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import UnknownNameError
from .label_files import read_labels

_LISTS = "https://raw.githubusercontent.com/open-mmlab/mmaction2/main/tools/data"


@dataclass(frozen=True)
class LabelSet:
    """The class names of a dataset.

    Attributes:
        name: Short name.
        title: Name for display.
        num_classes: Number of classes.
        url: URL of the list, one label per line in the class order of the published weights.
        shipped: Name of the file shipped with the package; None if there is none.
    """

    name: str
    title: str
    num_classes: int
    url: str
    shipped: str | None = None


LABEL_SETS = {
    labels.name: labels
    for labels in (
        LabelSet(
            "kinetics400",
            "Kinetics-400",
            400,
            f"{_LISTS}/kinetics/label_map_k400.txt",
            shipped="kinetics400.txt",
        ),
        LabelSet("kinetics600", "Kinetics-600", 600, f"{_LISTS}/kinetics/label_map_k600.txt"),
        LabelSet("kinetics700", "Kinetics-700", 700, f"{_LISTS}/kinetics/label_map_k700.txt"),
        LabelSet("kinetics710", "Kinetics-710", 710, f"{_LISTS}/kinetics710/label_map_k710.txt"),
        LabelSet("sthv2", "Something-Something v2", 174, f"{_LISTS}/sthv2/label_map.txt"),
    )
}


def find_label_set(name: str) -> LabelSet:
    """Returns the label set with this name. Raises UnknownNameError."""
    if name not in LABEL_SETS:
        raise UnknownNameError("label set", name, LABEL_SETS)
    return LABEL_SETS[name]


@cache
def shipped_labels(name: str) -> tuple[str, ...]:
    """Returns the labels of a set; empty if they are not shipped with the package."""
    labels = find_label_set(name)
    if labels.shipped is None:
        return ()
    return read_labels(Path(__file__).parent / labels.shipped, labels.num_classes)
