"""Attention weights of shifted windows, put back to the token grid of the video.

A block attends inside the regions of its `WindowPlan`: windows, or parts of windows where the
shift wraps around. A plan knows the token of each slot, so undoing the partition, the shift and the
padding is one index. Padding tokens are attended to, as in the official code; what they receive
belongs to no place of the video and is counted apart (`padding_share`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers import WindowAttention3D
from ..model import VideoSwinTransformer
from ..windows import Size3, WindowPlan, look_up_biases
from .layers import BlockAddress, attention_inputs, token_grid

_MAX_WEIGHTS = 2**25  # weights of all heads that are computed at once: 128 MiB


@dataclass(frozen=True, eq=False)
class BlockAttention:
    """The attention of one block for one view.

    Attributes:
        address: The block.
        grid: Token grid (D, h, w), of L tokens.
    """

    address: BlockAddress
    grid: Size3
    _module: WindowAttention3D
    _slots: Tensor  # (1, S, C)
    _plan: WindowPlan

    @property
    def num_heads(self) -> int:
        """Number of heads."""
        return self._module.num_heads

    @property
    def num_tokens(self) -> int:
        """Number of tokens L of the grid, without padding."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    def regions(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the regions, some at a time, all of one size.

        Yields:
            The tokens of n regions, (n, N) int64, where L means padding, and the attention weights
            (n, heads, N, N): row i holds what token i pays to each token of its region.
        """
        module, plan = self._module, self._plan
        table = module.relative_position_bias_table.detach()
        biases = look_up_biases(plan, table, table.dtype)
        lengths = [bias.shape[2] for bias in biases]
        max_tokens = max(1, _MAX_WEIGHTS // (max(lengths) * module.num_heads))
        with torch.no_grad():
            for group, start, stop in plan.chunks(max_tokens):
                length = lengths[group]
                qkv = module.qkv(self._slots[0, start:stop])
                # (n * N, 3C) -> (n, N, 3, heads, C / heads) -> (3, n, heads, N, C / heads)
                qkv = qkv.view(-1, length, 3, module.num_heads, qkv.shape[1] // 3 // self.num_heads)
                query, key, _ = qkv.permute(2, 0, 3, 1, 4).unbind(0)
                logits = (query * module.scale) @ key.transpose(-2, -1)
                weights = (logits + biases[group]).float().softmax(dim=-1)
                yield plan.gather[start:stop].view(-1, length), weights

    def received(self) -> tuple[Tensor, float]:
        """Sums what each token receives from all tokens.

        Returns:
            (heads, D, h, w) float32, 1 where attention is even and nothing goes to padding; and the
            share of the attention that padding receives, in [0, 1].
        """
        out = self._slots.new_zeros(self.num_heads, self.num_tokens + 1, dtype=torch.float32)
        for tokens, weights in self.regions():
            is_real = tokens < self.num_tokens
            sums = (weights * is_real[:, None, :, None]).sum(dim=2)  # (n, heads, N)
            out.index_add_(1, tokens.flatten(), sums.transpose(0, 1).flatten(1))
        padding_share = float(out[:, -1].mean() / self.num_tokens)
        return out[:, :-1].view(self.num_heads, *self.grid), padding_share

    def paid_by(self, token: int) -> tuple[Tensor, float]:
        """Returns what one token pays to each token.

        Args:
            token: Index of the token in the flattened grid.

        Returns:
            (heads, D, h, w) float32; 0 outside of its region. And the share that it pays to
            padding, in [0, 1].
        """
        out = self._slots.new_zeros(self.num_heads, self.num_tokens + 1, dtype=torch.float32)
        for tokens, weights in self.regions():
            for region, row in (tokens == token).nonzero().tolist():
                out.index_add_(1, tokens[region], weights[region, :, row])
                paid = out[:, :-1].view(self.num_heads, *self.grid)
                return paid, float(out[:, -1].mean())
        raise AssertionError(f"token {token} of {self.num_tokens} is in no region")

    def pull_back(self, relevance: Tensor) -> Tensor:
        """Carries relevance of the block's outputs to its inputs: one step of a rollout.

        Half of it stays at its token (the residual branch), half follows the mean of the heads.

        Args:
            relevance: (L,) float32.

        Returns:
            (L,) float32. What goes to padding is lost.
        """
        padded = torch.cat((relevance, relevance.new_zeros(1)))
        carried = torch.zeros_like(padded)
        for tokens, weights in self.regions():
            mixed = (padded[tokens][:, None] @ weights.mean(dim=1)).squeeze(1)  # (n, N)
            carried.index_add_(0, tokens.flatten(), mixed.flatten())
        return (0.5 * padded + 0.5 * carried)[:-1]


def block_attention(
    model: VideoSwinTransformer, x: Tensor, addresses: Sequence[BlockAddress]
) -> list[BlockAttention]:
    """Runs a network and returns the attention of some of its blocks.

    Args:
        model: The network, in eval mode.
        x: (1, C, T, H, W) float, one normalized view.
        addresses: The blocks.

    Returns:
        One attention for each address, whose weights are computed when they are asked for.
    """
    blocks = [address.of(model) for address in addresses]
    with torch.no_grad(), attention_inputs(blocks) as inputs:
        model.forward_features(x)
    size = (x.shape[2], x.shape[3], x.shape[4])
    return [
        BlockAttention(
            address,
            token_grid(model.backbone, size, address.stage),
            block.attn,
            *inputs[block.attn],
        )
        for address, block in zip(addresses, blocks, strict=True)
    ]


def rollout(model: VideoSwinTransformer, x: Tensor) -> Tensor:
    """Computes attention rollout (Abnar and Zuidema, ACL 2020) through all windows and stages.

    It begins with the mean over the last tokens, which the classifier sees, and goes back block by
    block. Shifted windows carry relevance from window to window. Where patches were merged, it is
    shared evenly by the tokens that were merged. Only the vector of relevance is kept, never a
    matrix of all pairs of tokens.

    Args:
        model: The network, in eval mode.
        x: (1, C, T, H, W) float, one normalized view.

    Returns:
        (D, h, w) float32 on the grid of the first stage. It sums to 1, less what went to padding.
    """
    depths = model.config.depths
    addresses = [
        BlockAddress(stage, block) for stage, depth in enumerate(depths) for block in range(depth)
    ]
    steps = block_attention(model, x, addresses)
    grid = steps[-1].grid
    relevance = x.new_full((steps[-1].num_tokens,), 1 / steps[-1].num_tokens, dtype=torch.float32)
    for step in reversed(steps):
        if step.grid != grid:
            relevance = _unmerge(relevance.view(grid), step.grid).flatten()
            grid = step.grid
        relevance = step.pull_back(relevance)
    return relevance.view(grid)


def _unmerge(merged: Tensor, grid: Size3) -> Tensor:
    """Shares each merged token evenly among the up to 2 x 2 tokens of `grid` it was made of."""
    _, height, width = grid
    rows = torch.arange(height, device=merged.device) // 2
    columns = torch.arange(width, device=merged.device) // 2
    share = 1 / (rows.bincount()[rows][:, None] * columns.bincount()[columns])
    return merged[:, rows][:, :, columns] * share
