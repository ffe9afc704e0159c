"""Features of a video while it plays: equal to those of the whole video, in constant memory.

Time is never downsampled after the patch embedding, and attention in time stays inside windows. So
a block can compute a window as soon as all of its time steps are there, and pass it on:

    frames 0 1 2 3 4 ...  ->  patch embedding  ->  block  ->  block (shifted)  ->  ...  ->  norm
                              waits for a patch    each waits for its open window

A block keeps the time steps of its open window and nothing else. Each change between shifted and
not shifted windows delays the output by half a window: see `streaming_lag`.

The whole video sees its own length in three places, and so does the stream (`TimeRegion`): a video
of at most one window is one window without a shift; the last window is padded; and the mask cuts
the shifted window that wraps around from the end of the video to its beginning.

Rows of a stream are not rows of clips: a time step has seen the frames around it as far as windows
reach, not 32 frames alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..errors import ConfigError
from ..feature_info import checked_stages
from ..layers import BasicLayer, SwinTransformerBlock3D
from ..model import SwinTransformer3D, VideoSwinTransformer
from ..windows import TimeRegion, plan_time_region, ready_time_regions


@dataclass(frozen=True)
class StreamingLag:
    """How far the output of a stream trails its input. It repeats with every window.

    Attributes:
        min_steps: Time steps after that of a row that must be known, for the last row of a window.
        max_steps: The same for the first row of a window.
        min_frames: `min_steps` in frames of the input.
        max_frames: `max_steps` in frames of the input.
    """

    min_steps: int
    max_steps: int
    min_frames: int
    max_frames: int


def streaming_lag(config: ModelConfig, stage: int | None = None) -> StreamingLag:
    """Computes the lag of a stream from the architecture.

    Args:
        config: The network.
        stage: Stage of the output; None for the last one.

    Returns:
        The lag of all rows but the first window, which may wait longer, and the last rows, which
        `StreamingFeatures.finish` returns.

    Raises:
        ConfigError: The stage does not exist.

    >>> streaming_lag(ModelConfig())
    StreamingLag(min_steps=44, max_steps=51, min_frames=88, max_frames=102)
    """
    window = config.window_size[0]
    depths = config.depths[: _checked_stage(stage, len(config.depths)) + 1]
    shifts = [window // 2 if index % 2 else 0 for depth in depths for index in range(depth)]
    starts = [0] * len(shifts)
    # After one window for each block and one more, all of them are in their repeating part.
    num_settled = (len(shifts) + 1) * window
    lags = []
    for num_steps in range(window + 1, num_settled + window):
        stop = num_steps
        for index, shift in enumerate(shifts):
            regions = ready_time_regions(starts[index], stop, window, shift, total=None)
            stop = starts[index] = starts[index] + sum(region.num_steps for region in regions)
        if num_steps >= num_settled:
            lags.append(num_steps - stop)
    frames_per_step = (config.patch_stride or config.patch_size)[0]
    fewest, most = min(lags), max(lags)
    return StreamingLag(fewest, most, fewest * frames_per_step, most * frames_per_step)


class StreamingFeatures:
    """Computes the features of a video that arrives in chunks.

    The concatenated results equal `model.forward_features` of the whole video (to rounding), or for
    earlier stages `forward_intermediates`, for chunks of any size. Memory depends on the size of
    the chunks, not on the length of the video.

    >>> stream = StreamingFeatures(model)                                      # doctest: +SKIP
    >>> for frames in chunks:                                                  # doctest: +SKIP
    ...     rows = stream.push(frames)
    >>> rows = stream.finish()                                                 # doctest: +SKIP

    Args:
        model: The network, in eval mode. It must not change while the stream is used.
        stage: Stage of the output; None for the last one, which is normalized.
        pooled: Return the mean over space of each time step instead of maps.

    Attributes:
        lag: How far the output trails the input.

    Raises:
        ConfigError: The stage does not exist, or the model is in training mode.
    """

    def __init__(
        self,
        model: VideoSwinTransformer | SwinTransformer3D,
        stage: int | None = None,
        pooled: bool = True,
    ) -> None:
        backbone = model if isinstance(model, SwinTransformer3D) else model.backbone
        if backbone.training:
            raise ConfigError(
                "The model is in training mode, where its output is random; call model.eval() "
                "before streaming."
            )
        self._backbone = backbone
        self._stage = _checked_stage(stage, backbone.num_layers)
        self._pooled = pooled
        self.lag = streaming_lag(backbone.config, self._stage)
        layers: Sequence[BasicLayer] = list(backbone.layers[: self._stage + 1])  # type: ignore[arg-type]
        self._stages = [_StageStream(layer) for layer in layers]
        self._frames: Tensor | None = None  # those of the next patches
        self._num_frames = 0
        self._num_steps = 0  # embedded so far
        self._is_finished = False

    @torch.no_grad()
    def push(self, frames: Tensor) -> Tensor:
        """Adds frames and returns the time steps that have become final.

        Args:
            frames: (B, in_chans, T, H, W) float, normalized, any T of at least 1. All chunks have
                the same B, H and W.

        Returns:
            (B, n, C), or without `pooled` (B, C, n, h, w): the next n time steps; n may be 0.

        Raises:
            ConfigError: The shape differs from the first chunk, or the stream is finished.
        """
        self._check(frames)
        if self._frames is not None:
            frames = torch.cat((self._frames, frames), dim=2)
        self._num_frames += frames.shape[2] - (0 if self._frames is None else self._frames.shape[2])
        patch, step = self._backbone.patch_embed.patch_size[0], self._backbone.patch_embed.stride[0]
        num_ready = max(0, (frames.shape[2] - patch) // step + 1)
        # A copy, since a view would keep the whole chunk.
        self._frames = frames[:, :, num_ready * step :].clone()
        if num_ready == 0:
            return self._output(None)
        x = self._embed(frames[:, :, : (num_ready - 1) * step + patch], num_ready)
        is_long = self._num_steps > self._backbone.window_size[0]
        return self._output(self._advance(x, total=None, is_ready=is_long))

    @torch.no_grad()
    def finish(self) -> Tensor:
        """Returns the remaining time steps. The stream cannot be used any more.

        Returns:
            As `push`.

        Raises:
            ConfigError: There were no frames, or the stream is finished.
        """
        if self._frames is None or self._is_finished:
            raise ConfigError(
                "The stream is already finished."
                if self._is_finished
                else "The stream is empty; push at least one frame before finishing it."
            )
        self._is_finished = True
        step = self._backbone.patch_embed.stride[0]
        num_left = -(-self._num_frames // step) - self._num_steps
        x = self._embed(self._frames, num_left) if num_left > 0 else None
        return self._output(self._advance(x, total=self._num_steps, is_ready=True))

    def _check(self, frames: Tensor) -> None:
        if self._is_finished:
            raise ConfigError("The stream is finished; make a new one for another video.")
        channels = self._backbone.in_chans
        if frames.ndim != 5 or frames.shape[1] != channels or 0 in frames.shape:
            raise ConfigError(
                f"The frames have shape {tuple(frames.shape)}, but must be (batch, {channels} "
                "channels, frames, height, width), none of them empty."
            )
        if self._frames is None:
            return
        sizes = [(*x.shape[:2], *x.shape[3:]) for x in (self._frames, frames)]
        if sizes[0] != sizes[1]:
            raise ConfigError(
                f"The frames have batch, channels, height and width {sizes[1]}, but the chunks "
                f"before them {sizes[0]}; all frames of a stream must have one size."
            )

    def _embed(self, frames: Tensor, num_steps: int) -> Tensor:
        """Returns the tokens of the next time steps: (B, n, h, w, C)."""
        # Overlapping patches give more than asked for: those with padding, which come later.
        x: Tensor = self._backbone.pos_drop(self._backbone.patch_embed(frames))[:, :, :num_steps]
        self._num_steps += num_steps
        return x.permute(0, 2, 3, 4, 1)

    def _advance(self, x: Tensor | None, total: int | None, is_ready: bool) -> Tensor | None:
        """Passes tokens through the stages: (B, n, h, w, C), or None for no time step."""
        for stage in self._stages:
            x = stage.advance(x, total, is_ready, merge=stage is not self._stages[-1])
        return x

    def _output(self, x: Tensor | None) -> Tensor:
        """Normalizes and pools (B, n, h, w, C)."""
        if x is None:
            return self._empty()
        if self._stage in self._backbone.out_indices and self._is_last_stage():
            x = self._norm()(x)
        return x.mean(dim=(2, 3)) if self._pooled else x.permute(0, 4, 1, 2, 3)

    def _is_last_stage(self) -> bool:
        return self._stage == self._backbone.num_layers - 1

    def _norm(self) -> nn.Module:
        name, _ = self._backbone.norm_names()
        return self._backbone.get_submodule(str(name))

    def _empty(self) -> Tensor:
        assert self._frames is not None
        batch, _, _, *size = self._frames.shape
        strides = self._backbone.patch_embed.stride[1:]
        h, w = (
            -(-side // (stride * 2**self._stage))
            for side, stride in zip(size, strides, strict=True)
        )
        channels = self._backbone.embed_dim << self._stage
        shape = (batch, 0, channels) if self._pooled else (batch, channels, 0, h, w)
        return self._frames.new_empty(shape)


class _StageStream:
    """A stage: its blocks, then the patch merging, which does not mix time steps."""

    def __init__(self, layer: BasicLayer) -> None:
        self._downsample = layer.downsample
        self._blocks = [_BlockStream(block) for block in layer.blocks]  # type: ignore[arg-type]

    def advance(
        self, x: Tensor | None, total: int | None, is_ready: bool, merge: bool
    ) -> Tensor | None:
        for block in self._blocks:
            x = block.advance(x, total, is_ready)
        if x is not None and merge and self._downsample is not None:
            x = self._downsample(x)
        return x


class _BlockStream:
    """A block, and the time steps that wait for the rest of their window."""

    def __init__(self, block: SwinTransformerBlock3D) -> None:
        self._block = block
        self._waiting: Tensor | None = None  # (B, n, h, w, C)
        self._start = 0  # time step of the first of them

    def advance(self, x: Tensor | None, total: int | None, is_ready: bool) -> Tensor | None:
        """Adds time steps and computes the windows that they complete.

        Args:
            x: (B, n, h, w, C), or None for none.
            total: Time steps of the video, if it has ended.
            is_ready: False while the video may still be shorter than a window.

        Returns:
            (B, m, h, w, C), or None.
        """
        if self._waiting is not None:
            x = self._waiting if x is None else torch.cat((self._waiting, x), dim=1)
        self._waiting = x
        if x is None or not is_ready:
            return None
        regions = ready_time_regions(
            self._start,
            self._start + x.shape[1],
            self._block.window_size[0],
            self._block.shift_size[0],
            total,
        )
        if not regions:
            return None
        outputs, start = [], 0
        for region, alike in itertools.groupby(regions):
            stop = start + region.num_steps * len(list(alike))
            outputs.append(self._attend(x[:, start:stop], region))
            start = stop
        self._start += start
        self._waiting = x[:, start:].clone() if start < x.shape[1] else None
        return _joined(outputs)

    def _attend(self, x: Tensor, region: TimeRegion) -> Tensor:
        """Runs the block on regions that follow one another: (B, k * num_steps, h, w, C)."""
        height, width, channels = x.shape[2:]
        plan = plan_time_region(
            region, height, width, self._block.window_size, self._block.shift_size, x.device
        )
        # (B, k * t, h, w, C) -> (B * k, t * h * w, C)
        tokens = x.reshape(-1, region.num_steps * height * width, channels)
        out: Tensor = self._block(tokens, plan=plan)
        return out.view(*x.shape[:4], -1)


def _joined(parts: Iterable[Tensor]) -> Tensor:
    first, *rest = parts
    return torch.cat((first, *rest), dim=1) if rest else first


def _checked_stage(stage: int | None, num_stages: int) -> int:
    return checked_stages("stage", [num_stages - 1 if stage is None else stage], num_stages)[0]
