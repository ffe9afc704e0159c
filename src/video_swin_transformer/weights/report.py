"""The load report: which tensors of a checkpoint match the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import ModelConfig
from .infer_config import describe_config
from .key_mapping import NamedTensors

_MAX_LISTED = 6

# Differences between checkpoint and model that `allow` accepts, and their effect.
ALLOWED_DIFFERENCES = {
    "head": "a new classifier for a different number of classes",
    "in_chans": "the patch projection summed or repeated for a different number of channels",
    "patch_time": "the patch projection summed over time for patches of one frame",
    "window": "bias tables interpolated to a different window",
    "inflate": "image weights inflated over time",
}


@dataclass(frozen=True)
class MismatchedKey:
    """A tensor whose shape differs from the model's.

    Attributes:
        name: Name of the tensor in the checkpoint.
        shape: Shape in the checkpoint.
        expected_shape: Shape in the model.
    """

    name: str
    shape: tuple[int, ...]
    expected_shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} (is {self.shape}, must be {self.expected_shape})"


@dataclass(frozen=True)
class LoadReport:
    """Result of matching the tensors of a checkpoint against a model.

    All keys are the names used in the checkpoint. `missing_keys`, `unexpected_keys` and
    `mismatched_keys` are empty if the model was loaded.

    Attributes:
        source: Path of the checkpoint.
        format: Title of the checkpoint format.
        config: Configuration of the model.
        dtype: Dtype of the checkpoint, such as "float32".
        num_tensors: Number of tensors in the model.
        num_params: Number of parameters in the model.
        matched_tensors: Number of tensors found in the checkpoint with the same shape.
        matched_params: Number of parameters in these tensors.
        missing_keys: Tensors of the model that the checkpoint lacks.
        unexpected_keys: Tensors of the checkpoint that the model lacks.
        mismatched_keys: Tensors whose shapes differ.
        conversions: Conversions applied to names and values.
        ignored_keys: Tensors of the checkpoint that are not part of the model by design.
        adaptations: Allowed differences that were applied.
    """

    source: str
    format: str
    config: ModelConfig
    dtype: str
    num_tensors: int = 0
    num_params: int = 0
    matched_tensors: int = 0
    matched_params: int = 0
    missing_keys: tuple[str, ...] = ()
    unexpected_keys: tuple[str, ...] = ()
    mismatched_keys: tuple[MismatchedKey, ...] = ()
    conversions: tuple[str, ...] = ()
    ignored_keys: tuple[str, ...] = ()
    adaptations: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """Name of the architecture, or its dimensions if it is not a registered one."""
        return describe_config(self.config)

    @property
    def is_complete(self) -> bool:
        """Whether all tensors match, after the allowed adaptations."""
        return not (self.missing_keys or self.unexpected_keys or self.mismatched_keys)

    def problems(self) -> list[str]:
        """Returns one line per kind of mismatch, with the affected keys (at most six)."""
        parts = (
            ("missing", self.missing_keys),
            ("unexpected", self.unexpected_keys),
            ("mismatched", [str(key) for key in self.mismatched_keys]),
        )
        return [f"{len(names)} {kind}: {shorten(names)}" for kind, names in parts if names]

    def __str__(self) -> str:
        lines = [
            f"{self.source}: {self.format}, {self.architecture}, {self.dtype}",
            f"matched {self.matched_tensors} of {self.num_tensors} tensors, "
            f"{self.matched_params:,} of {self.num_params:,} parameters",
            *self.problems(),
        ]
        lines += [f"adapted: {text}" for text in self.adaptations]
        lines += [f"converted: {text}" for text in self.conversions]
        if self.ignored_keys:
            lines.append(f"ignored {len(self.ignored_keys)}: {shorten(self.ignored_keys)}")
        return "\n".join(lines)


def shorten(names: Sequence[str]) -> str:
    """Joins the first names with commas and appends the number of omitted ones."""
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def compare(
    report: LoadReport,
    from_own: Callable[[str], tuple[str, ...]],
    named: NamedTensors,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, torch.Size],
) -> LoadReport:
    """Fills in the counts and mismatches of `report`.

    Args:
        report: The report without counts.
        from_own: Converts a name of the model to those in the checkpoint, none if it has no such
            tensor.
        named: Tensors of the checkpoint under official names.
        tensors: The same tensors after the allowed adaptations.
        expected: Shapes of the model's state dict, without tensors that may be missing.
    """
    in_file = {key for keys in named.sources.values() for key in keys} | set(named.incomplete)

    def keys_in_file(name: str) -> tuple[str, ...]:
        keys = named.sources.get(name) or from_own(name) or (name,)
        return tuple(key for key in keys if key not in in_file) or keys

    missing = [key for name in expected if name not in tensors for key in keys_in_file(name)]
    unexpected = [key for name in tensors if name not in expected for key in keys_in_file(name)]
    mismatched = [
        MismatchedKey(" + ".join(keys_in_file(name)), tuple(tensors[name].shape), tuple(shape))
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    matched = [s for name, s in expected.items() if name in tensors and tensors[name].shape == s]
    return dataclasses.replace(
        report,
        num_tensors=len(expected),
        num_params=sum(shape.numel() for shape in expected.values()),
        matched_tensors=len(matched),
        matched_params=sum(shape.numel() for shape in matched),
        missing_keys=tuple(missing),
        unexpected_keys=(*unexpected, *named.unexpected),
        mismatched_keys=tuple(mismatched),
    )
