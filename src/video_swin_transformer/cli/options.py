"""Arguments and options that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Videos: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="VIDEO...",
        help="Video files, folders of videos or of frames, or patterns such as 'clips/*.mp4'.",
        show_default=False,
    ),
]
Model: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="A name from `videoswin models`, a saved folder, a file of weights or an exported "
        "model. [default: camera-motion]",
    ),
]
ConfigFile: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="CFG", help="Config file of the official code or mmaction2, with --checkpoint."
    ),
]
CheckpointFile: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="PTH", help="Weights for --config; together they replace --model."),
]
Views: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="KxC",
        help="Clips x crops looked at, such as 4x3; 4xfull takes the whole frame in one pass. "
        "[default: as the model's card]",
    ),
]
RuntimeName: TypeAlias = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="ENGINE",
        help="Engine: auto (the fastest installed), torch, openvino, onnxruntime or torch-compile.",
    ),
]
Precision: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="TYPE",
        help="f32 or bf16; bf16 is faster and rounds. int8 is for models exported in it.",
    ),
]
Device: TypeAlias = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
]
Threads: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Threads of the engine. [default: as the engine thinks best]"
    ),
]
Verbose: TypeAlias = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say what was chosen and how long each stage took.")
]
Root: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="What the paths of a list are relative to. [default: its folder]"
    ),
]
DataFormat: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="KIND",
        help="folder, list, frames, multilabel, kinetics, sthv2 or mmaction. [default: recognized]",
    ),
]
Delimiter: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Between path and label of a list. [default: blanks]"),
]
QuarantineFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="List of clips found unusable. [default: beside a list, inside a folder]",
    ),
]
