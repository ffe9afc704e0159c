"""Describes a checkpoint without loading it into a model (`videoswin inspect`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..config import ModelConfig
from ..saving import METADATA_KEY, nonfinite_names
from .checkpoint import open_checkpoint
from .readers import DroppedObject
from .report import LoadReport
from .resolve import resolve_model

PlainValue: TypeAlias = str | int | float | bool | None

_MAX_ENTRIES = 40


@dataclass(frozen=True, eq=False)
class Inspection:
    """Description of a checkpoint.

    Attributes:
        kind: Container: "safetensors", "pickle (zip)" or "pickle (legacy)".
        format_name: Key format, such as "official", "mmaction2", "torchvision" or "image-timm".
        is_image: Whether these are weights of an image (2D) model.
        num_bytes: File size.
        config: Model configuration; for image weights, that of the inflated model.
        report: How the tensors match `config`.
        metadata: Plain values stored in the file.
        nonfinite_keys: Tensors with a NaN or an infinite value, which cannot be loaded.
    """

    kind: str
    format_name: str
    is_image: bool
    num_bytes: int
    config: ModelConfig
    report: LoadReport
    metadata: dict[str, PlainValue]
    nonfinite_keys: tuple[str, ...] = ()

    @property
    def is_loadable(self) -> bool:
        """Whether all tensors match the model and are finite."""
        return self.report.is_complete and not self.nonfinite_keys


def inspect_checkpoint(source: str | Path, state_dict_key: str | None = None) -> Inspection:
    """Describes a checkpoint and compares it with the model it belongs to.

    Tensors that are missing, unexpected or mismatched are listed in the report; they raise no
    error. Image weights are inflated first.

    Args:
        source: A model name, folder or file; see `resolve_model`.
        state_dict_key: Key of the state dict in the file; see `load_checkpoint`.

    Returns:
        The description.

    Raises:
        CheckpointError: The file cannot be read or is not in a supported format.
        UnknownNameError: No model has this name.
    """
    resolved = resolve_model(source)
    card = resolved.card
    checkpoint = open_checkpoint(resolved.path, state_dict_key)
    config = card.bundle.model if card is not None else checkpoint.file_config()
    adapted = checkpoint.adapted_to(config, frozenset(["inflate"]))
    container = checkpoint.raw
    return Inspection(
        kind=container.kind,
        format_name=checkpoint.key_format.name,
        is_image=checkpoint.is_image,
        num_bytes=container.num_bytes,
        config=config,
        report=checkpoint.report(config, adapted),
        metadata=dict(_iter_plain_entries(container.metadata)),
        nonfinite_keys=tuple(nonfinite_names(container.tensors)),
    )


def _iter_plain_entries(metadata: Mapping[str, Any]) -> Iterator[tuple[str, PlainValue]]:
    """Yields metadata entries, including those under "meta"; other objects by type name."""
    entries = dict(metadata)
    meta = entries.pop("meta", None)
    if isinstance(meta, Mapping):
        entries = {str(key): value for key, value in meta.items()} | entries
    for key, value in list(entries.items())[:_MAX_ENTRIES]:
        if key != METADATA_KEY:
            kind = "not loaded" if isinstance(value, DroppedObject) else type(value).__name__
            yield key, value if isinstance(value, PlainValue) else f"({kind})"
