"""Recipes on disk: which file is meant, its YAML, and `key=value` on the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ..errors import ConfigError, MissingExtraError, UnknownNameError
from ..files import write_atomic
from .config import Recipe

_SHIPPED = Path(__file__).parent.parent / "recipes"
_SHORT = {"data": "data.train", "from": "model.from"}
_FLOAT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$")


def shipped_recipes() -> list[str]:
    """Names of the recipes in this package."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def find_recipe(name_or_path: str) -> tuple[Path, str | None]:
    """The file of a recipe, and what to tell about it.

    A file that exists is meant as such. Else the last part of the path may name a recipe that
    ships, with or without .yaml. Raises UnknownNameError.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path, None
    shipped = _SHIPPED / f"{path.name.removesuffix('.yaml')}.yaml"
    if shipped.is_file():
        is_path = path.suffix == ".yaml" or len(path.parts) > 1
        note = f"There is no file {name_or_path!r} here; the recipe that ships is used."
        return shipped, note if is_path else None
    raise UnknownNameError("recipe", name_or_path, shipped_recipes())


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The checked recipe. overrides: "optimizer.learning_rate=1e-3" and the like.

    Raises ConfigError that names the key, what was got and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The recipe {str(path)!r} cannot be read: {error}.") from error
    data = _parse_yaml(text, f"The recipe {str(path)!r}")
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"The recipe {str(path)!r} is no mapping of keys to values.")
    for override in overrides:
        _override(data, override)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explained(str(path), data, error)) from None


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML, every setting written down."""
    yaml = _yaml()
    return str(yaml.safe_dump(recipe.model_dump(by_alias=True), sort_keys=False, width=100))


def parse_recipe(text: str, what: str) -> Recipe:
    """The recipe in a text of `recipe_text`. Raises ConfigError."""
    try:
        return Recipe.model_validate(_parse_yaml(text, what))
    except ValidationError as error:
        raise ConfigError(f"{what} is of another version: {error.errors()[0]['msg']}.") from None


def write_recipe(path: Path, recipe: Recipe) -> None:
    write_atomic(path, recipe_text(recipe).encode())


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Keys in which two recipes describe another training; how the machine is used does not."""
    first, second = _flat(old.model_dump(by_alias=True)), _flat(new.model_dump(by_alias=True))
    free = ("run.workers", "run.keep_checkpoints", "run.checkpoint_minutes")
    return [key for key in first if first[key] != second.get(key) and not key.startswith(free)]


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


# --- YAML -----------------------------------------------------------------------------------------


def _yaml() -> Any:
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("pyyaml", "train", "Reading a recipe") from error
    return yaml


def _parse_yaml(text: str, what: str) -> Any:
    """Plain data; 1e-3 is a number as people mean it (PyYAML reads a text)."""
    yaml = _yaml()

    class Loader(yaml.SafeLoader):  # type: ignore[misc,name-defined]
        pass

    def mapping(loader: Any, node: Any) -> Any:
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for place, key in enumerate(keys) if key in keys[:place]]
        if twice:
            raise ConfigError(f"{what} has the key {twice[0]!r} twice; keep one of them.")
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{what} is not YAML: {reason}.") from error


def _override(data: dict[str, Any], override: str) -> None:
    key, found, written = override.partition("=")
    if not found or not key:
        raise ConfigError(
            f"{override!r} is no setting; write key=value, such as data=FOLDER or "
            "optimizer.learning_rate=1e-3."
        )
    parts = _SHORT.get(key, key).split(".")
    place: Any = data
    for part in parts[:-1]:
        below = place.setdefault(part, {})
        if below is None:
            below = place[part] = {}
        if not isinstance(below, dict):
            raise ConfigError(f"{key!r} is no key: {part!r} holds a value, not further keys.")
        place = below
    # Paths and names are texts, whatever YAML might see in them.
    is_text = _is_text(parts)
    place[parts[-1]] = written if is_text else _parse_yaml(written, f"The value of {key!r}")
    if is_text and written == "null":
        place[parts[-1]] = None


def _is_text(parts: Sequence[str]) -> bool:
    kind: Any = Recipe
    for part in parts:
        fields = kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
        field = next((f for n, f in fields.items() if part in (n, f.alias)), None)
        if field is None:
            return False
        kind = field.annotation
        inner = [k for k in get_args(kind) if isinstance(k, type) and issubclass(k, BaseModel)]
        kind = inner[0] if inner else kind
    return kind is str or set(get_args(kind)) == {str, type(None)}


# --- what is wrong with it ------------------------------------------------------------------------


def _explained(path: str, data: Mapping[str, Any], error: ValidationError) -> str:
    """One sentence about the first fault, and how many more there are."""
    faults = error.errors()
    # A misspelt key explains an absent one, so it comes first.
    faults.sort(key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    key = ".".join(str(part) for part in fault["loc"] if not _is_branch(str(part)))
    more = f" ({len(faults) - 1} more faults.)" if len(faults) > 1 else ""
    if fault["type"] == "extra_forbidden":
        return f"The recipe {path!r} has no key {key!r}.{_nearest(key)}{more}"
    reason = fault["msg"].removeprefix("Value error, ")
    got = repr(fault["input"]) if not isinstance(fault["input"], dict) else "what it is"
    where = f"{key} is {got}" if key else "the whole is wrong"
    return f"In the recipe {path!r} {where}, but: {reason[:1].lower()}{reason[1:]}.{more}"


def _is_branch(part: str) -> bool:
    """Pydantic names the alternative of a union it tried as if it were a key."""
    return "[" in part or part in ("float", "int", "str", "literal")


def _nearest(key: str) -> str:
    known = list(_known_keys(Recipe))
    last = key.rpartition(".")[2]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if not near:  # right word, wrong section
        near = [k for k in known if k.rpartition(".")[2] == last][:1]
    if not near:
        words = {k.rpartition(".")[2]: k for k in known}
        near = [words[w] for w in difflib.get_close_matches(last, words, n=1, cutoff=0.6)]
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Known: {', '.join(sorted(k for k in known if '.' not in k))}."


def _known_keys(kind: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in kind.model_fields.items():
        key = prefix + (field.alias or name)
        yield key
        kinds = [field.annotation, *get_args(field.annotation)]
        for inner in kinds:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _known_keys(inner, f"{key}.")
