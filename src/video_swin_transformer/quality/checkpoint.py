"""`load_quality_model`: checkpoints of FAST-VQA, FasterVQA and DOVER."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, UnknownNameError
from ..weights.checkpoint import describe_conversions, dtype_names, floating_dtypes
from ..weights.key_mapping import NamedTensors
from ..weights.readers import RawCheckpoint, read_weights_file
from ..weights.report import LoadReport, compare, shorten
from .config import QualityConfig
from .model import VideoQualityModel
from .published import QUALITY_MODELS

_DERIVED = (".attn.relative_position_index", ".attn_mask")
_TABLE = ".relative_position_bias_table"
_BRANCH = re.compile(r"([a-z]+)_(?:backbone|head)\.")


@dataclass(frozen=True)
class _QualityFormat:
    """The names of one tool: prefixes of the backbone and of the head."""

    title: str
    backbone: str
    head: str

    def to_own(self, key: str) -> str | None:
        """The name in `VideoQualityModel`, or None if it belongs to neither part."""
        for theirs, ours in ((self.backbone, "backbone."), (self.head, "head.")):
            if key.startswith(theirs):
                return ours + key.removeprefix(theirs)
        return None

    def from_own(self, name: str) -> tuple[str, ...]:
        """The tool's name of a tensor of `VideoQualityModel`."""
        part, _, rest = name.partition(".")
        return ((self.backbone if part == "backbone" else self.head) + rest,)

    def score(self, keys: Sequence[str]) -> int:
        """How well the names of a file fit: 2 for the backbone and 1 for the head."""
        parts = {part for part in (self.backbone, self.head) for k in keys if k.startswith(part)}
        return 2 * (self.backbone in parts) + (self.head in parts)


_FORMATS = (
    _QualityFormat("DOVER, technical branch", "technical_backbone.", "technical_head."),
    _QualityFormat("DOVER in FAST-VQA, fragments branch", "fragments_backbone.", "fragments_head."),
    _QualityFormat("FAST-VQA or FasterVQA", "fragments_backbone.", "vqa_head."),
    _QualityFormat("FAST-VQA, single branch", "backbone.", "vqa_head."),
    _QualityFormat("video-swin-transformer quality model", "backbone.", "head."),
)


def load_quality_model(
    source: str | Path, model: str | QualityConfig
) -> tuple[VideoQualityModel, LoadReport]:
    """Loads a checkpoint of a quality model. Every tensor of the network must be in the file.

    Tensors of other branches, such as the aesthetic branch of DOVER, are left out and listed in
    `ignored_keys` of the report.

    Args:
        source: Path of the file. It is read without running code.
        model: Name of a published model in `QUALITY_MODELS`, or a configuration. The file does not
            say which one it is: models of equal shape differ in sampling and windows.

    Returns:
        The model (float32, eval mode) and the load report.

    Raises:
        CheckpointError: The file cannot be read, is not of a quality model, or a tensor does not
            match.
        UnknownNameError: There is no published model of that name.
    """
    if isinstance(model, str):
        if model not in QUALITY_MODELS:
            raise UnknownNameError("quality model", model, QUALITY_MODELS)
        model = QUALITY_MODELS[model]
    raw = read_weights_file(source)
    key_format = _recognize(raw)
    named = _convert(key_format, raw.tensors)
    with torch.device("meta"):
        network = VideoQualityModel(model)
    report = _report(raw, key_format, named, network)
    if not report.is_complete:
        raise CheckpointError(_mismatch_message(report, raw, key_format, named, model))
    weights = {
        name: tensor.detach().to(torch.float32, copy=True).contiguous()
        for name, tensor in named.tensors.items()
    }
    network.load_state_dict(weights, assign=True)
    return network.eval(), report


def _recognize(raw: RawCheckpoint) -> _QualityFormat:
    """Detects the names. Raises CheckpointError if there is no Swin backbone."""
    path, keys = str(raw.path), list(raw.tensors)
    best = max(_FORMATS, key=lambda one: one.score(keys))
    if best.score(keys) < 2:
        known = ", ".join(sorted({one.backbone for one in _FORMATS}))
        raise CheckpointError(
            f"{path!r} is not a checkpoint of a quality model: its {len(keys)} tensors are named "
            f"{shorten(keys)}. A name must begin with one of {known}. For classifiers use "
            "load_checkpoint."
        )
    if not any(key.startswith(best.backbone) and key.endswith(_TABLE) for key in keys):
        raise CheckpointError(
            f"{path!r} has a backbone ({best.backbone}*) that is not a Swin Transformer, such as "
            "the ConvNeXt of DOVER-Mobile. Only Swin backbones are supported; give a checkpoint of "
            f"{', '.join(QUALITY_MODELS)}."
        )
    return best


def _convert(key_format: _QualityFormat, tensors: Mapping[str, Tensor]) -> NamedTensors:
    """Names of the file -> names of `VideoQualityModel`."""
    named: dict[str, Tensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    derived: list[str] = []
    ignored: list[str] = []
    unexpected: list[str] = []
    for key, tensor in tensors.items():
        name = key_format.to_own(key)
        if name is None:
            (ignored if _BRANCH.match(key) else unexpected).append(key)
        elif name.endswith(_DERIVED):
            derived.append(key)
        else:
            named[name], sources[name] = tensor, (key,)
    return NamedTensors(named, sources, tuple(derived), tuple(ignored), tuple(unexpected), ())


def _report(
    raw: RawCheckpoint, key_format: _QualityFormat, named: NamedTensors, network: VideoQualityModel
) -> LoadReport:
    dtypes = floating_dtypes(str(raw.path), named)
    branches = sorted({match[1] for key in named.ignored if (match := _BRANCH.match(key))})
    report = LoadReport(
        source=str(raw.path),
        format=key_format.title,
        config=network.config.network.backbone,
        dtype=dtype_names(dtypes),
        conversions=describe_conversions(raw, named, dtypes),
        ignored_keys=named.ignored,
        adaptations=tuple(f"the {name} branch is left out" for name in branches),
    )
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    return compare(report, key_format.from_own, named, named.tensors, expected)


def _mismatch_message(
    report: LoadReport,
    raw: RawCheckpoint,
    key_format: _QualityFormat,
    named: NamedTensors,
    config: QualityConfig,
) -> str:
    """Describes the mismatches, and names published models that do match."""
    text = (
        f"{report.source!r} ({report.format}) does not match the quality model {config.name!r}: "
        f"matched {report.matched_tensors} of {report.num_tensors} tensors; "
        f"{'; '.join(report.problems())}."
    )
    with torch.device("meta"):
        published = {name: VideoQualityModel(other) for name, other in QUALITY_MODELS.items()}
    fitting = [
        name
        for name, network in published.items()
        if _report(raw, key_format, named, network).is_complete
    ]
    return f"{text} The file matches: {', '.join(fitting)}." if fitting else text
