"""Downloads files over HTTP with pooch: with retries, checksums, atomic writes and locking."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from urllib.parse import urlsplit

from ..errors import CheckpointError
from ..files import locked, sha256_file
from ..registry import file_exists

Progress: TypeAlias = Callable[[int, int | None], None]  # bytes so far, bytes in total if known

MAX_ATTEMPTS = 5
RETRY_DELAY_SECONDS = 0.5  # doubled each time
_CHUNK_BYTES = 1 << 16
_HTTP_MEANING = {403: "access denied", 404: "the file does not exist", 410: "the file was removed"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DownloadRequest:
    """A file to download.

    Attributes:
        url: HTTP or HTTPS URL.
        target: Destination path.
        sha256_prefix: The known first characters of its SHA-256; "" accepts any.
        check: Called with the path of the complete file before it is renamed; raises to reject it.
        max_bytes: Maximum file size.
        timeout_seconds: Timeout for connecting and between received bytes.
    """

    url: str
    target: Path
    sha256_prefix: str = ""
    check: Callable[[Path], object] | None = None
    max_bytes: int = 8 << 30
    timeout_seconds: float = 30.0

    @property
    def part(self) -> Path:
        """Path of the partial file."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def manual_hint(self) -> str:
        """Advice on how to download the file manually."""
        return f"Or download {self.url} elsewhere and copy it to {self.target}"


def download_file(
    request: DownloadRequest, force: bool = False, progress: Progress | None = None
) -> Path:
    """Downloads a file unless it exists.

    If several processes request the same file, one downloads it and the others wait.

    Args:
        request: The file.
        force: Download the file even if it exists.
        progress: Called as progress(bytes received, total bytes or None).

    Returns:
        The path of the file.

    Raises:
        CheckpointError: The file cannot be downloaded, verified or written.
    """
    _require_web_url(request.url)
    if file_exists(request.target) and not force:
        return request.target
    with _translate_disk_errors(request):
        waiting = f"Waiting for another process to download {request.target.name}."
        with locked(request.target, waiting):
            if force or not file_exists(request.target):
                try:
                    _download(request, progress)
                    require_digest(
                        request.part, request.sha256_prefix, "It was deleted; download it again."
                    )
                    if request.check is not None:
                        request.check(request.part)
                    request.part.replace(request.target)
                finally:
                    request.part.unlink(missing_ok=True)
    return request.target


def require_digest(path: Path, sha256_prefix: str, remedy: str) -> None:
    """Raises CheckpointError unless the SHA-256 of a file starts with a prefix ("" accepts any)."""
    digest = sha256_file(path) if sha256_prefix else ""
    if not digest.startswith(sha256_prefix):
        raise CheckpointError(
            f"{path.name} has the SHA-256 {digest[:16]}..., but it must start with "
            f"{sha256_prefix}: the file is damaged or a different one. {remedy}"
        )


def _require_web_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # invalid port or IPv6 address
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", url):
        raise CheckpointError(
            f"The URL {url!r} is not supported; give an http or https URL without spaces, such as "
            "https://host/file.pth."
        )


