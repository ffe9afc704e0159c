"""What can be watched: files that are replayed, cameras, and network streams."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ConfigError, VideoDecodeError

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "udp", "tcp", "srt")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)


@dataclass(frozen=True)
class LiveSource:
    """A source of frames.

    Attributes:
        kind: "file", "camera" or "network".
        address: Path, number of the camera, or URL.
    """

    kind: Literal["file", "camera", "network"]
    address: str

    @property
    def name(self) -> str:
        """The source for messages, without the password of a URL."""
        if self.kind == "camera":
            return f"camera:{self.address}"
        return re.sub(r"(?<=://)[^/@]*@", "", self.address)


def parse_source(source: str | Path, *, allow_network: bool = False) -> LiveSource:
    """Recognizes a source.

    Args:
        source: A video file, "camera:N", or a URL (rtsp, http, rtmp, udp, tcp, srt).
        allow_network: Whether URLs are allowed.

    Raises:
        ConfigError: A URL is not allowed or of an unknown kind, or the camera is not a number.
        VideoDecodeError: There is no such file.
    """
    text = str(source)
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    if scheme == "camera":
        number = text.partition(":")[2]
        if not (number.isascii() and number.isdigit()):
            raise ConfigError(
                f"The source is {text!r}, but a camera is camera:N, such as camera:0 for the first."
            )
        return LiveSource("camera", number)
    if "://" in text:
        if scheme not in NETWORK_SCHEMES:
            raise ConfigError(
                f"The source {text!r} is of an unknown kind; give a file, camera:N, or a URL of "
                f"{', '.join(NETWORK_SCHEMES)}."
            )
        if not allow_network:
            raise ConfigError(
                f"The source {LiveSource('network', text).name!r} is on the network, which is not "
                "allowed; allow it with allow_network=True (--allow-network)."
            )
        return LiveSource("network", text)
    if not Path(text).exists():
        raise VideoDecodeError(
            f"Cannot read {text!r}: there is no such file; give a file, camera:N or a URL."
        )
    return LiveSource("file", text)
