"""`load_checkpoint`: loads third-party Swin checkpoints and reports how the tensors matched.

`load_backbone` does the same for an existing backbone.

    resolve_model (path) -> read_weights_file (tensors) -> recognize_format, convert (names)
    -> infer_config (architecture) -> adapt (allowed differences) -> report -> model

Partial loads are rejected. If a tensor does not match, the error lists the affected keys and, if
there is one, the `allow` value that accepts the difference.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config import BundleConfig, ModelConfig
from ..errors import CheckpointError, ImageWeightsError, UnknownNameError
from ..model import SwinTransformer3D, VideoSwinTransformer
from ..registry import ModelCard, find_card
from ..saving import require_finite
from .adapt import AdaptedTensors, adapt
from .download import load_card_labels
from .infer_config import bundle_with_model, describe_config, find_architecture_card, infer_config
from .key_mapping import FORMATS, OFFICIAL, OWN, KeyFormat, NamedTensors, convert, recognize_format
from .readers import RawCheckpoint, read_weights_file
from .report import ALLOWED_DIFFERENCES, LoadReport, compare, shorten
from .resolve import ResolvedModel, resolve_model

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint with its tensors under official names, before they are loaded into a model."""

    raw: RawCheckpoint
    key_format: KeyFormat
    named: NamedTensors
    dtypes: tuple[torch.dtype, ...]  # most frequent first

    @property
    def is_image(self) -> bool:
        """Whether these are weights of an image (2D) model."""
        return self.key_format.num_axes == 2

    def file_config(self) -> ModelConfig:
        """Returns the stored model configuration, or infers it.

        For image weights, it is that of the inflated video model.

        Raises:
            CheckpointError: Neither a config nor the tensor shapes determine it.
        """
        if self.raw.bundle is not None:
            return self.raw.bundle.model
        shapes = [self.raw.tensors[key].shape for key in self.named.derived]
        index_sizes = {s[0] for s in shapes if len(s) == 2 and s[0] == s[1]}
        return infer_config(self.named.tensors, index_sizes, self.is_image)

    def adapted_to(self, target: ModelConfig, allow: frozenset[str]) -> AdaptedTensors:
        """Applies the allowed adaptations to the tensors; see `adapt.adapt`."""
        if not allow:
            return AdaptedTensors(self.named.tensors)
        try:
            file_config = self.file_config()
        except CheckpointError:
            file_config = None
        return adapt(self.named.tensors, file_config, target, self.is_image, allow)

    def report(self, target: ModelConfig, adapted: AdaptedTensors) -> LoadReport:
        """Compares the tensors of the checkpoint with those of the model."""
        with torch.device("meta"):
            network = VideoSwinTransformer(target)
        expected = {
            name: tensor.shape
            for name, tensor in network.state_dict().items()
            if not (adapted.has_new_head and name.startswith("cls_head."))
        }
        report = LoadReport(
            source=str(self.raw.path),
            format=self.key_format.title,
            config=target,
            dtype=dtype_names(self.dtypes),
            conversions=describe_conversions(self.raw, self.named, self.dtypes)
            + adapted.conversions,
            ignored_keys=(*self.named.ignored, *self.raw.dropped),
            adaptations=adapted.adaptations,
        )
        return compare(report, self.key_format.from_official, self.named, adapted.tensors, expected)


def load_checkpoint(
    source: str | Path | ResolvedModel,
    *,
    architecture: str | ModelConfig | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    allow: Iterable[str] = (),
    state_dict_key: str | None = None,
) -> tuple[VideoSwinTransformer, LoadReport]:
    """Loads a checkpoint into a matching model.

    Supported are checkpoints of the official code, mmaction2, torchvision and this package, and
    image Swin weights from Microsoft, timm, torchvision and transformers.

    Args:
        source: A path or a name from `list_models`. An existing path takes precedence.
        architecture: The architecture; None infers it from the tensors. With the name of an
            architecture, the numbers of classes and channels are those of the checkpoint; a
            `ModelConfig` is used as it is.
        num_classes: Number of classes if it differs from the checkpoint; requires
            `allow={"head"}`.
        in_chans: Number of input channels if it differs from the checkpoint; requires
            `allow={"in_chans"}`.
        allow: Differences to accept: "head" (new classifier), "in_chans" (channels summed or
            repeated), "patch_time" (patch weights summed over time for patches of one frame),
            "window" (bias tables interpolated) and "inflate" (image weights inflated to video
            weights; the image classifier is kept unless "head" and `num_classes` replace it).
        state_dict_key: Key of the state dict in the file, such as "state_dict_ema"; None for the
            first of the usual ones, raw weights before averaged ones.

    Returns:
        The model (float32, eval mode) and the load report.

    Raises:
        CheckpointError: The file cannot be read, or a tensor does not match.
        UnknownNameError: `source`, `architecture` or `allow` contains an unknown name.
    """
    allowed = _validate_allow(allow)
    resolved = resolve_model(source)
    checkpoint = open_checkpoint(resolved.path, state_dict_key)
    target = _target(checkpoint, architecture, resolved.card, num_classes, in_chans)
    if checkpoint.is_image and "inflate" not in allowed:
        raise ImageWeightsError(
            f"{str(resolved.path)!r} contains image weights ({checkpoint.key_format.title}), not "
            'video weights. To inflate them to video weights, pass allow={"inflate"}.'
        )
    adapted, report = _adapt_and_report(checkpoint, target.model, allowed)
    with torch.device("meta"):
        model = VideoSwinTransformer(target)
    weights = {
        name: tensor.detach().to(torch.float32, copy=True).contiguous()
        for name, tensor in adapted.tensors.items()
    }
    require_finite(weights, resolved.path)
    # The report is complete, so only a new head, which is initialized below, may be missing.
    model.load_state_dict(weights, strict=not adapted.has_new_head, assign=True)
    if adapted.has_new_head:
        model.reset_classifier(target.model.num_classes, labels=target.labels)
    return model.eval(), report


