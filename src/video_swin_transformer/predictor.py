"""`Predictor`: classifies videos and extracts features.

VideoReader -> clip_indices -> frames_at -> views_from_frames -> Runtime.run -> average_views
"""

from __future__ import annotations

import dataclasses
import functools
import html
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from .adaptive_views import DEFAULT_ERROR_RATE, is_decided, view_order
from .config import BundleConfig, Preprocessing, require
from .errors import CheckpointError, ConfigError, VideoDecodeError, VideoSwinError
from .labels import read_labels
from .plotting import frames_html
from .postprocess import ViewOutputs, average_crops, average_views, combine_views
from .preprocess import (
    Frames,
    Views,
    crop_boxes,
    require_resized_size,
    resize_frames,
    resized_size,
    views_from_frames,
)
from .receipt import Kind, ModelOrigin, Receipt, environment
from .runtimes import Runtime, open_runtime
from .runtimes.lazy_model import weights_digest
from .sampled_view import SampledView, sampled_views_of
from .sampling import Indices, clip_indices
from .video import FrameFolder, VideoReader, VideoSegment
from .video.content import content_digest
from .video.inputs import VideoSource, source_name
from .video.segment import parse_segment
from .weights import resolve_model

Floats: TypeAlias = npt.NDArray[np.float32]
Source: TypeAlias = VideoSource
T = TypeVar("T")

_HTML_FRAMES = 6  # of a classification in a notebook
MAX_CLIPS = 1000  # per video; the frames of all of them are in memory at once


