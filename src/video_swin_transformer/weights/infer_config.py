"""Tensors -> the network they belong to.

Where several tensors tell the same size, the most of them decide: one damaged tensor then stands
out as the one that does not fit, instead of bending the network to its own shape.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import Tensor

from ..config import BundleConfig, ModelConfig, Preprocessing
from ..errors import CheckpointError, ConfigError
from ..registry import ModelCard, list_cards

V = TypeVar("V")
_BLOCK = re.compile(r"backbone\.layers\.(\d+)\.blocks\.(\d+)\.(.+)")
_MAX_FRAMES, _MAX_SIDE = 64, 64  # of a window, in tokens
_PUBLISHED_SIDES = (7, 12)  # of windows; they come first where a table leaves a choice
_PLAUSIBLE_SIDES = (8, 14, 16, 24, 6, 4)  # believed if only one of them fits
IMAGE_TO_VIDEO_FRAMES = 8  # window of the released models in time: what image weights become
IMAGE_TO_VIDEO_PATCH = 2


def infer_config(
    tensors: Mapping[str, Tensor], index_sides: Iterable[int] = (), is_image: bool = False
) -> ModelConfig:
    """The network that has these tensors (our names); num_classes 0 if there is no classifier.

    index_sides: tokens in a window, where the file has index buffers that tell. is_image: the
    tensors are those of an image network; told is the video network of the released kind
    (patch (2, p, p), window (8, w, w)) that it is inflated to.
    Rates of dropout are not in tensors; those of the registry's network of this shape are taken.
    Raises CheckpointError where the tensors do not tell, naming what is missing.
    """
    depths = _depths(tensors)
    embed_dim = _embed_dim(tensors, len(depths))
    heads, rows = _tables(tensors, len(depths))
    in_chans, patch = _patch(tensors, is_image)
    hidden = _vote(
        t.shape[0] / (embed_dim << int(m[1]))
        for n, t in tensors.items()
        if (m := _BLOCK.fullmatch(n)) and m[3] in ("mlp.fc1.weight", "mlp.fc1.bias") and t.ndim
    )
    classes = _vote(
        tensors[name].shape[0]
        for name in ("cls_head.fc_cls.weight", "cls_head.fc_cls.bias")
        if name in tensors and tensors[name].ndim
    )
    window = _image_window(rows) if is_image else _video_window(rows, set(index_sides))
    try:
        config = ModelConfig(
            embed_dim=embed_dim,
            depths=depths,
            num_heads=heads,
            patch_size=patch,
            window_size=window,
            mlp_ratio=hidden or 4.0,
            qkv_bias=any(name.endswith(".attn.qkv.bias") for name in tensors),
            patch_norm=any(name.startswith("backbone.patch_embed.norm.") for name in tensors),
            in_chans=in_chans,
            num_classes=classes or 0,
        )
    except ConfigError as error:
        raise CheckpointError(f"The tensors are of no Swin network: {error}") from error
    card = card_of(config)
    return config if card is None else _with_rates_of(config, card.bundle.model)


def _vote(values: Iterable[V]) -> V | None:
    """The most frequent value, the first among equals; None if there is none."""
    counted = Counter(values)
    return counted.most_common(1)[0][0] if counted else None


def _depths(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    blocks: dict[int, set[int]] = {}
    for name in tensors:
        if match := _BLOCK.fullmatch(name):
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    if not blocks:
        raise CheckpointError("There is no block (layers.0.blocks.0) among the tensors.")
    for stage in range(max(blocks) + 1):
        found = blocks.get(stage, set())
        wanted = range(max(found, default=0) + 1)
        for block in wanted:
            if block not in found:
                raise CheckpointError(
                    f"All tensors of layers.{stage}.blocks.{block} are missing, though later "
                    "blocks are there; the file is incomplete."
                )
    return tuple(len(blocks[stage]) for stage in range(len(blocks)))


def _embed_dim(tensors: Mapping[str, Tensor], num_stages: int) -> int:
    votes = [
        t.shape[0] / 2 ** int(m[1])
        for n, t in tensors.items()
        if (m := _BLOCK.fullmatch(n)) and m[3] in ("norm1.weight", "norm2.weight") and t.ndim
    ]
    final = tensors.get("backbone.norm.weight")
    if final is not None and final.ndim:
        votes.append(final.shape[0] / 2 ** (num_stages - 1))
    dim = _vote(votes)
    if dim is None or dim != int(dim) or dim < 1:
        raise CheckpointError(
            "The number of channels cannot be told: norm1.weight and norm2.weight are missing in "
            "every block, or double from stage to stage in no way."
        )
    return int(dim)


def _tables(tensors: Mapping[str, Tensor], num_stages: int) -> tuple[tuple[int, ...], int]:
    """Heads of each stage and the rows of every bias table."""
    columns: dict[int, list[int]] = {}
    rows: list[int] = []
    for name, tensor in tensors.items():
        match = _BLOCK.fullmatch(name)
        if match and match[3] == "attn.relative_position_bias_table" and tensor.ndim == 2:
            rows.append(tensor.shape[0])
            columns.setdefault(int(match[1]), []).append(tensor.shape[1])
    heads = [_vote(columns.get(stage, [])) for stage in range(num_stages)]
    # A stage whose only table is lost: heads double from stage to stage in every known network.
    known = next(((s, h) for s, h in enumerate(heads) if h is not None), None)
    most = _vote(rows)
    if known is None or most is None:
        raise CheckpointError(
            "There is no table of two axes named attn.relative_position_bias_table; without one "
            "neither heads nor window can be told."
        )
    stage, count = known
    filled = [h or max(1, int(count * 2.0 ** (s - stage))) for s, h in enumerate(heads)]
    return tuple(filled), most


def _patch(tensors: Mapping[str, Tensor], is_image: bool) -> tuple[int, tuple[int, int, int]]:
    """Input channels and patch; those of the released models if the projection is unusable."""
    weight = tensors.get("backbone.patch_embed.proj.weight")
    if weight is None or weight.ndim != (4 if is_image else 5) or 0 in weight.shape:
        return 3, (2, 4, 4)
    if is_image:
        return weight.shape[1], (IMAGE_TO_VIDEO_PATCH, weight.shape[2], weight.shape[3])
    return weight.shape[1], (weight.shape[2], weight.shape[3], weight.shape[4])


def _image_window(rows: int) -> tuple[int, int, int]:
    offsets = math.isqrt(rows)
    if offsets**2 != rows or offsets % 2 == 0:
        raise CheckpointError(
            f"The bias tables have {rows} rows, which is no square window of an image network."
        )
    side = (offsets + 1) // 2
    return (IMAGE_TO_VIDEO_FRAMES, side, side)


def _video_window(rows: int, index_sides: set[int]) -> tuple[int, int, int]:
    """The window (d, h, h) with (2d - 1)(2h - 1)^2 = rows.

    >>> _video_window(5239, set())
    (16, 7, 7)
    """
    found: list[tuple[int, int, int]] = []
    for side in range(1, _MAX_SIDE + 1):
        frames, rest = divmod(rows, (2 * side - 1) ** 2)
        if rest == 0 and frames % 2 and (frames + 1) // 2 <= _MAX_FRAMES:
            found.append(((frames + 1) // 2, side, side))
    if len(index_sides) == 1:
        tokens = index_sides.copy().pop()
        told = [window for window in found if math.prod(window) == tokens]
        if len(told) == 1:
            return told[0]
    published = [window for side in _PUBLISHED_SIDES for window in found if window[1] == side]
    likely = published[:1] or [window for window in found if window[1] in _PLAUSIBLE_SIDES]
    if len(likely) == 1:
        return likely[0]
    choice = " or ".join(map(str, found)) or "no window of equal height and width"
    raise CheckpointError(
        f"The bias tables have {rows} rows, which can be {choice}; name the network with "
        "architecture=..., a name of `videoswin models` or a ModelConfig."
    )


# --- what the registry knows of it --------------------------------------------------------------


def _shape_of(config: ModelConfig) -> ModelConfig:
    """The config without what changes no tensor but the first and the last."""
    return dataclasses.replace(
        config,
        num_classes=0,
        in_chans=3,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        drop_path_rate=0.0,
        head_drop_rate=0.0,
        global_pool="avg",
    )


def card_of(config: ModelConfig) -> ModelCard | None:
    """The registry's architecture of this shape, whatever its channels and classes."""
    shape = _shape_of(config)
    for card in list_cards():
        if card.kind == "architecture" and _shape_of(card.bundle.model) == shape:
            return card
    return None


