"""The parts of the network, from the inside out: attention, block, stage, patch embedding.

Sizes: B batch, C channels, D, h, w of the token grid, L = D*h*w tokens, N tokens in a window.
Tokens are channel-last here, (B, D, h, w, C) or flat (B, L, C); the official code permutes to
channel-first between stages, which changes no number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .cache import LastValueCache, is_traced
from .windows import Size3, WindowPlan, from_windows, plan_windows, to_windows

NormLayer: TypeAlias = Callable[[int], nn.Module]

# Tokens that go through the wide layers at once in inference on a CPU. Their intermediate results,
# four times as wide, then stay in the cache, and their memory is used again by the next piece
# instead of being fetched from the system anew: up to twice as fast, and far less memory.
CPU_CHUNK_TOKENS = 8192


def is_cpu_inference(x: Tensor) -> bool:
    """Whether to work in pieces and remember; a GPU, a backward pass and a graph want neither."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not is_traced()


def _dtype_of_products(x: Tensor) -> torch.dtype:
    """What linear layers give for `x`: autocast's type where that is on."""
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

    def __init__(self, dim: int, hidden_dim: int, drop_rate: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        if not is_cpu_inference(x):
            return self._mix(x)
        rows = x.flatten(0, 1)  # (B, L, C) -> (B * L, C)
        out = torch.empty_like(rows, dtype=_dtype_of_products(x))
        for start in range(0, len(rows), CPU_CHUNK_TOKENS):
            piece = slice(start, start + CPU_CHUNK_TOKENS)
            out[piece] = self._mix(rows[piece])
        return out.view(x.shape)

    def _mix(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))  # type: ignore[no-any-return]


