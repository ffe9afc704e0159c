"""`EventTracker`: scores as they arrive -> events that start and end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..segments import SegmentRules

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """Something starts or ends.

    Attributes:
        state: "started" or "ended".
        label: Name of the class.
        start_seconds: Time from the first frame at which it started.
        end_seconds: When it ended; None for "started".
        score: Mean score of the class so far.
    """

    state: Literal["started", "ended"]
    label: str
    start_seconds: float
    end_seconds: float | None
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the event as JSON data."""
        end = self.end_seconds
        return {
            "state": self.state,
            "label": self.label,
            "start_seconds": round(self.start_seconds, 3),
            "end_seconds": None if end is None else round(end, 3),
            "score": round(self.score, 4),
        }


@dataclass
class _State:
    """What is known of one class."""

    since: float  # when the score rose, or of a running event when it started
    is_running: bool = False
    falling_since: float | None = None
    total: float = 0.0
    count: int = 0

    @property
    def score(self) -> float:
        return self.total / max(1, self.count)


class EventTracker:
    """Makes events of the scores of consecutive windows, by hysteresis.

    An event starts when a class has its high threshold, and of a model with one label per video the
    highest score, and stays above the low threshold for `min_seconds`. It ends when it is below the
    low threshold, or another class has the highest score, for `min_seconds`.

    Args:
        labels: Class names.
        multi_label: Whether classes are independent.
        rules: Thresholds, `min_seconds` and the class that stands for no event. Smoothing, merging
            and soft-NMS look ahead and do not apply.
    """

    def __init__(self, labels: Sequence[str], multi_label: bool, rules: SegmentRules) -> None:
        self._labels, self._multi_label, self._rules = tuple(labels), multi_label, rules
        self._states: dict[int, _State] = {}

    def add(self, seconds: float, scores: Floats) -> list[LiveEvent]:
        """Adds the scores of a window.

        Args:
            seconds: Middle of the window.
            scores: (K,) float32.

        Returns:
            What starts or ends.
        """
        best = int(scores.argmax())
        ended: list[LiveEvent] = []
        started: list[LiveEvent] = []
        for index, label in enumerate(self._labels):
            if label == self._rules.background:
                continue
            limits, value = self._rules.of(label), float(scores[index])
            is_best = self._multi_label or index == best
            state = self._states.get(index)
            if state is None:
                if not (is_best and value >= limits.high):
                    continue
                state = self._states[index] = _State(seconds)
            holds = is_best and value >= limits.low
            if state.is_running:
                if holds:
                    state.falling_since = None
                else:
                    state.falling_since = state.falling_since or seconds
                    if seconds - state.falling_since >= self._rules.min_seconds:
                        ended.append(self._end(index, state.falling_since))
                        continue
            elif not holds:
                del self._states[index]
                continue
            if holds:
                state.total += value
                state.count += 1
            if not state.is_running and seconds - state.since >= self._rules.min_seconds:
                state.is_running = True
                started.append(LiveEvent("started", label, state.since, None, state.score))
        return ended + started

    def finish(self, seconds: float) -> list[LiveEvent]:
        """Ends what is running.

        Args:
            seconds: When the source ended.
        """
        running = [index for index, state in self._states.items() if state.is_running]
        events = [
            self._end(index, self._states[index].falling_since or seconds) for index in running
        ]
        self._states.clear()
        return events

    def running(self) -> list[str]:
        """Returns the labels of the events that have started and not ended."""
        return [self._labels[index] for index, state in self._states.items() if state.is_running]

    def _end(self, index: int, seconds: float) -> LiveEvent:
        state = self._states.pop(index)
        return LiveEvent("ended", self._labels[index], state.since, seconds, state.score)
