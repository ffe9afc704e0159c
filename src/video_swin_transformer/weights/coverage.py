"""How much of a network a file fills: the report that decides whether weights are accepted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .keys import KeyFormat, NamedTensors

_MAX_LISTED = 6

# What a caller may permit to differ, and what then happens.
PERMISSIONS = {
    "head": "a fresh classifier for another number of classes",
    "in_chans": "the patch projection summed or repeated for another number of input channels",
    "window": "bias tables interpolated to another window",
    "inflate": "weights of an image network inflated in time",
}


@dataclass(frozen=True)
class Mismatch:
    """A tensor that is there, but of another shape than the network wants."""

    name: str
    got: tuple[int, ...]
    wanted: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} (is {self.got}, must be {self.wanted})"


@dataclass(frozen=True)
class CoverageReport:
    """What became of every tensor of a file and of every parameter of the network.

    Names are those in the file. `missing`, `unexpected` and `mismatched` are empty in the report
    of a model that was loaded. `converted` says what was done to names and values, `ignored`
    which tensors were left out because they carry no weights of the network, `permitted` which
    differences the caller had allowed and were used.
    """

    source: str
    format: str
    architecture: str
    dtype: str
    num_tensors: int  # of the network
    num_params: int
    matched_tensors: int
    matched_params: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()
    converted: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the file fits, apart from what was permitted to differ."""
        return not (self.missing or self.unexpected or self.mismatched)

    def problems(self) -> list[str]:
        """One sentence part for each kind of misfit, naming tensors; long lists are cut."""
        parts = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape", [str(mismatch) for mismatch in self.mismatched]),
        )
        return [f"{len(names)} {what}: {shortened(names)}" for what, names in parts if names]

    def __str__(self) -> str:
        lines = [
            f"{self.source}: {self.format}, {self.architecture}, {self.dtype}",
            f"matched {self.matched_tensors} of {self.num_tensors} tensors, "
            f"{self.matched_params:,} of {self.num_params:,} parameters",
            *self.problems(),
        ]
        lines += [f"permitted: {text}" for text in self.permitted]
        lines += [f"converted: {text}" for text in self.converted]
        if self.ignored:
            lines.append(f"ignored {len(self.ignored)}: {shortened(self.ignored)}")
        return "\n".join(lines)


def shortened(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def compare(
    report: CoverageReport,
    key_format: KeyFormat,
    named: NamedTensors,
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, torch.Size],
) -> CoverageReport:
    """`report` with its counts and misfits filled in.

    named: the tensors as they were in the file; tensors: the same after permitted changes, under
    our names; wanted: shapes of the network's state dict, without what is permitted to be absent.
    """
    in_file = {key for keys in named.sources.values() for key in keys} | set(named.incomplete)

    def theirs(name: str) -> tuple[str, ...]:
        keys = named.sources.get(name) or key_format.from_ours(name) or (name,)
        return tuple(key for key in keys if key not in in_file) or keys

    missing = [key for name in wanted if name not in tensors for key in theirs(name)]
    unexpected = [key for name in tensors if name not in wanted for key in theirs(name)]
    mismatched = [
        Mismatch(" + ".join(theirs(name)), tuple(tensors[name].shape), tuple(shape))
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]
    matched = [s for name, s in wanted.items() if name in tensors and tensors[name].shape == s]
    return dataclasses.replace(
        report,
        num_tensors=len(wanted),
        num_params=sum(shape.numel() for shape in wanted.values()),
        matched_tensors=len(matched),
        matched_params=sum(shape.numel() for shape in matched),
        missing=tuple(missing),
        unexpected=(*unexpected, *named.unexpected),
        mismatched=tuple(mismatched),
    )
