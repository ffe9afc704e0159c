"""Runs cases of a family in processes of their own and records what became of each."""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from video_swin_transformer.errors import VideoSwinError

MAX_SECONDS = 30
MAX_MEGABYTES = 2048
FAMILIES = ("videos", "bits", "giants", "weights", "texts")
GOOD = frozenset({"read", "refused", "same", "noticed", "silently wrong"})
REPOSITORY = Path(__file__).parents[2]
MIXED = "mixed"  # all kinds of a family in turn, in one process
CANARY = "echo untouched\n"


class Family(Protocol):
    """A family of inputs."""

    KINDS: tuple[str, ...]

    def prepare(self, kind: str, folder: Path) -> Any:
        """Makes the intact original of a kind."""

    def run(self, kind: str, seed: int, original: Any, folder: Path) -> str:
        """Makes one damaged or hostile input, reads it and returns the outcome.

        A VideoSwinError is the outcome "refused".
        """


@dataclass(frozen=True)
class Case:
    """What became of one input.

    Attributes:
        kind: Kind of the input within its family.
        seed: Seed it was made from.
        outcome: "read", "refused", "crash", "hang", "foreign exception", "memory", "wrote a file",
            or one that the family adds.
        seconds: Time it took.
        megabytes: Peak memory of the process.
        message: The error.
    """

    kind: str
    seed: int
    outcome: str
    seconds: float = 0.0
    megabytes: float = 0.0
    message: str = ""

    @property
    def is_good(self) -> bool:
        """Whether this is an outcome that the project promises."""
        return _kind_of(self.outcome) in GOOD


def _kind_of(outcome: str) -> str:
    """An outcome without the remark in parentheses."""
    return outcome.partition(" (")[0]


def run_cases(family: str, kind: str, seeds: range, folder: Path) -> list[Case]:
    """Runs the cases of a kind; after a crash or hang, the rest in a new process.

    Args:
        family: Name of the family.
        kind: Kind of inputs, or MIXED.
        seeds: Their seeds.
        folder: Folder for all files.
    """
    cases: list[Case] = []
    while seeds:
        found = list(_run_process(family, kind, seeds, folder))
        cases += found
        seeds = seeds[len(found) :]
        if not found:
            raise RuntimeError(f"The process for {family} {kind} did not start.")
    return cases


def _run_process(family: str, kind: str, seeds: range, folder: Path) -> Iterator[Case]:
    home, work = folder / "home", folder / "work"
    for place in (home, work):
        place.mkdir(parents=True, exist_ok=True)
        (place / ".profile").write_text(CANARY)
    environment = os.environ | {
        "HOME": str(home),
        "VIDEOSWIN_HOME": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
    }
    arguments = [family, kind, str(seeds.start), str(seeds.stop), str(folder)]
    with (
        (folder / "stderr.txt").open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.hostile.batches", *arguments],
            cwd=work,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        seed = seeds.start
        is_running = False
        for line in process.stdout:
            if line == "start\n":
                is_running = True
                continue
            is_running = False
            case = Case(**json.loads(line))
            seed = case.seed + 1
            yield case
        process.wait()
    changed = _changed_files(home) + _changed_files(work)
    if changed:
        yield Case(kind, seed, "wrote a file", message=", ".join(changed))
    elif process.returncode or is_running:
        text = (folder / "stderr.txt").read_text(errors="replace")
        outcome = "hang" if "Timeout (" in text else "crash"
        yield Case(kind, seed, outcome, message=text[-1500:])


def _changed_files(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    changed = [str(path) for path in files if path.name != ".profile" or path.read_text() != CANARY]
    for path in files:
        path.unlink()
    return changed


def load_family(name: str) -> Family:
    """Returns the module of a family."""
    module: Any = importlib.import_module(f"tests.hostile.{name}")
    family: Family = module
    return family


def run_here(family: Family, kind: str, seeds: range, folder: Path) -> Iterator[Case]:
    """Runs cases in this process."""
    originals: dict[str, Any] = {}
    for seed in seeds:
        one_kind, one_seed = kind, seed
        if kind == MIXED:
            one_kind = family.KINDS[seed % len(family.KINDS)]
            one_seed = seed // len(family.KINDS)
        place = folder / one_kind
        if one_kind not in originals:
            place.mkdir(exist_ok=True)
            originals[one_kind] = family.prepare(one_kind, place)
        print("start", flush=True)
        _reset_peak_memory()
        faulthandler.dump_traceback_later(MAX_SECONDS, exit=True)
        start, message = time.perf_counter(), ""
        try:
            outcome = family.run(one_kind, one_seed, originals[one_kind], place)
        except VideoSwinError as error:
            outcome, message = "refused", str(error)
            if len(message) > 6100:
                outcome = "foreign exception"
                message = f"a message of {len(message)} characters: {message[:300]}"
            elif any(ord(c) < 32 and c not in "\t\n" for c in message):
                outcome = "foreign exception"
                message = f"control characters: {message[:300]!r}"
        except Exception as error:
            outcome, message = "foreign exception", f"{type(error).__name__}: {error}"[:1500]
        faulthandler.cancel_dump_traceback_later()
        megabytes = _peak_memory()
        if _kind_of(outcome) in GOOD and megabytes > MAX_MEGABYTES:
            outcome = "memory"
        yield Case(kind, seed, outcome, time.perf_counter() - start, megabytes, message[:1500])


def _reset_peak_memory() -> None:
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def count_outcomes(cases: list[Case]) -> Counter[str]:
    """Returns how often each outcome occurs."""
    return Counter(case.outcome for case in cases)


if __name__ == "__main__":
    family_name, kind_name, first, stop, where = sys.argv[1:]
    for result in run_here(
        load_family(family_name), kind_name, range(int(first), int(stop)), Path(where)
    ):
        print(json.dumps(asdict(result)), flush=True)
