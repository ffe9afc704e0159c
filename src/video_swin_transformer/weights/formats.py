"""The tools whose Swin weights we read, each as a `KeyFormat`, and which of them made a file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from .keys import KeyFormat


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


def recognise(tensors: Mapping[str, Tensor]) -> KeyFormat | None:
    """The format of named tensors, by how their names begin; None if it is none of ours.

    Several names have to speak for a format, so that one lost or renamed tensor changes nothing:
    it will be named as missing instead.
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
