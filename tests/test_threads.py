"""One model in several threads: each call gets what it would get alone, to the bit."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.samples import CLIP, SECOND, small_bundle, views_of
from video_swin_transformer import Predictor, VideoSwinTransformer
from video_swin_transformer.exporting import export
from video_swin_transformer.runtimes import Runtime, open_runtime

NUM_THREADS, NUM_CALLS = 4, 400
THIRD = (3, 4, 24, 40)
EXAMPLES = Path(__file__).parent.parent / "examples" / "clips"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One network as weights and in each exported format."""
    folder = tmp_path_factory.mktemp("models")
    bundle = small_bundle()  # of one block, which is quickly compiled
    model = dataclasses.replace(bundle.model, depths=(1,), num_heads=(2,))
    torch.manual_seed(0)
    network = VideoSwinTransformer(dataclasses.replace(bundle, model=model)).eval()
    network.save_pretrained(folder / "weights")
    for format, suffix in (("onnx", "onnx"), ("openvino", "xml"), ("torch", "pt2")):
        export(folder / "weights", folder / f"m.{suffix}", format)
    return folder


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def require_same_in_threads(
    runtime: Runtime, inputs: list[np.ndarray], num_calls: int = NUM_CALLS
) -> None:
    expected = [runtime.run(views) for views in inputs]
    start = threading.Barrier(NUM_THREADS)

    def call_all(thread: int) -> list[int]:
        """Runs a share of the calls; the numbers of those that went wrong."""
        torch.zeros(1000, 1000).sum()  # a thread that has used torch has its own number of threads
        start.wait()
        wrong = []
        for call in range(thread, num_calls, NUM_THREADS):
            got = runtime.run(inputs[call % len(inputs)])
            for one, known in zip(got, expected[call % len(inputs)], strict=True):
                if not np.array_equal(one, known):
                    wrong.append(call)
        return wrong

    with ThreadPoolExecutor(NUM_THREADS) as threads:
        wrong = [call for calls in threads.map(call_all, range(NUM_THREADS)) for call in calls]
    assert not wrong, f"{len(wrong)} of {num_calls} calls"


@pytest.mark.parametrize("threads", [1, None])
@pytest.mark.parametrize(
    ("name", "runtime_name"),
    [
        ("weights", "torch"),
        ("m.pt2", "torch"),
        ("weights", "onnxruntime"),
        ("m.onnx", "onnxruntime"),
        ("weights", "openvino"),
        ("m.xml", "openvino"),
        ("m.onnx", "openvino"),
        pytest.param(
            "weights",
            "torch-compile",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(
                    not any(map(shutil.which, ("g++", "clang++", "cl"))),
                    reason="this machine has no C++ compiler",
                ),
                pytest.mark.timeout(900),  # a C++ compiler on a busy machine
            ],
        ),
    ],
)
def test_calls_in_threads_give_what_serial_calls_give(name, runtime_name, threads, models):
    runtime = open_runtime(models / name, runtime_name, device="cpu", threads=threads)
    inputs = [views[:count] for count in (1, 2, 3) for views in np.split(views_of(CLIP, 12), 4)]
    require_same_in_threads(runtime, inputs)


@pytest.mark.parametrize("runtime_name", ["torch", "onnxruntime", "openvino"])
def test_threads_with_clips_of_different_shapes_do_not_mix_them_up(runtime_name, models):
    """Three shapes, more than a runtime keeps compiled."""
    runtime = open_runtime(models / "weights", runtime_name, device="cpu", threads=1)
    inputs = [views_of(shape, 2) for shape in (CLIP, SECOND, THIRD)]
    require_same_in_threads(runtime, inputs, 24)


def test_a_thread_that_used_torch_before_computes_with_the_number_asked_for(models):
    if torch.get_num_threads() == 1:
        torch.set_num_threads(2)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(lambda: torch.zeros(10**6).sum() + torch.get_num_threads()).result() > 1
        runtime = open_runtime(models / "weights", "torch", device="cpu", threads=1)

        def run_there() -> int:
            runtime.run(views_of(CLIP, 1))
            return torch.get_num_threads()

        assert other.submit(run_there).result() == 1


def test_one_predictor_labels_videos_in_threads(tmp_path):
    predictor = Predictor.load("camera-motion").with_views(1, 1)
    clips = sorted(EXAMPLES.glob("*.mp4"))
    expected = [predictor.classify(clip).scores for clip in clips]
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        got = list(threads.map(lambda clip: predictor.classify(clip).scores, clips * 4))
    for scores, known in zip(got, expected * 4, strict=True):
        np.testing.assert_array_equal(scores, known)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the signal stack of Linux")
def test_models_closed_in_the_order_they_were_opened_leave_signals_working():
    # OpenVINO's CPU plugin restores a freed signal stack if its Cores are destroyed in that order.
    script = """
import gc, os, signal
from video_swin_transformer import Predictor
first = Predictor.load(runtime="openvino")
second = Predictor.load(runtime="openvino")
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
