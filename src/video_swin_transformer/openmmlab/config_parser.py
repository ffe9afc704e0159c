"""Reads MMCV and MMEngine config files as data: they are parsed, never executed.

Supported syntax: assignments of constants, names, lists, tuples, dicts,
`dict(...)` with keywords and `**name`, `name.copy()`, `name['key'] = value`, and sums of numbers.
Anything else (imports, other calls, loops) is rejected, so reading a file has no side effects.

`_base_` paths are relative to the file that contains them. As in mmcv, dicts are merged with the
child taking precedence, lists and tuples are replaced, `_delete_=True` discards the inherited
dict, and two bases must not define the same name.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import read_text_file

MAX_BYTES = 2**20
MAX_FILES = 50  # bases of bases; two in each of 40 files would be a trillion
MAX_VALUES = 100_000  # nested references can expand exponentially
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def read_config(path: str | Path) -> dict[str, Any]:
    """Reads a config file, merged with its bases.

    Args:
        path: The Python config file.

    Returns:
        Values by name.

    Raises:
        ConfigError: A file cannot be read or uses unsupported syntax.
    """
    return _read(Path(path), (), [])


def _read(path: Path, readers: tuple[Path, ...], opened: list[Path]) -> dict[str, Any]:
    """Reads `path`, which `readers` have as their base; `opened` are all files of this config."""
    resolved = path.resolve()
    if resolved in readers:
        raise ConfigError(f"The config {str(path)!r} has a circular _base_ reference.")
    opened.append(resolved)
    if len(opened) > MAX_FILES:
        raise ConfigError(f"The config {str(opened[0])!r} reads more than {MAX_FILES} base files.")
    own = _Evaluator(path).evaluate(_parse(path))
    bases = own.pop("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, (list, tuple)) or not all(isinstance(b, str) for b in bases):
        raise ConfigError(f"_base_ in {str(path)!r} is {bases!r}, but must be a path or a list.")
    inherited: dict[str, Any] = {}
    for base in bases:
        found = _read(path.parent / base, (*readers, resolved), opened)
        twice = sorted(inherited.keys() & found.keys())
        if twice:
            raise ConfigError(f"Two bases of {str(path)!r} define {twice[0]!r}; keep one of them.")
        inherited.update(found)
    merged = _merge(inherited, own)
    return {name: value for name, value in merged.items() if not name.startswith("__")}


def _parse(path: Path) -> ast.Module:
    text = read_text_file(path, max_bytes=MAX_BYTES, what="config", error=ConfigError)
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{str(path)!r} is not a Python config file ({error}).") from error


def _merge(base: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in child.items():
        if isinstance(value, dict):
            old = merged.get(key)
            keep = isinstance(old, dict) and not value.get("_delete_", False)
            own = {k: v for k, v in value.items() if k != "_delete_"}
            merged[key] = _merge(old if keep and isinstance(old, dict) else {}, own)
        else:
            merged[key] = value
    return merged


def _count_values(value: Any, limit: int) -> int:
    """Counts values in nested dicts and lists, stopping above `limit`."""
    parts = value.values() if isinstance(value, dict) else value
    total = 1
    if isinstance(value, (dict, list, tuple)):
        for part in parts:
            total += _count_values(part, limit - total)
            if total > limit:
                break
    return total


class _Evaluator:
    """Evaluates the assignments of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[str, Any] = {}

    def evaluate(self, module: ast.Module) -> dict[str, Any]:
        try:
            for statement in module.body:
                self._statement(statement)
            num_values = _count_values(self._names, MAX_VALUES)
        except RecursionError as error:
            raise ConfigError(f"{str(self._path)!r} is nested too deeply.") from error
        if num_values > MAX_VALUES:
            raise ConfigError(f"{str(self._path)!r} expands to more than {MAX_VALUES} values.")
        return self._names

    def _unsupported(self, node: ast.AST, what: str) -> ConfigError:
        return ConfigError(
            f"{str(self._path)!r}, line {getattr(node, 'lineno', '?')}: {what} is not supported. "
            "Config files may only assign constants, lists, tuples and dicts."
        )

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            raise self._unsupported(node, f"the statement {ast.unparse(node)[:60]!r}")
        target = node.targets[0]
        if isinstance(target, ast.Name):
            self._names[target.id] = self._value(node.value)
        elif isinstance(target, ast.Subscript):
            holder, key = self._value(target.value), self._value(target.slice)
            fits = (isinstance(holder, dict) and isinstance(key, str)) or (
                isinstance(holder, list) and isinstance(key, int) and key < len(holder)
            )
            if not fits:
                raise self._unsupported(node, f"the assignment to {ast.unparse(target)[:60]!r}")
            holder[key] = self._value(node.value)
        else:
            raise self._unsupported(node, f"the assignment to {ast.unparse(target)[:60]!r}")

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                if node.id not in self._names:
                    raise self._unsupported(node, f"the name {node.id!r}, which is not defined,")
                return self._names[node.id]
            case ast.List():
                return [self._value(item) for item in node.elts]
            case ast.Tuple():
                return tuple(self._value(item) for item in node.elts)
            case ast.Dict():
                return self._dict(node)
            case ast.UnaryOp(op=ast.USub()):
                return -self._number(node.operand)
            case ast.BinOp() if type(node.op) in _OPERATORS:
                return self._binary_operation(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.Call():
                return self._call(node)
        raise self._unsupported(node, f"the expression {ast.unparse(node)[:60]!r}")

    def _number(self, node: ast.expr) -> int | float:
        value = self._value(node)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._unsupported(node, f"arithmetic with {ast.unparse(node)[:60]!r}")
        return value

    def _binary_operation(self, node: ast.BinOp) -> int | float:
        left, right = self._number(node.left), self._number(node.right)
        try:
            result: int | float = _OPERATORS[type(node.op)](left, right)
        except (ArithmeticError, ValueError):
            raise self._unsupported(node, f"the sum {ast.unparse(node)[:60]!r}") from None
        if isinstance(result, int) and result.bit_length() > 64:
            raise self._unsupported(node, f"a number as large as {ast.unparse(node)[:60]!r}")
        return result

    def _subscript(self, node: ast.Subscript) -> Any:
        holder, key = self._value(node.value), self._value(node.slice)
        try:
            return holder[key]
        except (KeyError, IndexError, TypeError):
            raise self._unsupported(
                node, f"{ast.unparse(node)[:60]!r}, which does not exist,"
            ) from None

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                result.update(self._mapping(value))
                continue
            name = self._value(key)
            if not isinstance(name, (str, int)):
                raise self._unsupported(key, f"the key {ast.unparse(key)[:60]!r}")
            result[name] = self._value(value)
        return result

    def _mapping(self, node: ast.expr) -> dict[str, Any]:
        value = self._value(node)
        if not isinstance(value, dict):
            raise self._unsupported(node, f"**{ast.unparse(node)[:60]}, which is not a dict,")
        return value

    def _call(self, node: ast.Call) -> dict[str, Any]:
        function = node.func
        if isinstance(function, ast.Name) and function.id == "dict" and not node.args:
            result: dict[str, Any] = {}
            for keyword in node.keywords:
                if keyword.arg is None:
                    result.update(self._mapping(keyword.value))
                else:
                    result[keyword.arg] = self._value(keyword.value)
            return result
        is_copy = isinstance(function, ast.Attribute) and function.attr == "copy"
        if is_copy and not node.args and not node.keywords and isinstance(function, ast.Attribute):
            return dict(self._mapping(function.value))
        raise self._unsupported(node, f"the call {ast.unparse(node)[:60]!r}")
