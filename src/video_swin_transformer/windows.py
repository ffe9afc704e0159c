"""Shifted 3D windows: the window of each token, and the tokens it may attend to.

Everything here depends only on the size of the token grid, so it is computed once per shape as a
`WindowPlan`, which all blocks of a stage use.

Why a plan instead of roll + reshape: shifting, zero-padding and partitioning into windows only
move whole tokens. One gather with a precomputed index does in a single pass what the official code
does in a roll (a copy per axis), a pad and a partition.

Why regions instead of masks: after the cyclic shift, the last window along a shifted axis holds
tokens from the end and from the beginning of the grid, which are not neighbors. The official code
adds -100 between them, which leaves a weight that is negligible in float32. Here such a window is
split into the regions whose tokens may attend to each other, so what the mask would suppress is
never computed (a third of the attention of a shifted block) and no mask is stored.

On a GPU the windows stay whole, and those with the same mask are one group: at most 8 groups
instead of 18. The arithmetic that regions save costs less there than their kernel launches.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from .cpu_inference import is_tracing

Size3 = tuple[int, int, int]
Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

MAX_CACHED_PLANS = 32  # four clip shapes of a network of four stages


def clip_window_to_grid(grid: Size3, window: Size3, shift: Size3) -> tuple[Size3, Size3]:
    """Returns the window and shift used on a token grid (paper section 3.2, official behavior).

    On an axis that the window covers completely (equality included), the window shrinks to the
    axis and the shift is 0, each axis on its own. The size before padding decides.

    >>> clip_window_to_grid((16, 7, 7), (8, 7, 7), (4, 3, 3))
    ((8, 7, 7), (4, 0, 0))
    """
    covered = [size <= length for size, length in zip(grid, window, strict=True)]
    d, h, w = (g if c else win for g, win, c in zip(grid, window, covered, strict=True))
    sd, sh, sw = (0 if c else s for s, c in zip(shift, covered, strict=True))
    return (d, h, w), (sd, sh, sw)


def relative_position_index(window: Size3, num_tokens: int) -> Tensor:
    """Returns the row of the bias table for each pair of tokens in a window: int64.

    The shape is (num_tokens, num_tokens). The index is built for the configured window and cut to
    its top-left corner. Quirk kept for parity: for a window clipped in space the cut does not
    follow the true offsets (official code, torchvision and mmaction2 alike; released weights were
    used that way below 193 pixels). Clipped in time only, it is exact.
    """
    return torch.from_numpy(relative_position_array(window, num_tokens))


def relative_position_array(window: Size3, num_tokens: int) -> Indices:
    """Returns `relative_position_index` as an array."""
    d, h, w = window
    token = np.arange(num_tokens)
    coords = np.stack((token // (h * w), token // w % h, token % w))  # (3, N)
    offset = coords[:, :, None] - coords[:, None, :]  # (3, N, N), query minus key
    rows = ((offset[0] + d - 1) * (2 * h - 1) + offset[1] + h - 1) * (2 * w - 1)
    index: Indices = rows + offset[2] + w - 1
    return index


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """How a flattened grid of L tokens is laid out in regions, grouped by shape.

    A region is a window, or the part of one whose tokens may attend to each other. A slot is a
    token's position in that layout.

    Attributes:
        gather: (S,) int64, the token of each slot; L means a zero (padding) token.
        scatter: (L,) int64, the slot of each token, the inverse of `gather`.
        group_counts: number of regions in each group, in the order of `gather`.
        bias_indices: for each group (N, N) int64, the row of the relative position bias table for
            each pair of the N tokens in one of its regions.
        masks: for each group (N, N) float32, -inf for pairs that do not attend to each other, else
            0; None where all do. Empty: no group has a mask. With masks, all groups consist of
            whole windows, with one and the same bias index.
    """

    gather: Tensor
    scatter: Tensor
    group_counts: tuple[int, ...]
    bias_indices: tuple[Tensor, ...]
    masks: tuple[Tensor | None, ...] = field(default=(), kw_only=True)

    def chunks(self, max_tokens: int | None) -> Iterator[tuple[int, int, int]]:
        """Splits the slots into chunks of whole regions of one group.

        Args:
            max_tokens: size of a chunk; one region may be larger. None for one chunk per group.

        Yields:
            (group, first slot, one past the last slot).
        """
        begin = 0
        for group, count in enumerate(self.group_counts):
            length = self.bias_indices[group].shape[0]
            end = begin + count * length
            num_regions = count if max_tokens is None else max(1, max_tokens // length)
            for start in range(begin, end, num_regions * length):
                yield group, start, min(start + num_regions * length, end)
            begin = end


def look_up_biases(plan: WindowPlan, table: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Looks up the bias of each group of a plan, with its mask.

    Args:
        plan: The plan. This is no method of it because a compiler sees plans as constants.
        table: (offsets, heads), the relative position bias table.
        dtype: dtype of the biases.

    Returns:
        (1, heads, N, N) for each group.
    """
    if not plan.masks:
        by_head = table.t().to(dtype)  # (heads, offsets)
        return tuple(by_head[None, :, index].contiguous() for index in plan.bias_indices)
    # The gradient of an embedding is faster on a GPU than that of an index.
    looked_up = F.embedding(plan.bias_indices[0], table)  # (N, N, heads)
    bias = looked_up.permute(2, 0, 1)[None].to(dtype).contiguous()
    return tuple(bias if mask is None else bias + mask.to(dtype) for mask in plan.masks)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def plan_windows(grid: Size3, window: Size3, shift: Size3, device: torch.device) -> WindowPlan:
    """Returns the plan for a token grid (D, h, w), the configured window and the shift of a block.

    Plans are cached by shape. In a graph they become constants.
    """
    if is_tracing():  # the cache must hold no tensor of a tracer
        return _plan(grid, window, shift, device)
    return _cached_plan(grid, window, shift, device)


