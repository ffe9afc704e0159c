"""Runtimes: the same answers whatever runs, compiled once, refused in words.

The matrix is runtime x precision x what happened to the model before; each cell is compared with
eager torch in float32 and has its bound.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.samples import CLIP, SECOND, fresh, small_bundle, views_of
from video_swin_transformer import (
    BundleConfig,
    CheckpointError,
    ConfigError,
    MissingExtraError,
    UnknownNameError,
    VideoSwinTransformer,
    load_model,
)
from video_swin_transformer.runtimes import compile_cache, open_runtime, selection
from video_swin_transformer.runtimes.onnx_runtime import OnnxRuntime
from video_swin_transformer.runtimes.openvino_runtime import OpenVinoRuntime

EXAMPLES = Path(__file__).parent.parent / "examples" / "clips"

# Largest relative error of the logits; bf16 has 8 bits of mantissa.
BOUNDS = {
    ("torch", "f32"): 1e-6,
    ("torch", "bf16"): 5e-2,
    ("openvino", "f32"): 1e-4,
    ("openvino", "bf16"): 5e-2,
    ("onnxruntime", "f32"): 1e-4,
}
HAS_BF16 = True
try:
    import openvino

    HAS_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
except ImportError:
    pass


def after_fine_tuning(model: VideoSwinTransformer) -> VideoSwinTransformer:
    """One step of training, after a pass in inference that remembered the old biases."""
    x = torch.from_numpy(views_of(CLIP))
    with torch.inference_mode():
        model.eval()(x)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2])).backward()
    optimizer.step()
    return model


def after_a_cast(model: VideoSwinTransformer) -> VideoSwinTransformer:
    return model.half().float()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The model after each event, saved."""
    events = {
        "load": lambda model: model,
        "fine-tune step": after_fine_tuning,
        "cast": after_a_cast,
    }
    places = {}
    for name, event in events.items():
        places[name] = tmp_path_factory.mktemp("models") / name
        event(fresh()).eval().save_pretrained(places[name])
    places["second shape"] = places["load"]
    return places


