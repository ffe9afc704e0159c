"""Video Swin Transformer (Liu et al., CVPR 2022, arXiv 2106.13230) as a plain PyTorch network.

    SwinTransformer3D      backbone: video -> feature map          official signature and keys
    VideoSwinTransformer   backbone + I3D head -> logits           follows timm's API

Sizes: B batch, C channels (doubling each stage), T, H, W of the video in frames and pixels;
D, h, w of the token grid (T/2, H/4, W/4 after the patch embedding with patch (2,4,4); h and w
halve with each stage).

Quirks kept, because released weights depend on them:
  - padding tokens (zeros after LN1) are attended to, never masked;
  - the bias index of a window clipped in space (inputs below 193 pixels) is cut, not rebuilt
    (`windows.relative_position_index`);
  - the class defaults of SwinTransformer3D (patch (4,4,4), window (2,7,7), no patch norm) match
    no released weights. Names from the registry do.
Changed: pairs of tokens that the official code masks are not computed at all (`windows`). Its mask
is -100, not -inf, which leaves them a weight of about 1e-43.
Fixed: `eval()` and `train()` return the model; `frozen_stages` is checked; weights are
initialized by the constructor; no global caches; index buffers are not part of the state dict
(those of official files are accepted and dropped); checkpointing is non-reentrant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from .config import BundleConfig, ModelConfig
from .errors import CheckpointError, ConfigError
from .feature_info import FeatureInfo, FeatureMapInfo, checked_stages
from .hub import download_folder, is_repo_id, upload_folder
from .layers import BasicLayer, NormLayer, PatchEmbed3D, PatchMerging, WindowAttention3D
from .preprocess import channel_hint
from .saving import read_folder, write_folder

if TYPE_CHECKING:
    from .weights import LoadReport

_HEAD_FIELDS = ("num_classes", "head_drop_rate", "global_pool")  # of ModelConfig


def drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Returns the stochastic depth rate of each block of each stage, from 0 to `rate`."""
    num_blocks = sum(depths)
    rates = [rate * i / max(num_blocks - 1, 1) for i in range(num_blocks)]
    return [rates[sum(depths[:i]) : sum(depths[: i + 1])] for i in range(len(depths))]


