"""Arguments and options that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from ..errors import ConfigError

Videos: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="VIDEO",
        help="Video files, folders of videos or frames, or glob patterns such as 'clips/*.mp4'.",
        show_default=False,
    ),
]
Model: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH",
        help="A name from `videoswin models`, a model folder, a weights file or an exported model.",
        show_default="camera-motion",
    ),
]
ConfigFile: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Config from the official repository or mmaction2; use with --checkpoint.",
    ),
]
CheckpointFile: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Weights for --config; the two replace --model."),
]
Views: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="KxC",
        help="Clips x crops per video, such as 4x3; 4xfull uses the whole frame in one pass. ",
        show_default="the model's",
    ),
]
RuntimeName: TypeAlias = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="auto (the fastest installed), torch, openvino, onnxruntime or torch-compile.",
    ),
]
Precision: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="TYPE",
        help="f32, or bf16, which is faster and slightly less precise. int8 requires a model "
        "exported in int8.",
    ),
]
Device: TypeAlias = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
]
Threads: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Number of CPU threads.", show_default="the runtime's default"
    ),
]
AllowTruncated: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-truncated",
        help="Read videos whose end is missing as far as they go, with a warning.",
    ),
]
Verbose: TypeAlias = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show the selected settings and the time per stage.")
]
Root: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder that paths in a list are relative to.",
        show_default="the list's folder",
    ),
]
DataFormat: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="KIND",
        help="folder, list, frames, multilabel, kinetics, sthv2, mmaction, json, activitynet, "
        "labelstudio or fiftyone.",
        show_default="detected",
    ),
]
Background: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="WHAT",
        help="For lists of segments: ignore what is outside of them, or make it a class.",
    ),
]
AnnotationFps: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="FPS",
        min=0.001,
        help="Frame rate of a Label Studio project.",
        show_default="as in its tasks",
    ),
]
StateDictKey: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Key of the state dict in the file, such as state_dict_ema.",
        show_default="the first of the usual ones",
    ),
]
Delimiter: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Separator between path and label in a list.",
        show_default="as in the heading, or whitespace",
    ),
]
Force: TypeAlias = Annotated[
    bool, typer.Option("--force", help="Replace an existing file, whatever it is.")
]
QuarantineFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File that lists unusable clips, which later runs skip.",
        show_default="next to a list, inside a folder",
    ),
]
ReceiptFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Also write which frames, crops, weights and libraries each result came from, as JSON "
        "Lines; `videoswin replay` repeats them.",
    ),
]
JsonLines: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object per video, one per line.")
]
Window: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", help="Frames per window.", show_default="the model's"),
]
WindowStride: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", help="Step between frames of a window.", show_default="the model's"),
]
HopFrames: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help="Frames between the starts of windows.")
]
HopSeconds: TypeAlias = Annotated[
    float | None, typer.Option(metavar="S", help="Seconds between the starts of windows.")
]
ResampleFps: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="RATE", help="Resample to this constant frame rate; for frame folders, their rate."
    ),
]
NumCrops: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="1, 3, 5, 10 or full (the whole frame).", show_default="the model's"
    ),
]


def parse_crops(text: str | None) -> int | Literal["full"] | None:
    """Parses the value of --num-crops."""
    if text is None:
        return None
    if text == "full":
        return "full"
    if not text.isdecimal():
        raise ConfigError(f"--num-crops is {text!r}, but must be 1, 3, 5, 10 or full.")
    return int(text)
