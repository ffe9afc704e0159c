"""Several processes at one evaluation, started by `accelerate launch` or `torchrun`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from ..errors import ConfigError

_TIMEOUT = timedelta(days=30)  # a rank may wait long for one with slower clips


@dataclass(frozen=True)
class ProcessGroup:
    """This process among `world_size`; alone where there is one."""

    rank: int = 0
    local_rank: int = 0  # among those of this machine: the number of its GPU
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, num_items: int) -> range:
        """The numbers of the items that are this process's: every world_size-th."""
        return range(self.rank, num_items, self.world_size)

    def wait_for_all(self) -> None:
        """Returns when every process has come here."""
        if self.world_size > 1:
            import torch.distributed

            torch.distributed.barrier()


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """Finds the other processes from what the launcher put into the environment.

    Only barriers use the network (gloo); results are exchanged through files.
    """
    group = _group_of_environment()
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
    """The GPU of this process if it is one of several and there are GPUs; else "auto"."""
    group = _group_of_environment()
    if group.world_size == 1:
        return "auto"
    import torch

    return f"cuda:{group.local_rank}" if torch.cuda.is_available() else "auto"


def _group_of_environment() -> ProcessGroup:
    try:
        return ProcessGroup(
            int(os.environ.get("RANK", "0")),
            int(os.environ.get("LOCAL_RANK", "0")),
            int(os.environ.get("WORLD_SIZE", "1")),
        )
    except ValueError as error:
        raise ConfigError(
            f"RANK, LOCAL_RANK and WORLD_SIZE in the environment must be whole numbers ({error}); "
            "start several processes with accelerate launch or torchrun."
        ) from error