def init_parameters(network: nn.Module) -> None:
    """Draws linear layers and bias tables from N(0, 0.02) and sets biases to 0.

    The patch projection keeps PyTorch's default.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, WindowAttention3D):
            nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)


class SwinTransformer3D(nn.Module):
    """The backbone, with the constructor and the parameter names of the official class.

    Input: float (B, in_chans, T, H, W), normalized, any T, H, W of at least 1.
    Output: (B, C, D, h, w) after the final layer norm, C = embed_dim * 2**(stages - 1),
    D = ceil(T / patch_t); time is not reduced after the patch embedding. With several
    `out_indices`, a tuple of such maps. The output is a permuted view, as in the original: call
    `.contiguous()` before `.view()`.

    Args:
        pretrained: Weights that `init_weights` loads, as in the official class: a file, folder or
            name. The constructor itself initializes at random.
        pretrained2d: Whether `pretrained` holds image weights, to be inflated, or video weights.
        patch_size: Frames, rows and columns per token.
        in_chans: Input channels.
        embed_dim: Channels of the first stage; they double with each stage.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        window_size: Tokens per window in time, height and width.
        frozen_stages: -1 none; 0 the patch embedding; k also the first k stages. Frozen parts stay
            in eval mode.
        use_checkpoint: Recompute block activations in the backward pass to save memory.
        patch_stride: Spacing of the patches, if not `patch_size`; D is then ceil(T / stride). With
            patch (2, 4, 4) and stride (1, 4, 4) there are as many time steps as frames (VIOLET).
        out_indices: Stages to output, as in mmaction2, each after a norm of its own (`norm0` to
            `norm3`). None: the last stage after `norm`, as in the official class. Checkpoints with
            either name of the last norm can be loaded.
        out_after_downsample: Output stages after their patch merging.
    """

    def __init__(
        self,
        pretrained: str | Path | None = None,
        pretrained2d: bool = True,
        patch_size: Sequence[int] = (4, 4, 4),
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: Sequence[int] = (2, 7, 7),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        norm_layer: NormLayer = nn.LayerNorm,
        patch_norm: bool = False,
        frozen_stages: int = -1,
        use_checkpoint: bool = False,
        *,
        patch_stride: Sequence[int] | None = None,
        out_indices: Sequence[int] | None = None,
        out_after_downsample: bool = False,
    ) -> None:
        super().__init__()
        self.pretrained, self.pretrained2d = _checked_source(pretrained), pretrained2d
        config = ModelConfig(  # checks every number and turns lists into tuples
            embed_dim=embed_dim,
            depths=tuple(depths),
            num_heads=tuple(num_heads),
            patch_size=patch_size,  # type: ignore[arg-type]
            patch_stride=patch_stride,  # type: ignore[arg-type]
            window_size=window_size,  # type: ignore[arg-type]
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            patch_norm=patch_norm,
            in_chans=in_chans,
            num_classes=0,  # the backbone has no classifier
            drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            drop_path_rate=drop_path_rate,
        )
        self.config = config
        num_stages = len(config.depths)
        self.num_layers = num_stages
        self.embed_dim = embed_dim
        self.in_chans = in_chans
        self.num_features = embed_dim * 2 ** (num_stages - 1)
        self.patch_size, self.window_size = config.patch_size, config.window_size
        self.patch_norm = patch_norm
        self.frozen_stages = _checked_frozen(frozen_stages, num_stages)

        self.patch_embed = PatchEmbed3D(
            config.patch_size,
            in_chans,
            embed_dim,
            norm_layer if patch_norm else None,
            stride=config.patch_stride,
        )
        self.pos_drop = nn.Dropout(drop_rate)
        rates = drop_path_rates(drop_path_rate, config.depths)
        self.layers = nn.ModuleList(
            BasicLayer(
                embed_dim * 2**stage,
                config.depths[stage],
                config.num_heads[stage],
                window_size=config.window_size,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop=drop_rate,
                attn_drop=attn_drop_rate,
                drop_path=rates[stage],
                norm_layer=norm_layer,
                downsample=PatchMerging if stage < num_stages - 1 else None,
                use_checkpoint=use_checkpoint,
            )
            for stage in range(num_stages)
        )
        self.out_after_downsample = out_after_downsample
        self._has_norm_per_output = out_indices is not None
        self.out_indices: tuple[int, ...] = (num_stages - 1,)
        if out_indices is not None:
            self.out_indices = checked_stages("out_indices", out_indices, num_stages)
        for stage in self.out_indices:
            self.add_module(self._norm_name(stage), norm_layer(self._num_channels(stage)))
        self.register_load_state_dict_pre_hook(_adapt_loaded_keys)  # type: ignore[no-untyped-call]
        init_parameters(self)
        self._freeze()

    @classmethod
    def _from_config(cls, config: ModelConfig, frozen_stages: int) -> Self:
        """Builds the backbone of a network: every field but those of the head is an argument."""
        fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        for name in _HEAD_FIELDS:
            del fields[name]
        return cls(**fields, frozen_stages=frozen_stages)

    def init_weights(
        self, pretrained: str | Path | None = None, *, allow: Iterable[str] = ()
    ) -> LoadReport | None:
        """Initializes at random, then loads `pretrained`.

        Args:
            pretrained: Weights to load; None loads those given to the constructor, if any. They are
                image or video weights according to `pretrained2d`.
            allow: Differences to accept; see `load_checkpoint`.

        Returns:
            The load report, or None if there is nothing to load.

        Raises:
            CheckpointError: The weights cannot be read, or a tensor does not fit.
            UnknownNameError: There is no model of that name.
        """
        if pretrained is not None:
            self.pretrained = _checked_source(pretrained)
        init_parameters(self)
        if self.pretrained is None:
            return None
        from .weights import load_backbone  # imported late: weights imports this module

        return load_backbone(self, self.pretrained, is_image=self.pretrained2d, allow=allow)

    def freeze_stages(self, frozen_stages: int) -> None:
        """Freezes the patch embedding (0) and the first stages (1 to all); -1 freezes nothing.

        Frozen parts stay in eval mode. Parts that were frozen before become trainable.
        """
        self.frozen_stages = _checked_frozen(frozen_stages, len(self.layers))
        for part in (self.patch_embed, self.layers):
            part.requires_grad_(True)
        self.train(self.training)

    def _freeze(self) -> None:
        frozen: list[nn.Module] = []
        if self.frozen_stages >= 0:
            frozen.append(self.patch_embed)
        if self.frozen_stages >= 1:
            frozen += [self.pos_drop, *self.layers[: self.frozen_stages]]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Sets training mode, except for frozen stages. Returns the model."""
        super().train(mode)
        self._freeze()
        return self

    @property
    def use_checkpoint(self) -> bool:
        """Whether block activations are recomputed in the backward pass."""
        return any(layer.use_checkpoint for layer in self.layers)

    @use_checkpoint.setter
    def use_checkpoint(self, enable: bool) -> None:
        for layer in self.layers:
            layer.use_checkpoint = enable  # type: ignore[assignment]

    def _embed(self, x: Tensor) -> Tensor:
        """Checks the input and returns its patch tokens: (B, C, D, h, w)."""
        if x.ndim != 5 or x.shape[1] != self.in_chans or 0 in x.shape[2:]:
            raise ConfigError(
                f"The input has shape {tuple(x.shape)}, but must be (batch, {self.in_chans} "
                "channels, frames, height, width), none of them empty."
                f"{channel_hint(tuple(x.shape), self.in_chans)}"
            )
        if not x.is_floating_point():
            raise ConfigError(
                f"The input is of type {x.dtype}, but must be floating point and normalized; "
                "views_from_frames gives this from uint8 frames."
            )
        return self.pos_drop(self.patch_embed(x))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Computes normalized features: (B, in_chans, T, H, W) float -> (B, C, D, h, w).

        With several `out_indices`, a tuple of them.
        """
        stage_maps = self._stage_maps(x, self.out_indices, self.out_after_downsample)
        maps = [_apply_channel_last(self._norm_of(stage), y) for stage, y in stage_maps]
        return maps[0] if len(maps) == 1 else tuple(maps)

    def forward_intermediates(
        self, x: Tensor, stages: Iterable[int], norm: bool = False
    ) -> dict[int, Tensor]:
        """Computes the feature maps of some stages.

        Args:
            x: (B, in_chans, T, H, W) float, normalized.
            stages: Stage numbers from 0. Stages after the last of them are not computed.
            norm: Normalize the maps of stages that have a norm: the last one, or with `out_indices`
                those. The other maps are not changed.

        Returns:
            Stage number to (B, C_i, D, h_i, w_i), taken before the patch merging of the stage.

        Raises:
            ConfigError: A stage does not exist, or its norm is for maps after the patch merging.
        """
        selected = checked_stages("stages", sorted(set(stages)), self.num_layers)
        if norm and self.out_after_downsample:
            raise ConfigError(
                "norm is True, but must be False with out_after_downsample: the norms are for maps "
                "after the patch merging, and these are taken before it."
            )
        normalized = self.out_indices if norm else ()
        return {
            stage: _apply_channel_last(self._norm_of(stage), y) if stage in normalized else y
            for stage, y in self._stage_maps(x, selected, after_downsample=False)
        }

    def _stage_maps(
        self, x: Tensor, stages: Sequence[int], after_downsample: bool
    ) -> Iterator[tuple[int, Tensor]]:
        """Yields the maps (B, C, D, h, w) of `stages`, before or after their patch merging."""
        x = self._embed(x)
        last = stages[-1]
        for stage, layer in enumerate(self.layers[: last + 1]):
            is_output = stage in stages
            merge_later = is_output and not after_downsample
            x = layer(x, do_downsample=not merge_later)
            if is_output:
                yield stage, x
            if merge_later and stage < last:
                x = self._merge(stage, x)

    @property
    def feature_info(self) -> FeatureInfo:
        """Sizes of the maps that `forward` returns."""
        return FeatureInfo([self._map_info(stage) for stage in self.out_indices])

    def norm_names(self) -> tuple[str | None, tuple[str, ...]]:
        """Returns the name of the last stage's norm (None if not an output) and the other names."""
        last = self.num_layers - 1
        names = {stage: self._norm_name(stage) for stage in self.out_indices}
        return names.pop(last, None), tuple(names.values())

    def _map_info(self, stage: int) -> FeatureMapInfo:
        """Returns the sizes of the map of a stage, as `forward` returns it."""
        channels = self._num_channels(stage)
        time, height, _ = self.patch_embed.stride
        return FeatureMapInfo(
            index=stage,
            num_chs=channels,
            reduction=height * channels // self.embed_dim,  # both double with each merging
            time_reduction=time,
            module=f"layers.{stage}",
        )

    def _num_channels(self, stage: int) -> int:
        merged = self.out_after_downsample and stage < self.num_layers - 1
        channels: int = self.embed_dim << (stage + merged)
        return channels

    def _norm_name(self, stage: int) -> str:
        return f"norm{stage}" if self._has_norm_per_output else "norm"

    def _norm_of(self, stage: int) -> nn.Module:
        return self.get_submodule(self._norm_name(stage))

    def _merge(self, stage: int, x: Tensor) -> Tensor:
        downsample = self.layers[stage].downsample
        return _apply_channel_last(downsample, x) if isinstance(downsample, nn.Module) else x