@dataclass(frozen=True, eq=False)
class Classification:
    """The classification of one video.

    Attributes:
        source: The video.
        model: Name of the model.
        labels: Class names; empty if the model has none.
        scores: (K,) float32, in [0, 1]. They sum to 1, except for multi-label models
            (`BundleConfig.multi_label`). Empty if `error` is set.
        view_scores: (V, K) float32, the scores of each view, crop-major, or with adaptive views in
            the order of `view_order`. Empty if `error` is set.
        timing_seconds: Time spent in "decode", "preprocess" and "network".
        error: The error, if the video could not be classified.
        max_views: Number of views that could have been used.
        receipt: Where the scores came from; see `Predictor.with_receipts`.
    """

    source: str
    model: str
    labels: tuple[str, ...]
    scores: Floats
    view_scores: Floats
    timing_seconds: dict[str, float]
    error: VideoSwinError | None = None
    max_views: int = 0
    receipt: Receipt | None = None

    @property
    def num_views(self) -> int:
        """Number of views that were used."""
        return len(self.view_scores)

    def top_indices(self, k: int = 5) -> list[int]:
        """Returns the class indices of the k highest scores.

        Args:
            k: Number of classes.

        Returns:
            Class indices in descending order of score; ties are ordered by index.

        Raises:
            ConfigError: k is negative.
        """
        require(k >= 0, "k", k, "at least 0")
        order = np.argsort(-self.scores, kind="stable")[:k]
        return [int(index) for index in order]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Returns the labels with the k highest scores.

        Args:
            k: Number of classes.

        Returns:
            (label, score) pairs in descending order of score.
        """
        return [(self.label(i), float(self.scores[i])) for i in self.top_indices(k)]

    def label(self, index: int) -> str:
        """Returns the name of a class, or its index as text if there are no names.

        Args:
            index: Class index.
        """
        return self.labels[index] if self.labels else str(index)

    def summary(self, k: int = 5) -> str:
        """Formats the source and the k highest scores, one per line.

        Args:
            k: Number of classes.
        """
        if self.error is not None:
            return f"{self.source}\n   error: {self.error}"
        return "\n".join([self.source, *(f"{score:8.1%}  {name}" for name, score in self.top(k))])

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        """Frames of the video, if it is a readable file, and the highest scores, for notebooks."""
        if self.error is not None:
            return f"<div>{html.escape(self.summary())}</div>"
        frames, captions = _sample_frames(self.source)
        heading = f"{Path(self.source).name} \u2013 {self.model}, {self.num_views} views"
        return frames_html(frames, captions, heading, self.top())

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Classification({self.source!r}, error={self.error!r})"
        best = ", ".join(f"{name} {score:.3f}" for name, score in self.top(3))
        return f"Classification({self.source!r}, {best})"


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """The features of one video.

    Attributes:
        source: The video.
        model: Name of the model.
        features: (num_clips, C) float32, averaged over crops, time and space. Empty if `error` is
            set.
        timing_seconds: Time spent in "decode", "preprocess" and "network".
        error: The error, if the video could not be processed.
        receipt: Where the features came from; see `Predictor.with_receipts`.
    """

    source: str
    model: str
    features: Floats
    timing_seconds: dict[str, float]
    error: VideoSwinError | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """The numbers that a regression model predicts for one video.

    Attributes:
        source: The video.
        model: Name of the model.
        targets: Names of the numbers.
        values: (R,) float32, in the units of the training data. Empty if `error` is set.
        view_values: (V, R) float32, those of each view.
        timing_seconds: Time spent in "decode", "preprocess" and "network".
        error: The error, if the video could not be processed.
        receipt: Where the values came from; see `Predictor.with_receipts`.
    """

    source: str
    model: str
    targets: tuple[str, ...]
    values: Floats
    view_values: Floats
    timing_seconds: dict[str, float]
    error: VideoSwinError | None = None
    receipt: Receipt | None = None

    def to_dict(self) -> dict[str, float]:
        """Returns the numbers by name."""
        return dict(zip(self.targets, map(float, self.values), strict=False))

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Prediction({self.source!r}, error={self.error!r})"
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.to_dict().items())
        return f"Prediction({self.source!r}, {values})"


@dataclass(frozen=True, eq=False)
class ViewLogits:
    """The logits of each view of one video.

    Attributes:
        source: The video.
        logits: (V, num_classes) float32, crop-major. Empty if `error` is set.
        error: The error, if the video could not be processed.
    """

    source: str
    logits: Floats
    error: VideoSwinError | None = None


class _Seen(NamedTuple):
    """What of a video was read."""

    indices: Indices  # (K, T)
    times_seconds: npt.NDArray[np.float64] | None  # of all frames
    num_frames: int
    video_size: tuple[int, int]


class _ReadVideo(NamedTuple):
    views: Views
    timing_seconds: dict[str, float]
    seen: _Seen


class Predictor:
    """A model with its sampling, preprocessing and runtime.

    Predictors are thread-safe and immutable: `with_views` and similar methods return a new one.
    They can be called, as `classify`, and pickled: a copy loads the same model again.
    The iterators of `classify_many` and similar methods are not thread-safe.

    Args:
        runtime: The loaded model.
        name: Name of the model, for display.
        weights: The files it was loaded from, if known.

    >>> predictor = Predictor.load("camera-motion")                            # doctest: +SKIP
    >>> predictor.classify("clip.mp4").top(1)                                  # doctest: +SKIP
    [('pan_right', 0.97)]
    """

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        weights: Path | None = None,
        *,
        allow_truncated: bool = False,
    ) -> None:
        self.runtime = runtime
        self.allow_truncated = allow_truncated
        self.bundle = runtime.bundle
        self.name = name
        self._weights = weights
        self.keeps_receipts = False
        self._error_rate: float | None = None  # of adaptive views
        self._arguments: dict[str, Any] | None = None  # of `load`

    @functools.cached_property
    def weights_digest(self) -> str:
        """SHA-256 of the files of the model, which features carry; "" if they are unknown."""
        return "" if self._weights is None else weights_digest(self._weights)

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        config: str | Path | None = None,
        checkpoint: str | Path | None = None,
        runtime: str = "auto",
        precision: str = "f32",
        device: str = "auto",
        threads: int | None = None,
        allow_truncated: bool = False,
    ) -> Self:
        """Loads a model.

        Args:
            model: A name, folder or file, or an exported model (which needs no torch); None for
                the model bundled with the package.
            config: An official or mmaction2 config file, to be given with `checkpoint` instead of
                `model`. Model, sampling, views, preprocessing and averaging are those of the
                config, so the scores match the official test script.
            checkpoint: The weights for `config`.
            runtime: "auto", "torch", "openvino", "onnxruntime" or "torch-compile".
            precision: "f32" or "bf16".
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            threads: Number of CPU threads; None for the default of the runtime.
            allow_truncated: Read videos whose end is missing as far as they go, with a warning,
                instead of refusing them.

        Returns:
            The predictor.

        Raises:
            UnknownNameError: No model or runtime has this name.
            CheckpointError: The weights cannot be found or read.
            ConfigError: The arguments contradict each other.
            MissingExtraError: The runtime is not installed.
        """
        if config is not None or checkpoint is not None:
            if model is not None or config is None or checkpoint is None:
                raise ConfigError(
                    "config and checkpoint must be given together, without model. To load a "
                    "weights file without a config file, pass it as model."
                )
            from .openmmlab import bundle_for_testing

            bundle = bundle_for_testing(config)
            resolved = resolve_model(checkpoint)
            opened = open_runtime(
                resolved, runtime, precision, device, bundle=bundle, threads=threads
            )
            loaded = cls(opened, str(checkpoint), resolved.path, allow_truncated=allow_truncated)
        else:
            resolved = resolve_model(model)
            opened = open_runtime(resolved, runtime, precision, device, threads=threads)
            loaded = cls(opened, resolved.name, resolved.path, allow_truncated=allow_truncated)
        loaded._arguments = {
            "model": model,
            "config": config,
            "checkpoint": checkpoint,
            "runtime": runtime,
            "precision": precision,
            "device": device,
            "threads": threads,
            "allow_truncated": allow_truncated,
        }
        return loaded

    def with_views(self, num_clips: int, num_crops: int | Literal["full"]) -> Self:
        """Returns the same model with a different number of views per video.

        Args:
            num_clips: Number of clips per video.
            num_crops: Number of square crops per clip, 1, 3, 5 or 10; "full" uses the whole resized
                frame. For ten crops the short side is at least 8/7 of the crop, as usual (256 for
                224), since corners of a smaller frame coincide.

        Returns:
            A new predictor that shares the runtime.

        Raises:
            ConfigError: The number is not supported, or the model uses uniform sampling, which
                requires one clip.
        """
        require(num_clips <= MAX_CLIPS, "num_clips", num_clips, f"at most {MAX_CLIPS}")
        if self.bundle.sampling.rule == "uniform" and num_clips != 1:
            raise ConfigError(
                f"The number of clips is {num_clips}, but the model {self.name} uses uniform "
                f"sampling, which requires one clip; use 1x{num_crops} views."
            )
        sampling = dataclasses.replace(self.bundle.sampling, num_clips=num_clips)
        base = self.bundle.preprocessing
        short_side = base.short_side
        if num_crops == 10:
            short_side = max(short_side, round(base.crop_size * 8 / 7))
        preprocessing = dataclasses.replace(
            base,
            short_side=short_side,
            num_crops=1 if num_crops == "full" else num_crops,
            whole_frame=num_crops == "full",
        )
        return self._with(
            dataclasses.replace(self.bundle, sampling=sampling, preprocessing=preprocessing)
        )

    def with_adaptive_views(
        self,
        num_clips: int = 4,
        num_crops: int = 3,
        error_rate: float = DEFAULT_ERROR_RATE,
    ) -> Self:
        """Returns the same model that adds views to a video until its label is stable.

        The rule is in the module `adaptive_views`. Only `classify` and `classify_many` use it.

        Args:
            num_clips: Number of clips that there can be.
            num_crops: Number of crops per clip that there can be, 1, 3, 5 or 10.
            error_rate: Nominal chance that the label differs from that of all views.

        Returns:
            A new predictor that shares the runtime.

        Raises:
            ConfigError: A number is not supported, or the model has several labels per video.
        """
        require(0 < error_rate < 1, "error_rate", error_rate, "above 0 and below 1")
        if self.bundle.multi_label:
            raise ConfigError(
                f"The model {self.name} has several labels per video, but adaptive views look for "
                "one; use a fixed number of views, such as 4x3."
            )
        if self.bundle.sampling.rule == "uniform":
            num_clips = 1
        other = self.with_views(num_clips, num_crops)
        other._error_rate = error_rate
        return other

    def with_rule(self, rule: str) -> Self:
        """Returns the same model with a different sampling rule.

        Args:
            rule: "official", "mmaction2" or "uniform" (one clip).

        Returns:
            A new predictor that shares the runtime.

        Raises:
            ConfigError: The rule is unknown.
        """
        num_clips = 1 if rule == "uniform" else self.bundle.sampling.num_clips
        sampling = dataclasses.replace(self.bundle.sampling, rule=rule, num_clips=num_clips)
        return self._with(dataclasses.replace(self.bundle, sampling=sampling))

    def with_labels(self, path: str | Path) -> Self:
        """Returns the same model with the labels of a file.

        Args:
            path: Text file with one label per line, JSON or CSV.

        Returns:
            A new predictor that shares the runtime.

        Raises:
            DataError: The file cannot be read, or the number of labels is wrong.
        """
        labels = read_labels(path, self.bundle.model.num_classes)
        return self._with(dataclasses.replace(self.bundle, labels=labels))

    def with_bundle(self, bundle: BundleConfig) -> Self:
        """Returns the same model with a different sampling, preprocessing and averaging.

        Args:
            bundle: The configuration; its network must be that of the model.

        Returns:
            A new predictor that shares the runtime.

        Raises:
            ConfigError: The network is another one.
        """
        if bundle.model != self.bundle.model:
            raise ConfigError(
                f"The configuration is of another network than {self.name}; change its sampling, "
                "preprocessing and averaging only."
            )
        return self._with(bundle)

    def with_receipts(self) -> Self:
        """Returns the same model, whose results say where they came from.

        Results of `classify`, `features`, their variants for many videos and `extract_features`
        then have a `receipt`: frames, times and crops of each view, digests of the video and the
        weights, and versions of libraries. `vst.replay` repeats it. Each video is read once more
        for its digest.

        Returns:
            A new predictor that shares the runtime.
        """
        other = self._with(self.bundle)
        other.keeps_receipts = True
        return other

    def receipt_of(
        self,
        kind: Kind,
        source: str,
        content_digest: str,
        num_video_frames: int,
        views: tuple[SampledView, ...],
        batches: tuple[int, ...],
        values: Floats,
        options: dict[str, Any] | None = None,
    ) -> Receipt:
        """Makes the receipt of a result of this model; see `Receipt` for the arguments."""
        arguments = self._arguments or {}
        texts = {
            name: None if arguments.get(name) is None else str(arguments[name])
            for name in ("model", "config", "checkpoint")
        }
        origin = ModelOrigin(
            **texts,
            precision=arguments.get("precision", "f32"),
            threads=arguments.get("threads"),
            allow_truncated=self.allow_truncated,
        )
        return Receipt(
            kind=kind,
            source=source,
            content_digest=content_digest,
            num_video_frames=num_video_frames,
            views=views,
            batches=batches,
            model=self.name,
            weights_digest=self.weights_digest,
            origin=origin,
            bundle=dataclasses.replace(self.bundle, labels=()),
            runtime=self.runtime.info,
            options=options,
            environment=environment(),
            values=values,
        )

    def _receipt(
        self, kind: Kind, source: Source, seen: _Seen, num_views: int, values: Floats
    ) -> Receipt | None:
        if not self.keeps_receipts:
            return None
        try:
            digest = content_digest(source)
        except OSError as error:
            reason = f"{error.filename or source_name(source)}: {error.strerror or error}"
            raise VideoDecodeError(f"The video cannot be read: {reason}.") from error
        preprocessing = self.bundle.preprocessing
        resized = resized_size(*seen.video_size, preprocessing.short_side)
        views = sampled_views_of(
            seen.indices,
            seen.times_seconds,
            crop_boxes(*resized, preprocessing),
            resized,
            seen.video_size,
        )
        batches: tuple[int, ...] = (len(views),)
        if self._error_rate is not None and kind == "scores":
            num_clips = len(seen.indices)
            order = view_order(num_clips, preprocessing.num_crops)[:num_views]
            views = tuple(views[crop * num_clips + clip] for clip, crop in order)
            batches = (1,) * num_views
        return self.receipt_of(
            kind, source_name(source), digest, seen.num_frames, views, batches, values
        )

    def _with(self, bundle: BundleConfig) -> Self:
        other = type(self)(
            self.runtime, self.name, self._weights, allow_truncated=self.allow_truncated
        )
        other.bundle = bundle
        other.keeps_receipts = self.keeps_receipts
        other._error_rate = self._error_rate
        other._arguments = self._arguments
        return other

    def __repr__(self) -> str:
        return f"Predictor({self.name!r}, {self.runtime.description}, {self.views_text})"

    @property
    def views_text(self) -> str:
        """The views, for display."""
        clips, crops = self.bundle.sampling.num_clips, self.bundle.preprocessing.crops
        adaptive = "" if self._error_rate is None else "up to "
        return f"{adaptive}{clips}x{crops} views"

    def classify(self, source: Source) -> Classification:
        """Classifies one video.

        Args:
            source: A video file, a folder of frames, an array or tensor (T, H, W, 3) or
                (T, 3, H, W) uint8 RGB, a list of PIL images or other frames, or the content of a
                video file as bytes or a binary file object; see `VideoReader`.

        Returns:
            The scores, averaged over views.

        Raises:
            VideoDecodeError: The video cannot be read.
            ConfigError: The model has no classifier.
        """
        self._require_classifier()
        if self._error_rate is not None:
            with self._open_views(source) as views:
                return self._classify_adaptively(views)
        return self._classify_views(source, self._read_views(source))

    def features(self, source: Source) -> ClipFeatures:
        """Extracts one feature vector per clip of a video.

        Args:
            source: See `classify`.

        Returns:
            The features, averaged over crops.

        Raises:
            VideoDecodeError: The video cannot be read.
        """
        return self._extract(source, self._read_views(source))

    def predict(self, source: Source) -> Prediction:
        """Predicts the numbers of one video with a regression model.

        Args:
            source: See `classify`.

        Returns:
            The numbers in original units, averaged over views.

        Raises:
            VideoDecodeError: The video cannot be read.
            ConfigError: The model has no regression targets.
        """
        self._require_targets()
        return self._predicted(self._classify_views(source, self._read_views(source)))

    def predict_many(self, sources: Iterable[Source]) -> Iterator[Prediction]:
        """Predicts the numbers of videos. The next video is decoded while the model runs.

        Args:
            sources: The videos; see `classify`.

        Yields:
            The results in order. For a video that cannot be processed, `error` is set.

        Raises:
            ConfigError: The model has no regression targets.
        """
        self._require_targets()
        for source, read in self._read_ahead(_several(sources), self._read_views):
            try:
                yield self._predicted(self._classify_views(source, read.result()))
            except VideoSwinError as error:
                yield self._predicted(self._failed(source, error))

    def _predicted(self, found: Classification) -> Prediction:
        return Prediction(
            found.source,
            found.model,
            tuple(target.name for target in self.bundle.targets),
            found.scores,
            found.view_scores,
            found.timing_seconds,
            found.error,
            found.receipt,
        )

    def _require_targets(self) -> None:
        if not self.bundle.targets:
            raise ConfigError(
                f"The model {self.name} has classes, not regression targets; use classify."
            )

    def views(self, source: Source) -> Views:
        """Reads and preprocesses a video.

        Args:
            source: See `classify`.

        Returns:
            (V, C, T, H, W) float32, normalized, crop-major: the input of the model.

        Raises:
            VideoDecodeError: The video cannot be read.
        """
        return self._read_views(source).views

    def classify_many(self, sources: Iterable[Source]) -> Iterator[Classification]:
        """Classifies videos. The next video is decoded while the model runs on the current one.

        Args:
            sources: The videos; see `classify`.

        Yields:
            The results in order. For a video that cannot be classified, `error` is set.

        Raises:
            ConfigError: The model has no classifier.
        """
        self._require_classifier()
        sources = _several(sources)
        if self._error_rate is not None:
            yield from self._classify_many_adaptively(sources)
            return
        for source, read in self._read_ahead(_several(sources), self._read_views):
            try:
                yield self._classify_views(source, read.result())
            except VideoSwinError as error:
                yield self._failed(source, error)

    def __call__(self, source: Source) -> Classification:
        """Classifies one video; see `classify`."""
        return self.classify(source)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickles what it was loaded from, since compiled models cannot be pickled."""
        if self._arguments is None:
            return super().__reduce__()
        state = (self.bundle, self._error_rate, self.keeps_receipts)
        return _reload, (type(self), self._arguments, *state)

    def _failed(self, source: Source, error: VideoSwinError) -> Classification:
        empty = np.empty(0, np.float32)
        return Classification(
            source_name(source), self.name, (), empty, empty.reshape(0, 0), {}, error
        )

    def _classify_many_adaptively(self, sources: Iterable[Source]) -> Iterator[Classification]:
        for source, opened in self._read_ahead(sources, self._open_views):
            try:
                with opened.result() as views:
                    yield self._classify_adaptively(views)
            except VideoSwinError as error:
                yield self._failed(source, error)

    def view_logits_many(
        self, sources: Iterable[Source], num_readers: int = 1
    ) -> Iterator[ViewLogits]:
        """Computes the logits of each view, before softmax and averaging.

        Args:
            sources: The videos; see `classify`.
            num_readers: Number of threads that decode videos.

        Yields:
            The results in order. For a video that cannot be processed, `error` is set.

        Raises:
            ConfigError: The model has no classifier.
        """
        self._require_classifier()
        for source, read in self._read_ahead(_several(sources), self._read_views, num_readers):
            try:
                logits = self._run(read.result().views).logits
                yield ViewLogits(source_name(source), logits)
            except VideoSwinError as error:
                yield ViewLogits(source_name(source), np.empty((0, 0), np.float32), error)

    def features_many(self, sources: Iterable[Source]) -> Iterator[ClipFeatures]:
        """Extracts features of videos. The next video is decoded while the model runs.

        Args:
            sources: The videos; see `classify`.

        Yields:
            The results in order. For an unreadable video, `error` is set.
        """
        for source, read in self._read_ahead(_several(sources), self._read_views):
            try:
                yield self._extract(source, read.result())
            except VideoSwinError as error:
                empty = np.empty((0, 0), np.float32)
                yield ClipFeatures(source_name(source), self.name, empty, {}, error)

    def _require_classifier(self) -> None:
        if self.bundle.targets:
            names = ", ".join(target.name for target in self.bundle.targets)
            raise ConfigError(
                f"The model {self.name} predicts numbers ({names}), not classes; use predict "
                "(videoswin predict)."
            )
        if self.bundle.model.num_classes == 0:
            raise ConfigError(
                f"The model {self.name} has no classifier; extract features instead, or load "
                "weights with a classifier."
            )

    def _read_ahead(
        self, sources: Iterable[Source], read: Callable[[Source], T], num_readers: int = 1
    ) -> Iterator[tuple[Source, Future[T]]]:
        with ThreadPoolExecutor(max_workers=num_readers) as reader:
            pending: deque[tuple[Source, Future[T]]] = deque()
            for source in sources:
                pending.append((source, reader.submit(read, source)))
                if len(pending) > num_readers:
                    yield pending.popleft()
            while pending:
                yield pending.popleft()

    def _read_views(self, source: Source) -> _ReadVideo:
        start = time.perf_counter()
        with VideoReader(source, allow_truncated=self.allow_truncated) as video:
            indices = clip_indices(video.num_frames, self.bundle.sampling, video.fps)
            clips, resize_seconds = resized_clips(video, indices, self.bundle.preprocessing)
            seen = _seen(video, indices)
        decoded = time.perf_counter()
        views = views_from_frames(clips, self.bundle.preprocessing)
        done = time.perf_counter()
        decode_seconds = decoded - start - resize_seconds
        timing_seconds = {"decode": decode_seconds, "preprocess": done - start - decode_seconds}
        return _ReadVideo(views, timing_seconds, seen)

    def _classify_views(self, source: Source, read: _ReadVideo) -> Classification:
        views, timing_seconds, seen = read
        start = time.perf_counter()
        logits = self._run(views).logits
        timing_seconds["network"] = time.perf_counter() - start
        bundle = self.bundle
        scores, view_scores = combine_views(logits, bundle)
        return Classification(
            source=source_name(source),
            model=self.name,
            labels=bundle.labels,
            scores=scores,
            view_scores=view_scores,
            timing_seconds=timing_seconds,
            max_views=len(views),
            receipt=self._receipt("scores", source, seen, len(views), scores),
        )

    def _run(self, views: Views) -> ViewOutputs:
        outputs = self.runtime.run(views)
        require_finite_outputs(self, outputs)
        return outputs

    def _open_views(self, source: Source) -> _ViewReader:
        return _ViewReader(source, self.bundle, self.allow_truncated)

    def _classify_adaptively(self, views: _ViewReader) -> Classification:
        assert self._error_rate is not None
        bundle = self.bundle
        order = view_order(bundle.sampling.num_clips, bundle.preprocessing.num_crops)
        logits: list[Floats] = []
        network_seconds = 0.0
        for clip, crop in order:
            view = views.read(clip, crop)
            start = time.perf_counter()
            logits.append(self._run(view).logits)
            network_seconds += time.perf_counter() - start
            scores, view_scores = average_views(
                np.concatenate(logits), bundle.average_clips, bundle.multi_label
            )
            if is_decided(view_scores, len(order), self._error_rate):
                break
        return Classification(
            source=source_name(views.source),
            model=self.name,
            labels=bundle.labels,
            scores=scores,
            view_scores=view_scores,
            timing_seconds={**views.timing_seconds, "network": network_seconds},
            max_views=len(order),
            receipt=self._receipt("scores", views.source, views.seen, len(logits), scores),
        )

    def _extract(self, source: Source, read: _ReadVideo) -> ClipFeatures:
        views, timing_seconds, seen = read
        start = time.perf_counter()
        features = self._run(views).features
        timing_seconds["network"] = time.perf_counter() - start
        per_clip = average_crops(features, self.bundle.preprocessing.num_crops)
        receipt = self._receipt("features", source, seen, len(views), per_clip)
        return ClipFeatures(source_name(source), self.name, per_clip, timing_seconds, None, receipt)