def load_backbone(
    backbone: SwinTransformer3D,
    source: str | Path,
    *,
    is_image: bool,
    allow: Iterable[str] = (),
) -> LoadReport:
    """Loads a checkpoint into an existing backbone. The classifier is dropped.

    Args:
        backbone: The backbone to load into.
        source: A path or a name from `list_models`.
        is_image: True if the checkpoint must contain image weights, which are inflated; False if
            it must contain video weights.
        allow: Further differences to accept; see `load_checkpoint`.

    Returns:
        The load report.

    Raises:
        CheckpointError: The file cannot be read, contains weights of the other kind, or a tensor
            does not match.
        UnknownNameError: `source` or `allow` contains an unknown name.
    """
    allowed = _validate_allow(allow) | {"head"} | ({"inflate"} if is_image else set())
    checkpoint = open_checkpoint(resolve_model(source).path)
    if checkpoint.is_image != is_image:
        found, use = ("image", "True") if checkpoint.is_image else ("video", "False")
        raise CheckpointError(
            f"{str(source)!r} contains {found} weights ({checkpoint.key_format.title}), but "
            f"pretrained2d is {is_image}; pass pretrained2d={use}."
        )
    target = dataclasses.replace(backbone.config, num_classes=0)
    adapted, report = _adapt_and_report(checkpoint, target, allowed)
    weights = {
        name.removeprefix("backbone."): tensor.detach().to(torch.float32)
        for name, tensor in adapted.tensors.items()
    }
    require_finite(weights, source)
    final, new_norms = backbone.norm_names()
    if final is None:  # the last stage is not an output and has no norm
        weights = {name: t for name, t in weights.items() if not name.startswith("norm.")}
    # The report is complete, so only new norms, which no published file has, may be missing.
    backbone.load_state_dict(weights, strict=not new_norms)
    if new_norms:
        note = f"new norms of other stages: {', '.join(new_norms)}"
        report = dataclasses.replace(report, adaptations=(*report.adaptations, note))
    return report


def _adapt_and_report(
    checkpoint: Checkpoint, target: ModelConfig, allowed: frozenset[str]
) -> tuple[AdaptedTensors, LoadReport]:
    """Adapts the tensors to `target`. Raises CheckpointError if the load report is incomplete."""
    stored = checkpoint.raw.bundle
    if stored is not None and stored.model.patch_stride != target.patch_stride:
        stride = stored.model.patch_stride
        raise CheckpointError(
            f"{str(checkpoint.raw.path)!r} was saved with patch_stride {stride}, not "
            f"{target.patch_stride}: the shapes match, but the number of time steps would "
            f"differ. Build the model with patch_stride={stride}."
        )
    adapted = checkpoint.adapted_to(target, allowed)
    report = checkpoint.report(target, adapted)
    if not report.is_complete:
        raise CheckpointError(_mismatch_message(checkpoint, report, target, allowed))
    return adapted, report


def open_checkpoint(path: Path, state_dict_key: str | None = None) -> Checkpoint:
    """Reads a checkpoint file or folder and detects its format. Raises CheckpointError."""
    raw = read_weights_file(path, state_dict_key)
    name = str(raw.path)
    key_format = recognize_format(raw.tensors)
    if key_format is None:
        known = "; ".join(one.title for one in FORMATS)
        raise CheckpointError(
            f"{name!r} is not in a supported format: its {len(raw.tensors)} tensors are named "
            f"{shorten(list(raw.tensors))}. Supported formats: {known}."
        )
    if key_format is OFFICIAL and raw.kind == "safetensors" and raw.bundle is not None:
        key_format = OWN
    named = convert(key_format, raw.tensors)
    return Checkpoint(raw, key_format, named, floating_dtypes(name, named))


