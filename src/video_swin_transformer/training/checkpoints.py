"""The state of a run on disk: whole or not at all, the last few and the best.

OUT/checkpoints/step_00001200.pt   all that going on exactly needs
OUT/checkpoints/best.pt            weights of the best epoch so far
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..files import open_atomic

State = dict[str, Any]
VERSION = 1
_BEST = "best.pt"


class Checkpoints:
    """The checkpoints of one run, of which the last `keep` stay."""

    def __init__(self, out: Path, keep: int) -> None:
        self.folder = out / "checkpoints"
        self._keep = keep

    def steps(self) -> list[Path]:
        """The checkpoints that are there, the oldest first."""
        return sorted(self.folder.glob("step_*.pt"))

    def save(self, step: int, state: State) -> Path:
        path = self.folder / f"step_{step:08d}.pt"
        _write(path, {"version": VERSION, **state})
        for old in self.steps()[: -self._keep]:
            old.unlink(missing_ok=True)
        return path

    def save_best(self, state: State) -> None:
        _write(self.folder / _BEST, {"version": VERSION, **state})

    def load_best(self) -> State | None:
        path = self.folder / _BEST
        return _read(path) if path.is_file() else None

    def load_last(self, say: Callable[[str], None]) -> State:
        """The newest checkpoint that can be read; says which ones cannot.

        Raises CheckpointError where there is none.
        """
        for path in reversed(self.steps()):
            try:
                return _read(path)
            except CheckpointError as error:
                say(f"warning: {error} The one before it is used.")
        raise CheckpointError(
            f"There is no checkpoint in {str(self.folder)!r} to go on from. Leave out --resume to "
            "begin."
        )


def _write(path: Path, state: State) -> None:
    """Beside the path, then renamed; a state may be larger than what fits in memory twice."""
    try:
        with open_atomic(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        raise CheckpointError(
            f"The checkpoint {str(path)!r} cannot be written ({error}); make room or name another "
            "--out. The ones before it are untouched."
        ) from error


def _read(path: Path) -> State:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{str(path)!r} cannot be read: {reason}.") from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise CheckpointError(
            f"{str(path)!r} is no checkpoint of this version of the trainer; it must have version "
            f"{VERSION}."
        )
    return state
