"""The `videoswin` command. Each subcommand is a thin wrapper around a library function.

Exit codes: 0 success, 1 failure, 2 usage error, 130 interrupted.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from ..errors import ConfigError, UnknownNameError, VideoSwinError
from ..files import os_error_reason
from . import (
    annotate,
    bench,
    check_data,
    classify,
    convert,
    download,
    evaluate,
    explain,
    export,
    features,
    inspect,
    models,
    predict,
    prepare,
    probe,
    replay,
    search,
    segments,
    train,
    watch,
)
from .console import log_to_stderr, say

app = typer.Typer(
    name="videoswin",
    help="Video Swin Transformer: classify videos and extract features.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _add(group: str, command: Callable[..., int], examples: Sequence[str]) -> None:
    epilog = "Examples:\n\n" + "\n\n".join(f"  {example}" for example in examples)
    app.command(rich_help_panel=group, epilog=epilog)(_interruptible(command))


def _interruptible(command: Callable[..., int]) -> Callable[..., int]:
    """Ends a command with one line after Ctrl-C, which typer would end without any."""

    @functools.wraps(command)
    def call(*arguments: Any, **options: Any) -> int:
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt:
            say("Stopped.")
            return 130

    return call


_add("Use a model", classify.classify, classify.EXAMPLES)
_add("Use a model", predict.predict, predict.EXAMPLES)
_add("Use a model", segments.segments, segments.EXAMPLES)
_add("Use a model", watch.watch, watch.EXAMPLES)
_add("Use a model", features.features, features.EXAMPLES)
_add("Use a model", explain.explain, explain.EXAMPLES)
_add("Use a model", probe.probe, probe.EXAMPLES)
_add("Use a model", search.search, search.EXAMPLES)
_add("Use a model", replay.replay, replay.EXAMPLES)
_add("Use a model", export.export, export.EXAMPLES)
_add("Models", models.models, models.EXAMPLES)
_add("Models", download.download, download.EXAMPLES)
_add("Models", inspect.inspect, inspect.EXAMPLES)
_add("Models", convert.convert, convert.EXAMPLES)
_add("Data and training", check_data.check_data, check_data.EXAMPLES)
_add("Data and training", prepare.prepare, prepare.EXAMPLES)
_add("Data and training", annotate.annotate, annotate.EXAMPLES)
_add("Data and training", train.train, train.EXAMPLES)
_add("Data and training", evaluate.evaluate, evaluate.EXAMPLES)
_add("Tools", bench.bench, bench.EXAMPLES)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from importlib.metadata import version as installed_version

        print(installed_version("video-swin-transformer"))
        raise typer.Exit


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code; no user error ends in a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label or path that its encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _require_values(arguments)
        with log_to_stderr():
            code = app(args=arguments, standalone_mode=False)
    except VideoSwinError as error:
        say(f"error: {error}")
        return 2 if isinstance(error, (ConfigError, UnknownNameError)) else 1
    except BrokenPipeError:
        # The process reading our output has exited (`videoswin ... | head`): end quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        say(f"error: {error.filename or 'A file'}: {os_error_reason(error)}.")
        return 1
    except MemoryError:
        say(
            "error: There is not enough memory; give fewer or smaller inputs, fewer views or fewer "
            "--workers."
        )
        return 1
    except (KeyboardInterrupt, typer.Abort):
        say("Stopped.")
        return 130
    except Exception as error:
        # Typer brings its own copy of click or uses the installed one, depending on its version;
        # what its usage errors have in common is this method.
        if not hasattr(error, "format_message"):
            raise
        if message := error.format_message():  # empty where help was printed instead
            context = getattr(error, "ctx", None)
            command = "videoswin" if context is None else context.command_path
            say(f"error: {' '.join(message.split())} See: {command} -h")
        return 2
    return int(code or 0)


def _require_values(arguments: Sequence[str]) -> None:
    """Raises ConfigError for an empty argument, which pathlib takes for the current folder."""
    advice = (
        "is empty, perhaps because a variable of the shell is not set; give a value, or leave it "
        "out."
    )
    for before, text in zip(("", *arguments), arguments, strict=False):
        if not text:
            what = f"The value of {before}" if before.startswith("--") else "An argument"
            raise ConfigError(f"{what} {advice}")
        if text.startswith("--") and text.endswith("="):
            raise ConfigError(f"The value of {text[:-1]} {advice}")


def main() -> None:
    """Entry point of the installed command."""
    sys.exit(run())