def describe_conversions(
    raw: RawCheckpoint, named: NamedTensors, dtypes: tuple[torch.dtype, ...]
) -> tuple[str, ...]:
    """Returns what was done to the names and values of a file, for the load report."""
    done: list[str] = []
    if raw.unwrapped:
        done.append(f"taken out of {' > '.join(raw.unwrapped)}")
    if raw.other_state_dicts:
        others = ", ".join(raw.other_state_dicts)
        done.append(f"the file also contains {others}")
    if renamed := sum(keys != (name,) for name, keys in named.sources.items()):
        done.append(f"{renamed} tensors renamed")
    if joined := sum(len(keys) > 1 for keys in named.sources.values()):
        done.append(f"query, key and value joined in {joined} tensors")
    if named.derived:
        done.append(f"{len(named.derived)} derived buffers dropped")
    if dtypes != (torch.float32,):
        done.append(f"{dtype_names(dtypes)} to float32")
    return tuple(done)


def floating_dtypes(path: str, named: NamedTensors) -> tuple[torch.dtype, ...]:
    """Returns the dtypes of the weights, most frequent first. Raises CheckpointError for others."""
    counted = Counter(tensor.dtype for tensor in named.tensors.values())
    if not counted:
        raise CheckpointError(
            f"{path!r} contains no tensor of a Swin model; give a checkpoint of a Swin model."
        )
    odd = [
        f"{' + '.join(named.sources[name])} ({dtype_names([tensor.dtype])})"
        for name, tensor in named.tensors.items()
        if tensor.dtype not in _FLOATS
    ]
    if odd:
        raise CheckpointError(
            f"{path!r} has weights that are not floating-point numbers: {shorten(odd)}. The dtype "
            "must be float32, float16, bfloat16 or float64; call model.float() and save them again."
        )
    return tuple(dtype for dtype, _ in counted.most_common())


def dtype_names(dtypes: Iterable[torch.dtype]) -> str:
    return " and ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def _validate_allow(allow: Iterable[str]) -> frozenset[str]:
    names = frozenset([allow] if isinstance(allow, str) else allow)
    for name in sorted(names - ALLOWED_DIFFERENCES.keys()):
        raise UnknownNameError("difference in allow", name, ALLOWED_DIFFERENCES)
    return names


def _target(
    checkpoint: Checkpoint,
    architecture: str | ModelConfig | None,
    card: ModelCard | None,
    num_classes: int | None,
    in_chans: int | None,
) -> BundleConfig:
    """Returns the target model with its sampling, preprocessing and labels."""
    base = checkpoint.raw.bundle
    if card is not None:
        base = dataclasses.replace(card.bundle, labels=card.bundle.labels or load_card_labels(card))
    if isinstance(architecture, ModelConfig):
        config, base = architecture, base or _architecture_bundle(architecture)
    elif architecture is not None:
        named = find_card(architecture)
        config, base = named.bundle.model, base or named.bundle
        if named.kind == "architecture":
            config = _with_file_channels_and_classes(config, checkpoint)
    elif base is not None:
        config = base.model
    else:
        try:
            config = checkpoint.file_config()
        except CheckpointError as error:
            path = str(checkpoint.raw.path)
            raise CheckpointError(
                f"The architecture of {path!r} cannot be inferred. {error}"
            ) from error
        base = _architecture_bundle(config)
    if num_classes is not None:
        config = dataclasses.replace(config, num_classes=num_classes)
    if in_chans is not None:
        config = dataclasses.replace(config, in_chans=in_chans)
    if base is not None and base.model == config:
        return base
    return bundle_with_model(config, base)


def _architecture_bundle(config: ModelConfig) -> BundleConfig | None:
    card = find_architecture_card(config)
    return None if card is None else card.bundle


def _with_file_channels_and_classes(config: ModelConfig, checkpoint: Checkpoint) -> ModelConfig:
    """Returns `config` with the channels and classes of the checkpoint, if they can be inferred."""
    try:
        found = checkpoint.file_config()
    except CheckpointError:
        return config
    return dataclasses.replace(config, in_chans=found.in_chans, num_classes=found.num_classes)


def _mismatch_message(
    checkpoint: Checkpoint, report: LoadReport, target: ModelConfig, allowed: frozenset[str]
) -> str:
    """Describes the mismatches, the inferred architecture, and `allow` values that would help."""
    lines = [
        f"{report.source!r} ({report.format}) does not match {report.architecture} with "
        f"{target.num_classes} classes: matched {report.matched_tensors} of {report.num_tensors} "
        f"tensors; {'; '.join(report.problems())}."
    ]
    try:
        found = checkpoint.file_config()
    except CheckpointError:
        return lines[0]
    if describe_config(found) != report.architecture:
        lines.append(
            f"The file looks like {describe_config(found)} with {found.num_classes} classes."
        )
    differences = {
        "head": found.num_classes != target.num_classes,
        "in_chans": found.in_chans != target.in_chans,
        "patch_time": found.patch_size[0] > target.patch_size[0] == 1,
        "window": found.window_size != target.window_size and not checkpoint.is_image,
    }
    for name, differs in differences.items():
        if differs and name not in allowed:
            effect = ALLOWED_DIFFERENCES[name]
            lines.append(f'To accept the difference, pass allow={{"{name}"}}: {effect}.')
    return " ".join(lines)
