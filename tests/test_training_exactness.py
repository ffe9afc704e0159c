"""The same training in any number of micro batches and processes, and after interruptions."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.training import (
    TINY,
    command,
    environment,
    log_messages,
    losses_of,
    make_folder,
    rows_of,
    write_tiny,
)
from video_swin_transformer.training import load_recipe, train

# 18 clips with batch size 8: the last step of an epoch has 2, fewer than three processes or a micro
# batch of 3 need. Dropout and mixing are off. At this learning rate the loss falls steadily:
# where it jumps, rounding errors grow as well.
SETTINGS = ("schedule.epochs=7", "optimizer.learning_rate=1e-3")
# Everything that is random is on.
RANDOM = """
ema_decay: 0.9
augment: {scale: [0.2, 1.0], flip: 0.5, randaugment_ops: 2, erase: 0.5, mixup: 0.4, cutmix: 1.0}
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("clips"), 9, ("left", "brighter"))


def run_here(folder: Path, clips: Path, name: str, *settings: str) -> list[float]:
    recipe = load_recipe(write_tiny(folder), [f"data={clips}", *SETTINGS, *settings])
    result = train(recipe, folder / name, device="cpu")
    assert result.steps == 21
    return losses_of(folder / name)


@pytest.fixture(scope="module")
def whole_batch(tmp_path_factory, clips):
    """Losses of 21 steps in one process, one micro batch each."""
    torch.set_num_threads(1)
    return run_here(tmp_path_factory.mktemp("whole"), clips, "out")


def differ(first: list[float], second: list[float]) -> float:
    assert len(first) == len(second) == 21
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("micro_batch_size", [1, 3, 4])
def test_micro_batches_add_up_to_the_whole_batch(tmp_path, clips, whole_batch, micro_batch_size):
    assert whole_batch[0] > whole_batch[-1], "nothing was learned, so the comparison says nothing"
    losses = run_here(tmp_path, clips, "out", f"micro_batch_size={micro_batch_size}")
    assert differ(losses, whole_batch) < 1e-5


def test_gradient_checkpointing_changes_nothing(tmp_path, clips, whole_batch):
    losses = run_here(tmp_path, clips, "out", "run.grad_checkpointing=true")
    assert differ(losses, whole_batch) < 1e-5


def test_class_weights_of_equal_classes_change_nothing(tmp_path, clips, whole_batch):
    losses = run_here(tmp_path, clips, "out", "loss.class_weights=balanced")
    assert differ(losses, whole_batch) < 1e-5


@pytest.mark.parametrize(
    ("processes", "micro_batch_size"), [(2, 8), pytest.param(3, 2, marks=pytest.mark.slow)]
)
def test_processes_add_up_to_the_whole_batch(
    tmp_path, clips, whole_batch, processes, micro_batch_size
):
    """Real processes that communicate by gloo; of three, one has no clip in short steps."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += [f"--nproc-per-node={processes}", "-m", "video_swin_transformer", "train"]
    settings = [
        f"data={clips}",
        *SETTINGS,
        f"micro_batch_size={micro_batch_size}",
        "data.val_fraction=0.0",
    ]
    recipe, out = str(write_tiny(tmp_path)), str(tmp_path / "out")
    done = subprocess.run(
        [*launch, recipe, *settings, "--out", out, "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model:") == 1 and f"{processes} processes" in done.stderr
    assert differ(losses_of(tmp_path / "out"), whole_batch) < 1e-5


# --- interruptions --------------------------------------------------------------------------------


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(out / "model" / "model.safetensors")


def random_recipe(folder: Path) -> Path:
    text = TINY.replace("path_rate: 0.0", "path_rate: 0.3").replace(
        "head_drop_rate: 0.0", "head_drop_rate: 0.5"
    )
    return write_tiny(folder, text.replace("workers: 0", "workers: 1") + RANDOM)  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, clips):
    """With a data loading worker; the interrupted runs have none."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("uninterrupted")
    recipe = load_recipe(random_recipe(folder), [*_settings(clips), "run.workers=1"])
    train(recipe, folder / "out", device="cpu")
    return folder / "out"


def _settings(clips: Path) -> list[str]:
    return [f"data={clips}", "data.val_fraction=0.2", "schedule.epochs=6", "micro_batch_size=3"]


def resume(recipe: Path, settings: list[str], out: Path) -> list[str]:
    """Resumes the run in `out` to its end; the log messages."""
    with log_messages() as messages:
        train(recipe, out, overrides=settings, resume=True, device="cpu")
    return messages


def assert_same_run(out: Path, other: Path) -> None:
    first, second = weights_of(out), weights_of(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert losses_of(out) == losses_of(other)
    last = [sorted((o / "checkpoints").glob("step_*.pt"))[-1] for o in (out, other)]
    states = [torch.load(path, weights_only=True) for path in last]
    for group in ("model", "ema"):
        assert all(torch.equal(t, states[1][group][n]) for n, t in states[0][group].items())
    moments = [state["optimizer"]["state"] for state in states]
    for number, entry in moments[0].items():
        assert all(torch.equal(t, moments[1][number][n]) for n, t in entry.items())
    for table in ("steps.csv", "epochs.csv"):
        pairs = zip(rows_of(out / table), rows_of(other / table), strict=True)
        free = {"seconds", "clips_per_second", "data_wait_fraction", "memory_bytes"}
        assert all(a[k] == b[k] for a, b in pairs for k in a if k not in free)


def test_a_run_killed_at_random_and_resumed_is_bit_exact(tmp_path, clips, uninterrupted):
    out, recipe = tmp_path / "out", random_recipe(tmp_path)
    # A checkpoint after every step, so that the kill falls between them and into them.
    settings = [*_settings(clips), "run.checkpoint_minutes=1e-4"]
    goal = random.Random(time.time_ns()).randrange(1, 11)
    process = subprocess.Popen(
        command(recipe, *settings, "--out", out), stderr=subprocess.PIPE, env=environment()
    )
    deadline = time.monotonic() + 120
    while not _has_reached(out, goal) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode != 0, f"it ended before step {goal}"
    assert any("Resuming after step" in line for line in resume(recipe, settings, out))
    assert_same_run(out, uninterrupted)


def _has_reached(out: Path, step: int) -> bool:
    path = out / "steps.csv"
    # Only after the first checkpoint: before it there is nothing to resume.
    saved = any((out / "checkpoints").glob("step_*.pt"))
    return saved and path.is_file() and len(rows_of(path)) >= step


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130)],
)
def test_a_stop_signal_writes_a_checkpoint_to_resume_from(
    tmp_path, clips, uninterrupted, number, code
):
    out, recipe = tmp_path / "out", random_recipe(tmp_path)
    process = subprocess.Popen(
        command(recipe, *_settings(clips), "run.workers=1", "--out", out),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not ((out / "steps.csv").is_file() and rows_of(out / "steps.csv")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, number)  # workers get it as well, as from a scheduler
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "a checkpoint is saved" in err and "--resume" in err and "Traceback" not in err
    resume(recipe, _settings(clips), out)
    assert_same_run(out, uninterrupted)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, clips):
    folder = tmp_path / "out"
    recipe = load_recipe(write_tiny(tmp_path), [f"data={clips}"])
    train(recipe, folder, device="cpu")
    first = losses_of(folder)
    newest = sorted((folder / "checkpoints").glob("step_*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    with log_messages() as messages:
        result = train(recipe, folder, resume=True, device="cpu")
    assert result.steps == 6
    assert any(
        line.startswith("warning: ") and "Using the checkpoint before it" in line
        for line in messages
    )
    assert losses_of(folder) == first
