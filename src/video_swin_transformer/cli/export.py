"""videoswin export: convert a model for other runtimes and verify its outputs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from .console import expand_inputs, log_to_stderr
from .options import Verbose

EXAMPLES = (
    "videoswin export camera-motion --format onnx --out model.onnx",
    "videoswin export swin-t-k400 --format openvino --precision int8 --calibrate clips --out t.xml",
)


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name, a model folder or a weights file.")
    ],
    format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="onnx, openvino or torch.")
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="File to write: .onnx, .xml (plus .bin) or .pt2."),
    ],
    precision: Annotated[
        str, typer.Option(metavar="TYPE", help="f32, or int8 with --format openvino.")
    ] = "f32",
    calibrate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLIPS",
            help="Videos, folders or patterns for int8 calibration. Repeatable.",
        ),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLIPS",
            help="Videos for verifying the export. Repeatable.",
            show_default="the --calibrate videos, else a synthetic one",
        ),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0,
            help="Largest relative error allowed.",
            show_default="1e-4 for f32, 0.1 for int8",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    verbose: Verbose = False,
) -> int:
    """Export a model to ONNX, OpenVINO IR or torch.export, and verify its outputs."""
    from ..exporting import check_arguments, export, exported_files

    check_arguments(out, format, precision, calibrate or ())
    for file in exported_files(out) if not force else ():
        if file.exists():
            raise ConfigError(
                f"{str(file)!r} already exists; add --force to replace it, or give another path."
            )
    with log_to_stderr(level=logging.DEBUG if verbose else logging.INFO):
        report = export(
            model,
            out,
            format,
            precision,
            calibrate=expand_inputs(calibrate or ()),
            check=expand_inputs(check or ()),
            max_error=max_error,
        )
    print(f"{report.path}  {format}, {precision}, {report.num_bytes / 1e6:.1f} MB")
    for comparison in report.verification["comparisons"]:
        print(
            f"  {comparison['num_views']} {comparison['views']} views: relative error of logits "
            f"{comparison['logits_max_relative_error']:.1e}, of features "
            f"{comparison['features_max_relative_error']:.1e}, same top-1 class "
            f"{comparison['top1_agreement']:.1%}"
        )
    return 0
