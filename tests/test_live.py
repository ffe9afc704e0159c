"""watch: live sources that work, hang, break off or lie, and slow consumers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from benchmarks.stitched import stitch
from tests.media import Clip
from video_swin_transformer import Predictor, Thresholds, VideoDecodeError, detect_segments, watch
from video_swin_transformer.errors import ConfigError
from video_swin_transformer.live import EventTracker, LiveEvent, parse_source
from video_swin_transformer.live.capture import LiveFrame
from video_swin_transformer.live.windows import LiveWindows
from video_swin_transformer.segments import SegmentRules


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("camera-motion")


@pytest.fixture(scope="module")
def stitched(tmp_path_factory):
    return stitch(tmp_path_factory.mktemp("stitched"), 8, variable_rate=False, seed=7)


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> bytes:
    """Four seconds of an MPEG transport stream."""
    path = Clip(".ts", num_frames=100, height=64, width=64, gop=10).make(
        tmp_path_factory.mktemp("stream") / "stream"
    )
    return path.read_bytes()


class Server:
    """Accepts connections; `serve` is called with each, and its number."""

    def __init__(self, serve: Callable[[socket.socket, int], None]) -> None:
        self.num_connections = 0
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            number, self.num_connections = self.num_connections, self.num_connections + 1
            threading.Thread(target=self._answer, args=(connection, number), daemon=True).start()

    def _answer(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            self._serve(connection, number)


def consume(watcher) -> tuple[list[LiveEvent], str]:
    """All events, and the error at the end."""
    events = []
    try:
        with watcher:
            for event in watcher:
                events.append(event)
    except VideoDecodeError as error:
        return events, str(error)
    return events, ""


def decoders() -> list[psutil.Process]:
    """The capture processes of this process."""
    children = psutil.Process().children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


# --- windows and events ---------------------------------------------------------------------------


def frame_at(seconds: float, value: int) -> LiveFrame:
    return LiveFrame(seconds, 0.0, np.full((2, 2, 3), value % 256, np.uint8))


def test_windows_have_the_frames_shown_at_their_times():
    windows = LiveWindows(num_frames=4, step_seconds=0.1, hop_seconds=0.2)
    rng = np.random.default_rng(0)
    times = np.concatenate([[0], np.cumsum(rng.uniform(0.01, 0.09, 200))])
    found = []
    for number, seconds in enumerate(times):
        windows.add(frame_at(seconds, number))
        while (window := windows.due(newest_only=False)) is not None:
            found.append((window.time_seconds, window.frames[:, 0, 0, 0].tolist()))
    assert len(found) == int((times[-1] - 0.3) / 0.2) + 1
    for number, (middle, values) in enumerate(found):
        start = number * 0.2
        assert middle == pytest.approx(start + 0.2)
        shown = [int((times <= start + k * 0.1 + 1e-6).sum()) - 1 for k in range(4)]
        assert values == shown


def test_only_the_newest_window_is_made_when_several_are_due():
    windows = LiveWindows(num_frames=2, step_seconds=0.1, hop_seconds=0.1)
    for number in range(100):
        windows.add(frame_at(number * 0.1, number))
    window = windows.due(newest_only=True)
    assert window is not None and window.frames[:, 0, 0, 0].tolist() == [98, 99]
    assert windows.num_skipped == 98 and windows.due(newest_only=True) is None
    assert len(windows._frames) < 5


def test_events_need_their_thresholds_for_the_shortest_time():
    rules = SegmentRules(Thresholds(0.6, 0.4), min_seconds=1.0)
    tracker = EventTracker(("a", "b"), multi_label=False, rules=rules)
    scores = [0.1, 0.7, 0.1, 0.1, 0.7, 0.7, 0.5, 0.45, 0.7, 0.1, 0.5, 0.7, 0.1, 0.1, 0.1, 0.1]
    events = []
    for number, score in enumerate(scores):
        row = np.array([score, 0.42], np.float32)
        events += [
            (e.state, e.label, e.start_seconds, e.end_seconds)
            for e in tracker.add(number * 0.5, row)
        ]
    assert events == [("started", "a", 2.0, None), ("ended", "a", 2.0, 6.0)]


def test_events_of_independent_classes_overlap_and_end_with_the_source():
    tracker = EventTracker(("a", "b"), multi_label=True, rules=SegmentRules(min_seconds=0.5))
    for number in range(4):
        tracker.add(number * 0.5, np.array([0.9, 0.9 if number else 0.1], np.float32))
    assert tracker.running() == ["a", "b"]
    ended = [(e.label, e.start_seconds, e.end_seconds) for e in tracker.finish(9.0)]
    assert ended == [("a", 0.0, 9.0), ("b", 0.5, 9.0)] and tracker.running() == []


# --- sources --------------------------------------------------------------------------------------


def test_urls_need_permission_and_passwords_are_not_shown(tmp_path):
    with pytest.raises(ConfigError, match=r"rtsp://host/x.*allow_network") as caught:
        parse_source("rtsp://user:secret@host/x")
    assert "secret" not in str(caught.value)
    assert parse_source("rtsp://host/x", allow_network=True).kind == "network"
    with pytest.raises(ConfigError, match="unknown kind"):
        parse_source("ftp://host/x", allow_network=True)
    with pytest.raises(ConfigError, match="camera:N"):
        parse_source("camera:front")
    with pytest.raises(VideoDecodeError, match="no such file"):
        parse_source(tmp_path / "none.mp4")
    assert parse_source("camera:0").kind == "camera"


def test_a_file_replayed_has_the_events_of_its_segments(predictor, stitched):
    events, error = consume(watch(predictor, stitched.path, speed=None))
    assert error == ""
    ended = [event for event in events if event.state == "ended"]
    found = detect_segments(predictor, stitched.path).segments
    assert len(found) - 2 <= len(ended) <= len(found)
    for event in ended:
        segment = min(found, key=lambda one: abs(one.start - event.start_seconds))
        assert event.label == segment.label and abs(event.start_seconds - segment.start) < 0.7
        assert abs((event.end_seconds or 0) - segment.end) < 0.7
    assert len(events) == 2 * len(ended)


def test_a_replay_takes_its_time_and_stops_when_asked(predictor, stitched):
    start = time.monotonic()
    watcher = watch(predictor, stitched.path, speed=4, max_seconds=8)
    _, error = consume(watcher)
    took = time.monotonic() - start
    assert error == "" and 8 <= watcher.statistics.seconds < 9
    assert 1.8 < took < 12
    assert 0 < watcher.statistics.latency_seconds() < 1


def test_a_slow_consumer_costs_frames_not_memory(predictor, stitched):
    dropped = []
    with watch(predictor, stitched.path, speed=10) as watcher:
        for _ in watcher:
            time.sleep(1.0)  # ten seconds of the source
            dropped.append(watcher.statistics.num_dropped_frames)
    statistics = watcher.statistics
    assert statistics.num_dropped_frames > 100 and statistics.num_skipped_windows > 0
    assert statistics.num_frames == 480


def test_a_server_that_sends_nothing_is_given_up(predictor):
    with Server(lambda connection, number: time.sleep(60)) as server:
        start = time.monotonic()
        watcher = watch(predictor, server.url, allow_network=True, timeout_seconds=1.5)
        _, error = consume(watcher)
        assert "opening it took longer than 1.5 seconds" in error and server.url in error
        assert time.monotonic() - start < 30
    assert not [
        child for child in psutil.Process().children() if "spawn" in " ".join(child.cmdline())
    ]


@pytest.mark.parametrize("ending", ["hangs", "closes"])
def test_a_stream_that_stops_in_the_middle_is_named_and_opened_again(predictor, stream, ending):
    def serve(connection: socket.socket, number: int) -> None:
        connection.sendall(stream[: len(stream) * 3 // 4])
        if ending == "hangs":
            time.sleep(60)
        connection.close()

    with Server(serve) as server:
        watcher = watch(
            predictor, server.url, allow_network=True, timeout_seconds=1.5, max_seconds=None,
            reconnect=1,
        )  # fmt: skip
        # It scores windows each time, so the count of attempts starts again; stop from outside.
        threading.Timer(12, server.__exit__).start()
        _, error = consume(watcher)
        assert server.num_connections >= 2 and watcher.statistics.num_windows > 0
    expected = "waiting for the next frame took longer" if ending == "hangs" else "ended"
    assert any(expected in failure for failure in watcher.statistics.failures)
    assert "1 times in a row" in error


def test_garbage_is_no_video(predictor):
    data = np.random.default_rng(0).bytes(200_000)

    def serve(connection: socket.socket, number: int) -> None:
        connection.sendall(data)
        connection.close()

    with Server(serve) as server:
        _, error = consume(
            watch(predictor, server.url, allow_network=True, timeout_seconds=5, reconnect=1)
        )
        assert "not a video, or is damaged" in error and "1 times in a row" in error
        assert server.num_connections == 2


def test_a_damaged_file_is_named(predictor, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 5000)
    _, error = consume(watch(predictor, tmp_path / "broken.mp4", speed=None))
    assert "broken.mp4" in error


def test_a_killed_decoder_is_an_error_not_a_hang(predictor, stitched):
    with (
        pytest.raises(VideoDecodeError, match="the decoder crashed"),
        watch(predictor, stitched.path, speed=1) as watcher,
    ):
        for _ in watcher:
            for process in decoders():
                process.kill()


@pytest.mark.parametrize(
    "keywords",
    [
        {"speed": 0},
        {"hop_seconds": 0},
        {"timeout_seconds": -1},
        {"reconnect": -1},
        {"max_seconds": 0},
        {"webhook": "ftp://host"},
    ],
)
def test_watch_refuses_impossible_arguments(predictor, stitched, keywords):
    with pytest.raises(ConfigError, match=next(iter(keywords))):
        watch(predictor, stitched.path, **keywords)


# --- webhook and command --------------------------------------------------------------------------


def test_events_are_posted_and_a_dead_webhook_does_not_block(predictor, stitched):
    received = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/events"
    watcher = watch(predictor, stitched.path, speed=None, webhook=url)
    events, _ = consume(watcher)
    server.shutdown()
    server.server_close()
    assert [one["state"] for one in received] == [event.state for event in events]
    assert watcher.statistics.num_posted == len(events)

    start = time.monotonic()
    watcher = watch(predictor, stitched.path, speed=None, webhook=url)
    again, error = consume(watcher)
    assert error == "" and len(again) == len(events)
    assert watcher.statistics.num_not_posted > 0 and watcher.statistics.webhook_error
    assert time.monotonic() - start < 60


def test_videoswin_watch_prints_events_and_a_summary(run, stitched, tmp_path):
    code, out, err = run("watch", stitched.path, "--speed", "max", "--threshold", "0.6,0.4")
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert {one["state"] for one in events} == {"started", "ended"}
    assert "480 frames (0 dropped)" in err and "from frame to score" in err
    path = tmp_path / "events.jsonl"
    assert (
        run("watch", stitched.path, "--speed", "max", "--out", path, "--max-seconds", "5")[0] == 0
    )
    assert 0 < len(path.read_text().splitlines()) < len(events)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.mp4"], "no such file"),
        (["http://127.0.0.1/x"], "--allow-network"),
        (["camera:x"], "camera:N"),
        (["clip.mp4", "--speed", "fast"], "--speed is 'fast'"),
        (["clip.mp4", "--speed", "-1"], "speed"),
        (["clip.mp4", "--display"], "--display needs"),
        (["clip.mp4", "--out", "notes.txt"], "notes.txt"),
        (["clip.mp4", "--timeout", "0"], "timeout"),
    ],
)
def test_wrong_use_of_watch_is_one_sentence(run, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Clip(num_frames=40).make(tmp_path / "clip")
    (tmp_path / "notes.txt").write_text("my notes")
    code, _, err = run("watch", *arguments)
    assert code in (1, 2) and message in err and err.startswith("error: ")
    assert (tmp_path / "notes.txt").read_text() == "my notes"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_is_flat_over_an_hour_of_replay(tmp_path):
    """In a process of its own: the resident memory after six minutes and at the end."""
    path = Clip(height=64, width=64, num_frames=36_000, fps=10, gop=100).make(
        tmp_path / "hour", (np.full((64, 64, 3), n % 200, np.uint8) for n in range(36_000))
    )
    script = (
        "import psutil, sys\n"
        "from video_swin_transformer import Predictor, watch\n"
        "if __name__ == '__main__':\n"
        "    sizes = []\n"
        "    def note(scores):\n"
        "        if len(sizes) <= scores.time_seconds // 360:\n"
        "            own = psutil.Process()\n"
        "            sizes.append(sum(p.memory_info().rss for p in [own, *own.children()]))\n"
        "    predictor = Predictor.load('camera-motion')\n"
        "    with watch(predictor, sys.argv[1], speed=None, on_scores=note) as watcher:\n"
        "        list(watcher)\n"
        "    assert watcher.statistics.seconds > 3599, watcher.statistics.seconds\n"
        "    print(*sizes)\n"
    )
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", path],
        capture_output=True, text=True, timeout=800, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sizes = [int(size) for size in done.stdout.split()]
    assert len(sizes) == 10
    print([round(size / 2**20) for size in sizes])
    assert sizes[-1] - sizes[1] < 20 * 2**20
