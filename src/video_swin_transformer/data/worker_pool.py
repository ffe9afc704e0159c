"""A pool of worker processes that survives crashes and hangs.

A decoder may crash or hang on a corrupt file. Each task runs in one worker process; if the process
dies or exceeds the time limit, the task fails and a new process replaces it.

concurrent.futures cannot replace processes or limit the time per task. pebble 5.2 can, but if the
machine is busy, a process that dies right after receiving a task can break its pool.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MAX_START_ATTEMPTS = 3  # attempts to start a process that dies before its first task


@dataclass(frozen=True)
class TaskFailure:
    """A failed task: its process died (`has_crashed`) or exceeded the time limit."""

    reason: str
    has_crashed: bool


@dataclass(frozen=True)
class _RemoteError:
    """The traceback of an exception raised by the task function."""

    trace: str


def run_in_processes(
    function: Callable[[T], R], tasks: Sequence[T], num_workers: int, timeout_seconds: float
) -> Iterator[tuple[int, R | TaskFailure]]:
    """Runs a function on tasks in worker processes.

    Closing the iterator terminates the processes.

    Args:
        function: A function of a task, importable by name. An exception it raises is treated as a
            bug.
        tasks: Picklable tasks.
        num_workers: Maximum number of processes.
        timeout_seconds: Time limit per task, without the start of the process.

    Yields:
        (task index, result) in order of completion.

    Raises:
        RuntimeError: The function raised an exception, or a process cannot be started.
    """
    pending: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(tasks)):
        pending.put(number)
    done: queue.SimpleQueue[tuple[int, R | TaskFailure | _RemoteError]] = queue.SimpleQueue()
    threads = [
        _WorkerThread(function, tasks, pending, done, timeout_seconds)
        for _ in range(max(1, min(num_workers, len(tasks))))
    ]
    try:
        for worker_thread in threads:
            worker_thread.thread.start()
        for _ in range(len(tasks)):
            number, result = done.get()
            if isinstance(result, _RemoteError):
                raise RuntimeError(f"A worker process failed:\n{result.trace}")
            yield number, result
    finally:
        for worker_thread in threads:
            worker_thread.stop()
        for worker_thread in threads:
            if worker_thread.thread.ident is not None:
                worker_thread.thread.join()


class _WorkerThread(Generic[T, R]):
    """A thread that feeds one process and restarts it if it dies."""

    def __init__(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        pending: queue.SimpleQueue[int],
        done: queue.SimpleQueue[tuple[int, R | TaskFailure | _RemoteError]],
        timeout_seconds: float,
    ) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._function, self._tasks = function, tasks
        self._waiting, self._done = pending, done
        self._timeout_seconds = timeout_seconds
        self._is_stopping = threading.Event()

    def stop(self) -> None:
        """Asks the thread to kill its process and end."""
        self._is_stopping.set()

    def _run(self) -> None:
        worker: _Worker[T, R] | None = None
        try:
            while not self._is_stopping.is_set():
                try:
                    number = self._waiting.get_nowait()
                except queue.Empty:
                    return
                if worker is None:
                    worker = _start_worker(self._function, self._is_stopping)
                if worker is None:
                    self._done.put((number, _RemoteError("the process cannot be started")))
                    return
                result = worker.run(self._tasks[number], self._timeout_seconds, self._is_stopping)
                if isinstance(result, TaskFailure):
                    worker.kill()
                    worker = None
                self._done.put((number, result))
        finally:
            if worker is not None:
                worker.kill()


def _start_worker(function: Callable[[T], R], is_stopping: threading.Event) -> _Worker[T, R] | None:
    for _ in range(_MAX_START_ATTEMPTS):
        worker = _Worker(function)
        if worker.is_ready(is_stopping):
            return worker
        worker.kill()
    return None


class _Worker(Generic[T, R]):
    """One process and the pipe to it."""

    _START_SECONDS = 120.0  # enough for a cold disk and a busy machine
    _POLL_SECONDS = 0.2

    def __init__(self, function: Callable[[T], R]) -> None:
        # spawn: the same on every platform, and does not inherit threads or torch state
        context = multiprocessing.get_context("spawn")
        self._pipe, child_pipe = context.Pipe()
        self._process = context.Process(target=_serve, args=(child_pipe, function), daemon=True)
        self._process.start()
        child_pipe.close()

    def is_ready(self, is_stopping: threading.Event) -> bool:
        """Waits until the process has started. Returns False if it died or timed out."""
        return bool(self._receive(self._START_SECONDS, is_stopping) == "ready")

    def run(
        self, task: T, timeout_seconds: float, is_stopping: threading.Event
    ) -> R | TaskFailure | _RemoteError:
        """Runs a task in the process."""
        with contextlib.suppress(OSError):  # the process died: _receive reports it
            self._pipe.send(task)
        return self._receive(timeout_seconds, is_stopping)  # type: ignore[no-any-return]

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _receive(self, timeout_seconds: float, is_stopping: threading.Event) -> Any:
        waited_seconds = 0.0
        try:
            while not self._pipe.poll(self._POLL_SECONDS):
                waited_seconds += self._POLL_SECONDS
                if is_stopping.is_set() or waited_seconds >= timeout_seconds:
                    return TaskFailure(f"timed out after {timeout_seconds:g} s", has_crashed=False)
            return self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode or 0
            cause = f"signal {_signal_name(-code)}" if code < 0 else f"exit code {code}"
            return TaskFailure(f"the worker process died ({cause})", has_crashed=True)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _serve(pipe: Connection, function: Callable[[T], R]) -> None:
    """Runs in the worker process: handles tasks until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles it
    pipe.send("ready")
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return  # the parent process has ended
        try:
            reply: object = function(task)
        except Exception:
            reply = _RemoteError(traceback.format_exc())
        pipe.send(reply)