def describe_config(config: ModelConfig) -> str:
    """The architecture's name, or its sizes where the model zoo has none of that shape."""
    card = card_of(config)
    if card is not None:
        return card.name
    stride = f" with stride {config.patch_stride}" if config.patch_stride else ""
    return (
        f"embed_dim {config.embed_dim}, depths {config.depths}, heads {config.num_heads}, "
        f"patch {config.patch_size}{stride}, window {config.window_size}"
    )


def _with_rates_of(config: ModelConfig, other: ModelConfig) -> ModelConfig:
    return dataclasses.replace(
        config,
        drop_rate=other.drop_rate,
        attn_drop_rate=other.attn_drop_rate,
        drop_path_rate=other.drop_path_rate,
        head_drop_rate=other.head_drop_rate,
    )


def bundle_for(config: ModelConfig, base: BundleConfig | None) -> BundleConfig:
    """Sampling, preprocessing and labels for a network: those of `base`, adapted to it.

    base: from the file itself or from the registry. Without one, the official settings, with
    frames of 32 pixels for each token of the window's side (224 for 7, 384 for 12).
    """
    if base is None:
        bundle = BundleConfig.for_model(config)
        side = max(32 * config.window_size[1], config.patch_size[1])
        sized = dataclasses.replace(bundle.preprocessing, short_side=side, crop_size=side)
        return dataclasses.replace(bundle, preprocessing=sized)
    preprocessing = base.preprocessing
    if config.in_chans != base.model.in_chans:
        fresh: Preprocessing = BundleConfig.for_model(config).preprocessing
        preprocessing = dataclasses.replace(preprocessing, mean=fresh.mean, std=fresh.std)
    labels = base.labels if len(base.labels) == config.num_classes else ()
    return dataclasses.replace(base, model=config, preprocessing=preprocessing, labels=labels)
