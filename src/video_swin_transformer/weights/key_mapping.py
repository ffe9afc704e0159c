"""Parameter names of each tool and how they map to ours.

Ours are the official ones: `backbone.layers.0.blocks.0.norm1.weight`, `cls_head.fc_cls.weight`.
A `KeyFormat` describes a tool's names as data, and both directions follow from it. Everything
here is a pure function of names and tensors; nothing opens a file or builds a network.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

DERIVED = "derived"  # follows from the configuration: dropped
IGNORED = "ignored"  # belongs to the tool, not to the network: dropped and reported

_PARTS = (
    "attn.relative_position_bias_table",
    *(
        f"{layer}.{leaf}"
        for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        for leaf in ("weight", "bias")
    ),
)
_OURS_PATCH = "backbone.patch_embed.proj."
_OURS_PATCH_NORM = "backbone.patch_embed.norm."
_OURS_NORM = "backbone.norm."
_OURS_HEAD = "cls_head.fc_cls."
_OURS_BLOCK = re.compile(r"backbone\.layers\.(\d+)\.blocks\.(\d+)\.(.+)")
_OURS_MERGE = re.compile(r"backbone\.layers\.(\d+)\.downsample\.((?:norm|reduction)\..+)")
_SLOT = re.compile(r"(.+)#([012])")  # a third of a qkv tensor: query, key or value


@dataclass(frozen=True)
class KeyFormat:
    """How one tool names the parameters of a Swin network.

    Patterns hold {} for the stage's number (times `scale`, plus an offset) and for the block's.
    parts: our name inside a block -> the tool's; a tool that splits qkv gives three, "...#0" to
    "...#2". num_axes: 3 for video, 2 for image weights. head: None if it never has a classifier.
    """

    name: str
    title: str
    num_axes: int
    patch: str
    patch_norm: str
    block: str
    merge: str
    norm: str
    head: str | None
    scale: int = 1
    block_offset: int = 0
    merge_offset: int = 0
    parts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    derived: tuple[str, ...] = ("attn.relative_position_index", "attn_mask")
    ignored: tuple[str, ...] = ()  # regular expressions for whole names

    def _fixed(self) -> tuple[tuple[str, str | None], ...]:
        return (
            (_OURS_PATCH, self.patch),
            (_OURS_PATCH_NORM, self.patch_norm),
            (_OURS_NORM, self.norm),
            (_OURS_HEAD, self.head),
        )

    @cached_property
    def _theirs_to_part(self) -> dict[str, str]:
        names = {self.parts.get(part, part): part for part in _PARTS if part not in self._split}
        return names | {theirs: slot for slot, theirs in self.parts.items() if "#" in slot}

    @cached_property
    def _split(self) -> frozenset[str]:
        return frozenset(slot.split("#")[0] for slot in self.parts if "#" in slot)

    @cached_property
    def _block_pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.block).replace(r"\{\}", r"(\d{1,4})") + "(.+)")

    @cached_property
    def _merge_pattern(self) -> re.Pattern[str]:
        tail = r"((?:norm|reduction)\.(?:weight|bias))"
        return re.compile(re.escape(self.merge).replace(r"\{\}", r"(\d{1,4})") + tail)

    def _stage(self, number: str, offset: int) -> int | None:
        stage, rest = divmod(int(number) - offset, self.scale)
        return stage if rest == 0 and stage >= 0 else None

    def to_official(self, key: str) -> str | None:
        """A name in the file -> ours, DERIVED, IGNORED, or None for a name of no Swin network.

        A third of a qkv tensor comes back as "...qkv.weight#0".
        """
        if any(re.fullmatch(pattern, key) for pattern in self.ignored):
            return IGNORED
        for ours, theirs in self._fixed():
            if theirs is not None and key in (theirs + "weight", theirs + "bias"):
                return ours + key.removeprefix(theirs)
        if match := self._block_pattern.fullmatch(key):
            stage = self._stage(match[1], self.block_offset)
            if stage is not None:
                if match[3] in self.derived:
                    return DERIVED
                if match[3] in self._theirs_to_part:
                    part = self._theirs_to_part[match[3]]
                    return f"backbone.layers.{stage}.blocks.{int(match[2])}.{part}"
        if match := self._merge_pattern.fullmatch(key):
            stage = self._stage(match[1], self.merge_offset)
            if stage is not None:
                return f"backbone.layers.{stage}.downsample.{match[2]}"
        return None

    def from_official(self, name: str) -> tuple[str, ...]:
        """Our name -> the tool's (three where it splits qkv); empty if it has no such tensor."""
        for ours, theirs in self._fixed():
            if name.startswith(ours):
                return () if theirs is None else (theirs + name.removeprefix(ours),)
        if match := _OURS_BLOCK.fullmatch(name):
            number = self.scale * int(match[1]) + self.block_offset
            before = self.block.format(number, match[2])
            if match[3] in self._split:
                return tuple(before + self.parts[f"{match[3]}#{i}"] for i in range(3))
            return (before + self.parts.get(match[3], match[3]),)
        if match := _OURS_MERGE.fullmatch(name):
            return (self.merge.format(self.scale * int(match[1]) + self.merge_offset) + match[2],)
        return ()


