"""Settings of the video quality models: the network, its fragments, and both together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..config import ModelConfig, is_integer, require
from ..windows import Size3


def _counts(setting: str, value: Sequence[int], length: int, allowed: str) -> tuple[int, ...]:
    ok = isinstance(value, Sequence) and len(value) == length and all(map(is_integer, value))
    require(ok, setting, value, allowed)
    return tuple(value)


@dataclass(frozen=True)
class FragmentModelConfig:
    """A Swin backbone with fragment biases, and a head that predicts a quality score.

    Attributes:
        backbone: The Swin Transformer. `num_classes` must be 0; `head_drop_rate` is used in the
            quality head.
        window_sizes: Tokens per window in time, height and width, one size for each stage. None:
            `backbone.window_size` in every stage.
        fragment_biases: For each stage, whether attention has a second bias table for pairs of
            tokens of one fragment.
        adaptive_window: Shrink the windows in proportion to inputs that are smaller than
            `base_size`. FAST-VQA always does so, DOVER never.
        base_size: Frames, height and width of the input for which the windows have their configured
            size. Without effect if `adaptive_window` is False.
        head_dim: Hidden channels of the quality head.
    """

    backbone: ModelConfig = field(default_factory=lambda: ModelConfig(num_classes=0))
    window_sizes: tuple[Size3, ...] | None = None
    fragment_biases: tuple[bool, ...] = (True, True, True, False)
    adaptive_window: bool = True
    base_size: Size3 = (32, 224, 224)
    head_dim: int = 64

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        num_stages = len(self.backbone.depths)
        classes = self.backbone.num_classes
        require(classes == 0, "backbone.num_classes", classes, "0: the head predicts one score")
        stride = self.backbone.patch_stride
        require(stride is None, "backbone.patch_stride", stride, "None: patches may not overlap")
        allowed = "three positive integers (time, height, width)"
        if self.window_sizes is not None:
            sizes = tuple(
                _counts("window_sizes", s, 3, f"{allowed}, for each stage")
                for s in self.window_sizes
            )
            each = f"{num_stages} sizes, one for each stage"
            require(len(sizes) == num_stages, "window_sizes", sizes, each)
            set_field(self, "window_sizes", sizes)
        biases = tuple(map(bool, self.fragment_biases))
        each = f"{num_stages} values, one for each stage"
        require(len(biases) == num_stages, "fragment_biases", biases, each)
        set_field(self, "fragment_biases", biases)
        set_field(self, "base_size", _counts("base_size", self.base_size, 3, allowed))
        require(is_integer(self.head_dim), "head_dim", self.head_dim, "a positive integer")

    def window_size(self, stage: int) -> Size3:
        """The configured window of a stage."""
        return self.backbone.window_size if self.window_sizes is None else self.window_sizes[stage]


@dataclass(frozen=True)
class FragmentSampling:
    """The frames and the fragments of a video that form the clips of a quality model.

    A fragment is a small square of pixels in their original resolution. A frame is divided into a
    grid of equal cells, one fragment is cut from a random place in each cell, and the fragments are
    put together to a small frame.

    Attributes:
        grid: Number of fragments in height and width.
        fragment_size: Side of a fragment, in pixels.
        num_frames: Frames per clip.
        stride: Step between consecutive frames of a clip.
        num_clips: Clips per video.
        num_segments: 1: a clip is consecutive, and the clips are taken from equal parts of the
            video. More: every clip covers the video; it consists of this many consecutive segments,
            each from a random place in an equal part of the video.
        aligned_frames: Frames that share the places of their fragments. A divisor of `num_frames`.
    """

    grid: tuple[int, int] = (7, 7)
    fragment_size: int = 32
    num_frames: int = 32
    stride: int = 2
    num_clips: int = 4
    num_segments: int = 1
    aligned_frames: int = 32

    def __post_init__(self) -> None:
        grid = _counts("grid", self.grid, 2, "two positive integers (height, width)")
        object.__setattr__(self, "grid", grid)
        for name in (
            "fragment_size",
            "num_frames",
            "stride",
            "num_clips",
            "num_segments",
            "aligned_frames",
        ):
            value = getattr(self, name)
            require(is_integer(value), name, value, "a positive integer")
        for name in ("num_segments", "aligned_frames"):
            value = getattr(self, name)
            require(
                self.num_frames % value == 0,
                name,
                value,
                f"a divisor of num_frames ({self.num_frames})",
            )

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames that the fragments form."""
        return self.grid[0] * self.fragment_size, self.grid[1] * self.fragment_size


@dataclass(frozen=True)
class QualityConfig:
    """A quality model with the sampling it was trained for.

    Attributes:
        name: Name of the model.
        network: The network.
        sampling: The frames and fragments.
        score_mean: Mean of the raw scores, subtracted before the sigmoid that maps them to 0..1.
            None: there is no published mean, and scores are not mapped.
        score_std: Standard deviation of the raw scores, as `score_mean`.
    """

    name: str = "custom"
    network: FragmentModelConfig = FragmentModelConfig()
    sampling: FragmentSampling = FragmentSampling()
    score_mean: float | None = None
    score_std: float | None = None

    def __post_init__(self) -> None:
        both = (self.score_mean, self.score_std)
        require(both.count(None) in (0, 2), "score_mean and score_std", both, "both set or None")
        require(
            self.score_std is None or self.score_std > 0, "score_std", self.score_std, "above 0"
        )
