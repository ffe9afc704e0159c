"""The benchmark measures what it says, on the machine it runs on; no bound on any time here."""

from __future__ import annotations

import json
import logging
import sys

import numpy as np
import pytest

from video_swin_transformer import ConfigError, bench
from video_swin_transformer.bench import (
    Timed,
    alternate,
    count_operations,
    open_runtimes,
    peak_memory_mib,
    product_rate,
    time_runtimes,
)
from video_swin_transformer.cli import run
from video_swin_transformer.verification import relative_error


@pytest.fixture(autouse=True)
def small_product(monkeypatch):
    """CPUs without bf16 take minutes for the full matrix product."""
    monkeypatch.setattr(bench, "PRODUCT_SIZE", 256)


def test_calls_alternate_and_the_warm_up_is_not_counted():
    order: list[str] = []
    steps: list[tuple[int, int]] = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    timed = alternate(calls, 3, lambda done, total: steps.append((done, total)))
    assert order == ["a", "b"] * 4
    assert [len(one.seconds) for one in timed.values()] == [3, 3]
    assert steps == [(n, 8) for n in range(1, 9)]


def test_figures_are_what_their_names_say():
    timed = Timed("x", (4.0, 1.0, 2.0))
    assert timed.median_seconds == 2.0
    assert product_rate(timed) == 2 * bench.PRODUCT_SIZE**3 / 2.0
    expected = np.array([[2.0, -4.0]], np.float32)
    assert relative_error([expected], [np.array([[2.0, -3.0]], np.float32)]) == pytest.approx(0.25)


def test_operations_grow_with_the_frames():
    # 4 blocks, two linear stages: more than the classifier, and linear in time.
    one = count_operations("camera-motion", (1, 3, 8, 112, 112))
    two = count_operations("camera-motion", (2, 3, 8, 112, 112))
    assert two == 2 * one > 1e8


def test_runtimes_on_the_same_views(caplog):
    caplog.set_level(logging.INFO, "video_swin_transformer")
    requested = [("torch", "f32"), ("torch", "bf16"), ("torch", "int8")]
    runtimes = open_runtimes("camera-motion", requested, 1)
    assert list(runtimes) == requested[:2]
    (message,) = caplog.messages
    assert "Skipped torch int8: " in message and "videoswin export" in message
    views = np.random.default_rng(0).standard_normal((1, 3, 8, 112, 112), np.float32)
    timings, others = time_runtimes(runtimes, views, 1, {"nothing": lambda: None})
    assert [t.precision for t in timings] == ["f32", "bf16"]
    assert timings[0].relative_error == 0 < timings[1].relative_error < 0.1
    assert others["nothing"].median_seconds < timings[0].timed.median_seconds
    with pytest.raises(ConfigError, match="compares with torch at f32"):
        time_runtimes({("torch", "bf16"): runtimes["torch", "bf16"]}, views, 1, {})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_peak_memory_is_that_of_a_process_of_its_own():
    held = np.ones(300_000_000, np.uint8)  # 286 MiB here must not count there
    small = peak_memory_mib("camera-motion", "torch", "f32", (1, 3, 8, 112, 112), threads=1)
    large = peak_memory_mib("camera-motion", "torch", "f32", (1, 3, 64, 224, 224), threads=1)
    assert held.all() and small is not None and large is not None
    assert 100 < small < large < small + 2000


def test_the_command(tmp_path, capfd):
    figures = tmp_path / "bench.json"
    code = run(["bench", "--runtime", "torch:bf16", "--rounds", "1", "--json", str(figures)])
    printed = capfd.readouterr()
    assert code == 0
    lines = printed.out.splitlines()
    assert lines[0].split()[:3] == ["runtime", "seconds", "views/s"]
    assert [line.split()[:2] for line in lines[1:3]] == [["torch", "f32"], ["torch", "bf16"]]
    assert "median of 1 round" in printed.err
    data = json.loads(figures.read_text())
    assert [e["precision"] for e in data["runtimes"]] == ["f32", "bf16"]
    assert data["views"] == [1, 3, 8, 112, 112]


def test_an_architecture_is_timed_with_random_weights(capfd):
    # No weights of this name are at hand, and none are downloaded for a benchmark.
    code = run(["bench", "--model", "swin-nano", "--runtime", "torch:f32", "--rounds", "1"])
    printed = capfd.readouterr()
    assert code == 0 and "timing random weights" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runtime", "torch"], "runtime is 'torch', but must be RUNTIME:PRECISION"),
        (["--runtime", "tensorrt:f32"], "tensorrt"),
        (["--model", "swin-tny"], "swin-tny"),
        (["--rounds", "0"], "rounds"),
    ],
)
def test_misuse_is_named(arguments, message, capfd):
    code = run(["bench", "--rounds", "1", *arguments])
    printed = capfd.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert code == 2