def _seen(video: VideoReader, indices: Indices) -> _Seen:
    return _Seen(indices, video.times_seconds, video.num_frames, (video.height, video.width))


def resized_clips(
    video: VideoReader, indices: Indices, preprocessing: Preprocessing
) -> tuple[Frames, float]:
    """Reads clips, each frame resized as it is decoded.

    Args:
        video: The video.
        indices: (K, T) frame indices.
        preprocessing: The short side.

    Returns:
        (K, T, H, W, 3) uint8, and the seconds spent on resizing.
    """
    side, interpolation = preprocessing.short_side, preprocessing.interpolation
    require_resized_size(indices.size, video.height, video.width, side)
    seconds = 0.0

    def resize(frame: Frames) -> Frames:
        nonlocal seconds
        start = time.perf_counter()
        resized: Frames = resize_frames(frame[None], side, interpolation)[0]
        seconds += time.perf_counter() - start
        return resized

    frames = video.frames_at(indices.ravel(), resize)
    return frames.reshape(*indices.shape, *frames.shape[1:]), seconds


class _ViewReader:
    """The views of one video, read clip by clip. The first clip is read when it is opened."""

    def __init__(self, source: Source, bundle: BundleConfig, allow_truncated: bool) -> None:
        self.source, self._bundle = source, bundle
        self.timing_seconds = {"decode": 0.0, "preprocess": 0.0}
        self._clips: dict[int, Views] = {}
        start = time.perf_counter()
        self._video = VideoReader(source, allow_truncated=allow_truncated)
        self.timing_seconds["decode"] = time.perf_counter() - start
        try:
            self._indices = clip_indices(self._video.num_frames, bundle.sampling, self._video.fps)
            first_clip, _ = view_order(len(self._indices), bundle.preprocessing.num_crops)[0]
            self._read_clip(first_clip)
        except BaseException:
            self._video.close()
            raise

    @property
    def seen(self) -> _Seen:
        """What of the video can be read."""
        return _seen(self._video, self._indices)

    def read(self, clip: int, crop: int) -> Views:
        """Returns one view, (1, C, T, H, W)."""
        if clip not in self._clips:
            self._read_clip(clip)
        return self._clips[clip][crop : crop + 1]

    def _read_clip(self, clip: int) -> None:
        start = time.perf_counter()
        preprocessing = self._bundle.preprocessing
        indices = self._indices[clip : clip + 1]
        clips, resize_seconds = resized_clips(self._video, indices, preprocessing)
        decode_seconds = time.perf_counter() - start - resize_seconds
        self._clips[clip] = views_from_frames(clips, preprocessing)
        self.timing_seconds["decode"] += decode_seconds
        self.timing_seconds["preprocess"] += time.perf_counter() - start - decode_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._video.close()


