"""`ModelCard`, the metadata of an architecture or of pretrained weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import BundleConfig


@dataclass(frozen=True)
class Accuracy:
    """A published accuracy and its evaluation protocol.

    Attributes:
        top1: Top-1 accuracy in percent.
        protocol: Dataset and protocol, for display.
        top5: Top-5 accuracy in percent; None if not published.
        views: Number of clips x crops, such as "4x3".
    """

    top1: float
    protocol: str
    top5: float | None = None
    views: str = "1x1"


@dataclass(frozen=True)
class WeightsSource:
    """Origin and license of weights.

    Weights with neither `shipped_folder` nor `url` were never released; only their accuracy was
    published.

    Attributes:
        publisher: Name of the publisher.
        trained_on: Training dataset, and pretraining dataset in parentheses.
        license: SPDX identifier; "" if unknown. See `license_note` for its scope.
        accuracy: Published accuracy; None if not published.
        shipped_folder: Folder under `pretrained/` in this package.
        url: Download URL.
        sha256_prefix: First characters of the SHA-256; "" if not published.
        license_note: Notes on the license.
    """

    publisher: str
    trained_on: str
    license: str
    accuracy: Accuracy | None = None
    shipped_folder: str | None = None
    url: str | None = None
    sha256_prefix: str = ""
    license_note: str = ""

    @property
    def file_name(self) -> str | None:
        """File name in the URL; None without a URL."""
        return None if self.url is None else self.url.rpartition("/")[2]


@dataclass(frozen=True)
class ModelCard:
    """Metadata of a named model: configuration, input and, optionally, weights.

    Attributes:
        name: Name given by the publisher.
        bundle: Model, sampling, preprocessing and labels.
        summary: Short description for tables.
        kind: "architecture" has no weights; "video" is a trained classifier; "image" are weights of
            a 2D Swin model for fine-tuning, which are inflated to `architecture`, without a
            classifier.
        architecture: Name of the architecture.
        aliases: Other names.
        weights: Origin and license of the weights; None for an architecture.
        label_set: A key of `labels.LABEL_SETS`.
        note: Caveats when comparing accuracies.
    """

    name: str
    bundle: BundleConfig
    summary: str
    kind: Literal["architecture", "video", "image"]
    architecture: str
    aliases: tuple[str, ...] = ()
    weights: WeightsSource | None = None
    label_set: str | None = None
    note: str = ""
