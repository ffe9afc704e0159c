"""The parts of the network, from the inside out: attention, block, stage, patch embedding.

Sizes: B batch, C channels, D, h, w of the token grid, L = D*h*w tokens, S slots of a `WindowPlan`,
N tokens in a region. Tokens are channel-last here, (B, D, h, w, C) or flat (B, L, C); the official
code permutes to channel-first between stages, which changes no number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .cpu_inference import (
    CPU_CHUNK_TOKENS,
    LastValueCache,
    is_cpu_inference,
    is_tracing,
    map_tokens,
)
from .windows import Size3, WindowPlan, from_windows, plan_windows, to_windows

NormLayer: TypeAlias = Callable[[int], nn.Module]


def _output_dtype(x: Tensor) -> torch.dtype:
    """The dtype of a linear layer's output for `x`: autocast's where that is enabled."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


class DropPath(nn.Module):
    """Stochastic depth per sample: in training a whole branch is zeroed with probability `rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * keep / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


class Mlp(nn.Module):
    """Two linear layers with an exact (erf) GELU between them."""

    def __init__(self, dim: int, hidden_dim: int, *, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        return map_tokens(self._forward, x)

    def _forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))  # type: ignore[no-any-return]


class WindowAttention3D(nn.Module):
    """Multi-head self-attention inside each window, with a learned relative position bias."""

    def __init__(
        self,
        dim: int,
        window_size: Size3,
        num_heads: int,
        *,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self.attn_drop = attn_drop
        d, h, w = window_size
        num_offsets = (2 * d - 1) * (2 * h - 1) * (2 * w - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(num_offsets, num_heads))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self._bias_cache: LastValueCache[tuple[Tensor, ...]] = LastValueCache()

    def _biases(self, plan: WindowPlan, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Bias for each group of regions: (1, heads, N, N)."""
        table = self.relative_position_bias_table
        return self._bias_cache.get((plan, dtype), table, lambda: self._build_biases(plan, dtype))

    def _build_biases(self, plan: WindowPlan, dtype: torch.dtype) -> tuple[Tensor, ...]:
        table = self.relative_position_bias_table.t().to(dtype)  # (heads, offsets)
        return tuple(table[None, :, index].contiguous() for index in plan.bias_indices)

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """(B, S, C), slots in the plan's order -> the same shape."""
        biases = self._biases(plan, _output_dtype(x))
        if is_tracing():
            return self._forward_in_graph(x, biases, plan)
        max_tokens = max(1, CPU_CHUNK_TOKENS // x.shape[0]) if is_cpu_inference(x) else None
        outputs = [
            self.proj_drop(self.proj(self._attend(self.qkv(x[:, start:stop]), biases[group])))
            for group, start, stop in plan.chunks(max_tokens)
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def _forward_in_graph(self, x: Tensor, biases: Sequence[Tensor], plan: WindowPlan) -> Tensor:
        """`forward` with the linear layers applied once to all regions.

        The graph has a third of the nodes, and a compiler or quantizer sees each layer as one.
        """
        sizes = [n * b.shape[2] for n, b in zip(plan.group_counts, biases, strict=True)]
        parts = zip(self.qkv(x).split(sizes, dim=1), biases, strict=True)
        outputs = [self._attend(part, bias) for part, bias in parts]
        out = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        return self.proj_drop(self.proj(out))  # type: ignore[no-any-return]

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """Attention inside n regions that share a bias (1, heads, N, N): (B, n * N, 3C) -> C."""
        batch, slots, width = qkv.shape
        length, heads = bias.shape[2], self.num_heads
        # (B, n * N, 3C) -> (B * n, N, 3, heads, C / heads) -> (3, B * n, heads, N, C / heads)
        qkv = qkv.reshape(-1, length, 3, heads, width // 3 // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.attn_drop if self.training else 0.0
        if bias.requires_grad and bias.device.type == "cpu":
            # Fused attention has no gradient of the bias there, and its fallback checks every row
            # for being masked out and computes in float32 whatever it is given.
            weights = ((q * self.scale) @ k.transpose(-2, -1) + bias).softmax(dim=-1)
            out = F.dropout(weights, dropout).to(v.dtype) @ v
        else:
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias, dropout_p=dropout, scale=self.scale
            )
        out = out.transpose(1, 2)  # (B * n, heads, N, C / heads) -> (B * n, N, heads, C / heads)
        if is_tracing():  # exporters decompose attention, which changes its strides
            out = out.clone(memory_format=torch.contiguous_format)
        return out.reshape(batch, slots, width // 3)


class SwinTransformerBlock3D(nn.Module):
    """x + Attention(LN(x)), then x + MLP(LN(x)); both branches with stochastic depth."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window_size: Size3 = (2, 7, 7),
        shift_size: Size3 = (0, 0, 0),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        norm_layer: NormLayer = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.shift_size = shift_size
        self.norm1 = norm_layer(dim)
        self.attn = WindowAttention3D(
            dim,
            window_size,
            num_heads,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            attn_drop=attn_drop,
            proj_drop=drop,
        )
        self.drop_path = DropPath(drop_path)
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop=drop)

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        attended = self.attn(to_windows(self.norm1(x), plan), plan)
        x = x + self.drop_path(from_windows(attended, plan))
        return x + self.drop_path(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class PatchMerging(nn.Module):
    """Halves h and w and doubles C: 2x2 neighbors are concatenated, normalized and reduced."""

    def __init__(self, dim: int, norm_layer: NormLayer = nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm_layer(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w, C) -> (B, D, ceil(h/2), ceil(w/2), 2C)."""
        x = F.pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        corners = [x[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)]  # h varies fastest
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))  # type: ignore[no-any-return]


class BasicLayer(nn.Module):
    """One stage: blocks, every second one with shifted windows, then a patch merging."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        drop_path: Sequence[float],
        window_size: Size3 = (1, 7, 7),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        norm_layer: NormLayer = nn.LayerNorm,
        downsample: bool = False,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        half = (window_size[0] // 2, window_size[1] // 2, window_size[2] // 2)
        self.shifts = ((0, 0, 0), half)
        self.blocks = nn.ModuleList(
            SwinTransformerBlock3D(
                dim,
                num_heads,
                window_size=window_size,
                shift_size=self.shifts[index % 2],
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop=drop,
                attn_drop=attn_drop,
                drop_path=rate,
                norm_layer=norm_layer,
            )
            for index, rate in enumerate(drop_path)
        )
        self.downsample = PatchMerging(dim, norm_layer) if downsample else None

    def forward(self, x: Tensor, use_checkpoint: bool) -> tuple[Tensor, Tensor]:
        """(B, D, h, w, C) -> this stage's map in the same shape, and the next stage's input."""
        batch, d, h, w, dim = x.shape
        num_plans = min(len(self.blocks), 2)  # a stage of one block shifts nothing
        plans = [
            plan_windows((d, h, w), self.window_size, shift, x.device)
            for shift in self.shifts[:num_plans]
        ]
        x = x.reshape(batch, d * h * w, dim)  # (B, D, h, w, C) -> (B, L, C)
        for index, block in enumerate(self.blocks):
            plan = plans[index % 2]
            if use_checkpoint and torch.is_grad_enabled():
                x = checkpoint(block, x, plan, use_reentrant=False)
            else:
                x = block(x, plan)
        x = x.view(batch, d, h, w, dim)
        return x, x if self.downsample is None else self.downsample(x)


class PatchEmbed3D(nn.Module):
    """Splits the video into patches and projects each to `embed_dim` channels."""

    def __init__(
        self,
        patch_size: Size3 = (2, 4, 4),
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: NormLayer | None = None,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = norm_layer(embed_dim) if norm_layer is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, T, H, W) -> (B, D, h, w, C). Incomplete patches are padded with zeros."""
        pad_t, pad_h, pad_w = (
            -size % patch for size, patch in zip(x.shape[2:], self.patch_size, strict=True)
        )
        x = self.proj(F.pad(x, (0, pad_w, 0, pad_h, 0, pad_t)))
        x = x.permute(0, 2, 3, 4, 1)  # (B, C, D, h, w) -> (B, D, h, w, C)
        return x if self.norm is None else self.norm(x)