@dataclass(frozen=True, eq=False)
class NamedTensors:
    """Tensors under our names, with where each came from."""

    tensors: dict[str, Tensor]
    sources: dict[str, tuple[str, ...]]  # our name -> the names in the file
    derived: tuple[str, ...]  # names in the file
    ignored: tuple[str, ...]
    unexpected: tuple[str, ...]
    incomplete: tuple[str, ...]  # parts of a split tensor whose siblings are missing or do not fit


def convert(key_format: KeyFormat, tensors: Mapping[str, Tensor]) -> NamedTensors:
    """A file's tensors under our names; query, key and value are joined along their rows."""
    found: dict[str, tuple[str, Tensor]] = {}
    dropped: dict[str, list[str]] = {DERIVED: [], IGNORED: []}
    unexpected: list[str] = []
    incomplete: list[str] = []
    for key, tensor in tensors.items():
        ours = key_format.to_official(key)
        if ours is None or ours in found:
            unexpected.append(key)
        elif ours in dropped:
            dropped[ours].append(key)
        else:
            found[ours] = (key, tensor)
    named: dict[str, Tensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    for name, (key, tensor) in found.items():
        slot = _SLOT.fullmatch(name)
        if slot is None:
            named[name], sources[name] = tensor, (key,)
            continue
        thirds = [found.get(f"{slot[1]}#{i}") for i in range(3)]
        whole = [third for third in thirds if third is not None]
        if len(whole) < 3 or not _can_be_joined([third[1] for third in whole]):
            incomplete.append(key)
        elif slot[2] == "0":
            named[slot[1]] = torch.cat([third[1] for third in whole])
            sources[slot[1]] = tuple(third[0] for third in whole)
    return NamedTensors(
        named,
        sources,
        tuple(dropped[DERIVED]),
        tuple(dropped[IGNORED]),
        tuple(unexpected),
        tuple(incomplete),
    )


def _can_be_joined(thirds: Collection[Tensor]) -> bool:
    return len({(t.shape, t.dtype) for t in thirds}) == 1 and all(t.ndim > 0 for t in thirds)


def rename_from_official(key_format: KeyFormat, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under a tool's names: the inverse of `convert`, without derived buffers."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        theirs = key_format.from_official(name)
        parts = tensor.chunk(3) if len(theirs) == 3 else (tensor,)
        renamed.update(zip(theirs, parts, strict=False))
    return renamed


# --- the tools whose weights are read ----------------------------------------------------------


def _torchvision_parts() -> Mapping[str, str]:
    changed = {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3"}
    leaves = ("weight", "bias")
    return MappingProxyType({f"{a}.{x}": f"{b}.{x}" for a, b in changed.items() for x in leaves})


def _transformers_parts() -> Mapping[str, str]:
    changed = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    parts = {f"{a}.{x}": f"{b}.{x}" for a, b in changed.items() for x in ("weight", "bias")}
    table = "relative_position_bias_table"
    parts[f"attn.{table}"] = f"attention.self.{table}"
    for slot, third in enumerate(("query", "key", "value")):
        for leaf in ("weight", "bias"):
            parts[f"attn.qkv.{leaf}#{slot}"] = f"attention.self.{third}.{leaf}"
    return MappingProxyType(parts)


def _plain(
    name: str,
    title: str,
    num_axes: int,
    before: str = "",
    head: str | None = None,
    norm: str = "norm.",
    ignored: tuple[str, ...] = (),
    merge_offset: int = 0,
) -> KeyFormat:
    """Names built like the official ones: `layers.i.blocks.j.`"""
    return KeyFormat(
        name=name,
        title=title,
        num_axes=num_axes,
        patch=f"{before}patch_embed.proj.",
        patch_norm=f"{before}patch_embed.norm.",
        block=f"{before}layers.{{}}.blocks.{{}}.",
        merge=f"{before}layers.{{}}.downsample.",
        norm=f"{before}{norm}",
        head=head,
        ignored=ignored,
        merge_offset=merge_offset,
    )


def _transformers(name: str, title: str, before: str, head: str | None) -> KeyFormat:
    return KeyFormat(
        name=name,
        title=title,
        num_axes=2,
        patch=f"{before}embeddings.patch_embeddings.projection.",
        patch_norm=f"{before}embeddings.norm.",
        block=f"{before}encoder.layers.{{}}.blocks.{{}}.",
        merge=f"{before}encoder.layers.{{}}.downsample.",
        norm=f"{before}layernorm.",
        head=head,
        parts=_transformers_parts(),
        derived=("attention.self.relative_position_index",),
    )


_DATA = (r"data_preprocessor\..+",)
OFFICIAL = _plain(
    "official",
    "official Video Swin / mmaction2 0.x recognizer",
    3,
    "backbone.",
    "cls_head.fc_cls.",
    ignored=_DATA,
)
OWN = dataclasses.replace(OFFICIAL, name="own", title="video-swin-transformer")
MMACTION2 = _plain(
    "mmaction2",
    "mmaction2 1.x recognizer",
    3,
    "backbone.",
    "cls_head.fc_cls.",
    norm="norm3.",
    ignored=(*_DATA, r"backbone\.norm[0-2]\.(?:weight|bias)"),
)
BACKBONE = _plain("backbone", "backbone alone (single-file copy)", 3)
TORCHVISION = KeyFormat(
    name="torchvision",
    title="torchvision swin3d",
    num_axes=3,
    patch="patch_embed.proj.",
    patch_norm="patch_embed.norm.",
    block="features.{}.{}.",
    merge="features.{}.",
    norm="norm.",
    head="head.",
    scale=2,
    merge_offset=1,
    parts=_torchvision_parts(),
)
MICROSOFT = _plain(
    "image-microsoft", "image Swin by Microsoft (also timm before 0.9)", 2, "", "head."
)
TIMM = _plain("image-timm", "image Swin by timm", 2, "", "head.fc.", merge_offset=1)
TORCHVISION_IMAGE = KeyFormat(
    name="image-torchvision",
    title="image Swin by torchvision",
    num_axes=2,
    patch="features.0.0.",
    patch_norm="features.0.2.",
    block="features.{}.{}.",
    merge="features.{}.",
    norm="norm.",
    head="head.",
    scale=2,
    block_offset=1,
    merge_offset=2,
    parts=_torchvision_parts(),
)
TRANSFORMERS = _transformers(
    "image-transformers", "transformers SwinForImageClassification", "swin.", "classifier."
)
TRANSFORMERS_BACKBONE = _transformers(
    "image-transformers-backbone", "transformers SwinModel", "", None
)

FORMATS = (
    OFFICIAL,
    MMACTION2,
    BACKBONE,
    TORCHVISION,
    MICROSOFT,
    TIMM,
    TORCHVISION_IMAGE,
    TRANSFORMERS,
    TRANSFORMERS_BACKBONE,
)


def recognize_format(tensors: Mapping[str, Tensor]) -> KeyFormat | None:
    """The format of named tensors by their prefixes, or None if it is unknown.

    A format is recognized by several names, so that one lost or renamed tensor is reported as
    missing instead of making the file unreadable.
    """
    names = tensors.keys()
    if not any(name.endswith(".relative_position_bias_table") for name in names):
        return None

    def any_begins(*prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in names)

    if any_begins("backbone.layers."):
        return MMACTION2 if any_begins("backbone.norm3.") else OFFICIAL
    if any_begins("swin.encoder.layers."):
        return TRANSFORMERS
    if any_begins("encoder.layers.") and any_begins("embeddings.patch_embeddings."):
        return TRANSFORMERS_BACKBONE
    if any_begins("features."):
        return TORCHVISION if any_begins("patch_embed.") else TORCHVISION_IMAGE
    if not any_begins("layers."):
        return None
    if not _is_image(tensors):
        return BACKBONE
    merges = {m[1] for n in names if (m := re.match(r"layers\.(\d+)\.downsample\.", n))}
    stages = {m[1] for n in names if (m := re.match(r"layers\.(\d+)\.blocks\.", n))}
    at_the_start = any_begins("head.fc.") or bool(merges and max(merges) == max(stages))
    return TIMM if at_the_start else MICROSOFT


def _is_image(tensors: Mapping[str, Tensor]) -> bool:
    patch = tensors.get("patch_embed.proj.weight")
    if patch is not None and patch.ndim in (4, 5):
        return patch.ndim == 4
    # The patch projection is lost; a table of a square window has a square number of rows.
    rows = [
        t.shape[0]
        for n, t in tensors.items()
        if n.endswith(".relative_position_bias_table") and t.ndim == 2
    ]
    return bool(rows) and round(rows[0] ** 0.5) ** 2 == rows[0]
