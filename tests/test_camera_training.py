"""The camera training in miniature: killed and resumed, it ends with the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from camera_motion import card
from camera_motion.metrics import reliability, resampled, wilson
from tests.training import losses_of
from video_swin_transformer.registry import DEFAULT_MODEL, find_card
from video_swin_transformer.weights import pretrained_folder

ROOT = Path(__file__).parent.parent


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "camera_motion.train", "--out", str(out)]
    command += ["schedule.epochs=2", "batch_size=4", "run.checkpoint_minutes=0.0001"]
    command += ["--clips-per-epoch", "16", "--ramp-clips", "16", "--val-clips", "10"]
    return subprocess.Popen(
        [*command, "--threads", "1", *more],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out + err


@pytest.mark.slow
def test_a_killed_and_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    code, text = finish(start(tmp_path / "whole"))
    assert code == 0, text
    killed = start(tmp_path / "killed")
    checkpoints = tmp_path / "killed" / "checkpoints"
    while not list(checkpoints.glob("step_*3.pt")):
        assert killed.poll() is None, finish(killed)
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    finish(killed)
    assert not (tmp_path / "killed" / "model").exists()
    code, text = finish(start(tmp_path / "killed", "--resume"))
    assert code == 0 and "Resuming after step" in text, text
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "killed")
    whole, resumed = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "killed")
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize(
    ("there", "more"), [(True, ()), pytest.param(False, ("--resume",), marks=pytest.mark.slow)]
)
def test_finished_work_is_not_lost_by_a_wrong_command(
    tmp_path: Path, there: bool, more: tuple[str, ...]
) -> None:
    checkpoint = tmp_path / "checkpoints" / "step_00000002.pt"
    if there:
        checkpoint.parent.mkdir()
        checkpoint.write_bytes(b"kept")
    code, text = finish(start(tmp_path, *more))
    assert code == 1 and "Traceback" not in text
    assert "--resume" in text and text.count("error:") == 1
    assert checkpoint.exists() == there and not (tmp_path / "model").exists()


def test_an_interval_over_groups_is_wider_than_one_over_clips() -> None:
    """Ten videos of which each is wholly right or wholly wrong are ten answers, not a hundred."""
    right = np.repeat([True] * 7 + [False] * 3, 10)
    low, high = resampled(right, np.repeat(np.arange(10), 10))
    narrow = wilson(70, 100)
    assert low < narrow[0] and high > narrow[1]
    assert 0.35 < low < 0.5 and 0.9 < high <= 1
    assert narrow == pytest.approx((0.604, 0.781), abs=0.001)  # Wilson 1927


def test_calibration_error_by_hand() -> None:
    scores = np.array([[0.95, 0.05]] * 10 + [[0.35, 0.65]] * 10)
    right = np.array([True] * 9 + [False] + [True] * 5 + [False] * 5)
    result = reliability(scores, right)
    # Half of the clips are 0.05 too sure, the other half 0.15.
    assert result["expected_calibration_error"] == pytest.approx(0.10)
    assert [one["count"] for one in result["bins"]] == [10, 10]


def test_the_card_says_what_was_measured() -> None:
    figures = json.loads((ROOT / "camera_motion" / "evaluation.json").read_text())
    folder = pretrained_folder(find_card(DEFAULT_MODEL))
    assert folder is not None
    for path in (ROOT / "docs" / "camera-motion.md", folder / "README.md"):
        written = path.read_text()
        assert f"{100 * figures['held_out_pictures']['accuracy']:.1f}" in written
        assert written == card.text(figures, card.PICTURES if path.parent.name == "docs" else "")
