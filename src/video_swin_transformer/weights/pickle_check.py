"""Checks what a pickle would do, without loading it.

`torch.load(weights_only=True)` runs no foreign code, but calls functions of its own list with any
arguments: storages and bytearrays of any size, codecs that double their input, sets of tuples whose
hash takes exponential time. Checkpoints need a few of them, with arguments of a certain form. This
module reads the operations of a pickle and allows only those.
"""

from __future__ import annotations

import pickle
import pickletools
from dataclasses import dataclass
from typing import IO, Any

MAX_OPERATIONS = 3_000_000  # a checkpoint with optimizer state has about 30 per tensor
_TUPLE_SIZES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PLAIN = frozenset(
    operation.name
    for operation in pickletools.opcodes
    if (
        not operation.stack_before
        and operation.name.startswith(("INT", "BININT", "LONG", "FLOAT", "BINFLOAT"))
    )
    or operation.name.endswith(("STRING", "UNICODE", "UNICODE8", "BINBYTES"))
) - {"LONG_BINGET", "LONG_BINPUT"}
_CALLED_WITH_ANYTHING = frozenset(
    {
        "builtins.complex",
        "collections.Counter",  # of a dict, whose keys are checked
        "torch.Size",
        # Tensors of these three kinds are refused by name later.
        "torch._utils._rebuild_meta_tensor_no_storage",
        "torch._utils._rebuild_qtensor",
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
    }
)
_SETS = frozenset({"builtins.set", "__builtin__.set"})
_DICTS = frozenset({"collections.OrderedDict", "collections.defaultdict"})


class PickleRefused(pickle.UnpicklingError):
    """A pickle does what no checkpoint needs."""


@dataclass(frozen=True)
class _Global:
    """A class or function that the pickle names."""

    name: str


@dataclass
class _List:
    """A list, and whether it has only strings and numbers."""

    is_plain: bool = True


class _Unknown:
    """Any other object."""


_UNKNOWN = _Unknown()
_MARK = object()


def check_pickle(stream: IO[bytes], placeholders: frozenset[str]) -> None:
    """Checks the next pickle of a stream and leaves the stream at its end.

    Args:
        stream: The stream.
        placeholders: Names of classes that are replaced while loading, so that anything may be
            passed to them.

    Raises:
        PickleRefused: The pickle does something that checkpoints do not need. The message is the
            rest of a sentence about the pickle, such as "creates a bytearray".
        ValueError: It is damaged.
    """
    state = _Stack(placeholders)
    for number, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        if number >= MAX_OPERATIONS:
            raise PickleRefused(f"has more than {MAX_OPERATIONS} operations")
        try:
            state.run(operation, argument)
        except IndexError:
            raise ValueError("its operations do not fit together") from None


def _is_plain(item: Any) -> bool:
    return item is None or isinstance(item, (str, int, float, bytes))


class _Stack:
    """The stack of an unpickler, with objects replaced by what is known of them."""

    def __init__(self, placeholders: frozenset[str]) -> None:
        self._placeholders = placeholders
        self._items: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, operation: pickletools.OpcodeInfo, argument: Any) -> None:
        match operation.name:
            case "GLOBAL":
                module, _, name = str(argument).partition(" ")
                self._items.append(_Global(f"{module}.{name}"))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[int(argument)] = self._items[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._items[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self._items.append(self._memo.get(int(argument), _UNKNOWN))
            case "MARK":
                self._items.append(_MARK)
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._push_tuple(self._pop(_TUPLE_SIZES[operation.name]))
            case "TUPLE":
                self._push_tuple(self._pop_to_mark())
            case "EMPTY_LIST":
                self._items.append(_List())
            case "APPEND":
                self._extend(self._pop(1))
            case "APPENDS":
                self._extend(self._pop_to_mark())
            case "SETITEM":
                key, _value = self._pop(2)
                self._check_keys([key])
            case "SETITEMS":
                self._check_keys(self._pop_to_mark()[::2])
            case "ADDITEMS":
                self._check_keys(self._pop_to_mark())
            case "REDUCE" | "NEWOBJ":
                function, arguments = self._pop(2)
                self._check_call(function, arguments)
                self._items.append(_UNKNOWN)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self._items.append(_CONSTANTS[operation.name])
            case name if name in _PLAIN:
                self._items.append(argument)
            case _:
                self._run_other(operation)

    def _run_other(self, operation: pickletools.OpcodeInfo) -> None:
        """Changes the size of the stack only."""
        before = list(operation.stack_before)
        if pickletools.markobject in before:
            self._pop_to_mark()
            before = before[: before.index(pickletools.markobject)]
        self._pop(len(before))
        self._items += [_UNKNOWN] * len(operation.stack_after)

    def _push_tuple(self, items: list[Any]) -> None:
        # The content of nested tuples is of no interest: they are no keys.
        self._items.append(tuple(_UNKNOWN if isinstance(i, tuple) else i for i in items))

    def _extend(self, items: list[Any]) -> None:
        target = self._items[-1]
        if isinstance(target, _List):
            target.is_plain = target.is_plain and all(_is_plain(item) for item in items)

    def _pop(self, count: int) -> list[Any]:
        if count > len(self._items):
            raise IndexError
        items = self._items[len(self._items) - count :]
        del self._items[len(self._items) - count :]
        return items

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self._items.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _check_keys(self, keys: list[Any]) -> None:
        for key in keys:
            parts = key if isinstance(key, tuple) else (key,)
            if not all(map(_is_plain, parts)):
                raise PickleRefused("has a dict or set whose keys are not strings or numbers")

    def _check_call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, _Global):
            raise PickleRefused("calls an object that it creates")
        name = function.name
        is_free = name in self._placeholders or name in _CALLED_WITH_ANYTHING
        if is_free and name not in _SETS:
            return
        if name in _DICTS:
            if arguments != () and not (
                isinstance(arguments, tuple) and all(isinstance(a, _Global) for a in arguments)
            ):
                raise PickleRefused(f"calls {name} with content, which torch.save does not")
        elif name in _SETS:
            content = arguments[0] if isinstance(arguments, tuple) and arguments else _List()
            if not isinstance(content, _List) or not content.is_plain:
                raise PickleRefused("creates a set of other things than strings and numbers")
        elif name == "_codecs.encode":
            if not isinstance(arguments, tuple) or arguments[1:] not in (("latin1",), ("latin-1",)):
                raise PickleRefused("encodes text with a codec other than latin1")
        elif name == "torch._tensor._rebuild_from_type_v2":
            first = arguments[0] if isinstance(arguments, tuple) and arguments else None
            if not isinstance(first, _Global) or first.name not in _CALLED_WITH_ANYTHING:
                raise PickleRefused(f"calls {name} with a function that checkpoints do not need")
        elif name.split(".")[0] in ("torch", "builtins", "__builtin__"):
            short = name.rpartition(".")[2]
            raise PickleRefused(f"creates a {short}, which no checkpoint needs")
        # Everything else is refused by torch.load, which does not know it.
