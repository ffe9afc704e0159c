"""File names as text, in files of every kind and in terminals.

On Linux a file name is any bytes. Bytes that are not UTF-8 are lone surrogates in Python's str,
which no UTF-8 file can contain. In JSON, CSV and HTML they are written as `\\xNN`, with the
hexadecimal value of the byte: b"caf\\xe9.mp4" is the text caf\\xe9.mp4. A backslash that would look
like the start of such a sequence is written as `\\x5c`. All other names are written as they are.
"""

from __future__ import annotations

import re
from pathlib import Path

_FORMULA = re.compile(r"[=+@\t\r]|-(?!\d)")
_UNDECODABLE = re.compile(r"[\ud800-\udfff]|\\(?=x[0-9a-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def path_to_text(path: str | Path) -> str:
    """Returns a path as text that UTF-8 can encode; `path_from_text` reverses it.

    Args:
        path: A path.

    >>> path_to_text("caf\\udce9.mp4")
    'caf\\\\xe9.mp4'
    """
    return _UNDECODABLE.sub(_escape, str(path))


def path_from_text(text: str) -> str:
    """Returns the path of a text from `path_to_text`.

    Args:
        text: The text.
    """
    data = text.encode("utf-8", "surrogateescape")
    data = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode("ascii")), data)
    return data.decode("utf-8", "surrogateescape")


def plain_text(message: str) -> str:
    """Returns a message whose file names may have undecodable bytes as text that UTF-8 can encode.

    Unlike `path_to_text`, it leaves backslashes unchanged.

    Args:
        message: A message.
    """
    return re.sub(r"[\ud800-\udfff]", _escape, message)


def csv_cell(text: str) -> str:
    """Returns text for a cell of a CSV file that a spreadsheet program does not take for a formula.

    Args:
        text: A path, label or message. After `=`, `+`, `@` or `-` at its start, and no digit,
            programs would compute; such text is preceded by an apostrophe.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def one_line(text: str) -> str:
    """Returns text for a terminal: undecodable bytes and control characters are escaped.

    A line break in a file name would look like the end of a result.

    Args:
        text: A path.
    """
    return _CONTROL.sub(_escape, path_to_text(text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    is_byte = 0xDC80 <= code <= 0xDCFF
    data = bytes([code - 0xDC00]) if is_byte else found[0].encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in data)
