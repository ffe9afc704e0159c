"""Downloads one file over HTTP with pooch: verified, retried, atomic, by one process at a time."""

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
from ..registry import is_there

Progress: TypeAlias = Callable[[int, int | None], None]  # bytes so far, bytes in total if known

MAX_ATTEMPTS = 5
RETRY_DELAY_SECONDS = 0.5  # doubled each time
_CHUNK_BYTES = 1 << 16
_HTTP_MEANING = {403: "access denied", 404: "there is no such file", 410: "the file was removed"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DownloadRequest:
    """A file to download.

    Attributes:
        url: http or https.
        target: where the file goes.
        sha256_prefix: the beginning of its SHA-256, as far as it is known.
        check: called with the complete file before it is renamed; raises to reject it.
        max_bytes: a larger file is rejected.
        timeout_seconds: how long the server may send nothing.
    """

    url: str
    target: Path
    sha256_prefix: str = ""
    check: Callable[[Path], object] | None = None
    max_bytes: int = 8 << 30
    timeout_seconds: float = 30.0

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def by_hand(self) -> str:
        return f"Or download {self.url} elsewhere and copy it to {self.target}"


def download_file(
    request: DownloadRequest, force: bool = False, progress: Progress | None = None
) -> Path:
    """Downloads a file unless it is there.

    Of several processes that want one file, one downloads it and the others wait and use it.

    Args:
        request: the file.
        force: download it again.
        progress: called as progress(bytes so far, total bytes or None).

    Returns:
        The path of the file.

    Raises:
        CheckpointError: what failed, and what to do.
    """
    _require_web_url(request.url)
    if is_there(request.target) and not force:
        return request.target
    with _disk_errors_explained(request):
        waiting = f"Waiting for another process that downloads {request.target.name}."
        with locked(request.target, waiting):
            if force or not is_there(request.target):
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
    """Raises CheckpointError unless the file's SHA-256 begins with the prefix ("" is any)."""
    digest = sha256_file(path) if sha256_prefix else ""
    if not digest.startswith(sha256_prefix):
        raise CheckpointError(
            f"{path.name} has the SHA-256 {digest[:16]}..., but must begin with {sha256_prefix}: "
            f"it is damaged or a different file. {remedy}"
        )


def _require_web_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # no port, or no brackets around an IPv6 host
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", url):
        raise CheckpointError(
            f"The URL {url!r} cannot be downloaded: only http and https URLs can, such as "
            "https://host/file.pth, without blanks."
        )


def _download(request: DownloadRequest, progress: Progress | None) -> None:
    """Fills `request.part`, with several attempts."""
    import requests
    from pooch import HTTPDownloader

    host = urlsplit(request.url).hostname
    headers = {"User-Agent": "video-swin-transformer", "Accept-Encoding": "identity"}
    reason = ""
    for attempt in range(MAX_ATTEMPTS):
        if attempt:
            time.sleep(RETRY_DELAY_SECONDS * 2 ** (attempt - 1))
        with request.part.open("wb") as file, _Receiver(request, file, progress) as receiver:
            downloader = HTTPDownloader(
                progressbar=receiver,
                chunk_size=_CHUNK_BYTES,
                headers=headers,
                timeout=request.timeout_seconds,
                hooks={"response": receiver.inspect},
            )
            try:
                downloader(request.url, receiver, None)
                return
            except requests.HTTPError as error:
                status = receiver.status
                if status not in (408, 429) and status < 500:
                    raise _refused(request, status) from error
                reason = f"the server answers with HTTP status {status}"
            except (requests.TooManyRedirects, requests.exceptions.InvalidSchema) as error:
                raise CheckpointError(
                    f"{request.url} cannot be downloaded: its redirects do not end at a file "
                    f"({error})."
                ) from error
            except requests.RequestException as error:
                if not receiver.num_bytes and _is_unreachable(error):
                    raise CheckpointError(
                        f"{request.target.name} cannot be downloaded: there is no connection to "
                        f"{host}. Try again with a connection. {request.by_hand}."
                    ) from error
                reason = f"the connection broke after {receiver.num_bytes / 1e6:.1f} MB"
        _log.debug("%s: %s", request.url, reason)
    raise CheckpointError(
        f"{request.url} could not be downloaded after {MAX_ATTEMPTS} attempts: {reason}. "
        f"Try again later. {request.by_hand}."
    )


class _Receiver:
    """The output file, the progress bar and the response hook of a pooch downloader."""

    def __init__(self, request: DownloadRequest, file: BinaryIO, progress: Progress | None) -> None:
        self._request, self._file, self._progress = request, file, progress
        self._response: Any = None
        self.num_bytes = 0
        self.status = 0
        self.total = 0  # set by pooch; 0 is unknown

    def __enter__(self) -> _Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()  # pooch leaves it open if the transfer fails

    def inspect(self, response: Any, *_: object, **__: object) -> None:
        """Rejects the pages with which captive portals and logins answer in place of the file."""
        self._response, self.status = response, response.status_code
        is_page = "text/html" in response.headers.get("Content-Type", "")
        if response.ok and not response.is_redirect and is_page:
            raise CheckpointError(
                f"{response.url} answers with a web page, not with the file; a login page of this "
                f"network may be in the way. {self._request.by_hand}."
            )

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self.num_bytes += len(chunk)
        if max(self.num_bytes, self.total) > self._request.max_bytes:
            raise CheckpointError(
                f"{self._request.url} has more than the {self._request.max_bytes} bytes that are "
                "expected: it is a different file."
            )
        if self._progress is not None:
            self._progress(self.num_bytes, self.total or None)

    def flush(self) -> None:
        self._file.flush()

    # pooch counts chunks here; `write` counts bytes.

    def update(self, num_bytes: int) -> None:
        pass

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass


def _is_unreachable(error: Exception) -> bool:
    """True if no connection was made: no network, no such host, refused, no answer."""
    import requests
    from urllib3.exceptions import NewConnectionError

    cause = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        getattr(cause, "reason", None), NewConnectionError
    )


def _refused(request: DownloadRequest, status: int) -> CheckpointError:
    return CheckpointError(
        f"{request.url} cannot be downloaded: {_HTTP_MEANING.get(status, 'refused')} (HTTP status "
        f"{status}). If you have the file, copy it to {request.target}."
    )


@contextmanager
def _disk_errors_explained(request: DownloadRequest) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:
        raise CheckpointError(
            f"The file system of {str(request.target.parent)!r} has no locks; set VIDEOSWIN_HOME "
            "to a folder on a local disk."
        ) from error
    except OSError as error:
        folder = str(request.target.parent)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"The disk is full: {request.target.name} does not fit into {folder!r}"
            todo = "Free some space, or set VIDEOSWIN_HOME to a folder on another disk."
        else:
            reason = error.strerror or error
            what = f"{request.target.name} cannot be written into {folder!r} ({reason})"
            todo = "Set VIDEOSWIN_HOME to a writable folder."
        raise CheckpointError(f"{what}. {todo}") from error