def _checked_frozen(frozen_stages: int, num_stages: int) -> int:
    if not -1 <= frozen_stages <= num_stages:
        raise ConfigError(
            f"frozen_stages is {frozen_stages}, but must be from -1 (none) to {num_stages} "
            "(all stages)."
        )
    return frozen_stages


def _checked_source(pretrained: object) -> str | Path | None:
    if pretrained is None or isinstance(pretrained, (str, Path)):
        return pretrained
    raise ConfigError(
        f"pretrained is {pretrained!r}, but must be a file, a folder, a name from `list_models` or "
        "None."
    )


def _apply_channel_last(module: nn.Module, x: Tensor) -> Tensor:
    """Applies a channel-last module to a channel-first map (B, C, D, h, w)."""
    return module(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)  # type: ignore[no-any-return]


def _adapt_loaded_keys(
    module: SwinTransformer3D, state_dict: dict[str, Any], prefix: str, *_: object
) -> None:
    """Load hook: drops derived buffers and renames the last norm to this model's name.

    Official files have such buffers, and call the last norm `norm`; in mmaction2 it is `norm3`.
    """
    for key in [k for k in state_dict if k.startswith(prefix)]:
        if key.endswith((".relative_position_index", ".attn_mask")):
            del state_dict[key]
    last_norm, _others = module.norm_names()
    known = ("norm", f"norm{module.num_layers - 1}")
    for leaf in ("weight", "bias"):
        for name in known:
            key, new_key = f"{prefix}{name}.{leaf}", f"{prefix}{last_norm}.{leaf}"
            if last_norm is not None and key in state_dict and new_key not in state_dict:
                state_dict[new_key] = state_dict.pop(key)


