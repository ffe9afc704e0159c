"""Finds references to other files in ONNX models.

The tensors of an ONNX model may be in other files, which the digest of the model does not cover and
which ONNX Runtime looks for in the working folder. The exports of this package have none. The
package onnx would find them as well, but is not installed where exported models only run.
"""

from __future__ import annotations

from collections.abc import Iterator

_MAX_DEPTH = 16  # of graphs in graphs
_DATA_LOCATION, _EXTERNAL_DATA = 14, 13  # fields of TensorProto
# Fields that lead from a message to tensors, as in onnx.proto: the name of the message they hold.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}


def has_external_data(data: bytes) -> bool:
    """Returns whether an ONNX model refers to other files.

    Args:
        data: The content of an .onnx file.

    Raises:
        ValueError: It is not an ONNX model, or is damaged.
    """
    return _refers_to_files(memoryview(data), "model", 0)


def _refers_to_files(message: memoryview, kind: str, depth: int) -> bool:
    if depth > 4 * _MAX_DEPTH:
        raise ValueError("its graphs are nested too deeply")
    for number, value in _fields(message):
        if kind == "tensor" and (
            number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)
        ):
            return True
        inner = _FIELDS[kind].get(number)
        if inner is None:
            continue
        if not isinstance(value, memoryview):
            raise ValueError(f"field {number} of its {kind} is not a message")
        if _refers_to_files(value, inner, depth + 1):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protobuf message: bytes as a view, numbers as they are."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                number, at = _varint(message, at)
                yield tag >> 3, number
                continue
            case 1:
                size = 8
            case 2:
                size, at = _varint(message, at)
            case 5:
                size = 4
            case other:
                raise ValueError(f"it has a field of the unknown type {other}")
        if at + size > len(message):
            raise ValueError("it is truncated")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for position in range(10):
        if at + position >= len(message):
            raise ValueError("it is truncated")
        byte = message[at + position]
        value |= (byte & 127) << (7 * position)
        if byte < 128:
            return value, at + position + 1
    raise ValueError("it has a number of more than ten bytes")
