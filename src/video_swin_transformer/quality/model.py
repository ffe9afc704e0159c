"""Networks that predict the quality of a video from its fragments.

    FragmentSwinTransformer3D   backbone: fragments -> feature map
    QualityHead                 feature map -> local scores
    VideoQualityModel           both: fragments -> one score per clip

They are FAST-VQA and FasterVQA (Wu et al., ECCV 2022, arXiv 2207.02595 and 2210.05357) and the
technical branch of DOVER (Wu et al., ICCV 2023, arXiv 2211.04894). The aesthetic branch of DOVER is
a ConvNeXt and not part of this package.

Sizes: B batch, C channels, T, H, W of the video in frames and pixels; D, h, w of the token grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..layers import PatchEmbed3D, PatchMerging, WindowAttention3D
from ..model import drop_path_rates, init_parameters
from ..windows import Size3
from .attention import FragmentAttention3D, FragmentLayer
from .config import FragmentModelConfig, QualityConfig


class FragmentSwinTransformer3D(nn.Module):
    """The backbone: Swin with fragment biases, window sizes per stage and adaptive windows.

    Parameters are named as in the original. Fragment biases start at zero.
    """

    def __init__(self, config: FragmentModelConfig) -> None:
        super().__init__()
        self.config = config
        c = config.backbone
        norm = nn.LayerNorm if c.patch_norm else None
        self.patch_embed = PatchEmbed3D(c.patch_size, c.in_chans, c.embed_dim, norm)
        self.pos_drop = nn.Dropout(c.drop_rate)
        num_stages = len(c.depths)
        rates = drop_path_rates(c.drop_path_rate, c.depths)
        self.layers = nn.ModuleList(
            FragmentLayer(
                c.embed_dim * 2**stage,
                c.depths[stage],
                c.num_heads[stage],
                config.window_size(stage),
                mlp_ratio=c.mlp_ratio,
                qkv_bias=c.qkv_bias,
                qk_scale=c.qk_scale,
                drop=c.drop_rate,
                attn_drop=c.attn_drop_rate,
                drop_path=rates[stage],
                downsample=PatchMerging if stage < num_stages - 1 else None,
                attention=FragmentAttention3D
                if config.fragment_biases[stage]
                else WindowAttention3D,
            )
            for stage in range(num_stages)
        )
        self.norm = nn.LayerNorm(c.num_features)
        init_parameters(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, T, H, W) float, normalized -> features (B, C, D, h, w) after the norm.

        Raises:
            ConfigError: The shape is wrong, or adaptive windows are not possible for it.
        """
        channels = self.patch_embed.in_chans
        if x.ndim != 5 or x.shape[1] != channels or 0 in x.shape[2:]:
            raise ConfigError(
                f"The input has shape {tuple(x.shape)}, but must be (batch, {channels} channels, "
                "frames, height, width), none of them empty."
            )
        time, height, width = x.shape[2:]
        x = self.pos_drop(self.patch_embed(x))
        for stage, layer in enumerate(self.layers):
            x = layer(x, window=self._window(stage, (time, height, width)))
        # (B, C, D, h, w) -> (B, D, h, w, C) and back
        return self.norm(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)  # type: ignore[no-any-return]

    def _window(self, stage: int, size: Size3) -> Size3 | None:
        """The window of a stage for an input of some size; None is the configured one."""
        if not self.config.adaptive_window:
            return None
        configured, base = self.config.window_size(stage), self.config.base_size
        d, h, w = (own * now // at for own, now, at in zip(configured, size, base, strict=True))
        if 0 in (d, h, w):
            raise ConfigError(
                f"The input has {size} frames, rows and columns. Windows of {configured} tokens at "
                f"base_size {base} shrink to {(d, h, w)} for it, which is empty. Give a larger "
                "input, or set adaptive_window=False."
            )
        return d, h, w


class QualityHead(nn.Module):
    """Scores of each position: a layer, GELU and a linear output, as 1x1x1 convolutions."""

    def __init__(self, num_features: int, hidden: int, drop_rate: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(drop_rate)
        self.fc_hid = nn.Conv3d(num_features, hidden, 1)
        self.gelu = nn.GELU()
        self.fc_last = nn.Conv3d(hidden, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, D, h, w) -> (B, 1, D, h, w)."""
        hidden = self.dropout(self.gelu(self.fc_hid(self.dropout(features))))
        return self.fc_last(hidden)  # type: ignore[no-any-return]


class VideoQualityModel(nn.Module):
    """Backbone and quality head: float (B, in_chans, T, H, W), normalized -> scores (B,).

    Parameters are named `backbone.*` and `head.*`; the part after the prefix is as in the original.

    Args:
        config: The network, with the sampling and the scale of the scores that belong to it.
    """

    def __init__(self, config: QualityConfig) -> None:
        super().__init__()
        self.config = config
        network = config.network
        self.backbone = FragmentSwinTransformer3D(network)
        self.head = QualityHead(
            network.backbone.num_features, network.head_dim, network.backbone.head_drop_rate
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, T, H, W) -> raw scores (B,), the means of `score_map`."""
        return self.score_map(x).mean(dim=(1, 2, 3, 4))

    def score_map(self, x: Tensor) -> Tensor:
        """(B, in_chans, T, H, W) -> raw score of each position (B, 1, D, h, w)."""
        return self.head(self.backbone(x))  # type: ignore[no-any-return]

    def rescale(self, scores: Tensor) -> Tensor | None:
        """Raw scores of any shape -> 0..1, or None if the model has no published scale."""
        mean, std = self.config.score_mean, self.config.score_std
        if mean is None or std is None:
            return None
        return torch.sigmoid((scores - mean) / std)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes block activations in the backward pass: less memory, about a third slower."""
        for layer in self.backbone.layers:
            layer.use_checkpoint = enable  # type: ignore[assignment]

    def no_weight_decay(self) -> set[str]:
        """The bias tables, which are not decayed in the recipe of the original Swin."""
        return {name for name, _ in self.named_parameters() if name.endswith("bias_table")}
