"""Window attention with a bias that depends on the fragments of the two tokens.

A frame of fragments shows many places of the original frame side by side, so two neighbors may
have nothing to do with each other. Attention therefore has a second bias table. Let g be the
distance of the fragments of two tokens: rows plus columns between them, 0 in one fragment. With
the entries r of the relative table and f of the fragment table for their relative position, the
bias is g * r + (1 - g) * f, for any g, not only 0 and 1, as in the original.

The fragments of a token grid are a grid of as many cells as the window has rows and columns.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..cpu_inference import CPU_CHUNK_TOKENS, is_cpu_inference, is_tracing
from ..errors import ConfigError
from ..layers import BasicLayer, WindowAttention3D, output_dtype
from ..windows import (
    MAX_CACHED_PLANS,
    Indices,
    Size3,
    WindowPlan,
    clip_window_to_grid,
    relative_position_array,
    to_device,
    window_layout,
)


@dataclass(frozen=True, eq=False)
class FragmentPlan(WindowPlan):
    """A window plan that knows the fragment of each slot.

    Attributes:
        fragments: for each group (regions, N, 2) float32, row and column of the fragment of each
            token.
    """

    fragments: tuple[Tensor, ...]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def plan_fragments(
    grid: Size3, configured: Size3, window: Size3 | None, shift: Size3, device: torch.device
) -> FragmentPlan:
    """The plan for a token grid.

    Args:
        grid: Token grid (D, h, w).
        configured: Window of the bias tables.
        window: Smaller window to use, whose bias follows the offsets. None: the configured window,
            with the quirk of `windows.relative_position_index`.
        shift: Configured shift. It may be larger than `window`.
        device: Device of the plan.

    Raises:
        ConfigError: `window` is larger than the bias tables.
    """
    if is_tracing():  # the cache must hold no tensor of a tracer
        return _plan(grid, configured, window, shift, device)
    return _cached_plan(grid, configured, window, shift, device)


@functools.lru_cache(maxsize=MAX_CACHED_PLANS)
def _cached_plan(
    grid: Size3, configured: Size3, window: Size3 | None, shift: Size3, device: torch.device
) -> FragmentPlan:
    with torch.inference_mode(False):  # a later training step may use the tensors
        return _plan(grid, configured, window, shift, device)


def _plan(
    grid: Size3, configured: Size3, window: Size3 | None, shift: Size3, device: torch.device
) -> FragmentPlan:
    used, shift = clip_window_to_grid(grid, window or configured, shift)
    num_tokens = used[0] * used[1] * used[2]
    if window is None:
        index = relative_position_array(configured, num_tokens)
        by_position = used[1:] != configured[1:]
    else:
        index = _cut_index(configured, used)
        by_position = False
    layout = window_layout(grid, used, shift, index, by_position)
    fragments = _fragments(layout.padded, used, shift)[layout.positions]
    starts = np.cumsum(
        [0, *(n * len(b) for n, b in zip(layout.group_counts, layout.bias_indices, strict=True))]
    )
    return FragmentPlan(
        gather=to_device(layout.gather, device),
        scatter=to_device(layout.scatter, device),
        group_counts=layout.group_counts,
        bias_indices=tuple(to_device(one, device) for one in layout.bias_indices),
        fragments=tuple(
            to_device(fragments[start:stop].reshape(count, -1, 2), device)
            for start, stop, count in zip(starts[:-1], starts[1:], layout.group_counts, strict=True)
        ),
    )


def _cut_index(configured: Size3, used: Size3) -> Indices:
    """Rows of the configured bias table for the pairs of tokens of a smaller window: (N, N)."""
    if any(own > table for own, table in zip(used, configured, strict=True)):
        raise ConfigError(
            f"The input needs windows of {used} tokens, but the bias tables are for {configured}. "
            "Give an input of at most base_size, or set adaptive_window=False."
        )
    d, h, w = used
    whole = relative_position_array(configured, configured[0] * configured[1] * configured[2])
    index: Indices = whole.reshape(*configured, *configured)[:d, :h, :w, :d, :h, :w]
    return index.reshape(d * h * w, d * h * w)


def _fragments(padded: Size3, window: Size3, shift: Size3) -> npt.NDArray[np.float32]:
    """Row and column of the fragment at each position of the padded, shifted, flattened grid."""
    cells = []
    for size, count, step in zip(padded[1:], window[1:], shift[1:], strict=True):
        # In float32, since nearest interpolation of the original rounds there.
        cell = np.arange(size, dtype=np.float32) * (np.float32(count) / np.float32(size))
        cells.append(np.roll(np.minimum(np.floor(cell), count - 1), -step))
    rows, columns = np.meshgrid(*cells, indexing="ij")
    places = np.stack((rows, columns), axis=-1).astype(np.float32)
    return np.broadcast_to(places, (*padded, 2)).reshape(-1, 2)


class FragmentAttention3D(WindowAttention3D):
    """Window attention with a second bias table for tokens of one fragment."""

    def __init__(
        self,
        dim: int,
        window_size: Sequence[int],
        num_heads: int,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(dim, window_size, num_heads, qkv_bias, qk_scale, attn_drop, proj_drop)
        table = self.relative_position_bias_table
        self.fragment_position_bias_table = nn.Parameter(torch.zeros_like(table))

    def forward(
        self, x: Tensor, mask: Tensor | None = None, plan: WindowPlan | None = None
    ) -> Tensor:
        """Attention inside each region of a plan.

        Args:
            x: (B, S, C), slots in the plan's order.
            mask: Must be None: fragments need a plan.
            plan: A `FragmentPlan`.

        Returns:
            The same shape as `x`.

        Raises:
            ConfigError: There is no `FragmentPlan`.
        """
        if mask is not None or not isinstance(plan, FragmentPlan):
            raise ConfigError(
                f"plan is {type(plan).__name__}, but must be a FragmentPlan, without a mask. Get "
                "one from plan_fragments."
            )
        dtype = output_dtype(x)
        tables = (self.relative_position_bias_table, self.fragment_position_bias_table)
        relative, fragment = (table.t().to(dtype) for table in tables)  # (heads, offsets)
        looked_up = [(relative[:, index], fragment[:, index]) for index in plan.bias_indices]
        max_tokens = max(1, CPU_CHUNK_TOKENS // x.shape[0]) if is_cpu_inference(x) else None
        outputs = []
        begin, current = 0, 0
        for group, start, stop in plan.chunks(max_tokens):
            if group != current:
                begin, current = start, group
            length = plan.bias_indices[group].shape[0]
            regions = slice((start - begin) // length, (stop - begin) // length)
            bias = _region_bias(*looked_up[group], plan.fragments[group][regions])
            # The samples share the bias, which is larger than what it is added to.
            samples = self.qkv(x[:, start:stop]).split(1)
            attended = torch.cat([self._attend(sample, bias) for sample in samples])
            outputs.append(self.proj_drop(self.proj(attended)))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


def _region_bias(relative: Tensor, fragment: Tensor, places: Tensor) -> Tensor:
    """The bias of each region.

    Args:
        relative: (heads, N, N), entries of the relative table.
        fragment: (heads, N, N), entries of the fragment table.
        places: (n, N, 2) float32, row and column of the fragment of each token.

    Returns:
        (n, heads, N, N).
    """
    distance = torch.cdist(places, places, p=1.0).to(relative.dtype)
    return torch.lerp(fragment, relative, distance[:, None])


class FragmentLayer(BasicLayer):
    """One stage, whose window may be resized. `attention` may be `FragmentAttention3D`."""

    def forward(self, x: Tensor, do_downsample: bool = True, window: Size3 | None = None) -> Tensor:
        """One stage.

        Args:
            x: (B, C, D, h, w).
            do_downsample: False leaves the patch merging out.
            window: Window to use instead of the configured one. The shift stays as configured.

        Returns:
            (B, 2C, D, ceil(h/2), ceil(w/2)) after the patch merging, otherwise the shape of `x`.
        """
        d, h, w = x.shape[2:]
        plans = [
            plan_fragments((d, h, w), self.window_size, window, shift, x.device)
            for shift in self._shifts()
        ]
        return self._forward_plans(x, plans, do_downsample)