@functools.lru_cache(maxsize=MAX_CACHED_PLANS)
def _cached_plan(grid: Size3, window: Size3, shift: Size3, device: torch.device) -> WindowPlan:
    with torch.inference_mode(False):  # a later training step may use the tensors
        return _plan(grid, window, shift, device)


def _plan(grid: Size3, window: Size3, shift: Size3, device: torch.device) -> WindowPlan:
    make_layout = _region_layout if device.type in ("cpu", "meta") else masked_layout
    return layout_to_tensors(make_layout(grid, window, shift), device)


@dataclass(frozen=True)
class Layout:
    """A `WindowPlan` as arrays.

    Attributes:
        padded: size of the grid after padding to a multiple of the window.
        positions: (S,) int64, the position of each slot in the padded, shifted, flattened grid.
    """

    gather: Indices
    scatter: Indices
    group_counts: tuple[int, ...]
    bias_indices: tuple[Indices, ...]
    padded: Size3
    positions: Indices
    masks: tuple[Floats | None, ...] = ()


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """Makes a tensor of an array of a plan. No copy on a CPU, which would add a node to a graph."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.to(device)


def layout_to_tensors(layout: Layout, device: torch.device) -> WindowPlan:
    """Makes a plan of a layout."""
    return WindowPlan(
        gather=to_device(layout.gather, device),
        scatter=to_device(layout.scatter, device),
        group_counts=layout.group_counts,
        bias_indices=tuple(to_device(index, device) for index in layout.bias_indices),
        masks=tuple(None if mask is None else to_device(mask, device) for mask in layout.masks),
    )


@dataclass(frozen=True)
class _Segment:
    """The part of one axis of the shifted grid that a region covers."""

    start: int
    length: int
    start_in_window: int


def _segments(num_windows: int, window: int, shift: int) -> list[_Segment]:
    """Returns the windows of one axis; the one where a shifted axis wraps around is split there."""
    segments = [_Segment(i * window, window, 0) for i in range(num_windows)]
    index, rest = divmod(num_windows * window - shift, window)
    if index >= 0 and rest:
        start = segments[index].start
        segments[index : index + 1] = [
            _Segment(start, rest, 0),
            _Segment(start + rest, window - rest, rest),
        ]
    return segments


def _shifted_tokens(grid: Size3, padded: Size3, shift: Size3) -> Indices:
    """Returns the token at each position of the padded, shifted grid: shape `padded`, int64."""
    token = np.zeros((1, 1, 1), np.int64)
    inside = np.ones((1, 1, 1), np.bool_)
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = padded[axis]
        source = ((np.arange(padded[axis]) + shift[axis]) % padded[axis]).reshape(shape)
        token = token * grid[axis] + source
        inside = inside & (source < grid[axis])
    return np.where(inside, token, grid[0] * grid[1] * grid[2])


def _region_layout(grid: Size3, configured: Size3, shift: Size3) -> Layout:
    window, shift = clip_window_to_grid(grid, configured, shift)
    bias_index = relative_position_array(configured, window[0] * window[1] * window[2])
    # Regions of one shape share their relative positions wherever they are in the window, but not
    # under the quirk of a window clipped in space.
    return window_layout(grid, window, shift, bias_index, by_position=window[1:] != configured[1:])


def window_layout(
    grid: Size3, window: Size3, shift: Size3, bias_index: Indices, by_position: bool
) -> Layout:
    """Splits a grid into windows and regions, and groups the regions that share a bias.

    Args:
        grid: Token grid (D, h, w).
        window: Window used.
        shift: Shift used.
        bias_index: (N, N), the row of the bias table for each pair of tokens of a window.
        by_position: Whether the bias of a region depends on where it is in its window.
    """
    counts = [-(-size // length) for size, length in zip(grid, window, strict=True)]
    pd, ph, pw = (count * length for count, length in zip(counts, window, strict=True))
    positions = np.arange(pd * ph * pw).reshape(pd, ph, pw)
    in_window = np.arange(window[0] * window[1] * window[2]).reshape(window)

    groups: dict[object, list[tuple[_Segment, ...]]] = {}
    for region in itertools.product(*map(_segments, counts, window, shift)):
        key = tuple((s.length, s.start_in_window if by_position else 0) for s in region)
        groups.setdefault(key, []).append(region)

    slots, bias_indices = [], []
    for regions in groups.values():
        for region in regions:
            cut = tuple(slice(s.start, s.start + s.length) for s in region)
            slots.append(positions[cut].ravel())
        cut = tuple(slice(s.start_in_window, s.start_in_window + s.length) for s in regions[0])
        rows = in_window[cut].ravel()
        bias_indices.append(np.ascontiguousarray(bias_index[rows][:, rows]))
    at = np.concatenate(slots)
    gather = _shifted_tokens(grid, (pd, ph, pw), shift).ravel()[at]
    # Padding slots hold the largest number, so a stable sort puts the real tokens first.
    scatter = np.argsort(gather, kind="stable")[: grid[0] * grid[1] * grid[2]]
    return Layout(
        gather, scatter, tuple(map(len, groups.values())), tuple(bias_indices), (pd, ph, pw), at
    )


def masked_layout(grid: Size3, configured: Size3, shift: Size3) -> Layout:
    """Splits a grid into windows, and groups the windows with the same mask.

    Args:
        grid: Token grid (D, h, w).
        configured: Configured window.
        shift: Shift of the block.
    """
    window, shift = clip_window_to_grid(grid, configured, shift)
    counts = [-(-size // length) for size, length in zip(grid, window, strict=True)]
    pd, ph, pw = (count * length for count, length in zip(counts, window, strict=True))
    positions = np.arange(pd * ph * pw).reshape(pd, ph, pw)

    # A shifted axis wraps around in its last window: its last `shift` tokens come from the start.
    groups: dict[tuple[bool, ...], list[Indices]] = {}
    for number in itertools.product(*map(range, counts)):
        wraps = tuple(bool(s) and i == c - 1 for i, c, s in zip(number, counts, shift, strict=True))
        cut = tuple(slice(i * n, (i + 1) * n) for i, n in zip(number, window, strict=True))
        groups.setdefault(wraps, []).append(positions[cut].ravel())

    masks: list[Floats | None] = []
    for wraps in groups:
        parts = [
            np.arange(n) >= (n - s if wrap else n)
            for wrap, n, s in zip(wraps, window, shift, strict=True)
        ]
        part = sum(2**axis * one for axis, one in enumerate(np.ix_(*map(np.int64, parts))))
        label = np.asarray(part).ravel()  # number of the region of each token
        mask = np.where(label[:, None] == label, 0.0, -np.inf).astype(np.float32)
        masks.append(mask if any(wraps) else None)

    bias_index = relative_position_array(configured, window[0] * window[1] * window[2])
    at = np.concatenate([slots for found in groups.values() for slots in found])
    gather = _shifted_tokens(grid, (pd, ph, pw), shift).ravel()[at]
    scatter = np.argsort(gather, kind="stable")[: grid[0] * grid[1] * grid[2]]
    return Layout(
        gather,
        scatter,
        tuple(map(len, groups.values())),
        (bias_index,) * len(groups),
        (pd, ph, pw),
        at,
        tuple(masks),
    )


@dataclass(frozen=True)
class TimeRegion:
    """Consecutive time steps that attend to one another and to no others.

    Attributes:
        num_steps: Time steps of the video.
        length: Time steps with the padding that follows them.
        start_in_window: Position of the first one in its window.
    """

    num_steps: int
    length: int
    start_in_window: int = 0


def ready_time_regions(
    start: int, stop: int, window: int, shift: int, total: int | None
) -> list[TimeRegion]:
    """Returns the regions of a block that can be computed before the video has ended.

    They are those of the whole video along the time axis, for window 8 and shift 4:

        not shifted     |0......7|8.....15|16....23|   the last window is padded
        shifted         |0..3|4.....11|12....19|20..23|   the mask cuts the window that wraps around
        8 steps or less |0......n|   one window of that length, whatever the shift

    Args:
        start: First time step that has not been in a region.
        stop: One past the last time step that is known.
        window: Configured window in time.
        shift: Shift of the block in time.
        total: Time steps of the video. None if it goes on; it then has more than `window` of them.
    """
    if total is not None and total <= window:
        return [TimeRegion(total, total)] if start < total else []
    last = window if total is None else -(-total // window) * window - (window - shift)
    regions: list[TimeRegion] = []
    while True:
        length, start_in_window = window, 0
        if shift and start == 0:
            length, start_in_window = shift, window - shift
        elif shift and total is not None and start == last:
            length = window - shift
        num_steps = min(length, stop - start)
        if num_steps <= 0 or (num_steps < length and total is None):
            return regions
        regions.append(TimeRegion(num_steps, length, start_in_window))
        start += num_steps


@functools.lru_cache(maxsize=MAX_CACHED_PLANS)
def plan_time_region(
    region: TimeRegion,
    height: int,
    width: int,
    window: Size3,
    shift: Size3,
    device: torch.device,
) -> WindowPlan:
    """Returns the plan for one region in time of a longer video.

    Args:
        region: The region; its grid is (num_steps, height, width).
        height: Rows of the grid.
        width: Columns of the grid.
        window: Configured window.
        shift: Shift of the block.
        device: Device of the plan.
    """
    # In time, the region is the window. Only the two other axes are clipped and shifted here.
    steps = window[0]
    used, moved = clip_window_to_grid((steps, height, width), window, shift)
    per_step = used[1] * used[2]
    rows = slice(
        region.start_in_window * per_step, (region.start_in_window + region.length) * per_step
    )
    bias_index = relative_position_array(window, steps * per_step)[rows, rows]
    layout = window_layout(
        (region.num_steps, height, width),
        (region.length, *used[1:]),
        (0, *moved[1:]),
        bias_index,
        by_position=used[1:] != window[1:],
    )
    with torch.inference_mode(False):
        return layout_to_tensors(layout, device)


class _TakeTokens(torch.autograd.Function):
    """out[:, i] = x[:, index[i]], zeros where index[i] is one past the end.

    `inverse` is the index that undoes this one: the backward pass is then a gather, too, where
    autograd's own (index_add) is slow on a CPU and nondeterministic on a GPU.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        if index.shape[0] > x.shape[1]:  # padded: there is a zero token to point at
            x = torch.cat((x, x.new_zeros(x.shape[0], 1, x.shape[2])), dim=1)
        return x.index_select(1, index)

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        ctx.index, ctx.inverse = inputs[1:]

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return _TakeTokens.apply(grad, ctx.inverse, ctx.index), None, None


