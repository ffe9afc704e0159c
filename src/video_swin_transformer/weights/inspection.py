"""What a file of weights is, told without loading it into a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..config import ModelConfig
from ..saving import METADATA_KEY
from .checkpoint import open_checkpoint
from .report import LoadReport
from .resolve import resolve_model

Plain: TypeAlias = str | int | float | bool | None

_MAX_ENTRIES = 40


@dataclass(frozen=True, eq=False)
class Inspection:
    """A file of weights as `videoswin inspect` prints it."""

    kind: str  # of the container: "safetensors", "pickle (zip)", "pickle (legacy)"
    format_name: str  # short: "official", "mmaction2", "torchvision", "own", "image-timm", ...
    is_image: bool
    num_bytes: int
    config: ModelConfig  # for image weights: what they inflate to
    report: LoadReport
    metadata: dict[str, Plain]


def inspect_checkpoint(source: str | Path) -> Inspection:
    """An opened file, its network, and how much of it the file fills; image weights inflated.

    Raises CheckpointError for a file that cannot be read or is of no known format; for one that
    would be refused for what is missing or left over, the report says so.
    """
    resolved = resolve_model(source)
    card = resolved.card
    checkpoint = open_checkpoint(resolved.path)
    config = card.bundle.model if card is not None else checkpoint.infer_config()
    adapted = checkpoint.adapted_to(config, frozenset(["inflate"]))
    container = checkpoint.raw
    return Inspection(
        kind=container.kind,
        format_name=checkpoint.key_format.name,
        is_image=checkpoint.is_image,
        num_bytes=container.num_bytes,
        config=config,
        report=checkpoint.report(config, adapted),
        metadata=dict(_plain_entries(container.metadata)),
    )


def _plain_entries(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Plain]]:
    """Plain values, those of `meta` among them; whatever else stands there by its kind."""
    entries = dict(metadata)
    meta = entries.pop("meta", None)
    if isinstance(meta, Mapping):
        entries = {str(key): value for key, value in meta.items()} | entries
    for key, value in list(entries.items())[:_MAX_ENTRIES]:
        if key != METADATA_KEY:
            yield key, value if isinstance(value, Plain) else f"({type(value).__name__})"
