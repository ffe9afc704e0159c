"""`explain`: reads a video, explains each of its views, and puts the maps over its frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch

from ..config import BundleConfig, is_integer, require
from ..errors import ConfigError, DeviceMemoryError, UnknownNameError
from ..model import VideoSwinTransformer
from ..postprocess import combine_views
from ..predictor import Predictor, Source, require_finite_outputs
from ..runtimes.torch_runtime import TorchRuntime
from ..sampled_view import sampled_view
from ..sampling import clip_indices
from ..video import VideoReader
from ..video.inputs import source_name
from ..windows import Size3
from .attention import block_attention, rollout
from .cam import eigen_cam, grad_cam
from .clip import Clip, Floats, Ints, read_clip
from .layers import LAYERS, BlockAddress, LayerName, block_address, token_grid, torch_runtime
from .occlusion import FILLS, Fill, num_occlusions, occlude, occlusion_window
from .pixels import token_steps, tokens_to_pixels
from .result import Explanation

Method: TypeAlias = Literal["grad-cam", "eigen-cam", "attention", "rollout", "occlusion"]
METHODS: tuple[str, ...] = get_args(Method)
Progress: TypeAlias = Callable[[int, int], None]

_OPTIONS = {
    "stage": ("grad-cam", "eigen-cam", "attention"),
    "block": ("grad-cam", "eigen-cam", "attention"),
    "layer": ("grad-cam", "eigen-cam"),
    "head": ("attention",),
    "query": ("attention",),
    "window": ("occlusion",),
    "stride": ("occlusion",),
    "fill": ("occlusion",),
}
_UNITS = {
    "grad-cam": "evidence (logits per token)",
    "eigen-cam": "projection on the first component",
    "attention": "attention received (1 if even)",
    "rollout": "relevance (1 if even)",
    "occlusion": "logits lost when hidden",
}
_NEEDS_CLASS = ("grad-cam", "occlusion")


@dataclass(frozen=True)
class _Request:
    """The arguments of `explain` after checking them."""

    method: str
    class_index: int | None
    address: BlockAddress
    layer: LayerName
    head: int | None
    query: Size3 | None
    window: Size3 | None
    stride: Size3 | None
    fill: str


def explain(
    predictor: Predictor,
    source: Source,
    *,
    method: Method = "grad-cam",
    label: str | int | None = None,
    stage: int | None = None,
    block: int | None = None,
    layer: LayerName | None = None,
    head: int | None = None,
    query: Size3 | None = None,
    window: Size3 | None = None,
    stride: Size3 | None = None,
    fill: Fill | None = None,
    progress: Progress = lambda done, total: None,
) -> Explanation:
    """Computes heat maps of what a model used, over the frames of a video.

    All views of the predictor are explained; `with_views(1, 1)` makes it faster. Views of adaptive
    predictors are all computed.

    Args:
        predictor: The model. All methods but "occlusion" need weights with the runtime "torch".
        source: A video file, a folder of frames, or an array (T, H, W, 3) uint8 RGB.
        method: "grad-cam" is evidence for a class, by gradients; "eigen-cam" is where a layer
            differs most from its mean, without gradients or a class; "attention" is that of one
            block; "rollout" is attention through all blocks; "occlusion" is what the logit of a
            class loses when a part of the clip is hidden, on any runtime.
        label: Name or index of the class; None for the one with the highest score. "eigen-cam",
            "attention" and "rollout" do not depend on it.
        stage: Stage of the network; negative numbers count from the end. None for the last one.
            Only for "grad-cam", "eigen-cam" and "attention".
        block: Block of the stage, likewise.
        layer: "norm1" (before the attention), "norm2" (before the MLP) or "output" of the block.
            None for "norm2". Only for "grad-cam" and "eigen-cam".
        head: Attention head from 0; None for the mean. Only for "attention".
        query: (frame of the video, row, column) in pixels of the video: the map is then the
            attention that the token there pays, not what each token receives. Only the clip whose
            frames come nearest is explained. Only for "attention".
        window: (frames, rows, columns) of a view that are hidden at once; None for a quarter of
            each axis. Only for "occlusion".
        stride: Steps of the window; None for all of it in time and half of it in space. Only for
            "occlusion".
        fill: What hidden parts show: "mean" color, or "freeze", the middle frame all the time. None
            for "mean". Only for "occlusion".
        progress: Called with the number of finished steps and of all steps.

    Returns:
        The maps, scores and frames.

    Raises:
        VideoDecodeError: The video cannot be read.
        ConfigError: An argument is invalid or not for this method, or the runtime does not allow
            the method.
        UnknownNameError: The method, layer, fill or label does not exist.
        MissingExtraError: Captum, which "occlusion" needs, is not installed.
        DeviceMemoryError: The device has too little memory.
    """
    given = {
        "stage": stage, "block": block, "layer": layer, "head": head, "query": query,
        "window": window, "stride": stride, "fill": fill,
    }  # fmt: skip
    bundle = predictor.bundle
    request = _checked(bundle, predictor.name, method, label, given)
    network = None
    if method != "occlusion":
        network = torch_runtime(predictor.runtime, f"The method {method!r}")
    with VideoReader(source) as video:
        indices = clip_indices(video.num_frames, bundle.sampling, video.fps)
        if request.query is not None:
            _check_query(request.query, video.num_frames, video.height, video.width)
            distance = np.abs(indices - request.query[0]).min(axis=1)
            nearest = int(distance.argmin())
            numbers = [nearest]
        else:
            numbers = list(range(len(indices)))
        clips = [read_clip(video, indices[number], bundle) for number in numbers]
        video_size = (video.height, video.width)
    scores, class_index = _scores(predictor, clips, request.class_index)
    maps, padding_shares = [], []
    num_views = sum(len(clip.views) for clip in clips)
    counter = _Counter(progress, num_views)
    for clip in clips:
        if network is None:
            assert class_index is not None
            view_maps = [
                _occluded(predictor, view[None], class_index, request, counter)
                for view in clip.views
            ]
        else:
            view_maps = []
            for crop in range(len(clip.views)):
                found, share = _view_map(network, clip, crop, class_index, request, video_size)
                view_maps.append(found)
                padding_shares += [] if share is None else [share]
                counter.add(1, num_views)
        if all(np.isnan(found).all() for found in view_maps):
            raise ConfigError(
                f"query is {request.query}, but no view sees this pixel; use one inside of the "
                "crops (see sampled_views), or the whole frame (views 1xfull)."
            )
        maps.append(clip.to_frames(np.stack(view_maps)))
    frame_indices, merged, seen, firsts = _merge(clips, maps)
    first = clips[0]
    return Explanation(
        source=source_name(source),
        model=predictor.name,
        method=method,
        layer=_layer_text(request),
        unit="attention paid" if request.query is not None else _UNITS[method],
        class_index=class_index,
        label="" if class_index is None else _class_name(bundle, class_index),
        scores=scores,
        frame_indices=frame_indices,
        times_seconds=(
            None
            if first.times_seconds is None
            else np.concatenate([c.times_seconds for c in clips if c.times_seconds is not None])[
                firsts
            ]
        ),
        frames=np.concatenate([clip.shown for clip in clips])[firsts],
        maps=merged,
        seen=seen,
        views=tuple(
            sampled_view(
                number, crop, clip.frame_indices, clip.times_seconds, box, clip.resized_size,
                video_size,
            )
            for crop, box in enumerate(first.boxes)
            for number, clip in zip(numbers, clips, strict=True)
        ),
        video_size=video_size,
        padding_share=float(np.mean(padding_shares)) if padding_shares else None,
        settings=_settings(request, clips[0]),
        library_version=version("video-swin-transformer"),
    )  # fmt: skip


class _Counter:
    """Counts finished steps for a progress callback."""

    def __init__(self, progress: Progress, num_views: int) -> None:
        self._progress, self.num_views, self._done = progress, num_views, 0

    def add(self, count: int, total: int) -> None:
        self._done += count
        self._progress(min(self._done, total), total)


def _checked(
    bundle: BundleConfig,
    model: str,
    method: str,
    label: str | int | None,
    given: dict[str, Any],
) -> _Request:
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    for name, value in given.items():
        if value is not None and method not in _OPTIONS[name]:
            allowed = " or ".join(_OPTIONS[name])
            raise ConfigError(
                f"{name} is {value!r}, but the method {method!r} does not use it; leave it out, or "
                f"use the method {allowed}."
            )
    for name, known in (("layer", LAYERS), ("fill", FILLS)):
        if given[name] is not None and given[name] not in known:
            raise UnknownNameError(name, given[name], known)
    for name in ("query", "window", "stride"):
        triple = given[name]
        if triple is not None:
            minimum = 0 if name == "query" else 1
            is_right = len(triple) == 3 and all(is_integer(v, minimum) for v in triple)
            kind = "integers from 0" if name == "query" else "positive integers"
            require(is_right, name, triple, f"three {kind} (frames, rows, columns)")
            given[name] = tuple(triple)
    depths = bundle.model.depths
    address = block_address(
        depths,
        -1 if given["stage"] is None else given["stage"],
        -1 if given["block"] is None else given["block"],
    )
    num_heads = bundle.model.num_heads[address.stage]
    head = given["head"]
    require(
        head is None or (is_integer(head, 0) and head < num_heads),
        "head",
        head,
        f"from 0 to {num_heads - 1}: {address} has {num_heads} heads",
    )
    num_classes = bundle.model.num_classes
    if num_classes == 0 and (method in _NEEDS_CLASS or label is not None):
        raise ConfigError(
            f"The model {model} has no classifier, so there is no class to explain; use the method "
            "eigen-cam, attention or rollout, or load weights with a classifier."
        )
    return _Request(
        method=method,
        class_index=None if label is None else _class_index(bundle, label),
        address=address,
        layer="norm2" if given["layer"] is None else given["layer"],
        head=head,
        query=given["query"],
        window=given["window"],
        stride=given["stride"],
        fill="mean" if given["fill"] is None else given["fill"],
    )


def _class_index(bundle: BundleConfig, label: str | int) -> int:
    num_classes = bundle.model.num_classes
    if isinstance(label, str) and label in bundle.labels:
        return bundle.labels.index(label)
    if isinstance(label, str) and not label.isdecimal():
        names = bundle.labels or [f"0 to {num_classes - 1}"]
        raise UnknownNameError("label", label, names)
    index = int(label)
    require(0 <= index < num_classes, "label", label, f"a name, or from 0 to {num_classes - 1}")
    return index


def _class_name(bundle: BundleConfig, index: int) -> str:
    return bundle.labels[index] if bundle.labels else str(index)


def _check_query(query: Size3, num_frames: int, height: int, width: int) -> None:
    inside = query[0] < num_frames and query[1] < height and query[2] < width
    allowed = f"inside of the video: {num_frames} frames, {height} rows, {width} columns, from 0"
    require(inside, "query", query, allowed)


def _scores(
    predictor: Predictor, clips: list[Clip], class_index: int | None
) -> tuple[Floats, int | None]:
    """The scores of the video, and the class to explain."""
    bundle = predictor.bundle
    if bundle.model.num_classes == 0:
        return np.empty(0, np.float32), None
    by_clip = [predictor.runtime.run(clip.views).logits for clip in clips]
    require_finite_outputs(predictor, by_clip)
    logits = np.stack(by_clip, axis=1).reshape(-1, by_clip[0].shape[1])  # crop-major
    scores, _ = combine_views(logits, bundle)
    return scores, int(scores.argmax()) if class_index is None else class_index


def _occluded(
    predictor: Predictor, view: Floats, class_index: int, request: _Request, counter: _Counter
) -> Floats:
    size: Size3 = view.shape[2:]
    window, stride = occlusion_window(size, request.window, request.stride)
    total = counter.num_views * num_occlusions(size, window, stride)
    return occlude(
        predictor.runtime,
        view,
        class_index,
        window,
        stride,
        request.fill,
        lambda count: counter.add(count, total),
    )


def _view_map(
    runtime: TorchRuntime,
    clip: Clip,
    crop: int,
    class_index: int | None,
    request: _Request,
    video_size: tuple[int, int],
) -> tuple[Floats, float | None]:
    """The map of one view, (T, h, w), NaN if it does not see the query; the padding share."""
    view = clip.views[crop : crop + 1]
    size: Size3 = view.shape[2:]
    query = None
    if request.query is not None:
        query = _query_in_view(clip, crop, request.query, video_size)
        if query is None:
            return np.full(size, np.nan, np.float32), None
    x = torch.from_numpy(view).to(runtime.device)
    try:
        with runtime.inference():
            tokens, stage, share = _token_map(runtime, x, class_index, request, query)
    except torch.OutOfMemoryError:
        raise DeviceMemoryError(
            f"One view of shape {view.shape[1:]} does not fit in the memory of {runtime.device} "
            f"with the method {request.method!r}; use the CPU, a later stage or a smaller model."
        ) from None
    assert isinstance(runtime.model, VideoSwinTransformer)
    steps = token_steps(runtime.model.backbone, stage)
    smooth = request.method in ("grad-cam", "eigen-cam")
    return tokens_to_pixels(tokens, size, steps, smooth=smooth), share


def _token_map(
    runtime: TorchRuntime,
    x: torch.Tensor,
    class_index: int | None,
    request: _Request,
    query: Size3 | None,
) -> tuple[torch.Tensor, int, float | None]:
    """The map on the token grid of a stage, the stage, and the padding share."""
    model = runtime.model
    assert isinstance(model, VideoSwinTransformer)
    address = request.address
    size: Size3 = (x.shape[2], x.shape[3], x.shape[4])
    grid = token_grid(model.backbone, size, address.stage)
    if request.method == "grad-cam":
        assert class_index is not None
        return grad_cam(model, x, grid, address, request.layer, class_index), address.stage, None
    if request.method == "eigen-cam":
        return eigen_cam(model, x, grid, address, request.layer), address.stage, None
    if request.method == "rollout":
        relevance = rollout(model, x)
        return relevance * relevance.numel(), 0, None
    (attention,) = block_attention(model, x, [address])
    if query is None:
        by_head, share = attention.received()
    else:
        frame, row, column = (
            at // step
            for at, step in zip(query, token_steps(model.backbone, address.stage), strict=True)
        )
        by_head, share = attention.paid_by((frame * grid[1] + row) * grid[2] + column)
    chosen = by_head.mean(dim=0) if request.head is None else by_head[request.head]
    return chosen, address.stage, share


def _query_in_view(
    clip: Clip, crop: int, query: Size3, video_size: tuple[int, int]
) -> Size3 | None:
    frame = int(np.abs(clip.frame_indices - query[0]).argmin())
    row, column = (
        int((at + 0.5) * resized / side)
        for at, resized, side in zip(query[1:], clip.resized_size, video_size, strict=True)
    )
    position = clip.position_in_view(row, column, crop)
    return None if position is None else (frame, *position)


def _merge(
    clips: list[Clip], maps: list[Floats]
) -> tuple[Ints, Floats, np.ndarray[Any, np.dtype[np.bool_]], Ints]:
    """Averages the maps of each frame over the clips.

    A clip counts for all frames from its first to its last one: between the frames that it saw, its
    map is interpolated. A clip of a looped video counts for the frames that it saw.

    Returns:
        The frames, their maps, what was seen, and where each frame occurs first in all clips.
    """
    shown = np.concatenate([clip.frame_indices for clip in clips])
    frame_indices, firsts = np.unique(shown, return_index=True)
    total = np.zeros((len(frame_indices), *maps[0].shape[1:]), np.float32)
    count = np.zeros((len(frame_indices), 1, 1), np.float32)
    for clip, found in zip(clips, maps, strict=True):
        steps = np.diff(clip.frame_indices)
        for place, frame in enumerate(frame_indices):
            if (steps > 0).all() and clip.frame_indices[0] <= frame <= clip.frame_indices[-1]:
                at = np.interp(frame, clip.frame_indices, np.arange(len(found)))
                before, after = int(np.floor(at)), int(np.ceil(at))
                total[place] += (1 - (at - before)) * found[before] + (at - before) * found[after]
                count[place] += 1
            else:
                same = np.flatnonzero(clip.frame_indices == frame)
                total[place] += found[same].sum(axis=0)
                count[place] += len(same)
    seen = np.broadcast_to(clips[0].seen(), total.shape)
    return frame_indices, np.asarray(total / count, np.float32), seen, firsts


def _layer_text(request: _Request) -> str:
    if request.method == "occlusion":
        return ""
    if request.method == "rollout":
        return "all blocks"
    if request.method == "attention":
        head = "mean of the heads" if request.head is None else f"head {request.head}"
        return f"{request.address}, {head}"
    return f"{request.address}, {request.layer}"


def _settings(request: _Request, clip: Clip) -> dict[str, Any]:
    """The arguments that the method used, with their defaults."""
    address = {"stage": request.address.stage, "block": request.address.block}
    if request.method == "attention":
        query = None if request.query is None else list(request.query)
        return {**address, "head": request.head, "query": query}
    if request.method in ("grad-cam", "eigen-cam"):
        return {**address, "layer": request.layer}
    if request.method == "occlusion":
        size: Size3 = clip.views.shape[2:]
        window, stride = occlusion_window(size, request.window, request.stride)
        return {"window": list(window), "stride": list(stride), "fill": request.fill}
    return {}
