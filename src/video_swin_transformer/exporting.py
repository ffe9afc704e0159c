"""Exports models to ONNX, OpenVINO IR or a torch.export program, with a JSON sidecar.

Before any file is written to its final path, the exported model is compared with the eager model
on views of videos and on random inputs. See `verification.py` for the error bounds and
`exporters/sidecar.py` for reading an export back.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .config import EXPORT_FORMATS, ClipShape
from .errors import ConfigError, ExportError, UnknownNameError
from .exporters.sidecar import model_files, sidecar_path, sidecar_text
from .file_names import plain_text
from .files import check_folder, errors_naming, sha256_file, temporary_folder
from .postprocess import Floats, ViewOutputs
from .predictor import Predictor
from .runtimes import Runtime, open_runtime
from .runtimes.lazy_model import LazyModel
from .verification import MAX_EXPORT_ERROR, RANDOM, random_views, synthetic_video, verify
from .weights import resolve_model

__all__ = ["FORMAT_SUFFIXES", "ExportResult", "export"]

FORMAT_SUFFIXES = {name: suffix for suffix, name in EXPORT_FORMATS.items()}
_PRECISIONS = {"onnx": ("f32",), "openvino": ("f32", "int8"), "torch": ("f32",)}
# The runtime used for verification.
_VERIFYING_RUNTIMES = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "torch": "torch",
}
_LIBRARIES = {
    "onnx": ("torch", "onnx", "onnxscript"),
    "openvino": ("torch", "openvino"),
    "torch": ("torch",),
}


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportResult:
    """An exported model and its verification.

    Attributes:
        path: The main file.
        num_bytes: Size of all files, including the sidecar.
        clip_shape: Shape of one view, (C, T, H, W).
        verification: The runtime used and the errors measured, as JSON data.
    """

    path: Path
    num_bytes: int
    clip_shape: ClipShape
    verification: dict[str, Any]


def export(
    source: str | Path,
    out: str | Path,
    format: str,
    precision: str = "f32",
    *,
    calibrate: Sequence[str | Path] = (),
    check: Sequence[str | Path] = (),
    max_error: float | None = None,
) -> ExportResult:
    """Exports a model for another runtime and verifies its outputs against the eager model.

    Progress is logged at DEBUG level.

    Args:
        source: A model name, a model folder or a weights file.
        out: The file to write: .onnx, .xml or .pt2. Existing files are replaced.
        format: "onnx", "openvino" or "torch".
        precision: "f32", or "int8" for OpenVINO (requires `calibrate`).
        calibrate: Videos to calibrate the int8 quantization ranges on.
        check: Videos to verify the export on. Empty: those of `calibrate`, else a synthetic one.
        max_error: Largest relative error allowed. None: `verification.MAX_EXPORT_ERROR`.

    Returns:
        The written file and the measured errors.

    Raises:
        ConfigError: The arguments contradict each other.
        UnknownNameError: Unknown format or model name.
        ExportError: The exported model differs too much from the original; nothing is written.
        MissingExtraError: A library needed for the format is not installed.
        VideoDecodeError: A video cannot be read.
    """
    out = Path(out)
    check_arguments(out, format, precision, calibrate)
    check_folder(out.parent)
    bound = MAX_EXPORT_ERROR[precision] if max_error is None else max_error
    network = LazyModel(resolve_model(source))
    model = network.build()
    shape = network.bundle.clip_shape
    from .exporters.tracing import trace
    from .runtimes.torch_runtime import TorchRuntime

    eager = TorchRuntime(model, network.bundle, "f32", "cpu")
    _log.debug("reading videos")
    predictor = Predictor(eager, str(source))
    calibration_views = [predictor.views(video) for video in calibrate]
    verification_views = [predictor.views(video) for video in check] or calibration_views
    if not verification_views:
        verification_views = [
            predictor.views(synthetic_video(2 * network.bundle.sampling.num_frames))
        ]
    _log.debug("running the original model")
    inputs = {"video": np.concatenate(verification_views), RANDOM: random_views(shape)}
    cases = {name: (views, eager.run(views)) for name, views in inputs.items()}
    _log.debug("tracing")
    program = trace(model, shape)
    with errors_naming(out), temporary_folder(out.parent) as folder:
        draft = folder / out.name
        _log.debug("writing %s, %s", format, precision)
        if format == "openvino":
            views = np.concatenate(calibration_views) if calibration_views else None
            _write_openvino(program, draft, views, eager, bound)
        else:
            _write_program(program, draft, format)
        export: dict[str, Any] = {
            "format": format,
            "precision": precision,
            "clip_shape": list(shape),
            "sha256": {file.name: sha256_file(file) for file in model_files(draft)},
            "made_with": {name: version(name) for name in _libraries(format, precision)},
        }
        sidecar = sidecar_path(draft)
        sidecar.write_text(sidecar_text(network.bundle, export), "utf-8")
        _log.debug("verifying")
        try:
            export["verification"] = _verify(draft, format, precision, cases, bound)
        except ExportError:
            if format != "openvino":
                raise
            export["fused_attention"] = False  # OpenVINO computes some of its shapes incorrectly
            sidecar.write_text(sidecar_text(network.bundle, export), "utf-8")
            export["verification"] = _verify(draft, format, precision, cases, bound)
        sidecar.write_text(sidecar_text(network.bundle, export), "utf-8")
        # The sidecar goes last: without it, the other files are not recognized as a model.
        files = [*reversed(model_files(draft)), sidecar]
        num_bytes = sum(file.stat().st_size for file in files)
        for file in files:
            file.replace(out.parent / file.name)
    return ExportResult(out, num_bytes, shape, export["verification"])


def _verify(
    draft: Path,
    format: str,
    precision: str,
    cases: dict[str, tuple[Floats, ViewOutputs]],
    bound: float,
) -> dict[str, Any]:
    exported = open_runtime(draft, _VERIFYING_RUNTIMES[format], precision, "cpu")
    return {"runtime": exported.description, **verify(exported.run, precision, cases, bound)}


def exported_files(out: Path) -> list[Path]:
    """Returns all files that an export writes.

    Args:
        out: The main file.
    """
    return [*model_files(out), sidecar_path(out)]


def check_arguments(out: Path, format: str, precision: str, calibrate: Sequence[object]) -> None:
    """Raises ConfigError or UnknownNameError for arguments that cannot be exported."""
    if format not in FORMAT_SUFFIXES:
        raise UnknownNameError("format", format, FORMAT_SUFFIXES)
    if out.suffix != FORMAT_SUFFIXES[format]:
        raise ConfigError(
            f"out is {str(out)!r}, but a file of the format {format} must be named "
            f"{out.with_suffix(FORMAT_SUFFIXES[format]).name!r}."
        )
    if plain_text(str(out)) != str(out):
        raise ConfigError(
            f"out is {str(out)!r}, which has bytes that are not UTF-8; exported models are read by "
            "libraries that need UTF-8, so choose another name."
        )
    if out.is_dir():
        raise ConfigError(f"out {str(out)!r} is a folder; give the path of the file to write.")
    if precision not in _PRECISIONS[format]:
        others = [name for name, supported in _PRECISIONS.items() if precision in supported]
        instead = f"; {precision} requires --format {' or '.join(others)}" if others else ""
        if precision == "bf16":
            instead = "; bf16 is selected at run time: export f32 and run it with --precision bf16"
        raise ConfigError(
            f"precision is {precision!r}, but format {format} supports only "
            f"{' and '.join(_PRECISIONS[format])}{instead}."
        )
    if (precision == "int8") != bool(calibrate):
        raise ConfigError(
            "precision int8 and calibration videos require each other: give --precision int8 "
            "--calibrate CLIPS, with a dozen or more videos like those the model will run on."
        )


def _libraries(format: str, precision: str) -> tuple[str, ...]:
    return _LIBRARIES[format] + (("nncf",) if precision == "int8" else ())


def _write_program(program: Any, path: Path, format: str) -> None:
    from .exporters.exported_program import save_program
    from .exporters.onnx_model import onnx_bytes

    path.write_bytes(onnx_bytes(program) if format == "onnx" else save_program(program))


def _write_openvino(
    program: Any, path: Path, calibration_views: Floats | None, eager: Runtime, bound: float
) -> None:
    """Writes OpenVINO IR, quantized to int8 if there are views to calibrate on."""
    from .exporters.openvino_model import import_openvino, openvino_graph
    from .exporters.quantization import quantize

    graph = openvino_graph(program)
    if calibration_views is not None:
        expected: ViewOutputs = eager.run(calibration_views)
        graph.reshape([1, *calibration_views.shape[1:]])
        graph = quantize(graph, calibration_views, expected, bound)
        graph.reshape([-1, *calibration_views.shape[1:]])
    try:
        import_openvino().save_model(graph, path, compress_to_fp16=False)
    except RuntimeError as error:  # "iostream error" is all that it says about a full disk
        raise OSError(errno.EIO, f"OpenVINO cannot write it ({error})", str(path)) from error
