"""Shifted 3D windows: which token stands in which window, and who may attend to whom.

Everything here follows from the size of the token grid alone, so it is worked out once per shape
as a `WindowPlan` and then used by every block of a stage.

Why a plan and not roll + reshape: shifting, zero-padding and cutting into windows together only
move whole tokens. One gather with a prepared index does in a single pass what the official code
does in a roll (a copy an axis), a pad and a partition.

Why boxes and not masks: after the cyclic shift, the last window along a shifted axis holds tokens
from the end and from the beginning of the grid, which are not neighbors. The official code adds
-100 between them, which leaves a weight of e**-100, nothing in float32. Here such a window is cut
into the boxes that may attend to each other, so what the mask would wipe out is never computed (a
third of the attention of a shifted block) and no mask is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Size3 = tuple[int, int, int]


def used_window(grid: Size3, window: Size3, shift: Size3) -> tuple[Size3, Size3]:
    """The window and shift really used on a token grid (paper section 3.2, official behavior).

    On an axis that the window covers completely (equality included) the window shrinks to the
    axis and the shift is dropped, each axis on its own. The size before padding decides.

    >>> used_window((16, 7, 7), (8, 7, 7), (4, 3, 3))
    ((8, 7, 7), (4, 0, 0))
    """
    covered = [size <= length for size, length in zip(grid, window, strict=True)]
    d, h, w = (g if c else win for g, win, c in zip(grid, window, covered, strict=True))
    sd, sh, sw = (0 if c else s for s, c in zip(shift, covered, strict=True))
    return (d, h, w), (sd, sh, sw)


def relative_position_index(window: Size3, num_tokens: int) -> Tensor:
    """Row of the bias table for each pair of tokens in a window: (num_tokens, num_tokens) int64.

    Built for the configured window and cut to its top-left corner. Quirk kept for parity: for a
    window clipped in space the cut does not follow the true offsets (official code, torchvision
    and mmaction2 alike; released weights were used that way below 193 pixels). Clipped in time
    only, it is exact.
    """
    d, h, w = window
    token = torch.arange(num_tokens)
    coords = torch.stack((token // (h * w), token // w % h, token % w))  # (3, N)
    offset = coords[:, :, None] - coords[:, None, :]  # (3, N, N), query minus key
    rows: Tensor = ((offset[0] + d - 1) * (2 * h - 1) + offset[1] + h - 1) * (2 * w - 1)
    return rows + offset[2] + w - 1


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """How a flattened grid of L tokens is laid out in boxes, grouped by shape.

    A box is a window, or the part of one whose tokens may attend to each other.

    gather       (P,) int64: token for each place; L means a zero (padding) token
    scatter      (L,) int64: place of each token, the inverse of `gather`
    group_counts boxes in each group, in the order of `gather`
    bias_indices for each group (N, N) int64: row of the relative position bias table for each pair
                 of the N tokens in one of its boxes
    """

    gather: Tensor
    scatter: Tensor
    group_counts: tuple[int, ...]
    bias_indices: tuple[Tensor, ...]

    def runs(self, max_tokens: int | None) -> Iterator[tuple[int, int, int]]:
        """(group, first place, one past the last): whole boxes of one group, at least one, and
        together at most `max_tokens` places."""
        begin = 0
        for group, count in enumerate(self.group_counts):
            length = self.bias_indices[group].shape[0]
            end = begin + count * length
            most = count if max_tokens is None else max(1, max_tokens // length)
            for start in range(begin, end, most * length):
                yield group, start, min(start + most * length, end)
            begin = end


@dataclass(frozen=True)
class _Segment:
    """What a box covers of one axis of the shifted grid."""

    start: int
    length: int
    start_in_window: int


def _segments(num_windows: int, window: int, shift: int) -> list[_Segment]:
    """The windows of one axis; of a shifted axis the last one is cut where the grid ends."""
    segments = [_Segment(i * window, window, 0) for i in range(num_windows)]
    if shift:
        last, rest = segments.pop(), window - shift
        segments.append(_Segment(last.start, rest, 0))
        segments.append(_Segment(last.start + rest, shift, rest))
    return segments


def _shifted_tokens(grid: Size3, padded: Size3, shift: Size3) -> Tensor:
    """Which token stands at each place of the padded, shifted grid: `padded`, int64."""
    token = torch.zeros(1, 1, 1, dtype=torch.int64)
    inside = torch.ones(1, 1, 1, dtype=torch.bool)
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = padded[axis]
        source = ((torch.arange(padded[axis]) + shift[axis]) % padded[axis]).view(shape)
        token = token * grid[axis] + source
        inside = inside & (source < grid[axis])
    return torch.where(inside, token, grid[0] * grid[1] * grid[2])


def plan_windows(grid: Size3, configured: Size3, shift: Size3, device: torch.device) -> WindowPlan:
    """The plan for a token grid (D, H, W), the configured window and the shift of a block."""
    window, shift = used_window(grid, configured, shift)
    counts = [-(-size // length) for size, length in zip(grid, window, strict=True)]
    pd, ph, pw = (count * length for count, length in zip(counts, window, strict=True))
    tokens = _shifted_tokens(grid, (pd, ph, pw), shift)
    in_window = torch.arange(window[0] * window[1] * window[2]).view(window)
    bias_index = relative_position_index(configured, in_window.numel())

    # Boxes of one shape share their relative positions wherever they lie in the window, but not
    # under the quirk of a window clipped in space.
    place_matters = window[1:] != configured[1:]
    groups: dict[object, list[tuple[_Segment, ...]]] = {}
    for box in itertools.product(*map(_segments, counts, window, shift)):
        key = tuple((s.length, s.start_in_window if place_matters else 0) for s in box)
        groups.setdefault(key, []).append(box)

    gather, bias_indices = [], []
    for boxes in groups.values():
        for box in boxes:
            gather.append(tokens[tuple(slice(s.start, s.start + s.length) for s in box)].flatten())
        cut = tuple(slice(s.start_in_window, s.start_in_window + s.length) for s in boxes[0])
        rows = in_window[cut].flatten()
        bias_indices.append(bias_index[rows][:, rows].to(device))
    places = torch.cat(gather)
    # Padding places hold the largest number, so a stable sort leaves the real tokens in front.
    scatter = torch.argsort(places, stable=True)[: grid[0] * grid[1] * grid[2]]
    return WindowPlan(
        gather=places.to(device),
        scatter=scatter.to(device),
        group_counts=tuple(len(boxes) for boxes in groups.values()),
        bias_indices=tuple(bias_indices),
    )


class _TakeTokens(torch.autograd.Function):
    """out[:, i] = x[:, index[i]], zeros where index[i] is one past the end.

    `inverse` takes the result back: the backward pass is then a gather as well, where autograd's
    own way (index_add) is slow on a CPU and unordered on a GPU.
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


def to_windows(x: Tensor, plan: WindowPlan) -> Tensor:
    """(B, L, C) tokens -> (B, P, C), shifted, padded with zeros and cut into boxes."""
    out: Tensor = _TakeTokens.apply(x, plan.gather, plan.scatter)
    return out


def from_windows(x: Tensor, plan: WindowPlan) -> Tensor:
    """(B, P, C) -> (B, L, C): shifted back, padding cut off."""
    out: Tensor = _TakeTokens.apply(x, plan.scatter, plan.gather)
    return out
