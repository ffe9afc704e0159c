"""`load_checkpoint`: a third-party file of Swin weights -> our network and a load report.

`load_backbone` does the same for a backbone that exists already.

    resolve_model (path) -> read_weights_file (tensors) -> recognize_format, convert (names)
    -> infer_config (architecture) -> adapt (differences the caller allows) -> report -> network

Partial loads are rejected: a file that does not match the network is refused, and the message
names the tensors and, where there is one, the `allow` value that would accept the difference.
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
from .adapt import AdaptedTensors, adapt
from .download import labels_of
from .infer_config import bundle_for, card_of, describe_config, infer_config
from .key_mapping import FORMATS, OFFICIAL, OWN, KeyFormat, NamedTensors, convert, recognize_format
from .readers import RawCheckpoint, read_weights_file
from .report import ALLOWED_DIFFERENCES, LoadReport, compare, shorten
from .resolve import ResolvedModel, resolve_model

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A file whose tensors have our names; nothing is loaded or changed yet."""

    raw: RawCheckpoint
    key_format: KeyFormat
    named: NamedTensors
    dtype: torch.dtype

    @property
    def is_image(self) -> bool:
        return self.key_format.num_axes == 2

    def infer_config(self) -> ModelConfig:
        """The network the file was written for; for image weights, what they inflate to.

        Raises:
            CheckpointError: neither a config nor the tensors determine it.
        """
        if self.raw.bundle is not None:
            return self.raw.bundle.model
        shapes = [self.raw.tensors[key].shape for key in self.named.derived]
        index_sizes = {s[0] for s in shapes if len(s) == 2 and s[0] == s[1]}
        return infer_config(self.named.tensors, index_sizes, self.is_image)

    def adapted_to(self, target: ModelConfig, allow: frozenset[str]) -> AdaptedTensors:
        """The tensors after the allowed changes of shape; see `adapt.adapt`."""
        if not allow:
            return AdaptedTensors(self.named.tensors)
        try:
            own = self.infer_config()
        except CheckpointError:
            own = None
        return adapt(self.named.tensors, own, target, self.is_image, allow)

    def report(self, target: ModelConfig, adapted: AdaptedTensors) -> LoadReport:
        """Compares every tensor of the file with every parameter of the network."""
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
            dtype=_short(self.dtype),
            conversions=self._conversions() + adapted.conversions,
            ignored_keys=self.named.ignored,
            adaptations=adapted.adaptations,
        )
        return compare(report, self.key_format, self.named, adapted.tensors, expected)

    def _conversions(self) -> tuple[str, ...]:
        named = self.named
        done: list[str] = []
        if self.raw.unwrapped:
            done.append(f"taken out of {' > '.join(self.raw.unwrapped)}")
        if renamed := sum(keys != (name,) for name, keys in named.sources.items()):
            done.append(f"{renamed} tensors renamed")
        if joined := sum(len(keys) > 1 for keys in named.sources.values()):
            done.append(f"query, key and value joined in {joined} tensors")
        if named.derived:
            done.append(f"{len(named.derived)} derived buffers dropped")
        if self.dtype != torch.float32:
            done.append(f"{_short(self.dtype)} to float32")
        return tuple(done)