def _sample_frames(source: str) -> tuple[list[Frames], list[str]]:
    """A few frames of a video and their captions; none if it cannot be read now."""
    segment = parse_segment(source)
    if not Path(source if segment is None else segment.path).exists():
        return [], []  # an array has no frames left
    try:
        with VideoReader(source if segment is None else segment) as video:
            count = min(video.num_frames, _HTML_FRAMES)
            indices = (np.arange(count) + 0.5) * video.num_frames // count
            frames = video.frames_at(indices.astype(np.int64))
            times = video.times_seconds
    except VideoSwinError:
        return [], []
    at = [int(index) for index in indices]
    return list(frames), [
        f"frame {index}" if times is None else f"{times[index]:.2f} s" for index in at
    ]


def _several(sources: Iterable[Source]) -> Iterable[Source]:
    """Takes one path for one video, not for its characters."""
    return [sources] if isinstance(sources, str | Path | FrameFolder | VideoSegment) else sources


def _reload(
    kind: type[Predictor],
    arguments: dict[str, Any],
    bundle: BundleConfig,
    error_rate: float | None,
    keeps_receipts: bool,
) -> Predictor:
    """Loads a pickled predictor again."""
    predictor = kind.load(**arguments)
    predictor.bundle = bundle
    predictor._error_rate = error_rate
    predictor.keeps_receipts = keeps_receipts
    return predictor


