"""videoswin replay: repeats results from their receipts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError, VideoSwinError
from ..file_names import one_line, path_to_text
from .console import print_json, report_failures, say

EXAMPLES = (
    "videoswin classify clip.mp4 --receipt receipt.json && videoswin replay receipt.json",
    "videoswin replay receipt.json --source elsewhere/clip.mp4",
)


def replay(
    receipts: Annotated[
        list[Path],
        typer.Argument(metavar="RECEIPT", help="Files that --receipt wrote.", show_default=False),
    ],
    source: Annotated[
        str | None,
        typer.Option(metavar="VIDEO", help="The video, if it is not where it was."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="The weights, if they are not where they were."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per receipt, one per line.")
    ] = False,
) -> int:
    """Repeat results from their receipts on the CPU; exit code 1 unless all are bit-equal."""
    from ..receipt import read_receipts
    from ..replaying import replay as repeat

    found = [one for path in receipts for one in read_receipts(path)]
    if source is not None and len(found) > 1:
        raise ConfigError(
            f"--source names one video, but there are {len(found)} receipts; give one receipt."
        )
    num_failed = 0
    for receipt in found:
        try:
            result = repeat(receipt, source=source, model=model)
        except VideoSwinError as error:
            say(f"error: {error}")
            num_failed += 1
            continue
        num_failed += not result.is_equal
        if json:
            print_json(
                {
                    "input": path_to_text(receipt.source),
                    "kind": receipt.kind,
                    "is_equal": result.is_equal,
                    "max_difference": result.max_difference,
                    "changes": list(result.changes),
                }
            )
        else:
            print(one_line(result.summary()), flush=True)
    return report_failures(num_failed, len(found))
