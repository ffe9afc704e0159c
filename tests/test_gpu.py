"""What a CUDA GPU computes; skipped where there is none (`make test-gpu`)."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.peers import torchvision_twin
from tests.samples import views_of
from tests.training import environment, losses_of, make_folder, write_tiny
from video_swin_transformer import Predictor, create_model
from video_swin_transformer.errors import DeviceMemoryError
from video_swin_transformer.runtimes import open_runtime
from video_swin_transformer.runtimes.cuda_graphs import MAX_GRAPHS
from video_swin_transformer.runtimes.torch_runtime import TorchRuntime
from video_swin_transformer.training import load_recipe, train
from video_swin_transformer.verification import relative_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
EXAMPLES = Path(__file__).parent.parent / "examples" / "clips"
CLIP = (3, 32, 224, 224)
TWO = ("left", "right")


@pytest.fixture(autouse=True)
def exact_convolutions():
    """TF32, the default of cuDNN, rounds the patch embedding to 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "swin-t"
    create_model("swin-t").save_pretrained(path)
    return path


@pytest.mark.parametrize("shape", [(2, *CLIP), (1, 3, 10, 150, 201)])
def test_logits_equal_those_of_torchvision(shape):
    torch.manual_seed(0)
    model = create_model("swin-t").eval()
    twin = torchvision_twin(model).cuda()
    model.cuda()
    x = torch.randn(shape, device="cuda")
    with torch.inference_mode():
        expected, found = twin(x), model(x)
    assert relative_error([expected.cpu().numpy()], [found.cpu().numpy()]) < 1e-4


def test_gradients_equal_those_of_torchvision():
    torch.manual_seed(0)
    model = create_model("swin-t", drop_path_rate=0.0).eval()
    twin = torchvision_twin(model).cuda()
    model.cuda()
    x = torch.randn(1, 3, 16, 112, 112, device="cuda")
    for network in (model, twin):
        torch.nn.functional.cross_entropy(network(x), torch.tensor([7], device="cuda")).backward()
    ours = model.backbone.layers[0].blocks[1].attn.qkv.weight.grad
    theirs = twin.features[0][1].attn.qkv.weight.grad
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("precision", "bound"), [("f32", 1e-4), ("bf16", 3e-2)])
def test_the_runtime_answers_as_on_the_cpu(precision, bound, folder):
    views = views_of(CLIP)
    expected = open_runtime(folder, "torch", device="cpu").run(views)
    runtime = open_runtime(folder, "auto", precision)
    assert runtime.description.endswith(f"on cuda, {precision}")
    found = runtime.run(views)
    assert relative_error([expected.features], [found.features]) < bound
    assert relative_error([expected.logits], [found.logits]) < bound


def test_a_compiled_network_answers_as_on_the_cpu(folder):
    views = views_of(CLIP)
    expected = open_runtime(folder, "torch", device="cpu").run(views)
    found = open_runtime(folder, "torch-compile", device="cuda").run(views)
    assert relative_error([expected.logits], [found.logits]) < 1e-4


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_replayed_batches_give_the_outputs_of_the_first_one(precision, folder):
    runtime = open_runtime(folder, "torch", precision, device="cuda")
    assert isinstance(runtime, TorchRuntime) and runtime._graphs is not None
    views = {shape: views_of(shape, 4) for shape in (CLIP, (3, 16, 112, 112))}
    batches = [(shape, n) for n in (1, 2, 3) for shape in views]
    expected = [runtime.run(views[shape][:n]) for shape, n in batches]
    assert not runtime._graphs._captured
    for _ in range(3):  # more batch shapes than graphs are kept
        for (shape, n), first in zip(batches, expected, strict=True):
            found = runtime.run(views[shape][:n])
            assert relative_error([first.logits], [found.logits]) < 1e-4
    assert len(runtime._graphs._captured) == MAX_GRAPHS

    with ThreadPoolExecutor(4) as pool:  # from several threads at once
        orders = [n % len(batches) for n in range(24)]
        run = lambda n: runtime.run(views[batches[n][0]][: batches[n][1]])  # noqa: E731
        for n, found in zip(orders, pool.map(run, orders), strict=True):
            assert relative_error([expected[n].logits], [found.logits]) < 1e-4

    with torch.no_grad():  # weights that are changed in place
        runtime.model.get_parameter("cls_head.fc_cls.bias").add_(100)
    changed = runtime.run(views[CLIP][:1]).logits
    np.testing.assert_allclose(changed, expected[0].logits + 100, atol=0.5)


def test_the_batch_is_halved_until_it_fits_in_memory(folder):
    views = views_of(CLIP, 4)
    runtime = open_runtime(folder, "torch", device="cuda")
    expected = runtime.run(views).logits
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    runtime.run(views[:2])
    peak_of_two = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction(1.1 * peak_of_two / total)
        found = runtime.run(views).logits
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.3 * peak_of_two / total)
        # Of another shape, since graphs of this one have their memory already.
        views = views_of((3, 32, 256, 256))
        with pytest.raises(DeviceMemoryError, match="One view of shape"):
            runtime.run(views)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_shipped_model_gives_the_labels_of_the_cpu():
    clips = sorted(EXAMPLES.glob("*.mp4"))
    on_gpu = Predictor.load(device="cuda")
    on_cpu = Predictor.load(device="cpu", runtime="torch")
    for found, expected in zip(
        on_gpu.classify_many(clips), on_cpu.classify_many(clips), strict=True
    ):
        assert found.top(1)[0][0] == expected.top(1)[0][0]
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_training_gives_the_losses_of_the_cpu(precision, tmp_path):
    clips = make_folder(tmp_path / "clips", 8, TWO)
    losses = {}
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        settings = [
            f"data.train={clips}",
            f"run.precision={precision if device == 'cuda' else 'f32'}",
        ]
        recipe = load_recipe(write_tiny(tmp_path / device), settings)
        train(recipe, tmp_path / device / "out", device=device)
        losses[device] = losses_of(tmp_path / device / "out")
    bound = 1e-3 if precision == "f32" else 3e-2
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=bound)


def test_a_distributed_run_with_nccl_gives_the_losses_of_one_process(tmp_path):
    clips = make_folder(tmp_path / "clips", 8, TWO)
    path = write_tiny(tmp_path)
    settings = [f"data.train={clips}"]
    train(load_recipe(path, settings), tmp_path / "one", device="cuda")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1",
        "-m", "video_swin_transformer", "train", path, *settings, "--out", tmp_path / "nccl",
    ]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), env=environment(), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(losses_of(tmp_path / "nccl"), losses_of(tmp_path / "one"), rtol=1e-4)
