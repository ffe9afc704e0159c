"""`extract_features`: a video -> a table of features that know their times.

VideoReader -> timeline -> windows | decoding thread: frames, resized once each | views -> network
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ..errors import ConfigError, VideoSwinError
from ..predictor import Predictor, Source
from ..preprocess import Frames, Views, crop_boxes, resized_size, views_from_frames
from ..receipt import Receipt
from ..sampled_view import sampled_views_of
from ..sampling import at_fps
from ..video import VideoReader
from ..video.content import content_digest
from .decoding import VideoEnds, VideoFrame, VideoStarts, decode_videos
from .network import FeatureNetwork
from .options import FeatureOptions
from .placement import (
    Timeline,
    Windows,
    sampled_windows,
    segment_windows,
    sliding_windows,
    stream_rows,
    timeline_of,
)
from .projection import Projection, load_projection, random_projection
from .table import FeatureSettings, FeatureTable, Floats, Ints, Mode, Pooling, VideoInfo

# Pixels of the windows that are computed at once: one window of the published size. On a CPU, more
# of them are slower; small windows are joined.
MAX_BATCH_ELEMENTS = 3 * 32 * 224 * 224
GPU_BATCH_WINDOWS = 8  # times as many on a GPU

Segments = Sequence[tuple[float, float]]
Progress = Callable[[int, int], None]


def extract_features(
    predictor: Predictor,
    source: Source,
    *,
    mode: Mode = "clip",
    window: int | None = None,
    stride: int | None = None,
    hop_frames: int | None = None,
    hop_seconds: float | None = None,
    num_windows: int | None = None,
    segments: Segments | None = None,
    fps: float | None = None,
    pooling: Pooling = "vector",
    stage: int | None = None,
    num_crops: int | Literal["full"] | None = None,
    average_crops: bool = True,
    project: int | str | Path | None = None,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> FeatureTable:
    """Extracts features of one video, with the frames and seconds that each row covers.

    Args:
        predictor: The model. Streams, tokens, maps and stages need the torch runtime.
        source: A video file, a folder of frames, or an array (T, H, W, 3) uint8 RGB.
        mode: "clip" computes each window of frames alone; "stream" computes one pass over the whole
            video (see `StreamingFeatures`).
        window: Frames per window; None for the model's. Not with "stream".
        stride: Step between the frames of a window, or of a stream; None for the model's.
        hop_frames: Frames between the starts of windows; None, without another placement, for one
            window after the other. In a stream, frames per row: a multiple of those of one time
            step, which is the default.
        hop_seconds: Seconds between the starts of windows, instead of `hop_frames`.
        num_windows: Windows per video, placed by the rule of the model.
        segments: (start, end) in seconds; one window in each, as if it were a video of its own.
        fps: Resample to this constant rate first; windows then count resampled frames. For arrays
            and folders of images, which have no times, it is the rate of the source.
        pooling: "vector" is the mean over time and space, "tokens" the mean over space of each time
            step, "map" everything, "logits" the scores of the classes before softmax.
        stage: Stage of the network from 0; None for the last one, which is normalized.
        num_crops: 1, 3, 5 or 10 square crops, or "full" for the whole frame; None for the model's.
        average_crops: Average over crops. If not, rows have an axis of crops.
        project: Channels of a random projection, or a .npy file with a matrix (channels, new
            channels); None for no projection.
        seed: Seed of the random projection.
        progress: Called with the number of finished rows and of all rows.

    Returns:
        The features.

    Raises:
        VideoDecodeError: The video cannot be read.
        ConfigError: The options contradict each other, the model or the video.
    """
    options = FeatureOptions(
        mode=mode,
        window=window,
        stride=stride,
        hop_frames=hop_frames,
        hop_seconds=hop_seconds,
        num_windows=num_windows,
        segments=None if segments is None else tuple(segments),
        fps=fps,
        pooling=pooling,
        stage=stage,
        num_crops=num_crops,
        average_crops=average_crops,
        project=project,
        seed=seed,
    )
    (extracted,) = FeatureExtractor(predictor, options).extract_many([source], progress=progress)
    if extracted.error is not None:
        raise extracted.error
    assert extracted.table is not None
    return extracted.table


@dataclass(frozen=True, eq=False)
class ExtractedFeatures:
    """The features of one of many videos, or the error why there are none."""

    source: Source
    table: FeatureTable | None
    error: VideoSwinError | None = None


@dataclass(frozen=True, eq=False)
class _VideoPlan:
    source: Source
    info: VideoInfo
    video_size: tuple[int, int]
    timeline: Timeline
    windows: Windows
    settings: FeatureSettings
    steps_per_row: int
    placement: dict[str, Any]
    request: str


class FeatureExtractor:
    """Extracts the same features of any number of videos.

    Args:
        predictor: The model.
        options: Which features.
        segments: (start, end) in seconds for each source, instead of the segments of the options.

    Raises:
        ConfigError: The options contradict each other or the model.
        DataError: The projection cannot be read.
    """

    def __init__(
        self,
        predictor: Predictor,
        options: FeatureOptions,
        segments: Mapping[str, Segments] | None = None,
    ) -> None:
        if segments is not None:
            # As if they were given with the options, which checks them against the other ones.
            first = next(iter(segments.values()), ())
            options = dataclasses.replace(options, segments=tuple(first))
        self.options = options
        self._segments = segments
        crops: int | Literal["full"] | None = options.num_crops
        if crops is None:
            base = predictor.bundle.preprocessing
            crops = "full" if base.whole_frame else base.num_crops
        num_clips = options.num_windows or 1
        self._predictor = predictor.with_views(num_clips, crops)
        sampling = self._predictor.bundle.sampling
        if options.stride is not None:
            sampling = dataclasses.replace(sampling, stride=options.stride, stride_seconds=None)
        if options.window is not None:
            sampling = dataclasses.replace(sampling, num_frames=options.window)
        self._sampling = sampling
        self._preprocessing = self._predictor.bundle.preprocessing
        self._network = FeatureNetwork(self._predictor, options)
        self._projection = self._open_projection()
        self._settings = self._base_settings()

    def request(self, source: Source) -> str:
        """Returns the SHA-256 of everything that determines the features of a video.

        Args:
            source: The video; its content counts, not its name.

        Raises:
            OSError: The video cannot be read.
        """
        return self._request(content_digest(source), self._segments_of(source))

    def extract_many(
        self,
        sources: Iterable[Source],
        progress: Progress = lambda done, total: None,
    ) -> Iterator[ExtractedFeatures]:
        """Extracts features of videos. Decoding runs ahead of the network, also across videos.

        Args:
            sources: The videos.
            progress: Called with the number of finished rows and of all rows of a video.

        Yields:
            The features in order; with `error` for a video that cannot be processed.
        """

        def plan(source: Source, video: VideoReader) -> tuple[_VideoPlan, Ints]:
            planned = self._plan(source, video)
            return planned, np.unique(planned.windows.indices)

        job: _Job | None = None
        planned: _VideoPlan | None = None
        source: Source = ""
        for event in decode_videos(
            sources,
            plan,
            self._preprocessing,
            allow_truncated=self._predictor.allow_truncated,
        ):
            try:
                if isinstance(event, VideoStarts):
                    source, planned = event.source, event.plan
                    job = self._job(planned, progress)
                elif isinstance(event, VideoFrame):
                    if job is not None:
                        job.add(event.index, event.pixels)
                elif isinstance(event, VideoEnds):
                    if event.error is not None:
                        yield ExtractedFeatures(event.source, None, event.error)
                    elif job is not None and planned is not None:
                        table = self._table(job.finish(), planned)
                        yield ExtractedFeatures(event.source, table)
                    job = None
            except VideoSwinError as error:  # of the network; the frames that follow are skipped
                job = None
                yield ExtractedFeatures(source, None, error)

    # Planning: in the decoding thread --------------------------------------------------------

    def _segments_of(self, source: Source) -> Segments | None:
        return self.options.segments if self._segments is None else self._segments[str(source)]

    def _plan(self, source: Source, video: VideoReader) -> _VideoPlan:
        options = self.options
        segments = self._segments_of(source)
        timeline = timeline_of(video, options.fps)
        settings, steps_per_row = self._settings, 0
        if options.mode == "stream":
            windows, steps_per_row = self._stream_windows(timeline)
            settings = dataclasses.replace(settings, num_frames=windows.span // windows.stride)
        elif segments is not None:
            windows = segment_windows(timeline, self._sampling, segments)
        elif options.num_windows is not None:
            windows = sampled_windows(timeline, self._sampling)
        else:
            windows = sliding_windows(
                timeline, self._sampling, options.hop_frames, options.hop_seconds
            )
        info = VideoInfo(
            name=_name(source),
            content_digest=content_digest(source),
            num_frames=timeline.num_video_frames,
            fps=timeline.fps,
            is_variable_rate=timeline.is_variable_rate,
            duration_seconds=timeline.duration_seconds,
            stride=windows.stride,
            span=windows.span,
            hop=windows.hop,
        )
        request = self._request(info.content_digest, segments)
        placement = self._placement(segments)
        return _VideoPlan(
            source,
            info,
            (video.height, video.width),
            timeline,
            windows,
            settings,
            steps_per_row,
            placement,
            request,
        )

    def _stream_windows(self, timeline: Timeline) -> tuple[Windows, int]:
        model = self._predictor.bundle.model
        patch, patch_stride = model.patch_size[0], (model.patch_stride or model.patch_size)[0]
        stride = at_fps(self._sampling, timeline.fps).stride
        frames_per_step = patch_stride * stride
        hop = self.options.hop_frames or frames_per_step
        if hop % frames_per_step:
            raise ConfigError(
                f"hop_frames is {hop}, but must be a multiple of {frames_per_step} in this stream: "
                f"a time step has {patch_stride} frames at stride {stride}."
            )
        steps_per_row = hop // frames_per_step
        return stream_rows(timeline, stride, patch, patch_stride, steps_per_row), steps_per_row

    def _base_settings(self) -> FeatureSettings:
        sampling, preprocessing = self._sampling, self._preprocessing
        options = self.options
        placed_by_rule = options.num_windows is not None or options.segments is not None
        return FeatureSettings(
            mode=options.mode,
            model=self._predictor.name,
            weights_digest=self._predictor.weights_digest,
            num_frames=sampling.num_frames,
            stride=None if sampling.stride_seconds is not None else sampling.stride,
            stride_seconds=sampling.stride_seconds,
            spread=sampling.rule == "uniform" and placed_by_rule,
            fps=options.fps,
            short_side=preprocessing.short_side,
            crop_size=preprocessing.crop_size,
            crops=preprocessing.crops,
            average_crops=options.average_crops,
            stage=self._network.stage,
            pooling=options.pooling,
            projection="" if self._projection is None else self._projection.description,
        )

    def _open_projection(self) -> Projection | None:
        project = self.options.project
        if project is None:
            return None
        if isinstance(project, int):
            channels = self._predictor.bundle.model.embed_dim << self._network.stage
            return random_projection(channels, project, self.options.seed)
        return load_projection(project)

    def _placement(self, segments: Segments | None) -> dict[str, Any]:
        names = ("hop_frames", "hop_seconds", "num_windows")
        placement = {name: getattr(self.options, name) for name in names}
        placement["segments"] = segments
        placement["rule"] = self._sampling.rule
        return {name: value for name, value in placement.items() if value is not None}

    def _request(self, digest: str, segments: Segments | None) -> str:
        request = {
            "content": digest,
            "settings": dataclasses.asdict(self._settings),
            "placement": self._placement(segments),
            "runtime": self._predictor.runtime.description,
            "version": version("video-swin-transformer"),
        }
        return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()

    # Computing -------------------------------------------------------------------------------

    def _job(self, planned: _VideoPlan, progress: Progress) -> _Job:
        if self.options.mode == "stream":
            return _StreamJob(
                self._network, planned.windows, planned.steps_per_row, self._views, progress
            )
        return _ClipJob(self._network, planned.windows, self._views, progress)

    def _views(self, clips: Frames) -> Views:
        return views_from_frames(clips, self._preprocessing)

    def _table(self, values: Floats, planned: _VideoPlan) -> FeatureTable:
        """Averages crops and projects: (crops, N, ...) -> (N, ...)."""
        if self.options.average_crops:
            values = values.mean(axis=0, dtype=np.float32)
        else:
            values = np.moveaxis(values, 0, 1)
        if self._projection is not None:
            axis = -4 if self.options.pooling == "map" else -1
            values = self._projection.apply(values, axis)
        windows = planned.windows
        edges = planned.timeline.edges_seconds
        if edges is None:
            edges = np.full(planned.timeline.num_video_frames + 1, np.nan)
        values = np.ascontiguousarray(values, np.float32)
        return FeatureTable(
            values=values,
            video_index=np.zeros(len(values), np.int64),
            start_frames=windows.start_frames.astype(np.int64),
            end_frames=windows.end_frames.astype(np.int64),
            start_seconds=edges[windows.start_frames],
            end_seconds=edges[windows.end_frames],
            videos=(planned.info,),
            settings=planned.settings,
            placement=planned.placement,
            lag_frames=self._lag_frames(windows.stride),
            library_version=version("video-swin-transformer"),
            request=planned.request,
            receipt=self._receipt(values, planned) if self._predictor.keeps_receipts else None,
        )

    def _receipt(self, values: Floats, planned: _VideoPlan) -> Receipt:
        options = dataclasses.asdict(self.options)
        options["segments"] = self._segments_of(planned.source)
        if isinstance(options["project"], Path):
            options["project"] = str(options["project"])
        timeline, preprocessing = planned.timeline, self._preprocessing
        edges = timeline.edges_seconds
        resized = resized_size(*planned.video_size, preprocessing.short_side)
        return self._predictor.receipt_of(
            "feature_rows",
            planned.info.name,
            planned.info.content_digest,
            timeline.num_video_frames,
            sampled_views_of(
                planned.windows.indices,
                None if edges is None else edges[:-1],
                crop_boxes(*resized, preprocessing),
                resized,
                planned.video_size,
            ),
            batches=(),
            values=values,
            options=options,
        )

    def _lag_frames(self, stride: int) -> tuple[int, int] | None:
        if self.options.mode == "clip":
            return None
        from .streaming import streaming_lag

        lag = streaming_lag(self._predictor.bundle.model, self._network.stage)
        return lag.min_frames * stride, lag.max_frames * stride


class _Job(Protocol):
    """Turns the frames of one video into rows."""

    def add(self, index: int, pixels: Frames) -> None:
        """Adds the next frame. An index that does not increase starts over."""

    def finish(self) -> Floats:
        """Returns (crops, N, ...) float32."""


class _ClipJob:
    """Computes each window as soon as its last frame is there."""

    def __init__(
        self,
        network: FeatureNetwork,
        windows: Windows,
        to_views: Callable[[Frames], Views],
        progress: Progress,
    ) -> None:
        self._network, self._to_views, self._progress = network, to_views, progress
        self._indices = windows.indices
        last = self._indices.max(axis=1)
        self._order = np.argsort(last, kind="stable")
        self._last = last[self._order]
        first = self._indices.min(axis=1)[self._order]
        # The first frame that the windows from each one on still need.
        self._needed = np.minimum.accumulate(first[::-1])[::-1]
        self._start_over()

    def _start_over(self) -> None:
        self._frames: dict[int, Frames] = {}
        self._num_done, self._num_ready = 0, 0
        self._rows: list[Floats] = []
        self._newest = -1

    def add(self, index: int, pixels: Frames) -> None:
        if index <= self._newest:
            self._start_over()
        self._newest = index
        self._frames[index] = pixels
        while self._num_ready < len(self._order) and self._last[self._num_ready] <= index:
            self._num_ready += 1
            if self._num_ready - self._num_done >= self._batch_size(pixels):
                self._run()

    def finish(self) -> Floats:
        if self._num_ready > self._num_done:
            self._run()
        rows = np.concatenate(self._rows, axis=1)  # (crops, N, ...) in the order of computation
        out = np.empty_like(rows)
        out[:, self._order] = rows
        return out

    def _batch_size(self, pixels: Frames) -> int:
        factor = GPU_BATCH_WINDOWS if self._network.is_on_gpu else 1
        return max(1, factor * MAX_BATCH_ELEMENTS // int(pixels.size * self._indices.shape[1]))

    def _run(self) -> None:
        batch = self._order[self._num_done : self._num_ready]
        used = self._indices[batch]
        clips = np.concatenate([self._frames[index] for index in used.ravel().tolist()])
        views = self._to_views(clips.reshape(*used.shape, *clips.shape[1:]))
        rows = self._network.run(views)
        self._rows.append(rows.reshape(-1, len(batch), *rows.shape[1:]))
        self._num_done = self._num_ready
        if self._num_done < len(self._order):
            for index in [i for i in self._frames if i < self._needed[self._num_done]]:
                del self._frames[index]
        self._progress(self._num_done, len(self._order))


class _StreamJob:
    """Feeds a stream, and averages its time steps into rows."""

    def __init__(
        self,
        network: FeatureNetwork,
        windows: Windows,
        steps_per_row: int,
        to_views: Callable[[Frames], Views],
        progress: Progress,
    ) -> None:
        self._network, self._to_views, self._progress = network, to_views, progress
        frames, repeats = np.unique(windows.indices, return_counts=True)
        self._repeats = dict(zip(frames.tolist(), repeats.tolist(), strict=True))
        self._num_rows = len(windows.start_frames)
        self._steps_per_row = steps_per_row
        _, model = network.torch_runtime()
        self._chunk = model.config.window_size[0] * model.config.patch_size[0]
        self._start_over()

    def _start_over(self) -> None:
        from .streaming import StreamingFeatures

        _, model = self._network.torch_runtime()
        self._stream = StreamingFeatures(
            model, self._network.stage, pooled=self._network.pooling != "map"
        )
        self._waiting: list[Frames] = []
        self._steps: list[Floats] = []  # each (crops, n, C) or (crops, C, n, h, w)
        self._rows: list[Floats] = []
        self._newest = -1

    def add(self, index: int, pixels: Frames) -> None:
        if index <= self._newest:
            self._start_over()
        self._newest = index
        self._waiting += [pixels] * self._repeats[index]
        if len(self._waiting) >= self._chunk:
            self._push()

    def finish(self) -> Floats:
        if self._waiting:
            self._push()
        runtime, _ = self._network.torch_runtime()
        with runtime.inference():
            self._steps.append(self._stream.finish().float().cpu().numpy())
        self._collect(is_end=True)
        return np.concatenate(self._rows, axis=1)

    def _push(self) -> None:
        import torch

        runtime, _ = self._network.torch_runtime()
        views = self._to_views(np.concatenate(self._waiting)[None])
        self._waiting = []
        with runtime.inference():
            steps = self._stream.push(torch.from_numpy(views).to(runtime.device))
        self._steps.append(steps.float().cpu().numpy())
        self._collect(is_end=False)
        self._progress(sum(row.shape[1] for row in self._rows), self._num_rows)

    def _collect(self, is_end: bool) -> None:
        """Makes rows of the complete groups of time steps."""
        is_map = self._network.pooling == "map"
        axis = 2 if is_map else 1
        steps = np.concatenate(self._steps, axis=axis)
        size = self._steps_per_row
        num_groups = steps.shape[axis] // size
        if is_end and not self._rows and num_groups == 0:  # the only row, shorter than others
            num_groups, size = 1, steps.shape[axis]
        used, rest = np.split(steps, [num_groups * size], axis=axis)
        self._steps = [rest]
        if num_groups == 0:
            return
        # (crops, k * g, C) -> (crops, k, g, C); (crops, C, k * g, h, w) -> (crops, C, k, g, h, w)
        grouped = used.reshape(*used.shape[:axis], num_groups, size, *used.shape[axis + 1 :])
        if is_map:
            grouped = np.moveaxis(grouped, 2, 1)
        elif self._network.pooling == "vector":
            grouped = grouped.mean(axis=2)
        self._rows.append(grouped)


def _name(source: Source) -> str:
    return f"array {source.shape}" if isinstance(source, np.ndarray) else str(source)
