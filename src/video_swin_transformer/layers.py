"""The parts of the network, from the inside out: attention, block, stage, patch embedding.

Every class has the constructor, the parameter names and the forward pass of the official class of
the same name, so each part can be used alone. Stages and the patch embedding are channel-first,
(B, C, D, h, w); blocks and the patch merging are channel-last, (B, D, h, w, C).

Inside a stage, attention and blocks receive a `WindowPlan` and flat tokens (B, L, C) instead of a
mask and a grid. This is the fast path that the network always uses. Between stages tokens stay
channel-last in memory: the channel-first tensors are permuted views.

Sizes: B batch, C channels, D, h, w of the token grid, L = D*h*w tokens, S slots of a `WindowPlan`,
N tokens in a window or region.
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
from .windows import (
    Size3,
    WindowPlan,
    clip_window_to_grid,
    look_up_biases,
    plan_windows,
    relative_position_index,
    slots_to_tokens,
    tokens_to_slots,
    window_partition,
    window_reverse,
)

NormLayer: TypeAlias = Callable[[int], nn.Module]
ActLayer: TypeAlias = Callable[[], nn.Module]
Downsample: TypeAlias = Callable[..., nn.Module]


def _size3(sizes: Sequence[int]) -> Size3:
    d, h, w = sizes
    return (d, h, w)


def output_dtype(x: Tensor) -> torch.dtype:
    """Returns the dtype of a linear layer's output for `x`: autocast's where that is enabled."""
    device = x.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
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
    """Two linear layers with an activation between them, by default an exact (erf) GELU."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: ActLayer = nn.GELU,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        hidden_features = hidden_features or in_features
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_features, out_features or in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Applies both layers to each token: (..., in_features) -> (..., out_features)."""
        return map_tokens(self._forward, x)

    def _forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))  # type: ignore[no-any-return]


class WindowAttention3D(nn.Module):
    """Multi-head self-attention inside each window, with a learned relative position bias."""

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
        super().__init__()
        self.dim = dim
        self.window_size = _size3(window_size)
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        d, h, w = self.window_size
        num_offsets = (2 * d - 1) * (2 * h - 1) * (2 * w - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(num_offsets, num_heads))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self._bias_cache: LastValueCache[tuple[Tensor, ...]] = LastValueCache()

    @property
    def relative_position_index(self) -> Tensor:
        """(N, N) int64: the row of the bias table for each pair of tokens of a full window."""
        d, h, w = self.window_size
        table = self.relative_position_bias_table
        return relative_position_index(self.window_size, d * h * w).to(table.device)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, plan: WindowPlan | None = None
    ) -> Tensor:
        """Attends inside each window.

        Args:
            x: (B * windows, N, C), the windows of `window_partition`. With `plan`: (B, S, C), slots
                in the plan's order.
            mask: (windows, N, N), added to the attention; see `compute_mask`.
            plan: Layout of the slots. It replaces the mask.

        Returns:
            The same shape as `x`.
        """
        if plan is not None:
            return self._forward_regions(x, plan)
        out = self._attend_masked(self.qkv(x), mask)
        return self.proj_drop(self.proj(out))  # type: ignore[no-any-return]

    def _forward_regions(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """Attends inside each region: (B, S, C), slots in the plan's order -> the same shape."""
        biases = self._biases(plan, output_dtype(x))
        if is_tracing() or x.device.type != "cpu":
            return self._forward_at_once(x, biases, plan)
        max_tokens = max(1, CPU_CHUNK_TOKENS // max(1, x.shape[0])) if is_cpu_inference(x) else None
        outputs = [
            self.proj_drop(self.proj(self._attend(self.qkv(x[:, start:stop]), biases[group])))
            for group, start, stop in plan.chunks(max_tokens)
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def _biases(self, plan: WindowPlan, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Returns the bias of each group of regions: (1, heads, N, N)."""
        table = self.relative_position_bias_table
        return self._bias_cache.get((plan, dtype), table, lambda: self._build_biases(plan, dtype))

    def _build_biases(self, plan: WindowPlan, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return look_up_biases(plan, self.relative_position_bias_table, dtype)

    def _forward_at_once(self, x: Tensor, biases: Sequence[Tensor], plan: WindowPlan) -> Tensor:
        """Does what `_forward_regions` does, with the linear layers applied once to all regions.

        A graph has a third of the nodes, and a compiler or quantizer sees each layer as one. A GPU
        launches fewer kernels.
        """
        sizes = [n * b.shape[2] for n, b in zip(plan.group_counts, biases, strict=True)]
        parts = zip(self.qkv(x).split(sizes, dim=1), biases, strict=True)
        outputs = [self._attend(part, bias) for part, bias in parts]
        out = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        return self.proj_drop(self.proj(out))  # type: ignore[no-any-return]

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """Attends inside n regions that share a bias: (B, n * N, 3C) -> (B, n * N, C).

        `bias` is (1, heads, N, N).
        """
        batch, slots, width = qkv.shape
        length, heads = bias.shape[2], self.num_heads
        # (B, n * N, 3C) -> (B * n, N, 3, heads, C / heads) -> (3, B * n, heads, N, C / heads)
        qkv = qkv.reshape(-1, length, 3, heads, width // 3 // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.attn_drop.p if self.attn_drop.training else 0.0
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

    # Compatibility path, as in the official code; the network does not use it ------------------

    def _attend_masked(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """Attends with the official mask: (B * windows, N, 3C) -> (B * windows, N, C)."""
        num_windows, length, width = qkv.shape
        # (B * nW, N, 3C) -> (B * nW, N, 3, heads, C / heads) -> (3, B * nW, heads, N, C / heads)
        qkv = qkv.view(num_windows, length, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        index = relative_position_index(self.window_size, length).to(qkv.device)
        bias = self.relative_position_bias_table.t()[:, index]  # (heads, N, N)
        logits = (q * self.scale) @ k.transpose(-2, -1) + bias
        if mask is not None:  # one for each window of a sample
            per_sample = logits.view(-1, len(mask), self.num_heads, length, length)
            logits = (per_sample + mask[:, None]).view(logits.shape)
        weights: Tensor = self.attn_drop(logits.softmax(dim=-1))
        out = weights.to(v.dtype) @ v
        return out.transpose(1, 2).reshape(num_windows, length, width // 3)


class SwinTransformerBlock3D(nn.Module):
    """x + Attention(LN(x)), then x + MLP(LN(x)); both branches with stochastic depth."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: Sequence[int] = (2, 7, 7),
        shift_size: Sequence[int] = (0, 0, 0),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        act_layer: ActLayer = nn.GELU,
        norm_layer: NormLayer = nn.LayerNorm,
        use_checkpoint: bool = False,
        *,
        attention: type[WindowAttention3D] = WindowAttention3D,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.num_heads = num_heads
        self.window_size = _size3(window_size)
        self.shift_size = _size3(shift_size)
        self.use_checkpoint = use_checkpoint
        self.norm1 = norm_layer(dim)
        self.attn = attention(
            dim,
            self.window_size,
            num_heads,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            attn_drop=attn_drop,
            proj_drop=drop,
        )
        self.drop_path = DropPath(drop_path)
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=act_layer, drop=drop)

    def forward(
        self, x: Tensor, mask_matrix: Tensor | None = None, plan: WindowPlan | None = None
    ) -> Tensor:
        """Runs the block.

        Args:
            x: (B, D, h, w, C). With `plan`: flat tokens (B, L, C).
            mask_matrix: (windows, N, N) from `compute_mask`, used if the windows are shifted.
            plan: Windows, shift and padding. It replaces the mask.

        Returns:
            The same shape as `x`.
        """
        if self.use_checkpoint and torch.is_grad_enabled():
            out: Tensor = checkpoint(self._forward, x, mask_matrix, plan, use_reentrant=False)
            return out
        return self._forward(x, mask_matrix, plan)

    def _forward(self, x: Tensor, mask_matrix: Tensor | None, plan: WindowPlan | None) -> Tensor:
        normed = self.norm1(x)
        if plan is None:
            attended = self._pad_shift_attend(normed, mask_matrix)
        else:
            attended = slots_to_tokens(self.attn(tokens_to_slots(normed, plan), plan=plan), plan)
        x = x + self.drop_path(attended)
        return x + self.drop_path(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]

    # Compatibility path, as in the official code; the network does not use it ------------------

    def _pad_shift_attend(self, x: Tensor, mask_matrix: Tensor | None) -> Tensor:
        """Pads, shifts, attends in windows, shifts back and crops, as in the paper's figure."""
        batch, d, h, w, _ = x.shape
        window, shift = clip_window_to_grid((d, h, w), self.window_size, self.shift_size)
        pad_d, pad_h, pad_w = (-size % side for size, side in zip((d, h, w), window, strict=True))
        x = F.pad(x, (0, 0, 0, pad_w, 0, pad_h, 0, pad_d))
        padded = x.shape[1:4]
        x = x.roll([-s for s in shift], dims=(1, 2, 3))
        windows = window_partition(x, window)
        windows = self.attn(windows, mask_matrix if any(shift) else None)
        x = window_reverse(windows, window, batch, *padded)
        return x.roll(shift, dims=(1, 2, 3))[:, :d, :h, :w]


class PatchMerging(nn.Module):
    """Halves h and w and doubles C: 2x2 neighbors are concatenated, normalized and reduced."""

    def __init__(self, dim: int, norm_layer: NormLayer = nn.LayerNorm) -> None:
        super().__init__()
        self.dim = dim
        self.norm = norm_layer(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Merges patches: (B, D, h, w, C) -> (B, D, ceil(h/2), ceil(w/2), 2C)."""
        x = F.pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        corners = [x[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)]  # h varies fastest
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))  # type: ignore[no-any-return]


class BasicLayer(nn.Module):
    """One stage: blocks, every second one with shifted windows, then a patch merging.

    Args:
        dim: Input channels.
        depth: Number of blocks.
        num_heads: Attention heads.
        window_size: Tokens per window in time, height and width. The shift is half of it.
        drop_path: Stochastic depth rate of all blocks, or one rate for each block.
        downsample: Class of the patch merging at the end, called with `dim` and `norm_layer`; None
            for the last stage. The attribute `downsample` may be set to None later.
        use_checkpoint: Recompute block activations in the backward pass to save memory.
        attention: Class of the window attention.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        window_size: Sequence[int] = (1, 7, 7),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float | Sequence[float] = 0.0,
        norm_layer: NormLayer = nn.LayerNorm,
        downsample: Downsample | None = None,
        use_checkpoint: bool = False,
        *,
        attention: type[WindowAttention3D] = WindowAttention3D,
    ) -> None:
        super().__init__()
        self.depth = depth
        self.window_size = _size3(window_size)
        d, h, w = self.window_size
        self.shift_size = (d // 2, h // 2, w // 2)
        rates = drop_path if isinstance(drop_path, Sequence) else [drop_path] * depth
        self.blocks = nn.ModuleList(
            SwinTransformerBlock3D(
                dim,
                num_heads,
                window_size=self.window_size,
                shift_size=self.shift_size if index % 2 else (0, 0, 0),
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop=drop,
                attn_drop=attn_drop,
                drop_path=rates[index],
                norm_layer=norm_layer,
                use_checkpoint=use_checkpoint,
                attention=attention,
            )
            for index in range(depth)
        )
        self.downsample = None if downsample is None else downsample(dim=dim, norm_layer=norm_layer)

    @property
    def use_checkpoint(self) -> bool:
        """Whether the blocks are checkpointed. Setting it sets all of them."""
        return any(block.use_checkpoint for block in self.blocks)

    @use_checkpoint.setter
    def use_checkpoint(self, enable: bool) -> None:
        for block in self.blocks:
            block.use_checkpoint = enable  # type: ignore[assignment]

    def forward(self, x: Tensor, do_downsample: bool = True) -> Tensor:
        """Runs the stage.

        Args:
            x: (B, C, D, h, w).
            do_downsample: False leaves the patch merging out, as in mmaction2.

        Returns:
            (B, 2C, D, ceil(h/2), ceil(w/2)) after the patch merging, otherwise the shape of `x`. A
            permuted view: call `.contiguous()` before `.view()`.
        """
        d, h, w = x.shape[2:]
        plans = [plan_windows((d, h, w), self.window_size, s, x.device) for s in self._shifts()]
        return self._forward_plans(x, plans, do_downsample)

    def _shifts(self) -> list[Size3]:
        """Returns the shifts of the blocks in turn. A one-block stage has no shifted block."""
        return [(0, 0, 0), self.shift_size][: len(self.blocks)]

    def _forward_plans(self, x: Tensor, plans: Sequence[WindowPlan], do_downsample: bool) -> Tensor:
        """Runs the blocks, each with its plan, and the patch merging; see `forward`."""
        x = x.permute(0, 2, 3, 4, 1)  # (B, C, D, h, w) -> (B, D, h, w, C)
        batch, d, h, w, dim = x.shape
        x = x.reshape(batch, d * h * w, dim)  # (B, D, h, w, C) -> (B, L, C)
        for index, block in enumerate(self.blocks):
            x = block(x, plan=plans[index % 2])
        x = x.view(batch, d, h, w, dim)
        if self.downsample is not None and do_downsample:
            x = self.downsample(x)
        return x.permute(0, 4, 1, 2, 3)  # (B, D, h, w, C) -> (B, C, D, h, w)


class PatchEmbed3D(nn.Module):
    """Splits the video into patches and projects each to `embed_dim` channels.

    Args:
        patch_size: Frames, rows and columns per patch.
        in_chans: Input channels.
        embed_dim: Output channels.
        norm_layer: Normalization of each token, or None.
        stride: Spacing of the patches, if not `patch_size`. With patch (2, 4, 4) and stride
            (1, 4, 4) the patches overlap in time, and there are as many time steps as frames.
    """

    def __init__(
        self,
        patch_size: Sequence[int] = (2, 4, 4),
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: NormLayer | None = None,
        stride: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.patch_size = _size3(patch_size)
        self.stride = self.patch_size if stride is None else _size3(stride)
        self.in_chans = in_chans
        self.embed_dim = embed_dim
        self.proj = nn.Conv3d(in_chans, embed_dim, kernel_size=self.patch_size, stride=self.stride)
        self.norm = norm_layer(embed_dim) if norm_layer is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """Embeds a video: (B, in_chans, T, H, W) -> (B, C, D, h, w), D = ceil(T / stride) etc.

        Incomplete patches are padded with zeros at the end of each axis.
        """
        pad_t, pad_h, pad_w = (
            (-(-size // step) - 1) * step + patch - size
            for size, patch, step in zip(x.shape[2:], self.patch_size, self.stride, strict=True)
        )
        x = self.proj(F.pad(x, (0, pad_w, 0, pad_h, 0, pad_t)))
        if self.norm is None:
            return x
        return self.norm(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)  # type: ignore[no-any-return]
