"""Infers the model configuration from tensor shapes.

If several tensors determine the same size, the most frequent value is used. A single damaged
tensor is then reported as mismatched and does not change the inferred configuration.
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
_MAX_DEPTH, _MAX_SIDE = 64, 64  # of a window, in tokens
_PREFERRED_SIDES = (7, 12)  # window sizes of published models; preferred if a table is ambiguous
_COMMON_SIDES = (8, 14, 16, 24, 6, 4)  # used if exactly one of them is possible
IMAGE_TO_VIDEO_DEPTH = 8  # window depth of inflated image weights, in tokens
IMAGE_TO_VIDEO_PATCH = 2  # frames per token of inflated image weights


def infer_config(
    tensors: Mapping[str, Tensor], window_tokens: Iterable[int] = (), is_image: bool = False
) -> ModelConfig:
    """Infers the configuration of a model from its tensors.

    Dropout rates cannot be inferred; those of the registered architecture with the same shape are
    used, if there is one.

    Args:
        tensors: Tensors under official names.
        window_tokens: Numbers of tokens per window, from relative position index buffers.
        is_image: Whether the tensors are image weights. The configuration is then that of the
            inflated video model, with patch size (2, p, p) and window size (8, w, w).

    Returns:
        The configuration; num_classes is 0 if there is no classifier.

    Raises:
        CheckpointError: The tensors do not determine the configuration.
    """
    depths = _depths(tensors)
    embed_dim = _embed_dim(tensors, len(depths))
    heads, rows = _heads_and_table_rows(tensors, len(depths))
    in_chans, patch = _in_chans_and_patch_size(tensors, is_image)
    hidden = _most_common(
        t.shape[0] / (embed_dim << int(m[1]))
        for n, t in tensors.items()
        if (m := _BLOCK.fullmatch(n)) and m[3] in ("mlp.fc1.weight", "mlp.fc1.bias") and t.ndim
    )
    classes = _most_common(
        tensors[name].shape[0]
        for name in ("cls_head.fc_cls.weight", "cls_head.fc_cls.bias")
        if name in tensors and tensors[name].ndim
    )
    window = _image_window(rows) if is_image else _video_window(rows, set(window_tokens))
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
        raise CheckpointError(f"The tensors do not belong to a Swin model: {error}") from error
    card = find_architecture_card(config)
    return config if card is None else _with_drop_rates(config, card.bundle.model)


def _most_common(values: Iterable[V]) -> V | None:
    """Returns the most frequent value, the first on ties; None if there is none."""
    counted = Counter(values)
    return counted.most_common(1)[0][0] if counted else None


def _depths(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    blocks: dict[int, set[int]] = {}
    for name in tensors:
        if match := _BLOCK.fullmatch(name):
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    if not blocks:
        raise CheckpointError("The checkpoint has no blocks, such as layers.0.blocks.0.")
    for stage in range(max(blocks) + 1):
        found = blocks.get(stage, set())
        for block in range(max(found, default=0) + 1):
            if block not in found:
                raise CheckpointError(
                    f"All tensors of layers.{stage}.blocks.{block} are missing, but later blocks "
                    "exist; the checkpoint is incomplete."
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
    dim = _most_common(votes)
    if dim is None or dim != int(dim) or dim < 1:
        raise CheckpointError(
            "embed_dim cannot be inferred: norm1.weight and norm2.weight are missing in all "
            "blocks, or their sizes do not double from stage to stage."
        )
    return int(dim)


def _heads_and_table_rows(
    tensors: Mapping[str, Tensor], num_stages: int
) -> tuple[tuple[int, ...], int]:
    """Returns the number of heads of each stage, and the number of bias table rows."""
    columns: dict[int, list[int]] = {}
    rows: list[int] = []
    for name, tensor in tensors.items():
        match = _BLOCK.fullmatch(name)
        if match and match[3] == "attn.relative_position_bias_table" and tensor.ndim == 2:
            rows.append(tensor.shape[0])
            columns.setdefault(int(match[1]), []).append(tensor.shape[1])
    heads = [_most_common(columns.get(stage, [])) for stage in range(num_stages)]
    # Stages without a table: heads double from stage to stage in all known models.
    known = next(((s, h) for s, h in enumerate(heads) if h is not None), None)
    most = _most_common(rows)
    if known is None or most is None:
        raise CheckpointError(
            "The number of heads and the window size cannot be inferred: there is no 2D tensor "
            "named attn.relative_position_bias_table."
        )
    stage, count = known
    filled = [h or max(1, int(count * 2.0 ** (s - stage))) for s, h in enumerate(heads)]
    return tuple(filled), most


def _in_chans_and_patch_size(
    tensors: Mapping[str, Tensor], is_image: bool
) -> tuple[int, tuple[int, int, int]]:
    """Returns input channels and patch size; the defaults if the projection is unusable."""
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
            f"The bias tables have {rows} rows, which is not possible for a square 2D window."
        )
    side = (offsets + 1) // 2
    return (IMAGE_TO_VIDEO_DEPTH, side, side)


def _video_window(rows: int, window_tokens: set[int]) -> tuple[int, int, int]:
    """Returns the window size (d, h, h) with (2d - 1)(2h - 1)^2 = rows.

    >>> _video_window(5239, set())
    (16, 7, 7)
    """
    found: list[tuple[int, int, int]] = []
    for side in range(1, _MAX_SIDE + 1):
        offsets, rest = divmod(rows, (2 * side - 1) ** 2)  # offsets in time
        if rest == 0 and offsets % 2 and (offsets + 1) // 2 <= _MAX_DEPTH:
            found.append(((offsets + 1) // 2, side, side))
    if len(window_tokens) == 1:
        (tokens,) = window_tokens
        matching = [window for window in found if math.prod(window) == tokens]
        if len(matching) == 1:
            return matching[0]
    published = [window for side in _PREFERRED_SIDES for window in found if window[1] == side]
    likely = published[:1] or [window for window in found if window[1] in _COMMON_SIDES]
    if len(likely) == 1:
        return likely[0]
    choice = " or ".join(map(str, found)) or "no window of equal height and width"
    raise CheckpointError(
        f"The bias tables have {rows} rows, so the window size is ambiguous: {choice}. Pass "
        "architecture=..., with a name from `videoswin models` or a ModelConfig."
    )


# --- registered architectures -------------------------------------------------------------------


def _architecture_key(config: ModelConfig) -> ModelConfig:
    """Returns the config with defaults for all fields that vary within an architecture."""
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


def find_architecture_card(config: ModelConfig) -> ModelCard | None:
    """Returns the registered architecture of this shape, ignoring channels and classes."""
    shape = _architecture_key(config)
    for card in list_cards():
        if card.kind == "architecture" and _architecture_key(card.bundle.model) == shape:
            return card
    return None


def describe_config(config: ModelConfig) -> str:
    """Returns the name of the architecture, or its dimensions if it is not registered."""
    card = find_architecture_card(config)
    if card is not None:
        return card.name
    stride = f" with stride {config.patch_stride}" if config.patch_stride else ""
    return (
        f"embed_dim {config.embed_dim}, depths {config.depths}, heads {config.num_heads}, "
        f"patch {config.patch_size}{stride}, window {config.window_size}"
    )


def _with_drop_rates(config: ModelConfig, other: ModelConfig) -> ModelConfig:
    return dataclasses.replace(
        config,
        drop_rate=other.drop_rate,
        attn_drop_rate=other.attn_drop_rate,
        drop_path_rate=other.drop_path_rate,
        head_drop_rate=other.head_drop_rate,
    )


def bundle_with_model(config: ModelConfig, base: BundleConfig | None) -> BundleConfig:
    """Returns sampling, preprocessing and labels for a model.

    Args:
        config: The model configuration.
        base: Settings from the checkpoint or the registry to start from. None uses the official
            settings, with a crop size of 32 pixels per token of the window height (224 for 7, 384
            for 12).

    Returns:
        The bundle; labels are dropped if their number does not match.
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
