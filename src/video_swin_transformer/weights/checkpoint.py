"""A file of anybody's weights -> our network, with an account of every tensor.

    read_container (bytes) -> recognise, convert (names) -> infer_config (network)
    -> adapt (what the caller permits to differ) -> compare (coverage) -> network

Nothing loads by halves: what does not cover the network is refused, and the message names the
tensors and, where there is one, the permission that would accept the difference.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config import BundleConfig, ModelConfig
from ..errors import CheckpointError, UnknownNameError
from ..model import VideoSwinTransformer
from ..registry import ModelCard, find_card
from .adaptation import Adapted, adapt
from .architecture import bundle_for, card_of, infer_config
from .containers import Container, read_container
from .coverage import PERMISSIONS, CoverageReport, compare, shortened
from .download import labels_of
from .formats import FORMATS, OFFICIAL, OWN, recognise
from .keys import KeyFormat, NamedTensors, convert
from .sources import find_weights

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An opened file whose tensors have our names; nothing is loaded or changed yet."""

    container: Container
    key_format: KeyFormat
    named: NamedTensors
    dtype: torch.dtype

    @property
    def is_image(self) -> bool:
        return self.key_format.num_axes == 2

    def own_config(self) -> ModelConfig:
        """The network the file was written for (for image weights: what they inflate to).

        Raises CheckpointError where neither a config nor the tensors tell.
        """
        if self.container.bundle is not None:
            return self.container.bundle.model
        sides = [self.container.tensors[key].shape for key in self.named.derived]
        tokens = {s[0] for s in sides if len(s) == 2 and s[0] == s[1]}
        return infer_config(self.named.tensors, tokens, self.is_image)

    def adapted_to(self, target: ModelConfig, permitted: frozenset[str]) -> Adapted:
        """The tensors after the permitted changes of shape; see `adaptation.adapt`."""
        try:
            own = self.own_config()
        except CheckpointError:
            own = None
        return adapt(self.named.tensors, own, target, self.is_image, permitted)


def open_checkpoint(source: str | Path) -> Checkpoint:
    """Reads a file or folder and recognises whose it is. Raises CheckpointError."""
    container = read_container(source)
    key_format = recognise(container.tensors)
    path = str(container.path)
    if key_format is None:
        known = "; ".join(one.title for one in FORMATS)
        raise CheckpointError(
            f"{path!r} says nothing about its network: {len(container.tensors)} tensors named "
            f"{shortened(list(container.tensors))} are of no known format. Known are: {known}."
        )
    if key_format is OFFICIAL and container.kind == "safetensors" and container.bundle is not None:
        key_format = OWN
    named = convert(key_format, container.tensors)
    return Checkpoint(container, key_format, named, _one_dtype(path, named))


def _one_dtype(path: str, named: NamedTensors) -> torch.dtype:
    """The number type all weights share. Raises CheckpointError naming the odd ones."""
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
            f"{path!r} mixes number types: most weights are {_short(usual)}, but not "
            f"{shortened(odd)}. Weights must be of one type, float32, float16, bfloat16 or "
            "float64; save them again after model.float()."
        )
    return usual


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def load_checkpoint(
    source: str | Path,
    *,
    architecture: str | ModelConfig | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    allow: Iterable[str] = (),
) -> tuple[VideoSwinTransformer, CoverageReport]:
    """The network of a file, folder or name (float32, eval mode), and what became of each tensor.

    source: a path, or a name from `list_models(pretrained=True)`; what exists as a path is taken
    as one. Official, mmaction2, torchvision and our own files are recognised, and image Swin
    weights of Microsoft, timm, torchvision and transformers.
    architecture: None tells it from the tensors. By the name of an architecture, classes and
    channels are still the file's; a ModelConfig is meant to the letter.
    num_classes, in_chans: other than the file's, they must be permitted.
    allow: what may differ, any of "head" (fresh classifier for another num_classes), "in_chans"
    (summed or repeated channels), "window" (bias tables interpolated) and "inflate" (image weights
    to video weights; the image classifier is kept unless "head" and num_classes say otherwise).
    Raises CheckpointError, which names tensors, for anything else that does not fit exactly.
    """
    permitted = _checked(allow)
    path, card = find_weights(source)
    checkpoint = open_checkpoint(path)
    target = _target(checkpoint, architecture, card, num_classes, in_chans)
    if checkpoint.is_image and "inflate" not in permitted:
        raise CheckpointError(
            f"{str(path)!r} holds weights of an image network ({checkpoint.key_format.title}), not "
            'of a video network. To start from them, inflate them: allow={"inflate"}, or '
            "`videoswin convert --allow inflate`."
        )
    adapted = checkpoint.adapted_to(target.model, permitted)
    report = coverage_of(checkpoint, target.model, adapted)
    if not report.is_complete:
        raise CheckpointError(_refusal(checkpoint, report, target.model, permitted))
    with torch.device("meta"):
        model = VideoSwinTransformer(target)
    weights = {
        name: tensor.detach().to(torch.float32, copy=True).contiguous()
        for name, tensor in adapted.tensors.items()
    }
    # Complete by the report above; what is absent is the head that is made fresh.
    model.load_state_dict(weights, strict=not adapted.has_fresh_head, assign=True)
    if adapted.has_fresh_head:
        model.reset_classifier(target.model.num_classes, target.labels)
    return model.eval(), report


