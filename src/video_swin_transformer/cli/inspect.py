"""videoswin inspect: describes a checkpoint, and whether it can be loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import print_json
from .options import StateDictKey

if TYPE_CHECKING:
    from ..weights.inspection import Inspection

_MAX_SHOWN = 200  # characters of one metadata value


EXAMPLES = (
    "videoswin inspect checkpoint.pth",
    "videoswin inspect swin-t-k400 --json",
)


def inspect(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A weights file, a model folder or a name.")
    ],
    state_dict_key: StateDictKey = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Print the format, architecture, size and metadata of weights, and keys that do not match."""
    from ..weights.inspection import inspect_checkpoint

    inspection = inspect_checkpoint(file, state_dict_key)
    if json:
        print_json(_as_dict(inspection))
    else:
        _print_table(inspection)
    return 0 if inspection.is_loadable else 1


def _as_dict(inspection: Inspection) -> dict[str, Any]:
    report, config = inspection.report, inspection.config
    return {
        "file": report.source,
        "container": inspection.kind,
        "format": inspection.format_name,
        "architecture": report.architecture,
        "classes": config.num_classes,
        "in_chans": config.in_chans,
        "dtype": report.dtype,
        "bytes": inspection.num_bytes,
        "loads": inspection.is_loadable,
        "is_image": inspection.is_image,
        "tensors": report.num_tensors,
        "parameters": report.num_params,
        "matched_tensors": report.matched_tensors,
        "matched_parameters": report.matched_params,
        "missing_keys": list(report.missing_keys),
        "unexpected_keys": list(report.unexpected_keys),
        "mismatched_keys": [
            {"name": m.name, "shape": list(m.shape), "expected_shape": list(m.expected_shape)}
            for m in report.mismatched_keys
        ],
        "nonfinite_keys": list(inspection.nonfinite_keys),
        "ignored": list(report.ignored_keys),
        "converted": list(report.conversions),
        "metadata": {
            key: _short(value) if isinstance(value, str) else value
            for key, value in inspection.metadata.items()
        },
    }


def _print_table(inspection: Inspection) -> None:
    report, config = inspection.report, inspection.config
    share = f"{report.matched_tensors} of {report.num_tensors} tensors, " + (
        f"{report.matched_params:,} of {report.num_params:,} parameters"
    )
    kind = "image weights, to be inflated: --allow inflate" if inspection.is_image else "video"
    rows = [
        ("file", f"{report.source}  ({inspection.num_bytes / 1e6:.1f} MB, {inspection.kind})"),
        ("format", f"{report.format}  [{inspection.format_name}]"),
        ("architecture", report.architecture),
        ("modality", kind),
        ("classes", str(config.num_classes) if config.num_classes else "no classifier"),
        ("channels", str(config.in_chans)),
        ("dtype", report.dtype),
        ("matched", share),
        *(("problem", problem) for problem in report.problems()),
        *_nonfinite_rows(inspection),
        *(("converted", text) for text in report.conversions),
        *(("ignored", name) for name in report.ignored_keys[:3]),
        *((f"meta {key}", _short(value)) for key, value in inspection.metadata.items()),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def _nonfinite_rows(inspection: Inspection) -> list[tuple[str, str]]:
    from ..weights.report import shorten

    names = inspection.nonfinite_keys
    if not names:
        return []
    return [("problem", f"{len(names)} with NaN or infinite values: {shorten(names)}")]


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
