"""Mapping between the parameter names of other tools and the official ones.

This package uses the official names: `backbone.layers.0.blocks.0.norm1.weight`,
`cls_head.fc_cls.weight`. A `KeyFormat` describes the names of one tool and converts in both
directions. All functions are pure: they open no files and build no models.
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

DERIVED = "derived"  # determined by the configuration: dropped
IGNORED = "ignored"  # not part of the model: dropped and reported

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
_QKV_THIRD = re.compile(r"(.+)#([012])")  # query, key or value part of a qkv tensor


@dataclass(frozen=True)
class KeyFormat:
    """The parameter names of one tool.

    Attributes:
        name: Short name.
        title: Name for messages.
        num_axes: 3 for video weights, 2 for image weights.
        patch: Prefix of the patch projection.
        patch_norm: Prefix of the norm after the patch projection.
        block: Prefix of a block, with {} for the stage and the block number. The stage number is
            multiplied by `scale`, and `block_offset` is added.
        merge: Prefix of patch merging, with {} for the stage number (see `merge_offset`).
        norm: Prefix of the final norm.
        head: Prefix of the classifier; None if the format has none.
        scale: Factor of the stage number in `block` and `merge`.
        block_offset: Offset of the stage number in `block`.
        merge_offset: Offset of the stage number in `merge`.
        parts: Official name within a block -> the tool's name. A tool that splits qkv has three
            entries, "...#0" to "...#2".
        derived: Names within a block of buffers that follow from the configuration.
        ignored: Regular expressions of full names that are not part of the model.
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
    ignored: tuple[str, ...] = ()

    def _prefixes(self) -> tuple[tuple[str, str | None], ...]:
        return (
            (_OURS_PATCH, self.patch),
            (_OURS_PATCH_NORM, self.patch_norm),
            (_OURS_NORM, self.norm),
            (_OURS_HEAD, self.head),
        )

    @cached_property
    def _theirs_to_part(self) -> dict[str, str]:
        names = {self.parts.get(part, part): part for part in _PARTS if part not in self._split}
        return names | {theirs: part for part, theirs in self.parts.items() if "#" in part}

    @cached_property
    def _split(self) -> frozenset[str]:
        return frozenset(part.split("#")[0] for part in self.parts if "#" in part)

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
        """Converts a name to the official one.

        Args:
            key: The tool's name.

        Returns:
            The official name, DERIVED, IGNORED, or None if the name is unknown. A part of a split
            qkv tensor is returned as "...qkv.weight#0".
        """
        if any(re.fullmatch(pattern, key) for pattern in self.ignored):
            return IGNORED
        for ours, theirs in self._prefixes():
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
        """Converts an official name to the tool's.

        Args:
            name: The official name.

        Returns:
            One name; three if the tool splits qkv; none if it has no such tensor.
        """
        for ours, theirs in self._prefixes():
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
    """Tensors under official names, and the names they had in the file."""

    tensors: dict[str, Tensor]
    sources: dict[str, tuple[str, ...]]  # official name -> names in the file
    derived: tuple[str, ...]  # names in the file
    ignored: tuple[str, ...]
    unexpected: tuple[str, ...]
    # Parts of a split tensor whose other parts are missing or have different shapes.
    incomplete: tuple[str, ...]


