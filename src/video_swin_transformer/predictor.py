"""From a video to its labels: the one place that joins the stages.

VideoReader -> clip_indices -> frames_at -> views_from_frames -> Runtime.run -> mean of softmax
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from .config import BundleConfig
from .errors import ConfigError, VideoSwinError
from .labels import read_labels
from .preprocess import Views, views_from_frames
from .registry import DEFAULT_MODEL, find_card
from .runtimes import Runtime, open_runtime
from .sampling import clip_indices
from .video import VideoReader

Floats: TypeAlias = npt.NDArray[np.float32]
Source: TypeAlias = str | Path | npt.NDArray[np.uint8]  # a file, frame folder or (T, H, W, 3)


@dataclass(frozen=True, eq=False)
class Classification:
    """What the model says of one video, or why it could not say anything.

    scores: (K,) float32, probabilities: that sum to 1, or each on its own where the model was
    trained on clips of several labels (`BundleConfig.multi_label`). view_scores: (V, K) float32,
    crop-major.
    Both are empty where `error` is set. timing_seconds: seconds for decode, preprocess, network.
    """

    source: str
    model: str
    labels: tuple[str, ...]
    scores: Floats
    view_scores: Floats
    timing_seconds: dict[str, float]
    error: VideoSwinError | None = None

    def top_indices(self, count: int) -> list[int]:
        """Class numbers of the `count` highest scores, best first; ties by number."""
        order = np.argsort(-self.scores, kind="stable")[:count]
        return [int(index) for index in order]

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """(label, score) of the `count` highest scores, best first."""
        return [(self.label(i), float(self.scores[i])) for i in self.top_indices(count)]

    def label(self, index: int) -> str:
        """The name of a class; its number where the model has no names."""
        return self.labels[index] if self.labels else str(index)


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """One vector a clip: features (num_clips, C) float32, the mean over crops, time and space."""

    source: str
    model: str
    features: Floats
    timing_seconds: dict[str, float]
    error: VideoSwinError | None = None


@dataclass(frozen=True, eq=False)
class ViewLogits:
    """logits (V, num_classes) float32 of each view, crop-major; empty where `error` is set."""

    source: str
    logits: Floats
    error: VideoSwinError | None = None


class Predictor:
    """A model that is ready to look at videos.

    >>> predictor = Predictor.load("camera-motion")                            # doctest: +SKIP
    >>> predictor.classify("clip.mp4").top(1)                                  # doctest: +SKIP
    [('pan_right', 0.97)]
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self.runtime = runtime
        self.bundle = runtime.bundle
        self.name = name

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
    ) -> Self:
        """Opens a model by name, folder or file; None means the one that ships.

        A file that `videoswin export` wrote is a model too, and needs no torch. runtime,
        precision, device and threads: see `runtimes.open_runtime`.

        config and checkpoint, given together, stand for a model: network, sampling, views,
        preprocessing and averaging are those of an official or mmaction2 config file, so that the
        scores are what its test script would give.
        Raises UnknownNameError, CheckpointError or ConfigError, each of which says what to do.
        """
        if config is not None or checkpoint is not None:
            if model is not None or config is None or checkpoint is None:
                raise ConfigError(
                    "A config goes with a checkpoint, and both stand in the place of a model: give "
                    "--config and --checkpoint, or --model."
                )
            from .openmmlab import bundle_for_testing

            bundle = bundle_for_testing(config)
            opened = open_runtime(checkpoint, runtime, precision, device, bundle, threads)
            return cls(opened, str(checkpoint))
        source = str(model or DEFAULT_MODEL)
        opened = open_runtime(source, runtime, precision, device, None, threads)
        is_path = os.path.exists(source)  # noqa: PTH110 (pathlib raises for a forbidden parent)
        return cls(opened, source if is_path else find_card(source).name)

    def with_views(self, num_clips: int, num_crops: int | Literal["full"]) -> Self:
        """The same model looking at `num_clips` clips and `num_crops` crops of each video.

        "full" looks once at the whole resized frame instead of at square crops of it.
        """
        if self.bundle.sampling.rule == "uniform" and num_clips != 1:
            raise ConfigError(
                f"{num_clips} clips were asked for, but the model {self.name} samples one clip "
                f"over the whole video; use --views 1x{num_crops}."
            )
        sampling = dataclasses.replace(self.bundle.sampling, num_clips=num_clips)
        preprocessing = dataclasses.replace(
            self.bundle.preprocessing,
            num_crops=1 if num_crops == "full" else num_crops,
            whole_frame=num_crops == "full",
        )
        return self._with(
            dataclasses.replace(self.bundle, sampling=sampling, preprocessing=preprocessing)
        )

    def with_rule(self, rule: str) -> Self:
        """The same model taking its clips by another rule: official, mmaction2 or uniform.

        "uniform" takes one clip over the whole video.
        """
        num_clips = 1 if rule == "uniform" else self.bundle.sampling.num_clips
        sampling = dataclasses.replace(self.bundle.sampling, rule=rule, num_clips=num_clips)
        return self._with(dataclasses.replace(self.bundle, sampling=sampling))

    def with_labels(self, path: str | Path) -> Self:
        """The same model with the labels of a text file, one a line."""
        labels = read_labels(path, self.bundle.model.num_classes)
        return self._with(dataclasses.replace(self.bundle, labels=labels))

    def _with(self, bundle: BundleConfig) -> Self:
        other = type(self)(self.runtime, self.name)
        other.bundle = bundle
        return other

    def classify(self, source: Source) -> Classification:
        """Scores of one video. Raises VideoDecodeError where it cannot be read."""
        self._require_classifier()
        return self._classified(source, *self._read_views(source))

    def features(self, source: Source) -> ClipFeatures:
        """One vector for each clip of a video. Raises VideoDecodeError."""
        return self._featured(source, *self._read_views(source))

    def views(self, source: Source) -> Views:
        """(V, C, T, H, W) float32: what the network is shown of one video, crop-major."""
        return self._read_views(source)[0]

    def classify_many(self, sources: Iterable[Source]) -> Iterator[Classification]:
        """Classifications in input order; an unreadable video's carries `.error` and no scores.

        The next video is read while the network works on this one.
        """
        self._require_classifier()
        empty = np.empty(0, np.float32)
        for source, read in self._read_ahead(sources):
            try:
                yield self._classified(source, *read.result())
            except VideoSwinError as error:
                yield Classification(
                    _name(source), self.name, (), empty, empty.reshape(0, 0), {}, error
                )

    def view_logits_many(
        self, sources: Iterable[Source], num_readers: int = 1
    ) -> Iterator[ViewLogits]:
        """As `classify_many`, with what the network says of each view before softmax and mean.

        num_readers: videos that are read at a time, in threads.
        """
        self._require_classifier()
        for source, read in self._read_ahead(sources, num_readers):
            try:
                views, _ = read.result()
                yield ViewLogits(_name(source), self.runtime.run(views).logits)
            except VideoSwinError as error:
                yield ViewLogits(_name(source), np.empty((0, 0), np.float32), error)

    def features_many(self, sources: Iterable[Source]) -> Iterator[ClipFeatures]:
        """As `classify_many`, for features."""
        for source, read in self._read_ahead(sources):
            try:
                yield self._featured(source, *read.result())
            except VideoSwinError as error:
                empty = np.empty((0, 0), np.float32)
                yield ClipFeatures(_name(source), self.name, empty, {}, error)

    def _require_classifier(self) -> None:
        if self.bundle.model.num_classes == 0:
            raise ConfigError(
                f"The model {self.name} has no classifier, so it gives features and no labels; use "
                "features, or load weights with a classifier."
            )

    def _read_ahead(
        self, sources: Iterable[Source], num_readers: int = 1
    ) -> Iterator[tuple[Source, Future[tuple[Views, dict[str, float]]]]]:
        with ThreadPoolExecutor(max_workers=num_readers) as reader:
            waiting: deque[tuple[Source, Future[tuple[Views, dict[str, float]]]]] = deque()
            for source in sources:
                waiting.append((source, reader.submit(self._read_views, source)))
                if len(waiting) > num_readers:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()

    def _read_views(self, source: Source) -> tuple[Views, dict[str, float]]:
        """(V, C, T, H, W) views of a video, and the seconds that decode and preprocess took."""
        began = time.perf_counter()
        with VideoReader(source) as video:
            indices = clip_indices(video.num_frames, self.bundle.sampling.at_fps(video.fps))
            frames = video.frames_at(indices.ravel())
        decoded = time.perf_counter()
        clips = frames.reshape(*indices.shape, *frames.shape[1:])
        views = views_from_frames(clips, self.bundle.preprocessing)
        done = time.perf_counter()
        return views, {"decode": decoded - began, "preprocess": done - decoded}

    def _classified(
        self, source: Source, views: Views, timing_seconds: dict[str, float]
    ) -> Classification:
        began = time.perf_counter()
        logits = self.runtime.run(views).logits
        timing_seconds["network"] = time.perf_counter() - began
        as_scores = sigmoid if self.bundle.multi_label else softmax
        view_scores = as_scores(logits)
        if self.bundle.average_clips == "prob":
            scores = view_scores.mean(axis=0)
        else:
            scores = as_scores(logits.mean(axis=0, keepdims=True))[0]
        labels = self.bundle.labels
        return Classification(_name(source), self.name, labels, scores, view_scores, timing_seconds)

    def _featured(
        self, source: Source, views: Views, timing_seconds: dict[str, float]
    ) -> ClipFeatures:
        began = time.perf_counter()
        features = self.runtime.run(views).features
        timing_seconds["network"] = time.perf_counter() - began
        num_crops = self.bundle.preprocessing.num_crops
        # (crops * clips, C), crop-major -> (crops, clips, C) -> (clips, C)
        by_clip = features.reshape(num_crops, -1, features.shape[1]).mean(axis=0)
        return ClipFeatures(_name(source), self.name, by_clip, timing_seconds)


def softmax(logits: Floats) -> Floats:
    """(V, K) logits -> (V, K) probabilities, each row summing to 1."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def sigmoid(logits: Floats) -> Floats:
    """(V, K) logits -> (V, K) probabilities, each on its own."""
    return 0.5 * (1 + np.tanh(0.5 * logits))  # type: ignore[no-any-return]  # does not overflow


def parse_views(text: str) -> tuple[int, int | Literal["full"]]:
    """(clips, crops) of a text like "4x3" or "4xfull". Raises ConfigError.

    >>> parse_views("4x3")
    (4, 3)
    """
    clips, _, crops = text.lower().partition("x")
    if not _is_count(clips) or not (_is_count(crops) or crops == "full"):
        raise ConfigError(
            f"views is {text!r}, but must be clips x crops, such as 4x3 (the official protocol), "
            "1x1 (one look at the middle) or 4xfull (the whole frame instead of crops)."
        )
    return int(clips), "full" if crops == "full" else int(crops)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0


def _name(source: Source) -> str:
    return str(source) if isinstance(source, (str, Path)) else f"array{source.shape}"
