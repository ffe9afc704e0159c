"""Parses JSON from files that may be damaged or hostile.

The standard library's parser raises RecursionError for nested brackets, refuses integers of more
than 4,300 digits with a hint for programmers, and accepts NaN, Infinity and half of a surrogate
pair, which no file in UTF-8 can contain. orjson is as strict, but would be a compiled dependency of
every installation.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

_MAX_DIGITS = 400  # of a number; the largest float has 309


def parse_json(text: str) -> Any:
    """Parses strict JSON.

    Args:
        text: The text.

    Returns:
        The value. All numbers are finite.

    Raises:
        ValueError: It is not JSON. The message is one short line, such as "line 1 column 3:
            Expecting value".
    """
    try:
        value = json.loads(
            text, parse_int=_integer, parse_float=_float, parse_constant=_refuse_constant
        )
        if "\\u" in text:  # an escape sequence: it may be half of a pair
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno} column {error.colno}: {error.msg}") from None
    except UnicodeEncodeError:
        raise ValueError("it contains half of a surrogate pair") from None
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    return value


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"it contains an integer of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it contains {text[:40]}, which is not a finite number")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it contains {name}, which is not JSON")
