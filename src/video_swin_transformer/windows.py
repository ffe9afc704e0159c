"""Shifted 3D windows: which token stands in which window, and who may attend to whom.

Everything here follows from the size of the token grid alone, so it is worked out once per shape
as a `WindowPlan` and then used by every block of a stage.

Why a plan and not roll + reshape: shifting, zero-padding and cutting into windows together only
move whole tokens. One gather with a prepared index does in a single pass what the official code
does in a roll (a copy an axis), a pad and a partition.

Why groups: after the cyclic shift, only the last window along a shifted axis holds tokens that
are not neighbours and must be masked apart. There are at most 2**3 kinds of windows, however many
windows there are. The plan orders windows by kind, so a mask is kept once a kind.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Size3 = tuple[int, int, int]

MASK_VALUE = -100.0  # the official value; not -inf, so a masked token keeps a vanishing weight


def used_window(grid: Size3, window: Size3, shift: Size3) -> tuple[Size3, Size3]:
    """The window and shift really used on a token grid (paper section 3.2, official behaviour).

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


def _kind_mask(window: Size3, shift: Size3, kind: Size3) -> Tensor:
    """(N, N) float: 0 where two tokens of a window belong together, MASK_VALUE elsewhere.

    `kind` says along which axes the window is the last one. There its first (window - shift)
    tokens are the end of the grid and the others came round from its beginning.
    """
    region = torch.zeros(window, dtype=torch.int64)
    for axis in range(3):
        if kind[axis]:
            came_round = torch.arange(window[axis]) >= window[axis] - shift[axis]
            shape = [1, 1, 1]
            shape[axis] = window[axis]
            region = region + came_round.view(shape) * 2**axis
    region = region.flatten()
    return (region[:, None] != region[None, :]).float() * MASK_VALUE


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """How a flattened grid of L tokens is laid out in windows of N tokens, grouped by mask.

    gather      (num_windows * N,) int64: token for each place; L means a zero (padding) token
    scatter     (L,) int64: place of each token, the inverse of `gather`
    bias_index  (N, N) int64: row of the relative position bias table
    group_sizes windows in each group, in the order of `gather`
    mask        (groups, N, N) float32 added to the attention logits; None if nothing is shifted
    """

    gather: Tensor
    scatter: Tensor
    bias_index: Tensor
    group_sizes: tuple[int, ...]
    mask: Tensor | None

    @property
    def tokens_per_window(self) -> int:
        return self.bias_index.shape[0]

    def runs(self, most: int | None) -> Iterator[tuple[int, int, int]]:
        """(group, first window, one past the last): at most `most` windows of one group."""
        begin = 0
        for group, size in enumerate(self.group_sizes):
            step = size if most is None else most
            for start in range(begin, begin + size, step):
                yield group, start, min(start + step, begin + size)
            begin += size


def plan_windows(grid: Size3, configured: Size3, shift: Size3, device: torch.device) -> WindowPlan:
    """The plan for a token grid (D, H, W), the configured window and the shift of a block."""
    window, shift = used_window(grid, configured, shift)
    counts = [-(-size // length) for size, length in zip(grid, window, strict=True)]

    # Where a place of the padded, shifted grid takes its token from, axis by axis.
    origin, inside = [], []
    for axis in range(3):
        padded = counts[axis] * window[axis]
        source = (torch.arange(padded) + shift[axis]) % padded
        shape = [1, 1, 1]
        shape[axis] = padded
        origin.append(source.view(shape))
        inside.append((source < grid[axis]).view(shape))
    token = (origin[0] * grid[1] + origin[1]) * grid[2] + origin[2]
    num_tokens = grid[0] * grid[1] * grid[2]
    token = torch.where(inside[0] & inside[1] & inside[2], token, num_tokens)
    # (nd, wd, nh, wh, nw, ww) -> (nd, nh, nw, wd, wh, ww) -> (windows, N), time-major inside
    split = token.view(counts[0], window[0], counts[1], window[1], counts[2], window[2])
    token = split.permute(0, 2, 4, 1, 3, 5).reshape(-1, window[0] * window[1] * window[2])

    kinds = [
        tuple(int(s > 0 and i == n - 1) for i, n, s in zip(at, counts, shift, strict=True))
        for at in itertools.product(*(range(n) for n in counts))
    ]
    order = sorted(range(len(kinds)), key=kinds.__getitem__)
    groups = [(kind, len(list(run))) for kind, run in itertools.groupby(sorted(kinds))]
    gather = token[torch.tensor(order)].flatten()
    # Padding places hold the largest number, so a stable sort leaves the real tokens in front.
    scatter = torch.argsort(gather, stable=True)[:num_tokens]
    mask = None
    if len(groups) > 1:
        mask = torch.stack([_kind_mask(window, shift, kind) for kind, _ in groups]).to(device)  # type: ignore[arg-type]
    return WindowPlan(
        gather=gather.to(device),
        scatter=scatter.to(device),
        bias_index=relative_position_index(configured, token.shape[1]).to(device),
        group_sizes=tuple(size for _, size in groups),
        mask=mask,
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
    """(B, L, C) tokens -> (B, num_windows * N, C), shifted, padded with zeros and partitioned."""
    out: Tensor = _TakeTokens.apply(x, plan.gather, plan.scatter)
    return out


def from_windows(x: Tensor, plan: WindowPlan) -> Tensor:
    """(B, num_windows * N, C) -> (B, L, C): shifted back, padding cut off."""
    out: Tensor = _TakeTokens.apply(x, plan.scatter, plan.gather)
    return out
