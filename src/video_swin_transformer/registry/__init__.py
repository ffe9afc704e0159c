"""Available architectures and weights by name, each as one `ModelCard`.

`swin_tiny_patch244_window877` names an architecture, and
`swin_tiny_patch244_window877_kinetics400_1k` names weights: architecture and training data.
Weights keep the name given by their publisher (official config, mmaction2 config, torchvision
enum, image model); short names are aliases. There is one module per publisher.
"""

from __future__ import annotations

import fnmatch

from ..errors import UnknownNameError
from .architectures import ARCHITECTURES, CAMERA_MOTION
from .cache import cache_folder, file_exists, labels_path, weights_path, weights_state
from .card import Accuracy, ModelCard, WeightsSource
from .image import IMAGE
from .mmaction2 import MMACTION2
from .official import OFFICIAL, UNRELEASED
from .torchvision import TORCHVISION

__all__ = [
    "DEFAULT_MODEL",
    "Accuracy",
    "ModelCard",
    "WeightsSource",
    "cache_folder",
    "cards_for",
    "file_exists",
    "find_card",
    "labels_path",
    "list_cards",
    "list_models",
    "weights_path",
    "weights_state",
]

DEFAULT_MODEL = "camera-motion"

_CARDS = (
    CAMERA_MOTION,
    *ARCHITECTURES,
    *OFFICIAL,
    *UNRELEASED,
    *MMACTION2,
    *TORCHVISION,
    *IMAGE,
)
_BY_NAME = {name: card for card in _CARDS for name in (card.name, *card.aliases)}


def find_card(name: str) -> ModelCard:
    """Finds a model card.

    Args:
        name: A model name or alias.

    Returns:
        The card.

    Raises:
        UnknownNameError: No model has this name. The message suggests similar names.
    """
    if name not in _BY_NAME:
        raise UnknownNameError("model", name, _BY_NAME)
    return _BY_NAME[name]


def list_cards() -> tuple[ModelCard, ...]:
    """Returns all cards, bundled weights first."""
    return _CARDS


def cards_for(architecture: str) -> tuple[ModelCard, ...]:
    """Returns the cards of the available video weights of an architecture.

    Args:
        architecture: Full name of the architecture.

    Returns:
        Cards of bundled or downloadable weights.
    """
    return tuple(
        card
        for card in _CARDS
        if card.architecture == architecture
        and card.kind == "video"
        and card.weights is not None
        and (card.weights.shipped_folder or card.weights.url)
    )


def list_models(pattern: str = "*", pretrained: bool = False, download: bool = True) -> list[str]:
    """Lists model names.

    Args:
        pattern: Shell pattern that the name or an alias must match.
        pretrained: Only models with weights, which `create_model(name, pretrained=True)` loads.
        download: With `pretrained`, also those whose weights are downloaded on first use. False:
            only those bundled with the package, which work offline.

    Returns:
        Model names, without aliases.

    >>> list_models("*window1677")
    ['swin_base_patch244_window1677']
    """
    return [
        card.name
        for card in _CARDS
        if (not pretrained or _is_available(card, download))
        and any(fnmatch.fnmatchcase(name, pattern) for name in (card.name, *card.aliases))
    ]


def _is_available(card: ModelCard, download: bool) -> bool:
    weights = card.weights
    return weights is not None and bool(weights.shipped_folder or (download and weights.url))