def convert(key_format: KeyFormat, tensors: Mapping[str, Tensor]) -> NamedTensors:
    """Converts tensors to official names. Query, key and value are concatenated along rows.

    Args:
        key_format: Key format of the tensors.
        tensors: Tensors by the tool's names.

    Returns:
        The converted tensors.
    """
    found: dict[str, tuple[str, Tensor]] = {}
    dropped: dict[str, list[str]] = {DERIVED: [], IGNORED: []}
    unexpected: list[str] = []
    incomplete: list[str] = []
    for key, tensor in tensors.items():
        ours = key_format.to_official(key)
        if ours is None and _is_counter(tensor):
            dropped[IGNORED].append(key)
        elif ours is None or ours in found:
            unexpected.append(key)
        elif ours in dropped:
            dropped[ours].append(key)
        else:
            found[ours] = (key, tensor)
    named: dict[str, Tensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    for name, (key, tensor) in found.items():
        split = _QKV_THIRD.fullmatch(name)
        if split is None:
            named[name], sources[name] = tensor, (key,)
            continue
        joined, number = split.groups()
        thirds = [found.get(f"{joined}#{i}") for i in range(3)]
        whole = [third for third in thirds if third is not None]
        if len(whole) < 3 or not _can_be_joined([third[1] for third in whole]):
            incomplete.append(key)
        elif number == "0":
            named[joined] = torch.cat([third[1] for third in whole])
            sources[joined] = tuple(third[0] for third in whole)
    return NamedTensors(
        named,
        sources,
        tuple(dropped[DERIVED]),
        tuple(dropped[IGNORED]),
        tuple(unexpected),
        tuple(incomplete),
    )


def _is_counter(tensor: Tensor) -> bool:
    """Whether a tensor cannot be a weight, but may belong to a metric."""
    return tensor.ndim == 0 or (tensor.ndim == 1 and not tensor.is_floating_point())


def _can_be_joined(thirds: Collection[Tensor]) -> bool:
    return len({(t.shape, t.dtype) for t in thirds}) == 1 and all(t.ndim > 0 for t in thirds)


def rename_from_official(key_format: KeyFormat, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts official names to a tool's; the inverse of `convert`, without derived buffers."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        theirs = key_format.from_official(name)
        parts = tensor.chunk(3) if len(theirs) == 3 else (tensor,)
        renamed.update(zip(theirs, parts, strict=False))
    return renamed


# --- supported formats --------------------------------------------------------------------------


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
    for number, theirs in enumerate(("query", "key", "value")):
        for leaf in ("weight", "bias"):
            parts[f"attn.qkv.{leaf}#{number}"] = f"attention.self.{theirs}.{leaf}"
    return MappingProxyType(parts)


def _official_like(
    name: str,
    title: str,
    num_axes: int,
    before: str = "",
    head: str | None = None,
    norm: str = "norm.",
    ignored: tuple[str, ...] = (),
    merge_offset: int = 0,
) -> KeyFormat:
    """A format with the structure of the official names, `layers.i.blocks.j.`."""
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


_DATA_PREPROCESSOR = (r"data_preprocessor\..+",)
OFFICIAL = _official_like(
    "official",
    "official Video Swin / mmaction2 0.x recognizer",
    3,
    "backbone.",
    "cls_head.fc_cls.",
    ignored=_DATA_PREPROCESSOR,
)
OWN = dataclasses.replace(OFFICIAL, name="own", title="video-swin-transformer")
MMACTION2 = _official_like(
    "mmaction2",
    "mmaction2 1.x recognizer",
    3,
    "backbone.",
    "cls_head.fc_cls.",
    norm="norm3.",
    ignored=(*_DATA_PREPROCESSOR, r"backbone\.norm[0-2]\.(?:weight|bias)"),
)
BACKBONE = _official_like("backbone", "backbone alone (single-file port)", 3)
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
MICROSOFT = _official_like(
    "image-microsoft", "image Swin by Microsoft (also timm before 0.9)", 2, "", "head."
)
TIMM = _official_like("image-timm", "image Swin by timm", 2, "", "head.fc.", merge_offset=1)
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
    """Detects the key format by name prefixes.

    Several names are considered, so that a single missing or renamed tensor does not prevent
    detection and is reported as missing.

    Args:
        tensors: Tensors by the names in the file.

    Returns:
        The format; None if it is unknown.
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
    is_timm = any_begins("head.fc.") or bool(merges and max(merges) == max(stages))
    return TIMM if is_timm else MICROSOFT


def _is_image(tensors: Mapping[str, Tensor]) -> bool:
    patch = tensors.get("patch_embed.proj.weight")
    if patch is not None and patch.ndim in (4, 5):
        return patch.ndim == 4
    # Without a patch projection: bias tables of 2D windows have a square number of rows.
    rows = [
        t.shape[0]
        for n, t in tensors.items()
        if n.endswith(".relative_position_bias_table") and t.ndim == 2
    ]
    return bool(rows) and round(rows[0] ** 0.5) ** 2 == rows[0]
