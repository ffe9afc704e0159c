"""Distributed evaluation, started by `accelerate launch` or `torchrun`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from ..errors import ConfigError

_TIMEOUT = timedelta(days=30)  # ranks with short clips wait for the others


@dataclass(frozen=True)
class ProcessGroup:
    """The rank of this process among all processes.

    Attributes:
        rank: Global rank.
        local_rank: Rank on this machine, which is the index of its GPU.
        world_size: Number of processes.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process with rank 0."""
        return self.rank == 0

    def share(self, num_items: int) -> range:
        """Returns the indices of the items of this process: every world_size-th.

        Args:
            num_items: Number of items of all processes.
        """
        return range(self.rank, num_items, self.world_size)

    def wait_for_all(self) -> None:
        """Blocks until all processes have called this method."""
        if self.world_size > 1:
            import torch.distributed

            torch.distributed.barrier()


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """Joins the process group that the launcher defined in environment variables.

    Only barriers are used (gloo); results are exchanged through files.

    Yields:
        The rank of this process.

    Raises:
        ConfigError: RANK, LOCAL_RANK or WORLD_SIZE is invalid.
    """
    group = _group_from_environment()
    if group.world_size == 1:
        yield ProcessGroup()
        return
    import torch.distributed

    torch.distributed.init_process_group("gloo", timeout=_TIMEOUT)
    try:
        yield group
    finally:
        torch.distributed.destroy_process_group()


def default_device() -> str:
    """Returns "cuda:N" with the local rank in a distributed run with GPUs, else "auto"."""
    group = _group_from_environment()
    if group.world_size == 1:
        return "auto"
    import torch

    return f"cuda:{group.local_rank}" if torch.cuda.is_available() else "auto"


def _group_from_environment() -> ProcessGroup:
    try:
        return ProcessGroup(
            int(os.environ.get("RANK", "0")),
            int(os.environ.get("LOCAL_RANK", "0")),
            int(os.environ.get("WORLD_SIZE", "1")),
        )
    except ValueError as error:
        raise ConfigError(
            f"RANK, LOCAL_RANK and WORLD_SIZE in the environment must be integers ({error}); "
            "start distributed runs with accelerate launch or torchrun."
        ) from error