class I3DHead(nn.Module):
    """Mean over time and space, dropout, one linear layer (the official recognizer's head)."""

    def __init__(
        self, num_features: int, num_classes: int, drop_rate: float, global_pool: str = "avg"
    ) -> None:
        super().__init__()
        self.global_pool = global_pool
        self.dropout = nn.Dropout(drop_rate)
        self.fc_cls: nn.Module = nn.Identity()
        if num_classes > 0:
            self.fc_cls = nn.Linear(num_features, num_classes)
            nn.init.normal_(self.fc_cls.weight, std=0.01)
            nn.init.zeros_(self.fc_cls.bias)

    def forward(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps features (B, C, D, h, w) to logits (B, num_classes), or the pooled (B, C).

        With global_pool "" the features are not pooled.
        """
        pooled = features.mean(dim=(2, 3, 4)) if self.global_pool else features
        return pooled if pre_logits else self.fc_cls(self.dropout(pooled))


class VideoSwinTransformer(nn.Module):
    """Backbone and I3D head: float (B, in_chans, T, H, W), normalized -> logits (B, num_classes).

    Parameters are named as in official recognizer files: `backbone.*` and `cls_head.fc_cls.*`.
    With num_classes 0 the output is the pooled feature (B, num_features).
    `bundle` holds the sampling, preprocessing and labels that belong to the weights.
    """

    def __init__(self, config: ModelConfig | BundleConfig, frozen_stages: int = -1) -> None:
        super().__init__()
        bundle = config if isinstance(config, BundleConfig) else BundleConfig.for_model(config)
        self.bundle = bundle
        c = bundle.model
        self.backbone = SwinTransformer3D._from_config(c, frozen_stages)
        self.cls_head = I3DHead(
            self.backbone.num_features, c.num_classes, c.head_drop_rate, c.global_pool
        )

    @property
    def config(self) -> ModelConfig:
        return self.bundle.model

    @property
    def num_classes(self) -> int:
        return self.bundle.model.num_classes

    @property
    def num_features(self) -> int:
        return self.bundle.model.num_features

    @property
    def global_pool(self) -> str:
        """ "avg", or "" if the output is the feature map."""
        return self.bundle.model.global_pool

    @property
    def head(self) -> nn.Module:
        """The classifier, by the name it has in torchvision and timm. It can be replaced."""
        return self.cls_head.fc_cls

    @head.setter
    def head(self, head: nn.Module) -> None:
        if not (isinstance(head, nn.Linear) and head.in_features == self.num_features) and not (
            isinstance(head, nn.Identity)
        ):
            raise ConfigError(
                f"head is {head!r}, but must be nn.Linear with in_features={self.num_features} or "
                "nn.Identity(); wrap the model to put more layers after it."
            )
        num_classes = head.out_features if isinstance(head, nn.Linear) else 0
        self._set_num_classes(num_classes, "avg" if num_classes else self.global_pool)
        self.cls_head.fc_cls = head

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "head":  # nn.Module would register the module and bypass the property
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _set_num_classes(
        self, num_classes: int, global_pool: str, labels: Sequence[str] = ()
    ) -> None:
        model = dataclasses.replace(self.config, num_classes=num_classes, global_pool=global_pool)
        self.bundle = dataclasses.replace(
            self.bundle, model=model, labels=tuple(labels), multi_label=False
        )
        self.cls_head.global_pool = global_pool

    @property
    def feature_info(self) -> FeatureInfo:
        """Sizes of the maps of all stages; see `forward_intermediates`."""
        backbone = self.backbone
        return FeatureInfo([backbone._map_info(stage) for stage in range(backbone.num_layers)])

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """Input and classifier of the model, with timm's keys; mean and std are for 0..1."""
        preprocessing = self.bundle.preprocessing
        return {
            "architecture": self.bundle.name,
            "num_classes": self.num_classes,
            "input_size": self.bundle.clip_shape,
            "pool_size": None,
            "crop_pct": preprocessing.crop_size / preprocessing.short_side,
            "interpolation": preprocessing.interpolation,
            "mean": tuple(value / 255 for value in preprocessing.mean),
            "std": tuple(value / 255 for value in preprocessing.std),
            "first_conv": "backbone.patch_embed.proj",
            "classifier": "cls_head.fc_cls",
            "label_names": list(self.bundle.labels),
        }

    @property
    def default_cfg(self) -> dict[str, Any]:
        """The same as `pretrained_cfg`, by timm's older name."""
        return self.pretrained_cfg

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Computes the normalized feature map: (B, in_chans, T, H, W) -> (B, C, D, h, w)."""
        return self.backbone(x)  # type: ignore[no-any-return]

    def logits_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Computes logits (B, num_classes) and pooled features (B, C) of (B, in_chans, T, H, W).

        For inference: the dropout of the head is skipped. The features are pooled whatever
        `global_pool` is. Without a classifier the logits are a copy of them.
        """
        features = self.forward_features(x).mean(dim=(2, 3, 4))
        # A copy, since exporters do not accept one value as two outputs.
        logits = self.cls_head.fc_cls(features) if self.num_classes else features * 1.0
        return logits, features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps features to logits (B, num_classes), or with `pre_logits` to the pooled (B, C)."""
        return self.cls_head(features, pre_logits)  # type: ignore[no-any-return]

    def forward_intermediates(
        self, x: Tensor, stages: Iterable[int], norm: bool = False
    ) -> dict[int, Tensor]:
        """Computes feature maps of some stages; see `SwinTransformer3D.forward_intermediates`."""
        return self.backbone.forward_intermediates(x, stages, norm)

    def get_classifier(self) -> nn.Module:
        """Returns the classifier: a linear layer, or the identity without classes."""
        return self.cls_head.fc_cls

    def reset_classifier(
        self, num_classes: int, global_pool: str | None = None, labels: Sequence[str] = ()
    ) -> None:
        """Replaces the classifier and discards the old labels.

        Args:
            num_classes: Number of classes; 0 removes the classifier.
            global_pool: "avg", or "" for the feature map without pooling, which needs num_classes
                0. None keeps it.
            labels: One label per class, or none.
        """
        pool = self.global_pool if global_pool is None else global_pool
        self._set_num_classes(num_classes, pool, labels)
        weight = self.backbone.patch_embed.proj.weight
        head = I3DHead(self.num_features, num_classes, self.config.head_drop_rate, pool)
        self.cls_head = head.to(weight).train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes block activations in the backward pass: less memory, about a third slower."""
        self.backbone.use_checkpoint = enable

    def no_weight_decay(self) -> set[str]:
        """Returns the parameters that the paper's recipe does not decay: the bias tables."""
        return {n for n, _ in self.named_parameters() if "relative_position_bias_table" in n}

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Writes `config.json` and `model.safetensors`, which `from_pretrained` reads.

        Args:
            folder: Created if it does not exist.
            dtype: Converts the stored tensors, such as `torch.float16`; None keeps them.
        """
        write_folder(folder, self.bundle, self.state_dict(), dtype)

    def push_to_hub(self, repo_id: str, private: bool = False, token: str | None = None) -> str:
        """Uploads the folder of `save_pretrained` and a model card to huggingface.co.

        Args:
            repo_id: "owner/name"; created if it does not exist.
            private: Create it as a private repository.
            token: Access token; None uses the one stored by `hf auth login`.

        Returns:
            The URL of the upload.

        Raises:
            CheckpointError: The Hub rejected the upload.
        """
        return upload_folder(repo_id, self.bundle, self.state_dict(), private, token)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        drop_path_rate: float | None = None,
        *,
        revision: str | None = None,
        token: str | None = None,
    ) -> Self:
        """Loads a model folder, or a single .safetensors file.

        Args:
            folder: A local folder, or "owner/name" on huggingface.co if there is no such path.
            drop_path_rate: Replaces the saved rate, for fine-tuning.
            revision: Branch, tag or commit on the Hub.
            token: Access token of the Hub; None uses the one stored by `hf auth login`.

        Returns:
            The model, float32, in eval mode.

        Raises:
            CheckpointError: A tensor is missing, unexpected or has a different shape, or the
                download failed.
        """
        from_hub = isinstance(folder, str) and is_repo_id(folder)
        bundle, tensors = read_folder(
            download_folder(str(folder), revision, token) if from_hub else folder
        )
        if drop_path_rate is not None:
            model_config = dataclasses.replace(bundle.model, drop_path_rate=drop_path_rate)
            bundle = dataclasses.replace(bundle, model=model_config)
        model = cls(bundle)
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise CheckpointError(
                f"The weights in {str(folder)!r} do not match its config.json: {error}"
            ) from error
        return model.eval()


class VideoSwinFeatures(nn.Module):
    """Feature maps of several stages, as `features_only=True` gives in timm.

    float (B, in_chans, T, H, W), normalized -> list of (B, C_i, D, h_i, w_i), before the patch
    merging of the stage and without a norm. Stages after the last output are removed, and with them
    every parameter that no output depends on. Parameters are named as in official recognizer files.

    Args:
        model: The network to take the backbone from. It is changed.
        out_indices: Stages to output, in ascending order; negative numbers count from the end.
    """

    def __init__(self, model: VideoSwinTransformer, out_indices: Sequence[int]) -> None:
        super().__init__()
        backbone = model.backbone
        self.bundle = model.bundle
        self.out_indices = checked_stages("out_indices", out_indices, backbone.num_layers)
        self.feature_info = FeatureInfo([backbone._map_info(i) for i in self.out_indices])
        backbone.layers = backbone.layers[: self.out_indices[-1] + 1]
        backbone.layers[-1].downsample = None  # type: ignore[assignment]
        backbone.norm = nn.Identity()
        self.backbone = backbone
        self.train(model.training)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Computes one map per output stage of (B, in_chans, T, H, W)."""
        return list(self.backbone.forward_intermediates(x, self.out_indices).values())

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes block activations in the backward pass: less memory, about a third slower."""
        self.backbone.use_checkpoint = enable

    def freeze_stages(self, frozen_stages: int) -> None:
        """Freezes the first stages; see `SwinTransformer3D.freeze_stages`."""
        self.backbone.freeze_stages(frozen_stages)