def load_checkpoint(
    source: str | Path | ResolvedModel,
    *,
    architecture: str | ModelConfig | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    allow: Iterable[str] = (),
) -> tuple[VideoSwinTransformer, LoadReport]:
    """Loads a file, folder or named model into a matching network.

    Official, mmaction2, torchvision and our own files are recognized, and image Swin weights of
    Microsoft, timm, torchvision and transformers.

    Args:
        source: a path, or a name from `list_models`; a path that exists wins.
        architecture: None infers it from the tensors. The name of an architecture keeps the
            file's number of classes and channels; a `ModelConfig` is taken literally.
        num_classes: number of classes, if not the file's; needs `allow={"head"}`.
        in_chans: number of input channels, if not the file's; needs `allow={"in_chans"}`.
        allow: differences to accept, any of "head" (new classifier), "in_chans" (channels summed
            or repeated), "patch_time" (patch summed over time for patches of one frame), "window"
            (bias tables interpolated) and "inflate" (image weights to video weights; the image
            classifier is kept unless "head" and num_classes say otherwise).

    Returns:
        The network (float32, eval mode) and the load report.

    Raises:
        CheckpointError: the file cannot be read, or a tensor does not fit; the message names it.
        UnknownNameError: an unknown name in `source`, `architecture` or `allow`.
    """
    allowed = _checked(allow)
    resolved = resolve_model(source)
    checkpoint = open_checkpoint(resolved.path)
    target = _target(checkpoint, architecture, resolved.card, num_classes, in_chans)
    if checkpoint.is_image and "inflate" not in allowed:
        raise ImageWeightsError(
            f"{str(resolved.path)!r} holds image weights ({checkpoint.key_format.title}), not "
            'video weights. To start from them, inflate them: allow={"inflate"}.'
        )
    adapted, report = _fitted(checkpoint, target.model, allowed)
    with torch.device("meta"):
        model = VideoSwinTransformer(target)
    weights = {
        name: tensor.detach().to(torch.float32, copy=True).contiguous()
        for name, tensor in adapted.tensors.items()
    }
    # Complete by the report above; only a head that is initialized next may be missing.
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
    """Loads a file, folder or named model into a backbone; its classifier is dropped.

    Args:
        backbone: The network to fill.
        source: See `resolve_model`.
        is_image: Whether the file must hold image weights, to be inflated, or video weights.
        allow: Further differences to accept; see `load_checkpoint`.

    Returns:
        The load report.

    Raises:
        CheckpointError: The file cannot be read, holds weights of the other kind, or a tensor does
            not fit; the message names it.
        UnknownNameError: An unknown name in `source` or `allow`.
    """
    allowed = _checked(allow) | {"head"} | ({"inflate"} if is_image else set())
    checkpoint = open_checkpoint(resolve_model(source).path)
    if checkpoint.is_image != is_image:
        found, use = ("image", "True") if checkpoint.is_image else ("video", "False")
        raise CheckpointError(
            f"{str(source)!r} holds {found} weights ({checkpoint.key_format.title}), but "
            f"pretrained2d is {is_image}; pass pretrained2d={use}."
        )
    target = dataclasses.replace(backbone.config, num_classes=0)
    adapted, report = _fitted(checkpoint, target, allowed)
    weights = {
        name.removeprefix("backbone."): tensor.detach().to(torch.float32)
        for name, tensor in adapted.tensors.items()
    }
    final, new_norms = backbone.norm_names()
    if final is None:  # the last stage is no output: its norm has no place
        weights = {name: t for name, t in weights.items() if not name.startswith("norm.")}
    # Complete by the report above; only norms that no published file has may be missing.
    backbone.load_state_dict(weights, strict=not new_norms)
    if new_norms:
        note = f"new norms of other stages: {', '.join(new_norms)}"
        report = dataclasses.replace(report, adaptations=(*report.adaptations, note))
    return report


def _fitted(
    checkpoint: Checkpoint, target: ModelConfig, allowed: frozenset[str]
) -> tuple[AdaptedTensors, LoadReport]:
    """The tensors for `target` and the load report. Raises CheckpointError unless all fit."""
    own = checkpoint.raw.bundle
    if own is not None and own.model.patch_stride != target.patch_stride:
        raise CheckpointError(
            f"{str(checkpoint.raw.path)!r} was saved with patch_stride {own.model.patch_stride}, "
            f"not {target.patch_stride}: the tensors fit, but the time steps would differ. Build "
            f"the network with patch_stride={own.model.patch_stride}."
        )
    adapted = checkpoint.adapted_to(target, allowed)
    report = checkpoint.report(target, adapted)
    if not report.is_complete:
        raise CheckpointError(_refusal(checkpoint, report, target, allowed))
    return adapted, report


def open_checkpoint(path: Path) -> Checkpoint:
    """Reads a file or folder and recognizes its format. Raises CheckpointError."""
    raw = read_weights_file(path)
    name = str(raw.path)
    key_format = recognize_format(raw.tensors)
    if key_format is None:
        known = "; ".join(one.title for one in FORMATS)
        raise CheckpointError(
            f"{name!r} is not in a known format: its {len(raw.tensors)} tensors are named "
            f"{shorten(list(raw.tensors))}. Known formats: {known}."
        )
    if key_format is OFFICIAL and raw.kind == "safetensors" and raw.bundle is not None:
        key_format = OWN
    named = convert(key_format, raw.tensors)
    return Checkpoint(raw, key_format, named, _common_dtype(name, named))