def tokens_to_slots(x: Tensor, plan: WindowPlan) -> Tensor:
    """Shifts, pads with zeros and splits into regions: (B, L, C) tokens -> (B, S, C) slots."""
    out: Tensor = _TakeTokens.apply(x, plan.gather, plan.scatter)
    return out


def slots_to_tokens(x: Tensor, plan: WindowPlan) -> Tensor:
    """Shifts back and removes the padding: (B, S, C) slots -> (B, L, C) tokens."""
    out: Tensor = _TakeTokens.apply(x, plan.scatter, plan.gather)
    return out


# --- the official functions, for blocks called by hand; the network does not use them -------------


def get_window_size(
    x_size: Sequence[int], window_size: Sequence[int], shift_size: Sequence[int] | None = None
) -> Size3 | tuple[Size3, Size3]:
    """Calls `clip_window_to_grid`, with the signature of the official function.

    Args:
        x_size: Token grid (D, h, w).
        window_size: Configured window.
        shift_size: Configured shift, or None.

    Returns:
        The window used, and with `shift_size` also the shift used.
    """
    d, h, w = x_size
    wd, wh, ww = window_size
    sd, sh, sw = (0, 0, 0) if shift_size is None else shift_size
    used = clip_window_to_grid((d, h, w), (wd, wh, ww), (sd, sh, sw))
    return used[0] if shift_size is None else used


