"""What is known of one architecture or of one set of weights: `ModelCard`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import BundleConfig


@dataclass(frozen=True)
class Accuracy:
    """A published accuracy and how it was measured; a number without its protocol says nothing."""

    top1: float  # per cent
    protocol: str  # data and way of looking, for people
    top5: float | None = None
    views: str = "1x1"  # clips x crops


@dataclass(frozen=True)
class WeightsSource:
    """Where weights come from and under which terms.

    Weights with neither `shipped_folder` nor `url` were published as a number only.
    """

    publisher: str
    trained_on: str
    license: str  # of what the publisher states it for: see license_note
    accuracy: Accuracy | None = None  # None: not published
    shipped_folder: str | None = None  # folder under `pretrained/` in this package
    url: str | None = None
    sha256_prefix: str = ""  # as far as the publisher says it; "" where not at all
    license_note: str = ""

    @property
    def file_name(self) -> str | None:
        """The published name of the file to download."""
        return None if self.url is None else self.url.rpartition("/")[2]


@dataclass(frozen=True)
class ModelCard:
    """One name: its network, how that network is fed, and its weights if there are any.

    kind: "architecture" has no weights; "video" is a trained classifier; "image" are weights of a
    2D Swin, to be inflated into `architecture` and then trained: their bundle has no classifier.
    """

    name: str
    bundle: BundleConfig
    summary: str
    kind: Literal["architecture", "video", "image"]
    architecture: str
    aliases: tuple[str, ...] = ()
    weights: WeightsSource | None = None
    label_set: str | None = None  # a name of `labels.LABEL_SETS`
    note: str = ""  # what a person should know before comparing numbers
