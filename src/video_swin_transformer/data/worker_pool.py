"""A pool of worker processes that survives crashes and hangs, based on pebble.

A decoder may crash or hang on a corrupt file. Each task runs in a worker process. If the process
dies or exceeds the time limit, the task fails and pebble replaces the process.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, as_completed
from dataclasses import dataclass
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class TaskFailure:
    """A failed task: its process died (`has_crashed`) or exceeded the time limit."""

    reason: str
    has_crashed: bool


def run_in_processes(
    function: Callable[[T], R], tasks: Sequence[T], num_workers: int, timeout_seconds: float
) -> Iterator[tuple[int, R | TaskFailure]]:
    """Runs a function on tasks in worker processes.

    Closing the iterator terminates the processes.

    Args:
        function: A picklable function of a task. An exception it raises is considered a bug.
        tasks: Picklable tasks.
        num_workers: Maximum number of processes.
        timeout_seconds: Time limit per task, without the start of the process.

    Yields:
        (task index, result) in order of completion.

    Raises:
        RuntimeError: The function raised an exception, or the processes cannot be started.
    """
    if not tasks:
        return
    # spawn works on every platform and does not inherit threads or the state of torch.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPool(max_workers=max(1, min(num_workers, len(tasks))), context=context)
    try:
        indices: dict[Future[R], int] = {
            pool.schedule(function, args=(task,), timeout=timeout_seconds): index
            for index, task in enumerate(tasks)
        }
        for future in as_completed(indices):
            yield indices[future], _result(future, timeout_seconds)
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _result(future: Future[Any], timeout_seconds: float) -> Any:
    try:
        return future.result()
    except ProcessExpired as error:
        code = error.exitcode or 0
        how = f"signal {_signal_name(-code)}" if code < 0 else f"exit code {code}"
        return TaskFailure(f"the worker process died ({how})", has_crashed=True)
    except BrokenExecutor as error:
        raise RuntimeError(f"The worker processes cannot be started ({error}).") from error
    except Exception as error:
        trace = getattr(error, "traceback", None)  # set if the function raised the exception
        if isinstance(error, TimeoutError) and trace is None:
            return TaskFailure(f"timed out after {timeout_seconds:g} s", has_crashed=False)
        raise RuntimeError(f"A worker process failed:\n{trace or error}") from error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