class WindowAttention3D(nn.Module):
    """Multi-head self-attention inside each window, with a learned relative position bias."""

    def __init__(
        self,
        dim: int,
        window_size: Size3,
        num_heads: int,
        qkv_bias: bool,
        qk_scale: float | None,
        attn_drop_rate: float,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self.attn_drop_rate = attn_drop_rate
        d, h, w = window_size
        num_offsets = (2 * d - 1) * (2 * h - 1) * (2 * w - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(num_offsets, num_heads))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop_rate)
        self._biases: LastValueCache[tuple[Tensor, ...]] = LastValueCache()

    def _build_biases(self, plan: WindowPlan, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Bias for each group of boxes: (1, heads, N, N), N its tokens in a box."""
        table = self.relative_position_bias_table.t().to(dtype)  # (heads, offsets)
        return tuple(table[None, :, index].contiguous() for index in plan.bias_indices)

    def _biases_for(self, plan: WindowPlan, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """`_build_biases`, remembered on a CPU in inference.

        Remembering cannot cut a gradient, since nothing is remembered or recalled while gradients
        are on; and it cannot be stale, since the very table the bias was built from is compared
        by value (60 thousand numbers at most: microseconds). On a GPU that comparison would wait
        for the device, and building is cheap; a compiled or exported graph holds no Python state.
        """
        table = self.relative_position_bias_table
        if not is_cpu_inference(table):
            return self._build_biases(plan, dtype)
        return self._biases.get((plan, dtype), table, lambda: self._build_biases(plan, dtype))

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """(B, P, C), places in the plan's order -> the same shape."""
        biases = self._biases_for(plan, _dtype_of_products(x))
        if is_traced():
            return self._forward_in_graph(x, biases, plan)
        max_tokens = max(1, CPU_CHUNK_TOKENS // x.shape[0]) if is_cpu_inference(x) else None
        outputs = [
            self.proj_drop(self.proj(self._attend(self.qkv(x[:, start:stop]), biases[group])))
            for group, start, stop in plan.runs(max_tokens)
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def _forward_in_graph(self, x: Tensor, biases: Sequence[Tensor], plan: WindowPlan) -> Tensor:
        """`forward` with the linear layers once over all boxes: a graph of a third of the nodes,
        and each of its layers is one that a compiler or a quantizer sees whole."""
        sizes = [n * b.shape[2] for n, b in zip(plan.group_counts, biases, strict=True)]
        parts = zip(self.qkv(x).split(sizes, dim=1), biases, strict=True)
        outputs = [self._attend(part, bias) for part, bias in parts]
        out = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        return self.proj_drop(self.proj(out))  # type: ignore[no-any-return]

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """Attention inside n boxes that share a bias (1, heads, N, N): (B, n * N, 3C) -> C."""
        batch, places, width = qkv.shape
        length, heads = bias.shape[2], self.num_heads
        # (B, n * N, 3C) -> (B * n, N, 3, heads, C / heads) -> (3, B * n, heads, N, C / heads)
        qkv = qkv.reshape(-1, length, 3, heads, width // 3 // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.attn_drop_rate if self.training else 0.0
        if bias.requires_grad and bias.device.type == "cpu":
            # Fused attention knows no gradient of the bias there, and what it falls back on checks
            # every row for being masked out and computes in float32 whatever it is given.
            weights = ((q * self.scale) @ k.transpose(-2, -1) + bias).softmax(dim=-1)
            out = F.dropout(weights, dropout).to(v.dtype) @ v
        else:
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias, dropout_p=dropout, scale=self.scale
            )
        out = out.transpose(1, 2)  # (B * n, heads, N, C / heads) -> (B * n, N, heads, C / heads)
        if is_traced():  # exporters take attention apart, and then its strides are others
            out = out.clone(memory_format=torch.contiguous_format)
        return out.reshape(batch, places, width // 3)


class SwinTransformerBlock3D(nn.Module):
    """x + Attention(LN(x)), then x + MLP(LN(x)); both branches with stochastic depth."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: Size3,
        shift_size: Size3,
        mlp_ratio: float,
        qkv_bias: bool,
        qk_scale: float | None,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
        norm_layer: NormLayer,
    ) -> None:
        super().__init__()
        self.shift_size = shift_size
        self.norm1 = norm_layer(dim)
        self.attn = WindowAttention3D(
            dim, window_size, num_heads, qkv_bias, qk_scale, attn_drop_rate, drop_rate
        )
        self.drop_path = DropPath(drop_path_rate)
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop_rate)

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        attended = self.attn(to_windows(self.norm1(x), plan), plan)
        x = x + self.drop_path(from_windows(attended, plan))
        return x + self.drop_path(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class PatchMerging(nn.Module):
    """Halves h and w, doubles C: 2x2 neighbors are joined, normalized, then reduced."""

    def __init__(self, dim: int, norm_layer: NormLayer) -> None:
        super().__init__()
        self.norm = norm_layer(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w, C) -> (B, D, ceil(h/2), ceil(w/2), 2C)."""
        x = F.pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        corners = [x[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)]  # h runs fastest
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))  # type: ignore[no-any-return]


class BasicLayer(nn.Module):
    """One stage: blocks whose windows are shifted in every second one, then a patch merging."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: Size3,
        mlp_ratio: float,
        qkv_bias: bool,
        qk_scale: float | None,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rates: Sequence[float],
        norm_layer: NormLayer,
        downsample: bool,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        half = (window_size[0] // 2, window_size[1] // 2, window_size[2] // 2)
        self.blocks = nn.ModuleList(
            SwinTransformerBlock3D(
                dim,
                num_heads,
                window_size,
                half if index % 2 else (0, 0, 0),
                mlp_ratio,
                qkv_bias,
                qk_scale,
                drop_rate,
                attn_drop_rate,
                rate,
                norm_layer,
            )
            for index, rate in enumerate(drop_path_rates)
        )
        self.downsample = PatchMerging(dim, norm_layer) if downsample else None
        self._plans: LastValueCache[tuple[WindowPlan, ...]] = LastValueCache()

    def _plans_for(self, grid: Size3, device: torch.device) -> tuple[WindowPlan, ...]:
        """Plans of the unshifted and the shifted blocks; those of the last grid are kept."""

        def build() -> tuple[WindowPlan, ...]:
            shifts = [block.shift_size for block in self.blocks[:2]]
            return tuple(plan_windows(grid, self.window_size, s, device) for s in shifts)  # type: ignore[arg-type]

        if is_traced():  # what a forward pass has left is a constant of the graph
            return self._plans.recall((grid, device)) or build()
        return self._plans.get((grid, device), None, build)

    def forward(self, x: Tensor, use_checkpoint: bool) -> tuple[Tensor, Tensor]:
        """(B, D, h, w, C) -> this stage's map in the same shape, and the next stage's input."""
        batch, d, h, w, dim = x.shape
        plans = self._plans_for((d, h, w), x.device)
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
    """Cuts the video into patches and projects each to `embed_dim` channels."""

    def __init__(
        self, patch_size: Size3, in_chans: int, embed_dim: int, norm_layer: NormLayer | None
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = norm_layer(embed_dim) if norm_layer is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, T, H, W) -> (B, D, h, w, C). Incomplete patches are filled with zeros."""
        pad_t, pad_h, pad_w = (
            -size % patch for size, patch in zip(x.shape[2:], self.patch_size, strict=True)
        )
        x = self.proj(F.pad(x, (0, pad_w, 0, pad_h, 0, pad_t)))
        x = x.permute(0, 2, 3, 4, 1)  # (B, C, D, h, w) -> (B, D, h, w, C)
        return x if self.norm is None else self.norm(x)
