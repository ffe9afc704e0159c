"""torch.compile as a runtime: outputs, recompilation and error messages."""

from __future__ import annotations

import dataclasses
import logging
import shutil

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from tests.samples import CLIP, small_bundle, views_of
from video_swin_transformer import CheckpointError, ConfigError, VideoSwinTransformer, cli
from video_swin_transformer.errors import RuntimeMismatchError
from video_swin_transformer.exporters.sidecar import FORMAT_RUNTIMES
from video_swin_transformer.runtimes import RUNTIMES, open_runtime, selection


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One stage, a plain and a shifted block: compiling it takes seconds and not minutes."""
    torch.manual_seed(0)
    bundle = small_bundle()
    one_stage = dataclasses.replace(bundle.model, depths=(2,), num_heads=(2,))
    model = VideoSwinTransformer(dataclasses.replace(bundle, model=one_stage))
    with torch.no_grad():  # the initial biases are so small that they hardly count
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    path = tmp_path_factory.mktemp("compiled") / "model"
    model.eval().save_pretrained(path)
    return path


@pytest.fixture
def compiler_cache(tmp_path, monkeypatch):
    """Nothing of what this user has compiled is read or written."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.timeout(900)  # a C++ compiler on a busy machine
@pytest.mark.slow
def test_it_answers_as_the_network_does_from_one_graph(folder, compiler_cache, capsys, caplog):
    if not any(shutil.which(name) for name in ("g++", "clang++", "cl")):
        pytest.skip("this machine has no C++ compiler")
    with caplog.at_level(logging.INFO, "video_swin_transformer"):
        runtime = open_runtime(folder, "torch-compile", device="cpu")
        views = np.ascontiguousarray(views_of(CLIP, 6)[::2])
        runtime.run(views)
    assert runtime.description.startswith("torch-compile")
    assert "was requested" in runtime.selection_reason
    assert "Compiling the model for clips of shape 3x4x32x32" in caplog.text
    expected = open_runtime(folder, "torch", device="cpu").run(views)
    strided = np.repeat(views, 2, axis=0)[::2]
    for given in (views, strided, views[:2]):
        got = runtime.run(given)
        for ours, theirs in zip(got, expected, strict=True):
            bound = 1e-4 * np.abs(theirs).max()
            np.testing.assert_allclose(ours, theirs[: len(given)], atol=bound, rtol=0)
    # Neither another number of views nor other strides had anything compiled again.
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    with pytest.raises(ConfigError, match=r"must be \(views, 3 channels, frames, height, width\)"):
        runtime.run(views[:, :1])
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


def test_without_a_compiler_it_says_what_is_missing(folder, compiler_cache, monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "no-such-compiler"))
    with pytest.raises(
        RuntimeMismatchError, match=r"torch.compile failed .*no-such-compiler.*torch"
    ):
        open_runtime(folder, "torch-compile", device="cpu")


def test_auto_never_takes_it(folder, monkeypatch):
    assert "torch-compile" in RUNTIMES
    monkeypatch.setattr(selection, "_is_installed", lambda name, for_weights: name == "torch")
    assert open_runtime(folder, device="cpu").description.startswith("torch ")


@pytest.mark.parametrize("format", FORMAT_RUNTIMES)
def test_exported_models_have_been_compiled_already(format):
    with pytest.raises(
        ConfigError, match=r"'torch-compile', but an exported .* supports only .*; use"
    ):
        selection.select_runtime("torch-compile", "f32", "auto", FORMAT_RUNTIMES[format], format)


def test_the_command_refuses_what_it_cannot_run(folder, tmp_path, capsys):
    code = cli.run(["classify", "x.mp4", "--model", str(folder), "--runtime", "torch-compil"])
    assert code == 2 and "Did you mean 'torch-compile'" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="no file or folder"):
        open_runtime(tmp_path / "none", "torch-compile")
    with pytest.raises(ConfigError, match="int8 requires an exported model"):
        open_runtime(folder, "torch-compile", "int8")