def _download(request: DownloadRequest, progress: Progress | None) -> None:
    """Downloads to `request.part`, with retries."""
    import requests
    from pooch import HTTPDownloader

    host = urlsplit(request.url).hostname
    headers = {"User-Agent": "video-swin-transformer", "Accept-Encoding": "identity"}
    reason = ""
    for attempt in range(MAX_ATTEMPTS):
        if attempt:
            time.sleep(RETRY_DELAY_SECONDS * 2 ** (attempt - 1))
        with request.part.open("wb") as file, _DownloadSink(request, file, progress) as sink:
            downloader = HTTPDownloader(
                progressbar=sink,
                chunk_size=_CHUNK_BYTES,
                headers=headers,
                timeout=request.timeout_seconds,
                hooks={"response": sink.check_response},
            )
            try:
                downloader(request.url, sink, None)
                return
            except requests.HTTPError as error:
                status = sink.status
                if status not in (408, 429) and status < 500:
                    raise _status_error(request, status) from error
                reason = f"the server responded with HTTP status {status}"
            except (requests.TooManyRedirects, requests.exceptions.InvalidSchema) as error:
                raise CheckpointError(
                    f"{request.url} cannot be downloaded: too many or unsupported redirects "
                    f"({error}). {request.manual_hint}."
                ) from error
            except requests.RequestException as error:
                if not sink.num_bytes and _is_unreachable(error):
                    raise CheckpointError(
                        f"{request.target.name} cannot be downloaded: cannot connect to {host}. "
                        f"Check the network connection and try again. {request.manual_hint}."
                    ) from error
                reason = f"the connection was lost after {sink.num_bytes / 1e6:.1f} MB"
        _log.debug("%s: %s", request.url, reason)
    raise CheckpointError(
        f"{request.url} could not be downloaded after {MAX_ATTEMPTS} attempts: {reason}. "
        f"Try again later. {request.manual_hint}."
    )


class _DownloadSink:
    """Output file, progress bar and response hook for a pooch downloader."""

    def __init__(self, request: DownloadRequest, file: BinaryIO, progress: Progress | None) -> None:
        self._request, self._file, self._progress = request, file, progress
        self._response: Any = None
        self.num_bytes = 0
        self.status = 0
        self.total = 0  # set by pooch; 0 is unknown

    def __enter__(self) -> _DownloadSink:
        return self

    def __exit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()  # pooch leaves it open if the transfer fails

    def check_response(self, response: Any, *_: object, **__: object) -> None:
        """Rejects HTML pages, which captive portals and login pages return instead of the file."""
        self._response, self.status = response, response.status_code
        is_page = "text/html" in response.headers.get("Content-Type", "")
        if response.ok and not response.is_redirect and is_page:
            raise CheckpointError(
                f"{response.url} returned a web page instead of the file, possibly a login page of "
                f"this network. {self._request.manual_hint}."
            )

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self.num_bytes += len(chunk)
        if max(self.num_bytes, self.total) > self._request.max_bytes:
            raise CheckpointError(
                f"{self._request.url} is larger than the maximum of {self._request.max_bytes} "
                f"bytes, so it is not the expected file. {self._request.manual_hint}."
            )
        if self._progress is not None:
            self._progress(self.num_bytes, self.total or None)

    def flush(self) -> None:
        self._file.flush()

    # pooch updates its progress bar per chunk; progress is reported by `write` instead.

    def update(self, num_bytes: int) -> None:
        pass

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass


def _is_unreachable(error: Exception) -> bool:
    """Whether no connection was made: no network, unknown host, refused or timed out."""
    import requests
    from urllib3.exceptions import NewConnectionError

    cause = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        getattr(cause, "reason", None), NewConnectionError
    )


def _status_error(request: DownloadRequest, status: int) -> CheckpointError:
    return CheckpointError(
        f"{request.url} cannot be downloaded: {_HTTP_MEANING.get(status, 'refused')} (HTTP status "
        f"{status}). If you have the file, copy it to {request.target}."
    )


@contextmanager
def _translate_disk_errors(request: DownloadRequest) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:
        raise CheckpointError(
            f"The file system of {str(request.target.parent)!r} does not support locks; set "
            "VIDEOSWIN_HOME to a folder on a local disk."
        ) from error
    except OSError as error:
        folder = str(request.target.parent)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = f"The disk is full: {request.target.name} does not fit in {folder!r}"
            remedy = "Free some space, or set VIDEOSWIN_HOME to a folder on another disk."
        else:
            reason = error.strerror or error
            problem = f"{request.target.name} cannot be written to {folder!r} ({reason})"
            remedy = "Set VIDEOSWIN_HOME to a writable folder."
        raise CheckpointError(f"{problem}. {remedy}") from error
