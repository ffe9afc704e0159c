"""The load report: which tensors of a file matched the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import ModelConfig
from .infer_config import describe_config
from .key_mapping import KeyFormat, NamedTensors

_MAX_LISTED = 6

# The differences between file and network that a caller may allow, and their effect.
ALLOWED_DIFFERENCES = {
    "head": "a new classifier for a different number of classes",
    "in_chans": "the patch projection summed or repeated for a different number of channels",
    "patch_time": "the patch projection summed over time for patches of one frame",
    "window": "bias tables interpolated to a different window",
    "inflate": "image weights inflated over time",
}


@dataclass(frozen=True)
class MismatchedKey:
    """A tensor whose shape differs from the network's."""

    name: str
    shape: tuple[int, ...]
    expected_shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} (is {self.shape}, must be {self.expected_shape})"


@dataclass(frozen=True)
class LoadReport:
    """What happened to every tensor of a file and every parameter of the network.

    Keys are the file's. `missing_keys`, `unexpected_keys` and `mismatched_keys` are empty in the
    report of a model that was loaded.

    Attributes:
        source: the file.
        format: the tool that wrote it.
        config: the network.
        dtype: of the file's weights.
        num_tensors: tensors of the network, and `num_params` its parameters.
        matched_tensors: those found in the file, and `matched_params` their parameters.
        conversions: what was done to names and values.
        ignored_keys: tensors that carry no weights of the network.
        adaptations: allowed differences that were used, and how.
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
        """The network's name, or its sizes where the model zoo has none of that shape."""
        return describe_config(self.config)

    @property
    def is_complete(self) -> bool:
        """Whether the file fits, apart from the differences that were allowed."""
        return not (self.missing_keys or self.unexpected_keys or self.mismatched_keys)

    def problems(self) -> list[str]:
        """One phrase per kind of mismatch, naming tensors; long lists are shortened."""
        parts = (
            ("missing", self.missing_keys),
            ("unexpected", self.unexpected_keys),
            ("mismatched", [str(key) for key in self.mismatched_keys]),
        )
        return [f"{len(names)} {what}: {shorten(names)}" for what, names in parts if names]

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
    """The first names, and how many more there are."""
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def compare(
    report: LoadReport,
    key_format: KeyFormat,
    named: NamedTensors,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, torch.Size],
) -> LoadReport:
    """Fills in the counts and mismatches of `report`.

    Args:
        report: the report without counts.
        key_format: the names the file uses.
        named: the tensors as they were in the file.
        tensors: the same under our names, after allowed changes.
        expected: shapes of the network's state dict, without what may be missing.
    """
    in_file = {key for keys in named.sources.values() for key in keys} | set(named.incomplete)

    def keys_in_file(name: str) -> tuple[str, ...]:
        keys = named.sources.get(name) or key_format.from_official(name) or (name,)
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