def window_partition(x: Tensor, window_size: Sequence[int]) -> Tensor:
    """Splits a grid into windows, time-major in the grid and in each window.

    Args:
        x: (B, D, h, w, C), each axis a multiple of the window.
        window_size: Tokens per window in time, height and width.

    Returns:
        (B * windows, N, C).
    """
    batch, d, h, w, channels = x.shape
    wd, wh, ww = window_size
    x = x.view(batch, d // wd, wd, h // wh, wh, w // ww, ww, channels)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, wd * wh * ww, channels)


def window_reverse(
    windows: Tensor,
    window_size: Sequence[int],
    B: int,  # noqa: N803
    D: int,  # noqa: N803
    H: int,  # noqa: N803
    W: int,  # noqa: N803
) -> Tensor:
    """Undoes `window_partition`: (B * windows, N, C) -> (B, D, H, W, C), sizes in tokens."""
    wd, wh, ww = window_size
    x = windows.view(B, D // wd, H // wh, W // ww, wd, wh, ww, -1)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(B, D, H, W, -1)


def compute_mask(
    D: int,  # noqa: N803
    H: int,  # noqa: N803
    W: int,  # noqa: N803
    window_size: Sequence[int],
    shift_size: Sequence[int],
    device: torch.device | str,
) -> Tensor:
    """Computes the attention mask of shifted windows, as in the official code.

    The network does not use it (see the top of this file); it is for blocks called by hand.

    Args:
        D: Time steps of the grid, padded to a multiple of the window.
        H: Rows of the padded grid.
        W: Columns of the padded grid.
        window_size: Window used, from `get_window_size`.
        shift_size: Shift used, from `get_window_size`.
        device: Device of the mask.

    Returns:
        (windows, N, N) float32: -100 for pairs of tokens that were not neighbors before the shift,
        0 for the others.
    """
    region = torch.zeros(D, H, W, device=device)
    for axis, (size, window, shift) in enumerate(
        zip((D, H, W), window_size, shift_size, strict=True)
    ):
        position = torch.arange(size, device=device)
        if shift:
            part = (position >= size - window).float() + (position >= size - shift).float()
            region += 3**axis * part.view([-1 if other == axis else 1 for other in range(3)])
    labels = window_partition(region[None, ..., None], window_size)  # (windows, N, 1)
    return torch.where(labels == labels.transpose(1, 2), 0.0, -100.0)