def _common_dtype(path: str, named: NamedTensors) -> torch.dtype:
    """The dtype all weights share. Raises CheckpointError naming the exceptions."""
    counted = Counter(tensor.dtype for tensor in named.tensors.values())
    if not counted:
        raise CheckpointError(f"{path!r} holds no tensor of a Swin network.")
    usual = max(counted, key=lambda dtype: (dtype in _FLOATS, counted[dtype]))
    odd = [
        f"{' + '.join(named.sources[name])} ({_short(tensor.dtype)})"
        for name, tensor in named.tensors.items()
        if tensor.dtype != usual or usual not in _FLOATS
    ]
    if odd:
        raise CheckpointError(
            f"{path!r} mixes dtypes: most weights are {_short(usual)}, but not {shorten(odd)}. "
            "Weights must share one of float32, float16, bfloat16 and float64; save them again "
            "after model.float()."
        )
    return usual


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _checked(allow: Iterable[str]) -> frozenset[str]:
    names = frozenset([allow] if isinstance(allow, str) else allow)
    for name in sorted(names - ALLOWED_DIFFERENCES.keys()):
        raise UnknownNameError("difference in allow", name, ALLOWED_DIFFERENCES)
    return names


def _target(
    checkpoint: Checkpoint,
    architecture: str | ModelConfig | None,
    named: ModelCard | None,
    num_classes: int | None,
    in_chans: int | None,
) -> BundleConfig:
    """The network to fill, with the sampling, preprocessing and labels that go with it."""
    base = checkpoint.raw.bundle
    if named is not None:
        base = dataclasses.replace(named.bundle, labels=named.bundle.labels or labels_of(named))
    if isinstance(architecture, ModelConfig):
        config, base = architecture, base or _bundle_of_shape(architecture)
    elif architecture is not None:
        card = find_card(architecture)
        config, base = card.bundle.model, card.bundle
        if card.kind == "architecture":  # it has no classes of its own: the file's number
            config = _with_ends_of(config, checkpoint)
    elif base is not None:
        config = base.model
    else:
        try:
            config = checkpoint.infer_config()
        except CheckpointError as error:
            path = str(checkpoint.raw.path)
            raise CheckpointError(
                f"The architecture of {path!r} cannot be inferred. {error}"
            ) from error
        base = _bundle_of_shape(config)
    if num_classes is not None:
        config = dataclasses.replace(config, num_classes=num_classes)
    if in_chans is not None:
        config = dataclasses.replace(config, in_chans=in_chans)
    if base is not None and base.model == config:
        return base
    return bundle_for(config, base)


def _bundle_of_shape(config: ModelConfig) -> BundleConfig | None:
    card = card_of(config)
    return None if card is None else card.bundle


def _with_ends_of(config: ModelConfig, checkpoint: Checkpoint) -> ModelConfig:
    """`config` with the channels and classes of the file, if they can be inferred."""
    try:
        own = checkpoint.infer_config()
    except CheckpointError:
        return config
    return dataclasses.replace(config, in_chans=own.in_chans, num_classes=own.num_classes)


def _refusal(
    checkpoint: Checkpoint, report: LoadReport, target: ModelConfig, allowed: frozenset[str]
) -> str:
    """Why the file is not accepted, what it seems to be, and what would accept it."""
    lines = [
        f"{report.source!r} ({report.format}) does not fit {report.architecture} with "
        f"{target.num_classes} classes: matched {report.matched_tensors} of {report.num_tensors} "
        f"tensors; {'; '.join(report.problems())}."
    ]
    try:
        own = checkpoint.infer_config()
    except CheckpointError:
        return lines[0]
    if describe_config(own) != report.architecture:
        lines.append(f"The file looks like {describe_config(own)} with {own.num_classes} classes.")
    differences = {
        "head": own.num_classes != target.num_classes,
        "in_chans": own.in_chans != target.in_chans,
        "patch_time": own.patch_size[0] > target.patch_size[0] == 1,
        "window": own.window_size != target.window_size and not checkpoint.is_image,
    }
    for name, differs in differences.items():
        if differs and name not in allowed:
            effect = ALLOWED_DIFFERENCES[name]
            lines.append(f'To accept that, pass allow={{"{name}"}}: {effect}.')
    return " ".join(lines)
