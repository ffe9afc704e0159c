"""`search_features`: where a query clip, or something like it, occurs in other videos.

Every row of the query is compared with every row of a video. A clip that occurs at offset o
seconds gives high similarities along the diagonal (row at t of the query, row at t + o of the
video), so the similarity at an offset is the mean along its diagonal:

    query rows            video rows ->
        0 s        .  .  .  #  .  .  .
        1 s        .  .  .  .  #  .  .       offset 3 s
        2 s        .  .  .  .  .  #  .

Rows of query and video need not begin at the same moments: similarities are interpolated in time,
and the best offset is the top of a parabola through it and those one hop away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..config import require
from ..errors import ConfigError, DataError
from ..predictor import Predictor, Source
from .extraction import FeatureExtractor
from .options import FeatureOptions
from .table import FeatureTable, Floats, Seconds, require_comparable

OFFSETS_PER_HOP = 8  # of the smaller hop of query and video


@dataclass(frozen=True)
class SearchHit:
    """A place in a video.

    Attributes:
        video: The video.
        similarity: Mean cosine similarity of the rows, in [-1, 1].
        start_seconds: Where the query begins in the video: its time offset.
        end_seconds: Where it ends.
        query_row: Row of the query, for single windows; None for the whole query.
    """

    video: str
    similarity: float
    start_seconds: float
    end_seconds: float
    query_row: int | None = None


def search_features(
    query: FeatureTable, features: FeatureTable, *, top_k: int = 5
) -> list[SearchHit]:
    """Finds the places where the whole query fits best, with its time offset.

    Args:
        query: The rows of one video.
        features: The rows of the videos to search.
        top_k: Number of places. Places that overlap a better one by half are left out.

    Returns:
        The places, best first. Videos shorter than the query have none.

    Raises:
        ConfigError: Query and features differ in mode, weights or sampling.
        DataError: The query has several videos, or times are unknown.
    """
    require(top_k >= 1, "top_k", top_k, "1 or more")
    _check(query, features)
    if len(query.videos) != 1:
        raise DataError(f"The query has {len(query.videos)} videos, but must have one.")
    query_vectors, query_starts, query_ends = _rows_in_time(query, np.arange(len(query)))
    length = float(query_ends.max() - query_starts[0])
    hits = []
    for index, video in enumerate(features.videos):
        rows = np.flatnonzero(features.video_index == index)
        vectors, starts, _ = _rows_in_time(features, rows)
        similarities = query_vectors @ vectors.T
        for offset, similarity in _aligned(similarities, query_starts, starts):
            start = offset + float(query_starts[0])
            hits.append(SearchHit(video.name, similarity, start, start + length))
    return _best(hits, top_k, length / 2)


def nearest_windows(
    query: FeatureTable, features: FeatureTable, *, top_k: int = 5
) -> list[SearchHit]:
    """Finds the nearest rows of each row of a query, by cosine similarity.

    Args:
        query: The rows to look for.
        features: The rows to search.
        top_k: Number of rows for each row of the query.

    Returns:
        `top_k` rows, best first, for each row of the query in order.

    Raises:
        ConfigError: Query and features differ in mode, weights or sampling.
    """
    require(top_k >= 1, "top_k", top_k, "1 or more")
    require_comparable(query, features)
    similarities = _normalized(query.vectors()) @ _normalized(features.vectors()).T
    hits = []
    for row, values in enumerate(similarities):
        for index in np.argsort(-values, kind="stable")[:top_k].tolist():
            start, end = features.start_seconds[index], features.end_seconds[index]
            name = features.videos[features.video_index[index]].name
            hits.append(SearchHit(name, float(values[index]), float(start), float(end), row))
    return hits


def extract_query(predictor: Predictor, source: Source, features: FeatureTable) -> FeatureTable:
    """Extracts features of a query with the settings of the features to search.

    Args:
        predictor: The model of the features.
        source: The query video.
        features: The features to search.

    Returns:
        Rows that are comparable with `features`, as dense as theirs or denser.

    Raises:
        ConfigError: The model is another one, or the features were projected.
        VideoDecodeError: The query cannot be read.
    """
    settings = features.settings
    if settings.projection:
        raise ConfigError(
            f"The features are projected ({settings.projection}); extract the query with the same "
            "projection, and search with its feature file."
        )
    if predictor.weights_digest != settings.weights_digest:
        raise ConfigError(
            f"The model {predictor.name} is not the one of the features ({settings.model}): their "
            "weights differ."
        )
    hops = [video.hop for video in features.videos if video.hop]
    is_stream = settings.mode == "stream"
    options = FeatureOptions(
        mode="stream" if is_stream else "clip",
        window=None if is_stream else settings.num_frames,
        stride=settings.stride,
        hop_frames=min(hops) if hops else None,
        fps=settings.fps,
        pooling=settings.pooling,  # type: ignore[arg-type]
        stage=settings.stage,
        num_crops="full" if settings.crops == "full" else int(settings.crops),
        average_crops=settings.average_crops,
    )
    (extracted,) = FeatureExtractor(predictor, options).extract_many([source])
    if extracted.error is not None:
        raise extracted.error
    assert extracted.table is not None
    require_comparable(extracted.table, features)
    return extracted.table


def _check(query: FeatureTable, features: FeatureTable) -> None:
    require_comparable(query, features)
    for table in (query, features):
        if np.isnan(table.start_seconds).any():
            raise DataError(
                f"The rows of {table.videos[0].name!r} have no times; extract them with fps, the "
                "frames per second of the source."
            )


def _rows_in_time(table: FeatureTable, rows: np.ndarray) -> tuple[Floats, Seconds, Seconds]:
    """Returns normalized vectors, starts and ends of rows in the order of time."""
    rows = rows[np.argsort(table.start_seconds[rows], kind="stable")]
    vectors = _normalized(table.vectors()[rows])
    return vectors, table.start_seconds[rows], table.end_seconds[rows]


def _normalized(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalized: Floats = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return normalized


def _aligned(
    similarities: Floats, query_starts: Seconds, starts: Seconds
) -> list[tuple[float, float]]:
    """Returns (offset, similarity) of offsets at which the query fits, finely spaced."""
    first, last = starts[0] - query_starts[0], starts[-1] - query_starts[-1]
    if last < first - 1e-6:
        return []
    hops = [np.diff(times).mean() for times in (query_starts, starts) if len(times) > 1]
    step = max(min(hops, default=1.0), 1e-3) / OFFSETS_PER_HOP
    offsets = np.linspace(first, last, max(1, int(np.ceil((last - first) / step)) + 1))
    totals = np.zeros(len(offsets))
    for row, time in enumerate(query_starts):
        totals += np.interp(offsets + time, starts, similarities[row])
    means = totals / len(query_starts)
    spacing = (last - first) / max(1, len(offsets) - 1)
    offsets = offsets + _to_parabola(means, OFFSETS_PER_HOP) * spacing
    return list(zip(offsets.tolist(), means.tolist(), strict=True))


def _to_parabola(values: Seconds, distance: int) -> Seconds:
    """Returns how far the top of the parabola through neighbors at a distance is, in positions.

    0 where there is no top: at the ends, and where a neighbor is higher.
    """
    shifts = np.zeros(len(values))
    if len(values) > 2 * distance:
        left, middle, right = (
            values[start : len(values) - 2 * distance + start]
            for start in (0, distance, 2 * distance)
        )
        is_top = (middle > left) & (middle >= right)
        curvature = np.where(is_top, left - 2 * middle + right, -1.0)
        top = 0.5 * distance * (left - right) / curvature
        shifts[distance : len(values) - distance] = np.where(is_top, top, 0.0)
    return shifts


def _best(hits: list[SearchHit], top_k: int, min_distance_seconds: float) -> list[SearchHit]:
    best: list[SearchHit] = []
    for hit in sorted(hits, key=lambda hit: -hit.similarity):
        if len(best) == top_k:
            break
        is_new = all(
            hit.video != other.video
            or abs(hit.start_seconds - other.start_seconds) >= min_distance_seconds
            for other in best
        )
        if is_new:
            best.append(hit)
    return best
