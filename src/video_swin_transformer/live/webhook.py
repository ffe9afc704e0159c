"""`Webhook`: posts events from a thread, so that a slow receiver delays nothing."""

from __future__ import annotations

import queue
import threading
from typing import Any

from ..errors import ConfigError

_MAX_WAITING = 100
_TIMEOUT_SECONDS = 5.0


class Webhook:
    """Posts JSON objects to a URL.

    Args:
        url: An http or https URL.

    Attributes:
        num_sent: Objects that were accepted (status below 400).
        num_failed: Objects that were not, or that were dropped because too many were waiting.
        last_error: The last failure; "" if there was none.

    Raises:
        ConfigError: The URL is of another kind.
    """

    def __init__(self, url: str) -> None:
        if not url.lower().startswith(("http://", "https://")):
            raise ConfigError(f"webhook is {url!r}, but must be an http or https URL.")
        self.num_sent = 0
        self.num_failed = 0
        self.last_error = ""
        self._url = url
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def post(self, data: dict[str, Any]) -> None:
        """Posts an object soon. If too many wait, it is dropped and counted."""
        try:
            self._queue.put_nowait(data)
        except queue.Full:
            self.num_failed += 1
            self.last_error = f"{_MAX_WAITING} events were waiting"

    def close(self, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        """Waits for what is waiting, but not longer than the timeout."""
        try:
            self._queue.put(None, timeout=timeout_seconds)
        except queue.Full:
            return
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        import requests

        with requests.Session() as session:
            while (data := self._queue.get()) is not None:
                try:
                    reply = session.post(self._url, json=data, timeout=_TIMEOUT_SECONDS)
                    reply.raise_for_status()
                    self.num_sent += 1
                except requests.RequestException as error:
                    self.num_failed += 1
                    self.last_error = type(error).__name__ + f": {error}"
