"""What there is: architectures and weights by name, each as one `ModelCard`.

`swin_tiny_patch244_window877` names an architecture, and
`swin_nano_patch288_window877_camera` weights: the architecture's name and the training.
Names follow the official configs; the names of torchvision and short ones are aliases.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from .config import BundleConfig, ClipSampling, ModelConfig, Preprocessing
from .errors import UnknownNameError

DEFAULT_MODEL = "camera-motion"


@dataclass(frozen=True)
class Accuracy:
    """A measured accuracy and how it was measured; a number without its protocol says nothing."""

    top1: float  # per cent
    protocol: str
    top5: float | None = None


@dataclass(frozen=True)
class WeightsSource:
    """Where weights come from and under which terms."""

    embedded: str  # folder under `embedded/` in this package
    trained_on: str
    licence: str
    accuracy: Accuracy


@dataclass(frozen=True)
class ModelCard:
    """One name: its network, how that network is fed, and its weights if there are any."""

    name: str
    bundle: BundleConfig
    summary: str
    aliases: tuple[str, ...] = ()
    weights: WeightsSource | None = None


def _swin(
    embed_dim: int, third_depth: int, heads: int, window: tuple[int, int, int], drop_path: float
) -> ModelConfig:
    """A published network: depths 2, 2, n, 2; heads double with the channels."""
    return ModelConfig(
        embed_dim=embed_dim,
        depths=(2, 2, third_depth, 2),
        num_heads=(heads, 2 * heads, 4 * heads, 8 * heads),
        window_size=window,
        drop_path_rate=drop_path,
    )


def _architecture(
    name: str,
    model: ModelConfig,
    summary: str,
    aliases: tuple[str, ...] = (),
    sampling: ClipSampling | None = None,
    preprocessing: Preprocessing | None = None,
) -> ModelCard:
    bundle = BundleConfig(
        model=model,
        sampling=sampling or ClipSampling(),
        preprocessing=preprocessing or Preprocessing(),
        name=name,
    )
    return ModelCard(name, bundle, summary, aliases)


_ONE_UNIFORM_CLIP = ClipSampling(num_clips=1, rule="uniform")
_CAMERA_LABELS = (
    "static",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "zoom_in",
    "zoom_out",
    "roll_cw",
    "roll_ccw",
    "shake",
)
_NANO = ModelConfig(
    embed_dim=64,
    depths=(2, 2),
    num_heads=(2, 4),
    patch_size=(2, 8, 8),
    num_classes=len(_CAMERA_LABELS),
)
# 8 frames 0.2 s apart: camera movement is told by time, not by the number of the frame.
_NANO_SAMPLING = ClipSampling(num_frames=8, stride=6, num_clips=4, stride_seconds=0.2)
_NANO_PREPROCESSING = Preprocessing(
    short_side=112, crop_size=112, num_crops=1, interpolation="area"
)

_CARDS = (
    ModelCard(
        name="swin_nano_patch288_window877_camera",
        aliases=(DEFAULT_MODEL,),
        summary="names the camera movement; ships with the package",
        bundle=BundleConfig(
            model=_NANO,
            sampling=_NANO_SAMPLING,
            preprocessing=_NANO_PREPROCESSING,
            labels=_CAMERA_LABELS,
            name="swin_nano_patch288_window877_camera",
        ),
        weights=WeightsSource(
            embedded="camera_motion",
            trained_on="rendered camera paths over free pictures",
            licence="Apache-2.0",
            accuracy=Accuracy(top1=89.1, protocol="held-out pictures, 1x1 views"),
        ),
    ),
    _architecture(
        "swin_nano_patch288_window877",
        _NANO,
        "8 x 112 px, for quick experiments",
        ("swin-nano",),
        _NANO_SAMPLING,
        _NANO_PREPROCESSING,
    ),
    _architecture(
        "swin_tiny_patch244_window877",
        _swin(96, 6, 3, (8, 7, 7), 0.1),
        "T of the paper",
        ("swin-t", "swin-tiny", "swin3d_t", "swin_tiny"),
    ),
    _architecture(
        "swin_small_patch244_window877",
        _swin(96, 18, 3, (8, 7, 7), 0.1),
        "S of the paper",
        ("swin-s", "swin-small", "swin3d_s", "swin_small"),
    ),
    _architecture(
        "swin_base_patch244_window877",
        _swin(128, 18, 4, (8, 7, 7), 0.3),
        "B of the paper",
        ("swin-b", "swin-base", "swin3d_b", "swin_base"),
    ),
    _architecture(
        "swin_base_patch244_window1677",
        _swin(128, 18, 4, (16, 7, 7), 0.4),
        "B with window 16, as for Something-Something v2",
        ("swin-b-w16",),
        _ONE_UNIFORM_CLIP,
    ),
    _architecture(
        "swin_large_patch244_window877",
        _swin(192, 18, 6, (8, 7, 7), 0.4),
        "L of the paper",
        ("swin-l", "swin-large", "swin_large"),
    ),
    _architecture(
        "swin_large_patch244_window81212",
        _swin(192, 18, 6, (8, 12, 12), 0.4),
        "L at 384 px, the paper's headline",
        ("swin-l-384",),
        ClipSampling(num_clips=10),
        Preprocessing(short_side=384, crop_size=384),
    ),
)


def _by_name() -> dict[str, ModelCard]:
    return {name: card for card in _CARDS for name in (card.name, *card.aliases)}


def find_card(name: str) -> ModelCard:
    """The card of a name or alias. Raises UnknownNameError, which offers the nearest name."""
    known = _by_name()
    if name not in known:
        raise UnknownNameError("model", name, known)
    return known[name]


def list_cards() -> tuple[ModelCard, ...]:
    return _CARDS


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Names that match a shell pattern, by name or alias; `pretrained`: only those with weights.

    >>> list_models("*window1677")
    ['swin_base_patch244_window1677']
    """
    return [
        card.name
        for card in _CARDS
        if (card.weights is not None or not pretrained)
        and any(fnmatch.fnmatchcase(name, pattern) for name in (card.name, *card.aliases))
    ]