def eager(folder: Path, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and features of the plain network, without a runtime."""
    model = load_model(folder)
    with torch.no_grad():
        maps = model.forward_features(torch.from_numpy(views))
        pooled = model.forward_head(maps, pre_logits=True)
        return model.forward_head(maps).numpy(), pooled.numpy()


@pytest.mark.parametrize(
    "event",
    [
        "load",
        pytest.param("fine-tune step", marks=pytest.mark.slow),
        pytest.param("cast", marks=pytest.mark.slow),
        pytest.param("second shape", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("runtime_name", "precision"), BOUNDS)
def test_every_runtime_answers_as_the_network_does(runtime_name, precision, event, folders):
    if runtime_name == "openvino" and precision == "bf16" and not HAS_BF16:
        with pytest.raises(ConfigError, match="does not support bf16"):
            open_runtime(folders[event], runtime_name, precision)
        return
    views = views_of(SECOND if event == "second shape" else CLIP)
    runtime = open_runtime(folders[event], runtime_name, precision, "cpu")
    assert runtime.description.startswith(runtime_name) and precision in runtime.description
    if event == "second shape":  # the first one is compiled for and used
        runtime.run(views_of(CLIP))
    outputs = runtime.run(views)
    logits, features = eager(folders[event], views)
    assert outputs.logits.dtype == outputs.features.dtype == np.float32
    for got, expected in ((outputs.logits, logits), (outputs.features, features)):
        assert got.shape == expected.shape
        error = np.abs(got - expected).max() / np.abs(expected).max()
        assert error <= BOUNDS[runtime_name, precision]
        if precision == "bf16":
            assert error > 1e-5  # it really is another precision


def test_the_events_change_the_answers(folders):
    """What the matrix compares with differs from event to event, so stale weights would show."""
    answers = [
        eager(folders[event], views_of(CLIP))[0] for event in ("load", "fine-tune step", "cast")
    ]
    assert np.abs(answers[0] - answers[1]).max() > 1e-2
    assert np.abs(answers[0] - answers[2]).max() > 1e-5


@pytest.mark.parametrize("runtime_name", ["torch", "openvino", "onnxruntime"])
@pytest.mark.parametrize(
    "shape", [(3, 3, 4, 32), (1, 1, 4, 32, 32), (1, 3, 0, 32, 32), (0, 3, 4, 32, 32)]
)
def test_a_wrong_shape_names_the_axes(runtime_name, shape, folders):
    runtime = open_runtime(folders["load"], runtime_name, device="cpu")
    with pytest.raises(ConfigError, match=r"must be \(views, 3 channels, frames, height, width\)"):
        runtime.run(np.zeros(shape, np.float32))


def test_threads_are_set(folders):
    before = torch.get_num_threads()
    try:
        open_runtime(folders["load"], "torch", device="cpu", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    runtime = open_runtime(folders["load"], "openvino", threads=1)
    assert isinstance(runtime, OpenVinoRuntime)
    compiled = runtime._pools.get(CLIP).compiled
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    runtime = open_runtime(folders["load"], "onnxruntime", threads=1)
    assert isinstance(runtime, OnnxRuntime)
    assert runtime._sessions.get(CLIP).get_session_options().intra_op_num_threads == 1
    with pytest.raises(ConfigError, match="threads is 0"):
        open_runtime(folders["load"], threads=0)


# --- selection -----------------------------------------------------------------------------------


def test_auto_takes_the_fastest_installed_and_says_why(folders, monkeypatch):
    monkeypatch.setattr(selection, "_may_have_gpu", lambda: False)
    runtime = open_runtime(folders["load"])
    assert runtime.description.startswith("openvino") and runtime.description.endswith("cpu, f32")
    assert (
        "fastest runtime installed" in runtime.selection_reason
        and "bf16" in runtime.selection_reason
    )
    monkeypatch.setitem(selection.PRECISIONS_OF, "openvino", ())
    assert open_runtime(folders["load"]).description.startswith("onnxruntime")
    # Weights need the exporter too, exported models the runtime alone.
    needed = ("onnxruntime", "no_such_package")
    monkeypatch.setitem(selection._REQUIRED_PACKAGES, "onnxruntime", needed)
    assert open_runtime(folders["load"]).description.startswith("torch")


def test_a_gpu_is_asked_for_only_where_there_may_be_one(folders, monkeypatch):
    monkeypatch.setattr(selection, "_may_have_gpu", lambda: True)  # torch finds none here
    expected = "torch" if torch.cuda.is_available() or torch.backends.mps.is_available() else "open"
    assert open_runtime(folders["load"]).description.startswith(expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": "int8"}, "videoswin export .*--precision int8 --calibrate CLIPS"),
        ({"precision": "fp8"}, "precision is 'fp8', but must be one of"),
        (
            {"runtime": "onnxruntime", "precision": "bf16"},
            "use the runtime openvino or torch",
        ),
        ({"runtime": "openvino", "device": "cuda"}, "use device cpu or runtime torch"),
    ],
)
def test_choices_that_contradict_each_other(options, says, folders):
    with pytest.raises(ConfigError, match=says):
        open_runtime(folders["load"], **options)


def test_an_unknown_runtime_is_offered_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'openvino'"):
        open_runtime("camera-motion", "openvin")


@pytest.mark.parametrize(
    ("runtime", "library", "extra"),
    [("openvino", "openvino", "openvino"), ("onnxruntime", "onnxruntime", "onnx")],
)
def test_a_missing_extra_says_what_to_install(runtime, library, extra, folders, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"video-swin-transformer\[{extra}\]"):
        open_runtime(folders["load"], runtime)


# --- compiled models on disk --------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOSWIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def entries(home: Path) -> list[Path]:
    return sorted((home / "compiled").glob("*/openvino-*[!k]"))


def in_a_process(script: str, folder: Path, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


ANSWERS = """
import sys
import numpy as np
from video_swin_transformer.runtimes import open_runtime
views = np.linspace(-1, 1, 3 * 4 * 32 * 32, dtype=np.float32).reshape(1, 3, 4, 32, 32)
print(open_runtime(sys.argv[1], "openvino").run(views).logits[0].round(5).tolist())
"""


@pytest.mark.slow
def test_the_second_start_needs_no_torch(folders, home):
    first = in_a_process(ANSWERS, folders["load"])
    second = in_a_process("import sys; sys.modules['torch'] = None" + ANSWERS, folders["load"])
    assert first.returncode == second.returncode == 0, second.stderr
    assert first.stdout == second.stdout and second.stderr == ""


@pytest.mark.slow
def test_what_was_compiled_is_used_again_and_other_weights_are_not(folders, home, monkeypatch):
    views = views_of(CLIP)
    first = open_runtime(folders["load"], "openvino").run(views).logits
    (entry,) = entries(home)
    before = entry.stat().st_ino
    np.testing.assert_array_equal(
        open_runtime(folders["load"], "openvino").run(views).logits, first
    )
    assert [path.stat().st_ino for path in entries(home)] == [before]
    open_runtime(folders["cast"], "openvino")
    assert len({path.parent for path in entries(home)}) == 2
    open_runtime(folders["load"], "openvino").run(views_of(SECOND))
    assert len(entries(home)) == 3
    bundle = small_bundle()
    labeled = BundleConfig(bundle.model, bundle.sampling, bundle.preprocessing, tuple("vwxyz"))
    assert open_runtime(folders["load"], "openvino", bundle=labeled).bundle.labels == tuple("vwxyz")


@pytest.mark.slow
def test_regions_of_few_tokens_are_right_every_time(folders, home):
    """OpenVINO's fused attention is wrong for boxes of 2 and 4 tokens, and not in every run."""
    views = views_of(CLIP)
    expected = open_runtime(folders["load"], "torch").run(views).logits
    runtime = open_runtime(folders["load"], "openvino")
    for _ in range(60):
        np.testing.assert_allclose(runtime.run(views).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "damage",
    [
        "flipped",
        pytest.param("cut", marks=pytest.mark.slow),
        pytest.param("not a model", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_entry_is_rebuilt_with_a_notice(damage, folders, home, caplog):
    views = views_of(CLIP)
    first = open_runtime(folders["load"], "openvino").run(views).logits
    (entry,) = entries(home)
    data = bytearray(entry.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    elif damage == "cut":
        del data[len(data) // 2 :]
    else:  # whole by its digest, and yet nothing OpenVINO could read
        data = bytearray(hashlib.sha256(b"nothing").digest() + b"nothing")
    entry.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        again = open_runtime(folders["load"], "openvino").run(views).logits
    np.testing.assert_allclose(again, first, rtol=1e-5)
    assert "compiling again" in caplog.text and str(entry) in caplog.text
    assert entry.read_bytes() != bytes(data)  # two compilations may differ in a few bytes


@pytest.mark.slow
def test_a_damaged_bundle_is_read_again(folders, home, caplog):
    open_runtime(folders["load"], "openvino")
    (text,) = (home / "compiled").glob("*/bundle.json")
    text.write_bytes(text.read_bytes()[:40])
    assert open_runtime(folders["load"], "openvino").bundle.labels == tuple("abcde")
    assert "is damaged" in caplog.text


@pytest.mark.slow
def test_two_processes_at_once_compile_once(folders, home):
    script = textwrap.dedent(ANSWERS)
    command = [sys.executable, "-c", script, str(folders["load"])]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    results = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert results[0][0] == results[1][0] != ""
    assert len(entries(home)) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.slow
def test_where_nothing_can_be_kept_the_model_still_runs(folders, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIDEOSWIN_HOME", str(tmp_path / "file" / "home"))
    assert open_runtime(folders["load"], "openvino").run(views_of(CLIP)).logits.shape == (3, 5)
    assert "set VIDEOSWIN_HOME to a writable folder" in caplog.text


def test_the_least_recently_used_give_way(home, monkeypatch):
    monkeypatch.setattr(
        compile_cache, "MAX_CACHE_BYTES", 300
    )  # three of 60 bytes and their digests
    for age, name in enumerate(("old", "older", "new")):
        compile_cache.load_or_compile("d" * 64, name, bytes, lambda: (b"", b"x" * 60))
        os.utime(home / "compiled" / ("d" * 32) / name, (age, age))
    compile_cache.load_or_compile("d" * 64, "old", bytes, lambda: pytest.fail("it is kept"))
    compile_cache.load_or_compile("e" * 64, "another", bytes, lambda: (b"", b"x" * 60))
    left = {path.name for path in (home / "compiled").glob("*/*") if path.suffix != ".lock"}
    assert left == {"old", "new", "another"}


def test_weights_without_torch_say_what_to_do(folders, home):
    done = in_a_process("import sys; sys.modules['torch'] = None" + ANSWERS, folders["load"])
    assert done.returncode == 1 and "torch cannot be imported" in done.stderr
    assert "a model exported on another machine" in done.stderr


def test_absent_weights(tmp_path):
    with pytest.raises(CheckpointError, match=r"no file or folder"):
        open_runtime(tmp_path / "none.safetensors", "openvino")
