"""The directive `videoswin`: the help of one command on a page.

It walks the same objects that print `videoswin COMMAND -h`, so both say the same.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from video_swin_transformer.cli import app as command_line


class CommandDirective(SphinxDirective):
    """Usage, examples, arguments and options of the command that the argument names."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        group: Any = typer.main.get_command(command_line)
        command = group.commands[name]
        module = f"video_swin_transformer.cli.{name.replace('-', '_')}"
        examples = importlib.import_module(module).EXAMPLES
        text = "\n".join(_markdown(name, command, examples))
        return self.parse_text_to_nodes(text)


def _markdown(name: str, command: Any, examples: tuple[str, ...]) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join(p.metavar if p.required else f"[{p.metavar}]" for p in arguments)
    yield from (command.help or "", "", "```text")
    yield from (f"videoswin {name} [OPTIONS] {usage}".rstrip(), "```", "")
    yield from ("```{rubric} Examples", "```", "", "```text", *examples, "```", "")
    if arguments:
        yield from ("```{rubric} Arguments", "```", "")
        yield from _table("Argument", [(f"`{p.metavar}`", p) for p in arguments])
    yield from ("```{rubric} Options", "```", "")
    yield from _table("Option", [(_option_names(p), p) for p in options])


def _table(title: str, rows: list[tuple[str, Any]]) -> Iterator[str]:
    yield from (f"| {title} | Description | Default |", "|---|---|---|")
    for title_cell, parameter in rows:
        cells = (title_cell, _escape((parameter.help or "").strip()), _default(parameter))
        yield f"| {' | '.join(cells)} |"
    yield ""


def _option_names(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.is_flag:
        return names
    return f"{names} `{_escape(parameter.metavar or 'N')}`"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return _escape(parameter.show_default)
    is_flag = getattr(parameter, "is_flag", False)
    if parameter.default in (None, (), []) or is_flag or parameter.show_default is False:
        return ""
    return f"`{_escape(str(parameter.default))}`"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("videoswin", CommandDirective)
    return {"parallel_read_safe": True}