def _checked(allow: Iterable[str]) -> frozenset[str]:
    names = frozenset([allow] if isinstance(allow, str) else allow)
    for name in sorted(names - PERMISSIONS.keys()):
        raise UnknownNameError("permission in allow", name, PERMISSIONS)
    return names


def _target(
    checkpoint: Checkpoint,
    architecture: str | ModelConfig | None,
    named: ModelCard | None,
    num_classes: int | None,
    in_chans: int | None,
) -> BundleConfig:
    """The network to fill, with the sampling, preprocessing and labels that go with it."""
    base = checkpoint.container.bundle
    if named is not None:
        base = dataclasses.replace(named.bundle, labels=labels_of(named))
    if isinstance(architecture, ModelConfig):
        config, base = architecture, base or _bundle_of_shape(architecture)
    elif architecture is not None:
        card = find_card(architecture)
        config, base = card.bundle.model, card.bundle
        if card.kind == "architecture":  # it has no classes of its own: the file's count
            config = _with_ends_of(config, checkpoint)
    elif base is not None:
        config = base.model
    else:
        try:
            config = checkpoint.own_config()
        except CheckpointError as error:
            path = str(checkpoint.container.path)
            raise CheckpointError(f"The network of {path!r} cannot be told. {error}") from error
        base = _bundle_of_shape(config)
    if num_classes is not None:
        config = dataclasses.replace(config, num_classes=num_classes)
    if in_chans is not None:
        config = dataclasses.replace(config, in_chans=in_chans)
    return bundle_for(config, base)


def _bundle_of_shape(config: ModelConfig) -> BundleConfig | None:
    card = card_of(config)
    return None if card is None else card.bundle


def _with_ends_of(config: ModelConfig, checkpoint: Checkpoint) -> ModelConfig:
    """`config` with the channels and classes of the file, if they can be told."""
    try:
        own = checkpoint.own_config()
    except CheckpointError:
        return config
    return dataclasses.replace(config, in_chans=own.in_chans, num_classes=own.num_classes)


def coverage_of(checkpoint: Checkpoint, target: ModelConfig, adapted: Adapted) -> CoverageReport:
    """Every tensor of the file against every parameter of the network."""
    with torch.device("meta"):
        network = VideoSwinTransformer(target)
    wanted = {
        name: tensor.shape
        for name, tensor in network.state_dict().items()
        if not (adapted.has_fresh_head and name.startswith("cls_head."))
    }
    report = CoverageReport(
        source=str(checkpoint.container.path),
        format=checkpoint.key_format.title,
        architecture=describe(target),
        dtype=_short(checkpoint.dtype),
        num_tensors=0,
        num_params=0,
        matched_tensors=0,
        matched_params=0,
        converted=_conversions(checkpoint) + adapted.converted,
        ignored=checkpoint.named.ignored,
        permitted=adapted.permitted,
    )
    return compare(report, checkpoint.key_format, checkpoint.named, adapted.tensors, wanted)


def _conversions(checkpoint: Checkpoint) -> tuple[str, ...]:
    named = checkpoint.named
    done: list[str] = []
    if checkpoint.container.unwrapped:
        done.append(f"taken out of {' > '.join(checkpoint.container.unwrapped)}")
    renamed = sum(keys != (name,) for name, keys in named.sources.items())
    if renamed:
        done.append(f"{renamed} tensors renamed")
    joined = sum(len(keys) > 1 for keys in named.sources.values())
    if joined:
        done.append(f"query, key and value joined in {joined} tensors")
    if named.derived:
        done.append(f"{len(named.derived)} derived buffers dropped")
    if checkpoint.dtype != torch.float32:
        done.append(f"{_short(checkpoint.dtype)} to float32")
    return tuple(done)


def describe(config: ModelConfig) -> str:
    """The architecture's name, or its sizes where the registry has none of that shape."""
    card = card_of(config)
    if card is not None:
        return card.name
    return (
        f"embed_dim {config.embed_dim}, depths {config.depths}, heads {config.num_heads}, "
        f"patch {config.patch_size}, window {config.window_size}"
    )


def _refusal(
    checkpoint: Checkpoint, report: CoverageReport, target: ModelConfig, permitted: frozenset[str]
) -> str:
    """Why the file is not accepted, what it seems to be, and what would accept it."""
    lines = [
        f"{report.source!r} ({report.format}) does not fit {report.architecture} with "
        f"{target.num_classes} classes: matched {report.matched_tensors} of {report.num_tensors} "
        f"tensors; {'; '.join(report.problems())}."
    ]
    try:
        own = checkpoint.own_config()
    except CheckpointError:
        return lines[0]
    if describe(own) != report.architecture:
        lines.append(f"The file looks like {describe(own)} with {own.num_classes} classes.")
    differ = {
        "head": own.num_classes != target.num_classes,
        "in_chans": own.in_chans != target.in_chans,
        "window": own.window_size != target.window_size and not checkpoint.is_image,
    }
    for name, differs in differ.items():
        if differs and name not in permitted:
            lines.append(f'If that is wanted: allow={{"{name}"}} gives {PERMISSIONS[name]}.')
    return " ".join(lines)
