"""Recipe files: which file is meant, its YAML, and `key=value` overrides."""

from __future__ import annotations

import difflib
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ..errors import ConfigError, MissingExtraError, UnknownNameError
from ..files import read_text_file, require_path, write_atomic
from .config import Recipe

logger = logging.getLogger(__name__)

_SHIPPED = Path(__file__).parent.parent / "recipes"
_MAX_BYTES = 2**18
_MAX_VALUES = 10_000  # of a recipe; aliases can expand exponentially
_SHORTHANDS = {"data": "data.train", "init_from": "model.init_from"}
_FLOAT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$")
# Keys that people try first, and the right one. Misspellings are found by similarity.
_COMMON_MISTAKES = {
    "batch": "batch_size",
    "batch.micro": "micro_batch_size",
    "bs": "batch_size",
    "checkpoint": "model.init_from",
    "decay": "optimizer.weight_decay",
    "ema": "ema_decay",
    "from": "model.init_from",
    "grad_clip": "optimizer.grad_clip_norm",
    "lr": "optimizer.learning_rate",
    "max_epochs": "schedule.epochs",
    "num_epochs": "schedule.epochs",
    "num_workers": "run.workers",
    "optimizer.lr": "optimizer.learning_rate",
    "optimizer.wd": "optimizer.weight_decay",
    "weights": "model.init_from",
}
# Settings of the run that may change when it is resumed.
_FREE_KEYS = frozenset({"run.workers", "run.max_checkpoints", "run.checkpoint_minutes"})


# --- which recipe ---------------------------------------------------------------------------------


def shipped_recipes() -> dict[str, str]:
    """The recipes in this package.

    Returns:
        The one-line summary of each recipe by its name, in alphabetical order.
    """
    summaries = {}
    for path in sorted(_SHIPPED.glob("*.yaml")):
        first_line = path.read_text(encoding="utf-8").partition("\n")[0]
        summaries[path.stem] = first_line.removeprefix("#").strip()
    return summaries


def find_recipe(name_or_path: str | Path) -> Path:
    """Returns the file of a recipe.

    Args:
        name_or_path: A file, or the name of a shipped recipe.

    Returns:
        The path of the file.

    Raises:
        ConfigError: There is no such file.
        UnknownNameError: Neither a file nor a shipped recipe has this name.
    """
    require_path(name_or_path, "recipe")
    path = Path(name_or_path)
    if path.exists() and not path.is_dir():
        return path
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise ConfigError(
            f"There is no recipe file {str(name_or_path)!r}. Give the path of a YAML file, or the "
            f"name of a shipped recipe: {', '.join(shipped_recipes())}."
        )
    if str(name_or_path) not in shipped_recipes():
        raise UnknownNameError("recipe", str(name_or_path), shipped_recipes())
    return _SHIPPED / f"{path.name}.yaml"


