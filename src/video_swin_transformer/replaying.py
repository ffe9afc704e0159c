"""`replay`: repeats what a receipt describes, and compares the result bit by bit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ConfigError, DataError, VideoDecodeError
from .features import extract_features
from .file_names import path_from_text
from .postprocess import ViewOutputs, average_crops, combine_views
from .predictor import Floats, Predictor, Source, resized_clips
from .preprocess import Views, cut_views
from .receipt import Receipt, environment, read_receipts
from .sampled_view import SampledView
from .video import FrameFolder, VideoReader, VideoSegment
from .video.content import content_digest
from .video.inputs import source_name
from .video.segment import parse_segment


@dataclass(frozen=True, eq=False)
class Replay:
    """The comparison of a receipt with its repetition.

    Attributes:
        receipt: The receipt.
        values: The repeated scores or features, float32.
        is_equal: Whether they are bit-equal to those of the receipt.
        max_difference: Largest absolute difference; None if the shapes differ.
        changes: How the environment differs, such as "torch 2.13.0 is now 2.14.1".
    """

    receipt: Receipt
    values: Floats
    is_equal: bool
    max_difference: float | None
    changes: tuple[str, ...]

    def summary(self) -> str:
        """The result in one line."""
        name, kind = self.receipt.source, self.receipt.kind.replace("_", " ")
        count = self.receipt.values.size
        if self.is_equal:
            return f"{name}: all {count} values of its {kind} are bit-equal."
        reason = f" ({'; '.join(self.changes)})" if self.changes else ""
        difference = "in shape" if self.max_difference is None else f"by {self.max_difference:.3g}"
        return f"{name}: its {kind} differ {difference}{reason}."


def replay(
    receipt: Receipt | str | Path,
    *,
    source: Source | None = None,
    model: str | Path | None = None,
) -> Replay:
    """Repeats what a receipt describes on the CPU.

    The frames and crops of scores are those of the receipt, whatever the rules of sampling are now.

    Args:
        receipt: A receipt, or a file with one.
        source: The video, if it is not where it was, or was an array.
        model: The weights, if they are not where they were.

    Returns:
        The comparison. Results of a GPU, or of other versions of libraries, may differ slightly.

    Raises:
        DataError: The file is no receipt, or the video or the weights are not those of the receipt.
        VideoDecodeError: The video cannot be read.
        ConfigError: The receipt is of a runtime that is not available here.
    """
    if not isinstance(receipt, Receipt):
        found = read_receipts(receipt)
        if len(found) > 1:
            raise DataError(
                f"{str(receipt)!r} has {len(found)} receipts; read them with read_receipts and "
                "replay each."
            )
        receipt = found[0]
    predictor = _load(receipt, model)
    video = _require_source(receipt, source)
    if receipt.kind == "feature_rows":
        values = _extract(receipt, predictor, video)
    else:
        values = _compute(receipt, predictor, video)
    recorded = receipt.values
    is_same_shape = values.shape == recorded.shape
    is_equal = is_same_shape and values.tobytes() == recorded.tobytes()
    difference = float(np.abs(values - recorded).max(initial=0)) if is_same_shape else None
    return Replay(receipt, values, is_equal, difference, _changes(receipt))


def _load(receipt: Receipt, model: str | Path | None) -> Predictor:
    origin = receipt.origin
    texts = {
        name: None if text is None else path_from_text(text)
        for name, text in (
            ("model", origin.model),
            ("config", origin.config),
            ("checkpoint", origin.checkpoint),
        )
    }
    if model is not None:
        texts = {"model": str(model), "config": None, "checkpoint": None}
    predictor = Predictor.load(
        **texts,
        runtime=receipt.runtime.name,
        precision=origin.precision,
        device="cpu",
        threads=origin.threads,
        allow_truncated=origin.allow_truncated,
    )
    if predictor.weights_digest != receipt.weights_digest:
        raise DataError(
            f"The weights of {predictor.name} are not those of the receipt: their SHA-256 is "
            f"{predictor.weights_digest or 'unknown'}, that of the receipt is "
            f"{receipt.weights_digest or 'unknown'}. Give the weights that were used with model."
        )
    labels = predictor.bundle.labels
    return predictor.with_bundle(dataclasses.replace(receipt.bundle, labels=labels))


def _require_source(receipt: Receipt, source: Source | None) -> Source:
    recorded = path_from_text(receipt.source)
    segment = parse_segment(recorded)
    if source is None:
        source = recorded if segment is None else segment
    elif segment is not None and isinstance(source, str | Path | FrameFolder):
        source = VideoSegment(str(source), segment.start, segment.end)
    try:
        digest = content_digest(source)
    except OSError as error:
        raise VideoDecodeError(
            f"{source_name(source)!r}, the video of the receipt, cannot be read: "
            f"{error.strerror or error}. If it is elsewhere, or was an array, give it with source."
        ) from error
    if digest != receipt.content_digest:
        raise DataError(
            f"{source_name(source)!r} is not the video of the receipt: its SHA-256 is {digest}, "
            f"that of the receipt is {receipt.content_digest}. Give the video that was used with "
            "source."
        )
    return source


def _compute(receipt: Receipt, predictor: Predictor, source: Source) -> Floats:
    views = _cut(receipt, predictor, source)
    parts, start = [], 0
    for size in receipt.batches:
        parts.append(predictor.runtime.run(views[start : start + size]))
        start += size
    outputs = parts[0] if len(parts) == 1 else ViewOutputs.concatenate(parts)
    bundle = predictor.bundle
    if receipt.kind == "features":
        return average_crops(outputs.features, bundle.preprocessing.num_crops)
    return combine_views(outputs.logits, bundle)[0]


def _cut(receipt: Receipt, predictor: Predictor, source: Source) -> Views:
    """Reads each clip once and cuts the views of the receipt, in their order."""
    preprocessing = predictor.bundle.preprocessing
    by_clip: dict[int, list[tuple[int, SampledView]]] = {}
    for position, view in enumerate(receipt.views):
        by_clip.setdefault(view.clip, []).append((position, view))
    rows = np.stack([found[0][1].frame_indices for found in by_clip.values()])
    with VideoReader(source, allow_truncated=predictor.allow_truncated) as video:
        if rows.min() < 0 or rows.max() >= video.num_frames:
            raise DataError(
                f"The receipt has frame {int(rows.max())}, but {source_name(source)!r} has "
                f"{video.num_frames} frames; the receipt is damaged."
            )
        clips, _ = resized_clips(video, rows, preprocessing)
    height, width = clips.shape[2:4]
    views: list[Any] = [None] * len(receipt.views)
    for clip, found in zip(clips, by_clip.values(), strict=True):
        for position, view in found:
            box = view.box
            if box.top + box.height > height or box.left + box.width > width or min(box[:4]) < 0:
                raise DataError(
                    f"A crop of the receipt is outside of the resized frame of {width}x{height} "
                    "pixels; the receipt is damaged."
                )
            views[position] = cut_views(clip[None], [box], preprocessing)[0]
    return np.stack(views)


def _extract(receipt: Receipt, predictor: Predictor, source: Source) -> Floats:
    options = dict(receipt.options or {})
    if options.get("segments") is not None:
        options["segments"] = tuple(tuple(pair) for pair in options["segments"])
    try:
        table = extract_features(predictor.with_receipts(), source, **options)
    except TypeError as error:
        raise ConfigError(f"The options of the receipt are unknown: {error}.") from error
    assert table.receipt is not None
    ours, theirs = (
        [(one.frame_indices.tolist(), one.box) for one in found.views]
        for found in (table.receipt, receipt)
    )
    if ours != theirs:
        raise DataError(
            f"The rows of {source_name(source)!r} come from other frames or crops now than those "
            "of the receipt; install the version in its field environment."
        )
    return table.values


def _changes(receipt: Receipt) -> tuple[str, ...]:
    now = environment()
    changes = [
        f"{name} {value} is now {now.get(name, 'not installed')}"
        for name, value in receipt.environment.items()
        if now.get(name) != value
    ]
    if receipt.runtime.device != "cpu":
        changes.append(f"it was computed on {receipt.runtime.device}")
    return tuple(changes)
