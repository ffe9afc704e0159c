"""videoswin prepare: smaller copies of the videos of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import counted
from ..file_names import one_line
from .console import progress_bar, report_failures, say
from .options import DataFormat, Delimiter, QuarantineFile, Root

EXAMPLES = (
    "videoswin prepare train.txt --root videos --out prepared",
    "videoswin prepare clips --height 256 --out prepared",
)


def prepare(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A folder of videos, or a list file.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write the copies.")],
    short_side: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Shorter side of the frames.", show_default="256"),
    ] = None,
    height: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Height of the frames instead, as in the authors' copy of Kinetics.",
        ),
    ] = None,
    crf: Annotated[
        int, typer.Option(help="Constant rate factor of x264, 0 (lossless) to 51.")
    ] = 20,
    root: Root = None,
    format: DataFormat = None,
    delimiter: Delimiter = None,
    quarantine: QuarantineFile = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes.", show_default="one per core")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Time limit per video.")
    ] = 3600.0,
) -> int:
    """Copy the videos of a dataset with smaller frames, and rewrite its list.

    Run the same command again to continue after an interruption or to add videos. Unusable videos
    are listed in quarantine.jsonl of the output folder.
    """
    from ..data import prepare as prepare_data

    with progress_bar("preparing") as progress:
        found = prepare_data(
            data,
            out,
            short_side=short_side,
            height=height,
            crf=crf,
            root=root,
            format=format,
            delimiter=delimiter,
            quarantine=quarantine,
            num_workers=workers,
            timeout_seconds=timeout,
            progress=progress,
        )
    for path, reason in found.failed.items():
        say(f"error: {one_line(path)}: {reason}")
    if found.quarantined:
        say(f"{counted(len(found.quarantined), 'video')} of the quarantine list skipped.")
    say(
        f"{counted(found.num_transcoded, 'video')} transcoded, {found.num_copied} small enough and "
        f"copied, {found.num_done_before} done before."
    )
    print(one_line(str(found.data)), flush=True)
    num_tried = found.num_transcoded + found.num_copied + len(found.failed)
    return report_failures(len(found.failed), num_tried)
