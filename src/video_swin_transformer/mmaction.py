"""The names of mmaction2 1.x, for programs that use them. Neither mmaction2 nor mmcv is needed.

>>> from video_swin_transformer.mmaction import SwinTransformer3D
>>> backbone = SwinTransformer3D("tiny", out_indices=(0, 1, 2, 3))
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import model
from .errors import ConfigError
from .openmmlab.recognizer import architecture_size
from .predictor import Classification, Predictor

__all__ = ["SwinTransformer3D", "inference_recognizer", "init_recognizer", "register"]


class SwinTransformer3D(model.SwinTransformer3D):
    """The backbone with the constructor of mmaction2 1.x, whose defaults are the released settings.

    The output norms are named `norm0` to `norm3`, so checkpoints have the keys of mmaction2.

    Args:
        arch: "tiny", "small", "base" or "large", or their first letters; or a dict with
            `embed_dims`, `depths` and `num_heads`.
        in_channels: Input channels.
        act_cfg: Must be {"type": "GELU"}.
        norm_cfg: Must be {"type": "LN"}.
        with_cp: Recompute block activations in the backward pass to save memory.

    The other arguments are those of `video_swin_transformer.SwinTransformer3D`.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any],
        pretrained: str | Path | None = None,
        pretrained2d: bool = True,
        patch_size: Sequence[int] = (2, 4, 4),
        in_channels: int = 3,
        window_size: Sequence[int] = (8, 7, 7),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        act_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        patch_norm: bool = True,
        frozen_stages: int = -1,
        with_cp: bool = False,
        out_indices: Sequence[int] = (3,),
        out_after_downsample: bool = False,
    ) -> None:
        for name, given, kind in (("act_cfg", act_cfg, "GELU"), ("norm_cfg", norm_cfg, "LN")):
            if given is not None and dict(given) != {"type": kind}:
                raise ConfigError(
                    f"{name} is {dict(given)!r}, but must be {{'type': {kind!r}}}, which all "
                    "released models use."
                )
        embed_dim, depths, num_heads = architecture_size(arch)
        super().__init__(
            pretrained=pretrained,
            pretrained2d=pretrained2d,
            patch_size=patch_size,
            in_chans=in_channels,
            embed_dim=embed_dim,
            depths=depths,
            num_heads=num_heads,
            window_size=window_size,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            drop_path_rate=drop_path_rate,
            patch_norm=patch_norm,
            frozen_stages=frozen_stages,
            use_checkpoint=with_cp,
            out_indices=out_indices,
            out_after_downsample=out_after_downsample,
        )


def register() -> None:
    """Registers `SwinTransformer3D` in mmengine's root registry `MODELS`.

    Configs then build it with `type="SwinTransformer3D"`, or, where mmaction2 is installed and has
    a class of that name, with `type="mmengine.SwinTransformer3D"`.

    Raises:
        ConfigError: mmengine is not installed.
    """
    try:
        registry = importlib.import_module("mmengine.registry")  # no dependency of this package
    except ImportError as error:
        raise ConfigError(
            "The registry of mmengine is needed, but mmengine is not installed. Install it with: "
            "pip install mmengine"
        ) from error
    registry.MODELS.register_module(name="SwinTransformer3D", module=SwinTransformer3D, force=True)


def init_recognizer(config: str | Path, checkpoint: str | Path, device: str = "cpu") -> Predictor:
    """Opens a config file of mmaction2 or the official repository with its weights.

    Network, sampling, views, preprocessing and averaging are those of the config's test pipeline.

    Args:
        config: The config file; it is parsed, not executed.
        checkpoint: The weights file.
        device: Such as "cpu" or "cuda:0".

    Raises:
        ConfigError: The config file is invalid or has no test pipeline.
        CheckpointError: The weights cannot be read or do not match.
    """
    return Predictor.load(config=config, checkpoint=checkpoint, runtime="torch", device=device)


def inference_recognizer(recognizer: Predictor, video: str | Path) -> Classification:
    """Classifies a video. `scores` has what mmaction2 calls `pred_score`; see also `top`."""
    return recognizer.classify(video)
