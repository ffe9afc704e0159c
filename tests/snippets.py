"""Executes the code blocks of a Markdown page in order and compares what they print.

A `console` block holds commands after `$ ` and the output of each below it. A `python` block may be
followed by a `text` block with its output; the programs of a page share their names, as in one
session. A block after `<!-- not run: REASON -->` is left out; REASONS lists the allowed ones.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from video_swin_transformer import cli

REASONS = {
    "installs packages",
    "needs published weights",
    "needs a GPU",
    "needs your own code",
}
_ROOT = Path(__file__).parent.parent
_FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>.*?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_NUMBER = re.compile(r"\d+\.\d+(?:e[+-]?\d+)?(?: ?%)?")
# Progress of pip, libraries and compilation goes to stderr, which pages do not show.
_SHELL_CHARACTERS = set("|><;&*$")


@dataclass(frozen=True)
class Block:
    language: str
    body: str
    line: int
    reason: str | None  # why it is not run


def read_blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            found["language"],
            found["body"],
            text.count("\n", 0, found.start("language")) + 1,
            found["reason"],
        )
        for found in _FENCE.finditer(text)
    ]


def commands(body: str) -> Iterator[tuple[str, str]]:
    """(command, output) of a console block; a command may be continued with a backslash."""
    command, output = "", ""
    lines = iter(body.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            output += f"{line}\n"
            continue
        if command:
            yield command, output
        command, output = line[2:], ""
        while command.endswith("\\"):
            command = command[:-1] + next(lines).strip()
    if command:
        yield command, output


def run_page(page: Path, folder: Path) -> int:
    """Runs every block of a page in `folder`; returns how many ran.

    In a process of its own, as a reader would.
    """
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "tests.snippets", str(page)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def _run_blocks(page: Path, folder: Path) -> int:
    """Runs every block of a page in `folder`, the working directory; returns how many ran."""
    blocks = read_blocks(page)
    names: dict[str, Any] = {"__name__": "__main__"}
    num_run = 0
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        where = f"{page.name}, line {block.line}"
        if block.language not in ("console", "python") or block.reason is not None:
            continue
        num_run += 1
        if block.language == "console":
            for command, shown in commands(block.body):
                assert_same_output(_run_command(command, folder), shown, f"{where}: {command}")
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.body, where, "exec"), names)
        shown = following.body if following and following.language == "text" else ""
        assert_same_output(printed.getvalue(), shown, where)
    return num_run


def _run_command(command: str, folder: Path) -> str:
    words = shlex.split(command)
    if words[0] == "videoswin" and not _SHELL_CHARACTERS & set(command):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = cli.run(words[1:])
        assert code == 0, f"{command!r} ends with exit code {code}"
        return printed.getvalue()
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": programs},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command!r}: {done.stderr}"
    return done.stdout


def assert_same_output(printed: str, shown: str, where: str) -> None:
    """Equal but for the third digit of fractional numbers, which depends on the processor.

    A page that shows no output may leave out what a command prints.
    """
    if not shown.strip():
        return
    same_text = _NUMBER.sub("#", printed).split() == _NUMBER.sub("#", shown).split()
    assert same_text, f"{where} prints:\n{printed}\nnot:\n{shown}"
    for ours, theirs in zip(_NUMBER.findall(printed), _NUMBER.findall(shown), strict=True):
        # Percentages have one decimal; numbers with an exponent are rounding errors.
        tolerance = 0.1 if ours.endswith("%") or "e" in ours else 1e-3
        close = math.isclose(
            float(ours.rstrip(" %")), float(theirs.rstrip(" %")), abs_tol=tolerance + 1e-9
        )
        assert close, f"{where} prints {ours}, not {theirs}"


if __name__ == "__main__":
    print(_run_blocks(Path(sys.argv[1]), Path.cwd()))
