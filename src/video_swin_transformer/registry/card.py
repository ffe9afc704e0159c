"""`ModelCard`, the metadata of an architecture or of pretrained weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import BundleConfig


@dataclass(frozen=True)
class Accuracy:
    """A published accuracy and its evaluation protocol."""

    top1: float  # percent
    protocol: str  # dataset and procedure, for display
    top5: float | None = None
    views: str = "1x1"  # clips x crops


@dataclass(frozen=True)
class WeightsSource:
    """Origin and license of weights.

    Weights with neither `shipped_folder` nor `url` were never released; only their accuracy was.
    """

    publisher: str
    trained_on: str
    license: str  # scope: see license_note
    accuracy: Accuracy | None = None  # None: not published
    shipped_folder: str | None = None  # folder under `pretrained/` in this package
    url: str | None = None
    sha256_prefix: str = ""  # as published; "" if not published
    license_note: str = ""

    @property
    def file_name(self) -> str | None:
        """The published name of the file to download."""
        return None if self.url is None else self.url.rpartition("/")[2]


@dataclass(frozen=True)
class ModelCard:
    """Metadata of a named model: configuration, input and, optionally, weights.

    Attributes:
        name: The name, as its publisher gave it.
        bundle: Network, sampling, preprocessing and labels.
        summary: A few words for tables.
        kind: "architecture" has no weights; "video" is a trained classifier; "image" are weights of
            a 2D Swin to inflate into `architecture` and fine-tune, without a classifier.
        architecture: The name of the architecture.
        aliases: Other names.
        weights: Origin and license of the weights; None for an architecture.
        label_set: The name of a set of class names.
        note: Caveats when comparing accuracies.
    """

    name: str
    bundle: BundleConfig
    summary: str
    kind: Literal["architecture", "video", "image"]
    architecture: str
    aliases: tuple[str, ...] = ()
    weights: WeightsSource | None = None
    label_set: str | None = None  # a name of `labels.LABEL_SETS`
    note: str = ""  # caveats when comparing accuracies