def load_recipe(recipe: Recipe | str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads and validates a recipe.

    Args:
        recipe: A recipe, a YAML file, or the name of a shipped recipe.
        overrides: Settings that replace those of the recipe, such as
            "optimizer.learning_rate=1e-3". "data" is short for "data.train", "init_from" for
            "model.init_from".

    Returns:
        The validated recipe.

    Raises:
        ConfigError: A key or value is invalid; the message names the key and the allowed values.
        UnknownNameError: No recipe has this name.
    """
    if isinstance(recipe, Recipe):
        source, data = "The recipe", recipe.model_dump()
    else:
        path = find_recipe(recipe)
        source, data = f"The recipe {str(path)!r}", _read_yaml(path)
    for override in overrides:
        _apply_override(data, override)
    return _validate(source, data)


def _read_yaml(path: Path) -> dict[str, Any]:
    source = f"The recipe {str(path)!r}"
    text = read_text_file(path, max_bytes=_MAX_BYTES, what="recipe", error=ConfigError)
    data = _parse_yaml(text, source)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{source} is not a mapping of keys to values.")
    return data


def _parse_yaml(text: str, source: str) -> Any:
    """Plain data. Unlike in PyYAML, 1e-3 is a number, and a duplicate key is an error."""
    yaml = _import_yaml()

    sizes: dict[Any, int] = {}  # values in each node, with its aliases expanded

    class Loader(yaml.SafeLoader):  # type: ignore[misc,name-defined]
        def compose_node(self, parent: Any, index: Any) -> Any:
            node = super().compose_node(parent, index)
            if node not in sizes:  # an alias has been composed before
                parts = [] if isinstance(node.value, str) else node.value
                if isinstance(node, yaml.MappingNode):
                    parts = [part for pair in parts for part in pair]
                # A node that contains itself is not composed yet.
                sizes[node] = 1 + sum(sizes.get(part, _MAX_VALUES) for part in parts)
            if sizes[node] > _MAX_VALUES:
                raise ConfigError(f"{source} expands to more than {_MAX_VALUES} values.")
            return node

    def mapping(loader: Any, node: Any) -> Any:
        counts = Counter(loader.construct_object(key, deep=True) for key, _ in node.value)
        twice = [key for key, count in counts.items() if count > 1]
        if twice:
            raise ConfigError(f"{source} has the key {twice[0]!r} twice; remove one of them.")
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        return yaml.load(text, Loader)
    except ConfigError:
        raise
    except Exception as error:  # PyYAML raises many kinds, such as KeyError for !!bool x
        reason = " ".join(str(error).split())
        raise ConfigError(f"{source} is not valid YAML: {reason}.") from error


def _import_yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("pyyaml", "train", "Reading a recipe") from error
    return yaml


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(
            f"{override!r} is not a setting; write key=value, such as data=FOLDER or "
            "optimizer.learning_rate=1e-3."
        )
    if not text.strip():
        raise ConfigError(
            f"{override!r} has no value, perhaps because a variable of the shell is not set; give "
            f"one, or write {key}=null for none."
        )
    key = _SHORTHANDS.get(key, key)
    known = dict(_fields(Recipe))
    if key not in known:
        raise ConfigError(f"There is no recipe key {key!r}.{_hint(key)}")
    *sections, name = key.split(".")
    section = data
    for part in sections:
        below = section.get(part)
        if below is None:
            below = section[part] = {}
        if not isinstance(below, dict):
            raise ConfigError(f"{key!r} cannot be set: the recipe sets {part!r} to a single value.")
        section = below
    if _is_string(known[key]):  # paths and names stay strings, even those that look like numbers
        section[name] = None if text == "null" else text
    else:
        section[name] = _parse_yaml(text, f"The value of {key!r}")


def _is_string(annotation: Any) -> bool:
    return annotation is str or set(get_args(annotation)) == {str, type(None)}


def _validate(source: str, data: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_describe_first_fault(source, error)) from None


# --- what is wrong with it ------------------------------------------------------------------------


def _describe_first_fault(source: str, error: ValidationError) -> str:
    faults = error.errors()
    # A misspelled key explains a missing one, so it comes first.
    faults.sort(key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    key = ".".join(str(part) for part in fault["loc"] if not _is_union_branch(str(part)))
    more = f" ({len(faults) - 1} more faults.)" if len(faults) > 1 else ""
    if fault["type"] == "extra_forbidden":
        if isinstance(fault["input"], dict) and fault["input"]:  # an unknown section
            key = f"{key}.{next(iter(fault['input']))}"
        return f"{source} has the unknown key {key!r}.{_hint(key)}{more}"
    reason = fault["msg"].removeprefix("Value error, ")
    reason = f"{reason[:1].lower()}{reason[1:]}"
    if isinstance(fault["input"], dict):
        return f"{source} has a fault in {key or 'its top level'}: {reason}.{more}"
    return f"{source} sets {key} to {fault['input']!r}: {reason}.{more}"


def _is_union_branch(part: str) -> bool:
    """Pydantic puts the member of a union that it tried into the location, like a key."""
    return "[" in part or part in ("float", "int", "str", "literal")


def _hint(key: str) -> str:
    """The nearest known key, as a sentence."""
    known = [name for name, _ in _fields(Recipe)]
    by_last_part = {name.rpartition(".")[2]: name for name in reversed(known)}
    last = key.rpartition(".")[2]
    nearest = _COMMON_MISTAKES.get(key) or by_last_part.get(last) or _COMMON_MISTAKES.get(last)
    nearest = nearest or _COMMON_MISTAKES.get(key.partition(".")[0])
    if nearest is None:
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        close += difflib.get_close_matches(last, by_last_part, n=1, cutoff=0.6)
        nearest = by_last_part.get(close[0], close[0]) if close else None
    if nearest is not None:
        return f" Did you mean {nearest!r}?"
    sections = sorted(name for name in known if "." not in name)
    return f" Known: {', '.join(sections)}. `videoswin train RECIPE --keys` lists all keys."


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, type) of all fields, sections included."""
    for name, field in model.model_fields.items():
        yield prefix + name, field.annotation
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _fields(kind, f"{prefix}{name}.")


# --- recipe to text and back ----------------------------------------------------------------------


def recipe_keys(recipe: Recipe) -> dict[str, Any]:
    """All settings of a recipe: the value of each dotted key, such as "schedule.epochs"."""
    return dict(_flatten(recipe.model_dump()))


def _flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML with every setting."""
    return str(_import_yaml().safe_dump(recipe.model_dump(), sort_keys=False, width=100))


def parse_recipe(text: str, source: str) -> Recipe:
    """Parses the output of `recipe_text`.

    Raises:
        ConfigError: It was written by another version; the message begins with `source`.
    """
    return _validate(source, _parse_yaml(text, source))


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Writes a recipe with every setting."""
    write_atomic(path, recipe_text(recipe).encode())


def changed_keys(old: Recipe, new: Recipe) -> list[str]:
    """Keys in which two recipes differ, without those that may change when a run is resumed."""
    before, after = recipe_keys(old), recipe_keys(new)
    keys = [*before, *(key for key in after if key not in before)]
    return [key for key in keys if before.get(key) != after.get(key) and key not in _FREE_KEYS]
