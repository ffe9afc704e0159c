"""One file over HTTP: resumed where it was torn, checked, and never half of one under its name.

While it is fetched, `NAME.part` holds what has arrived and `NAME.part.json` what it belongs to;
`NAME.lock` keeps a second process waiting. The final name appears by renaming, at the end.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import logging
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import filelock

from ..errors import CheckpointError, VideoSwinError
from ..registry import is_there

Progress: TypeAlias = Callable[[int, int | None], None]  # bytes so far, bytes in all if known

MAX_CONNECTIONS = 5
RETRY_DELAY_SECONDS = 0.5  # doubled each time
MIN_BYTES_PER_SECOND = 1024  # slower than this for a whole timeout counts as stalled
_CHUNK_BYTES = 1 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A file to fetch.

    check: called with the complete file before it gets its name; raises to refuse it.
    limit_bytes: more than this is refused, whatever the server says.
    """

    url: str
    target: Path
    sha256_prefix: str = ""
    check: Callable[[Path], object] | None = None
    limit_bytes: int = 8 << 30
    timeout_seconds: float = 30.0

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def note(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.json")

    @property
    def by_hand(self) -> str:
        return f"Or fetch {self.url} elsewhere and put it at {self.target}"

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


class _TornError(Exception):
    """A connection that ended too early: worth another one."""


def fetch(job: Job, force: bool = False, progress: Progress | None = None) -> Path:
    """The file of a job, fetched unless it is there already (`force`: fetched again).

    Of several processes that want one file, one fetches it and the others wait and use it.
    Raises CheckpointError, which says what failed and what to do.
    """
    _require_web_address(job.url)
    if is_there(job.target) and not force:
        return job.target
    with _disk_errors_explained(job):
        job.target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(job):
            if force or not is_there(job.target):
                _download(job, progress)
                _accept(job)
                job.part.replace(job.target)
                job.note.unlink(missing_ok=True)
    return job.target


def _require_web_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # no port, or no brackets around an IPv6 host
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", url):
        raise CheckpointError(
            f"The url {url!r} cannot be downloaded: only http and https addresses are, "
            "such as https://host/file.pth, without blanks."
        )


def require_digest(path: Path, sha256_prefix: str, remedy: str) -> None:
    """Raises CheckpointError unless the file's SHA-256 begins as it must ("" is any)."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest() if sha256_prefix else ""
    if not digest.startswith(sha256_prefix):
        raise CheckpointError(
            f"{path.name} has the SHA-256 {digest[:16]}..., but must begin with {sha256_prefix}: "
            f"it is damaged or another file. {remedy}"
        )


def _accept(job: Job) -> None:
    """Deletes and refuses what is not what was wanted."""
    try:
        remedy = "It was deleted; download it again."
        require_digest(job.part, job.sha256_prefix, remedy)
        if job.check is not None:
            job.check(job.part)
    except VideoSwinError:
        job.discard()
        raise


def _download(job: Job, progress: Progress | None) -> None:
    """Fills `part`, over several connections if they break."""
    for attempt in range(MAX_CONNECTIONS):
        try:
            return _transfer(job, progress)
        except _TornError as torn:
            _log.info("%s: %s", job.url, torn)
            reason = str(torn)
        if attempt < MAX_CONNECTIONS - 1:
            time.sleep(RETRY_DELAY_SECONDS * 2**attempt)
    kept = job.part.stat().st_size if job.part.is_file() else 0
    again = f"{kept / 1e6:.1f} MB are kept: run it again to go on." if kept else "Try again later."
    raise CheckpointError(
        f"{job.url} could not be downloaded, tried {MAX_CONNECTIONS} times: {reason}. {again} "
        f"{job.by_hand}."
    )


def _transfer(job: Job, progress: Progress | None) -> None:
    """One connection: appends to `part` what is missing. Raises _TornError if it breaks."""
    kept = _kept(job)
    if kept.total is not None and kept.num_bytes == kept.total:
        return
    response = _connect(job, kept)
    with response:
        headers: Message = response.headers
        if headers.get_content_type() == "text/html":
            raise CheckpointError(
                f"{job.url} answers with a web page, not with the file; a login page of this "
                f"network may be in the way. {job.by_hand}."
            )
        resumes = response.status == http.client.PARTIAL_CONTENT
        start = kept.num_bytes if resumes else 0
        total = _total(job, response, kept) if resumes else response.length
        if (total or 0) > job.limit_bytes:
            raise CheckpointError(
                f"{job.url} has {total} bytes, but at most {job.limit_bytes} are expected: "
                "it is another file."
            )
        with job.part.open("ab" if resumes else "wb") as file:
            # The note comes after the part is emptied: it never vouches for older bytes.
            validator = headers["ETag"] or headers["Last-Modified"]
            if validator is None or validator.startswith("W/"):
                validator = None  # a weak tag does not promise equal bytes
            note = {"url": job.url, "validator": validator, "total": total}
            job.note.write_text(json.dumps(note), encoding="utf-8")
            _copy(job, response, file, start, total, progress)
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True)
class _Kept:
    """What an earlier connection left, as far as it can be trusted."""

    num_bytes: int = 0
    validator: str | None = None
    total: int | None = None


def _kept(job: Job) -> _Kept:
    try:
        size = job.part.stat().st_size
        note: Any = json.loads(job.note.read_text(encoding="utf-8"))
        kept = _Kept(size, note["validator"], note["total"])
        belongs = note["url"] == job.url and (kept.validator or kept.total)
        if belongs and size <= (kept.total or size):
            return kept
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    job.discard()
    return _Kept()


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s) only, and never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            fp.close()
            raise CheckpointError(
                f"{req.full_url} leads to {newurl!r}, which is not followed: only "
                f"{' and '.join(allowed)} addresses are."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _connect(job: Job, kept: _Kept) -> http.client.HTTPResponse:
    headers = {"User-Agent": "video-swin-transformer", "Accept-Encoding": "identity"}
    if kept.num_bytes:
        headers["Range"] = f"bytes={kept.num_bytes}-"
        if kept.validator:
            headers["If-Range"] = kept.validator
    request = urllib.request.Request(job.url, headers=headers)
    host = urlsplit(job.url).hostname
    try:
        opener = urllib.request.build_opener(_SafeRedirects)
        return opener.open(request, timeout=job.timeout_seconds)  # type: ignore[no-any-return]
    except HTTPError as error:
        error.close()
        raise _refusal(job, error.code) from error
    except (ConnectionResetError, http.client.HTTPException) as error:
        raise _TornError(f"{host} broke the connection off") from error
    except (URLError, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, TimeoutError):
            what = f"{host} does not answer within {job.timeout_seconds:g} seconds"
        else:
            what = f"there is no connection to {host} ({reason})"
        raise CheckpointError(
            f"{job.target.name} cannot be downloaded: {what}. Try again with a connection. "
            f"{job.by_hand}."
        ) from error


def _refusal(job: Job, code: int) -> Exception:
    """What to raise for an HTTP status that brings no file."""
    if code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        job.discard()
        return _TornError("the server could not go on where the download had stopped")
    if code in (408, 429) or code >= 500:
        return _TornError(f"the server answers with HTTP status {code}")
    meaning = {404: "there is no such file", 410: "the file was taken away", 403: "access denied"}
    said = "it leads nowhere" if 300 <= code < 400 else meaning.get(code, "refused")
    return CheckpointError(
        f"{job.url} cannot be downloaded: {said} (HTTP status {code}). "
        f"If you have the file, put it at {job.target}."
    )


def _total(job: Job, response: http.client.HTTPResponse, kept: _Kept) -> int:
    """The whole length by a partial answer, which must go on exactly where `part` ends."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers["Content-Range"] or "")
    if match and int(match[1]) == kept.num_bytes and kept.total in (None, int(match[2])):
        return int(match[2])
    job.discard()
    raise _TornError("the server went on at another place than asked")


def _copy(
    job: Job,
    response: http.client.HTTPResponse,
    file: IO[bytes],
    start: int,
    total: int | None,
    progress: Progress | None,
) -> None:
    done = start
    window_began, window_start = time.monotonic(), done
    while True:
        try:
            chunk = response.read1(_CHUNK_BYTES)
        except TimeoutError as error:
            raise _stalled(job) from error
        except (OSError, http.client.HTTPException) as error:
            raise _TornError(f"the connection broke after {done / 1e6:.1f} MB") from error
        if not chunk:
            break
        file.write(chunk)
        done += len(chunk)
        if done > job.limit_bytes:
            raise CheckpointError(
                f"{job.url} sends more than the {job.limit_bytes} bytes that are expected: "
                "it is another file."
            )
        if progress is not None:
            progress(done, total)
        passed = time.monotonic() - window_began
        if passed > job.timeout_seconds:
            if (done - window_start) / passed < MIN_BYTES_PER_SECOND:
                raise _stalled(job)
            window_began, window_start = time.monotonic(), done
    if total is not None and done < total:
        raise _TornError(f"the connection broke after {done / 1e6:.1f} of {total / 1e6:.1f} MB")


def _stalled(job: Job) -> _TornError:
    return _TornError(f"the server sent next to nothing for {job.timeout_seconds:g} seconds")


@contextmanager
def _locked(job: Job) -> Iterator[None]:
    """Only one process at a time; the lock falls when its holder ends, however it ends."""
    lock = filelock.FileLock(f"{job.target}.lock")
    try:
        try:
            lock.acquire(timeout=1)
        except filelock.Timeout:
            _log.warning("Waiting for another process that downloads %s.", job.target.name)
            lock.acquire()
    except NotImplementedError as error:
        raise CheckpointError(
            f"The file system of {str(job.target.parent)!r} knows no locks; set VIDEOSWIN_HOME to "
            "a folder on a local disk."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_errors_explained(job: Job) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = str(job.target.parent)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            job.discard()
            what = f"The disk is full: {job.target.name} does not fit into {where!r}"
            todo = "Make room, or set VIDEOSWIN_HOME to a folder on another disk."
        else:
            reason = error.strerror or error
            what = f"{job.target.name} cannot be written into {where!r} ({reason})"
            todo = "Set VIDEOSWIN_HOME to a folder that can be written to."
        raise CheckpointError(f"{what}. {todo}") from error
