"""Sizes of the feature maps of a backbone, with the methods of timm's `FeatureInfo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .errors import ConfigError


@dataclass(frozen=True)
class FeatureMapInfo:
    """One feature map.

    Attributes:
        index: Stage, from 0.
        num_chs: Channels.
        reduction: Pixels per token in height and width.
        time_reduction: Frames per token.
        module: Name of the stage in the backbone.
    """

    index: int
    num_chs: int
    reduction: int
    time_reduction: int
    module: str


class FeatureInfo:
    """The feature maps that a model returns, in that order.

    Args:
        maps: One entry per map.
    """

    def __init__(self, maps: Sequence[FeatureMapInfo]) -> None:
        self.maps = tuple(maps)
        self.out_indices = tuple(one.index for one in self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, position: int) -> FeatureMapInfo:
        return self.maps[position]

    def channels(self) -> list[int]:
        """Channels of each map."""
        return [one.num_chs for one in self.maps]

    def reduction(self) -> list[int]:
        """Pixels per token in height and width, for each map."""
        return [one.reduction for one in self.maps]

    def time_reduction(self) -> list[int]:
        """Frames per token, for each map."""
        return [one.time_reduction for one in self.maps]

    def module_name(self) -> list[str]:
        """Name of the stage that computes each map."""
        return [one.module for one in self.maps]

    def get_dicts(self) -> list[dict[str, int | str]]:
        """The entries as dicts."""
        return [asdict(one) for one in self.maps]


def checked_stages(name: str, stages: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Stage numbers in ascending order, negative ones counted from the end.

    Raises:
        ConfigError: There is none, or one does not exist or occurs twice.
    """
    found = sorted(stage + num_stages if stage < 0 else stage for stage in stages)
    if not found or found[0] < 0 or found[-1] >= num_stages or len(set(found)) < len(found):
        raise ConfigError(
            f"{name} is {tuple(stages)}, but must name stages from 0 to {num_stages - 1}, each "
            "once."
        )
    return tuple(found)
