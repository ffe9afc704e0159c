"""Downloads models from and uploads models to the Hugging Face Hub.

Nothing here loads weights; downloaded folders are validated like any saved folder.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .config import CONFIG_FILE, WEIGHTS_FILE, BundleConfig
from .errors import CheckpointError, UnknownNameError
from .registry import ModelCard, find_card
from .telemetry import without_telemetry

if TYPE_CHECKING:
    from torch import Tensor

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".onnx", ".xml", ".pt2")
_CARD_FILE = "README.md"
_PAPER = "https://arxiv.org/abs/2106.13230"


def is_repo_id(source: str | Path) -> bool:
    """Returns whether `source` is a repository id such as "owner/name" and not a local path.

    A name with a file suffix, or inside an existing folder, is considered a mistyped path.
    """
    if not isinstance(source, str) or _REPO_ID.fullmatch(source) is None:
        return False
    path = Path(source)
    return path.suffix.lower() not in FILE_SUFFIXES and not path.parent.exists()


def download_folder(repo_id: str, revision: str | None = None, token: str | None = None) -> Path:
    """Downloads config and weights of one revision and returns their folder in the Hub cache.

    Offline, cached files are used. Raises CheckpointError if there are none.
    """
    with without_telemetry():
        from huggingface_hub import snapshot_download

    needed = [CONFIG_FILE, WEIGHTS_FILE]
    try:
        folder = Path(
            snapshot_download(repo_id, revision=revision, token=token, allow_patterns=needed)
        )
    except _hub_errors() as error:
        raise CheckpointError(
            f"No local folder {repo_id!r}, and it cannot be downloaded from the Hub: "
            f"{_cause(error)}. Check the name, the network and, for a private model, the token; "
            f"or download {CONFIG_FILE} and {WEIGHTS_FILE} manually and give their folder."
        ) from error
    absent = [name for name in needed if not (folder / name).is_file()]
    if absent:
        raise CheckpointError(
            f"{repo_id!r} on the Hub has no {' and no '.join(absent)}; a model repository "
            "must contain both files, as written by push_to_hub."
        )
    return folder


def upload_folder(
    repo_id: str,
    bundle: BundleConfig,
    tensors: Mapping[str, Tensor],
    private: bool = False,
    token: str | None = None,
) -> str:
    """Uploads model and model card, creating the repository if needed. Returns the commit URL."""
    with without_telemetry():
        from huggingface_hub import HfApi

    from .saving import write_folder

    with tempfile.TemporaryDirectory(prefix="videoswin-") as folder:
        write_folder(folder, bundle, tensors)
        card = Path(folder) / _CARD_FILE
        card.write_text(model_card_text(repo_id, bundle, published_card(bundle)), encoding="utf-8")
        api = HfApi(token=token)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message="Upload of a Video Swin Transformer",
            )
        except _hub_errors() as error:
            raise CheckpointError(
                f"Cannot upload the model to {repo_id!r}: {_cause(error)}. Check the name "
                "(owner/name), the network, and that the token has write access (`hf auth login`)."
            ) from error
    return str(done.commit_url)


def published_card(bundle: BundleConfig) -> ModelCard | None:
    """Returns the registry card of the published weights that `bundle` is named after.

    None if the architecture, the classes or the labels differ, since the published accuracy then
    does not apply.
    """
    try:
        card = find_card(bundle.name or "")
    except UnknownNameError:
        return None
    network, published = bundle.model, card.bundle.model
    same = (
        card.weights is not None
        and network.num_params == published.num_params
        and network.num_classes == published.num_classes
        and (not card.bundle.labels or bundle.labels == card.bundle.labels)
    )
    return card if same else None


def model_card_text(repo_id: str, bundle: BundleConfig, card: ModelCard | None = None) -> str:
    """Renders the model card (README.md): YAML metadata, description and usage.

    License, training data and accuracy are taken from `card`, or omitted without one.
    """
    name = bundle.name or repo_id.rpartition("/")[2]
    return f"---\n{_metadata(name, card)}\n---\n\n{_text(repo_id, name, bundle, card)}"


def _metadata(name: str, card: ModelCard | None) -> str:
    with without_telemetry():
        from huggingface_hub import EvalResult, ModelCardData

    weights = None if card is None else card.weights
    results = []
    if weights and weights.accuracy:
        accuracy = weights.accuracy
        measured = [("top-1", accuracy.top1), ("top-5", accuracy.top5)]
        results = [
            EvalResult(
                task_type="video-classification",
                dataset_type=(card and card.label_set) or "custom",
                dataset_name=weights.trained_on,
                metric_type="accuracy",
                metric_name=f"{kind} ({accuracy.protocol}; {accuracy.views} clips x crops)",
                metric_value=value,
            )
            for kind, value in measured
            if value is not None
        ]
    data = ModelCardData(
        license=weights.license.lower() if weights and weights.license else None,
        library_name="video-swin-transformer",
        pipeline_tag="video-classification",
        tags=["video-swin-transformer", "video-classification", "video"],
        datasets=[card.label_set] if card and card.label_set else None,
        metrics=["accuracy"] if results else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def _text(repo_id: str, name: str, bundle: BundleConfig, card: ModelCard | None) -> str:
    model, sampling, size = bundle.model, bundle.sampling, bundle.preprocessing.crop_size
    apart = (
        f"{sampling.stride_seconds:g} s"
        if sampling.stride_seconds is not None
        else f"{sampling.stride} frames"
    )
    chosen = "spread over the whole video" if sampling.rule == "uniform" else f"{apart} apart"
    lines = [
        f"# {name}",
        "",
        f"A [Video Swin Transformer]({_PAPER}) for `video-swin-transformer`.",
        "",
        f"- {model.num_params:,} parameters, {model.num_classes} classes",
        f"- input: clips of {sampling.num_frames} frames of {size}x{size} pixels, {chosen}",
        f"- {sampling.num_clips} clips x {bundle.preprocessing.crops} crops of each video "
        "by default",
    ]
    weights = None if card is None else card.weights
    if card is not None and weights is not None:
        lines.append(f"- weights published by {weights.publisher} as `{card.name}`")
        lines.append(f"- trained on {weights.trained_on}")
        if weights.accuracy:
            lines.append(
                f"- published accuracy of those weights: {weights.accuracy.top1}% top-1 "
                f"({weights.accuracy.protocol}; {weights.accuracy.views} clips x crops)"
            )
        if weights.license:
            note = f" ({weights.license_note})" if weights.license_note else ""
            lines.append(f"- license: {weights.license}{note}")
    else:
        lines.append("- training data, license and accuracy: not stated")
    if bundle.labels:
        shown = ", ".join(bundle.labels[:10]) + (", ..." if len(bundle.labels) > 10 else "")
        lines.append(f"- labels: {shown}")
    lines += [
        "",
        "## How to use",
        "",
        "```python",
        "import video_swin_transformer as vst",
        "",
        f'model = vst.VideoSwinTransformer.from_pretrained("{repo_id}")',
        "```",
        "",
        "or with transformers (`pip install 'video-swin-transformer[hf]'`):",
        "",
        "```python",
        "import video_swin_transformer.hf",
        "from transformers import pipeline",
        "",
        f'pipeline("video-classification", model="{repo_id}")("clip.mp4")',
        "```",
        "",
    ]
    return "\n".join(lines)


def _hub_errors() -> tuple[type[Exception], ...]:
    """Exceptions that a Hub request can raise, including network errors."""
    with without_telemetry():
        from huggingface_hub import errors

    client: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    return (errors.HfHubHTTPError, errors.HFValidationError, client, OSError)


def _cause(error: Exception) -> str:
    """The first lines of a multi-line Hub error message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]).rstrip(".") or type(error).__name__
