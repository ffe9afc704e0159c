"""Live video: scores and events while a stream runs.

sources.py    what can be watched: files, cameras, network streams
capture.py    decodes in a process that may hang, and drops stale frames
windows.py    frames as they arrive -> windows of the model
events.py     scores as they arrive -> events, by hysteresis
webhook.py    posts events from a thread
watching.py   watch: the steps above, with latency and reconnection
"""

from .events import EventTracker, LiveEvent
from .sources import LiveSource, parse_source
from .watching import LiveScores, Watcher, WatchStatistics, watch

__all__ = [
    "EventTracker",
    "LiveEvent",
    "LiveScores",
    "LiveSource",
    "WatchStatistics",
    "Watcher",
    "parse_source",
    "watch",
]