def require_finite_outputs(predictor: Predictor, outputs: Iterable[Floats]) -> None:
    """Rejects outputs of a model that are no numbers.

    Args:
        predictor: The model.
        outputs: Its outputs.

    Raises:
        CheckpointError: An output has a NaN or an infinite value.
    """
    if not all(np.isfinite(part).all() for part in outputs):
        raise CheckpointError(
            f"The outputs of the model {predictor.name} are NaN or infinite "
            f"({predictor.runtime.description}); its weights are damaged, or the numbers exceed "
            "the precision. Use other weights, or the precision f32."
        )


def parse_views(text: str) -> tuple[int, int | Literal["full"]]:
    """Parses views such as "4x3" or "4xfull".

    Args:
        text: Number of clips, "x", and the number of crops or "full".

    Returns:
        The numbers of clips and crops.

    Raises:
        ConfigError: The text is invalid.

    >>> parse_views("4x3")
    (4, 3)
    """
    clips, _, crops = text.lower().partition("x")
    if not _is_count(clips) or not (_is_count(crops) or crops == "full"):
        raise ConfigError(
            f"views is {text!r}, but must be clips x crops, such as 4x3 (the official protocol), "
            "1x1 (one clip, center crop) or 4xfull (the whole frame instead of crops)."
        )
    return int(clips), "full" if crops == "full" else int(crops)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0
