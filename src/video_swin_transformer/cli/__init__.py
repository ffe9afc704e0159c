"""The command `videoswin`: one thin module a command, and what all of them share.

Exit codes: 0 done, 1 some input could not be used, 2 the command was used wrongly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from ..errors import ConfigError, UnknownNameError, VideoSwinError
from .bench import bench
from .check_data import check_data
from .classify import classify
from .convert import convert
from .download import download
from .evaluate import evaluate
from .export import export
from .features import features
from .inspect import inspect
from .models import models
from .train import train

app = typer.Typer(
    name="videoswin",
    help="Video Swin Transformer: labels and features of your own videos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        from importlib.metadata import version as installed_version

        print(installed_version("video-swin-transformer"))
        raise typer.Exit


for _command in (
    classify,
    features,
    evaluate,
    train,
    check_data,
    models,
    download,
    inspect,
    convert,
    export,
    bench,
):
    app.command()(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code; nothing a user can cause is a traceback."""
    try:
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except VideoSwinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, (ConfigError, UnknownNameError)) else 1
    except BrokenPipeError:
        # The reader of our output has gone (`videoswin ... | head`): stop without a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {error.filename or 'A file'}: {error.strerror or error}.", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        print("Stopped.", file=sys.stderr)
        return 130
    except Exception as error:
        # Typer brings its own copy of click or uses the installed one, depending on its version;
        # what its usage errors have in common is this method.
        if not hasattr(error, "format_message"):
            raise
        if message := error.format_message():  # empty where help was printed instead
            print(f"error: {message}", file=sys.stderr)
        return 2
    return int(code or 0)


def main() -> None:
    """Entry point of the installed command."""
    sys.exit(run())
