"""Reads what flows through one network without changing it: hooks for the length of one pass.

Other threads may run the same network meanwhile, so hooks pass over calls of other threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from torch import Tensor, nn

from ..config import require
from ..errors import ConfigError
from ..feature_info import checked_stages
from ..layers import SwinTransformerBlock3D, WindowAttention3D
from ..model import SwinTransformer3D, VideoSwinTransformer
from ..runtimes import Runtime
from ..runtimes.torch_runtime import TorchRuntime
from ..windows import Size3, WindowPlan

LayerName: TypeAlias = Literal["norm1", "norm2", "output"]
LAYERS: tuple[str, ...] = get_args(LayerName)


@dataclass(frozen=True)
class BlockAddress:
    """A block of the network, counted from 0."""

    stage: int
    block: int

    def __str__(self) -> str:
        return f"stage {self.stage}, block {self.block}"

    def of(self, model: VideoSwinTransformer) -> SwinTransformerBlock3D:
        """Returns the block itself."""
        found = model.get_submodule(f"backbone.layers.{self.stage}.blocks.{self.block}")
        assert isinstance(found, SwinTransformerBlock3D)
        return found


def block_address(depths: tuple[int, ...], stage: int, block: int) -> BlockAddress:
    """Checks the numbers of a block; negative ones count from the end.

    Args:
        depths: Blocks of each stage.
        stage: Stage.
        block: Block of the stage.

    Raises:
        ConfigError: There is no such stage or block.
    """
    (stage,) = checked_stages("stage", [stage], len(depths))
    depth = depths[stage]
    require(
        -depth <= block < depth,
        "block",
        block,
        f"from {-depth} to {depth - 1}: stage {stage} has {depth} blocks",
    )
    return BlockAddress(stage, block % depth)


def torch_runtime(runtime: Runtime, purpose: str) -> TorchRuntime:
    """Returns the runtime if it runs weights in torch.

    Args:
        runtime: The runtime of a predictor.
        purpose: What the network is needed for, to begin a sentence with.

    Raises:
        ConfigError: The runtime does not run the network in torch.
    """
    if isinstance(runtime, TorchRuntime) and isinstance(runtime.model, VideoSwinTransformer):
        return runtime
    raise ConfigError(
        f"{purpose} looks into the network, which {runtime.description} does not allow; load the "
        "weights with runtime 'torch', or use the method 'occlusion'."
    )


def token_grid(backbone: SwinTransformer3D, clip_size: Size3, stage: int) -> Size3:
    """Returns the token grid (D, h, w) of a stage for a view of (T, H, W)."""
    d, h, w = (
        -(-size // step) for size, step in zip(clip_size, backbone.patch_embed.stride, strict=True)
    )
    for _ in range(stage):
        h, w = -(-h // 2), -(-w // 2)
    return d, h, w


@contextmanager
def attention_inputs(
    blocks: list[SwinTransformerBlock3D],
) -> Iterator[dict[WindowAttention3D, tuple[Tensor, WindowPlan]]]:
    """Records the slots (B, S, C) and the plan that the attention of blocks is called with."""
    found: dict[WindowAttention3D, tuple[Tensor, WindowPlan]] = {}
    mine = threading.get_ident()

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if threading.get_ident() == mine:
            assert isinstance(module, WindowAttention3D)
            found[module] = (args[0], kwargs["plan"])

    handles = [block.attn.register_forward_pre_hook(keep, with_kwargs=True) for block in blocks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def layer_output(layer: nn.Module, with_gradient: bool) -> Iterator[list[Tensor]]:
    """Records the output of a layer. With a gradient, the graph begins there, which saves memory.

    Args:
        layer: A module with one output.
        with_gradient: Detach the output and make it a leaf.
    """
    found: list[Tensor] = []
    mine = threading.get_ident()

    def keep(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        if threading.get_ident() != mine:
            return output
        kept = output.detach()
        found.append(kept.requires_grad_() if with_gradient else kept)
        return found[-1]

    handle = layer.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
