"""Training on clips that a program generates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.training import losses_of, make_folder, write_tiny
from video_swin_transformer import Predictor
from video_swin_transformer.errors import ConfigError
from video_swin_transformer.training import load_recipe, train

SETTINGS = (
    "schedule.epochs=6",
    "clip.train_short_side=32",
    "augment.flip=0",
    "augment.scale=[1,1]",
    "augment.ratio=[1,1]",
)


@dataclass(frozen=True)
class Brightening:
    """Noise that gets brighter or darker; the clip follows from label and number."""

    classes: tuple[str, ...] = ("brighter", "darker")
    clips_per_epoch: int = 24
    num_frames: int = 4

    def make(self, label: int, number: int) -> np.ndarray:
        generator = np.random.default_rng((label, number))
        texture = generator.integers(60, 180, (32, 32, 3))
        step = 16 if label == 0 else -16
        frames = [texture + step * at for at in range(self.num_frames)]
        return np.stack(frames).clip(0, 255).astype(np.uint8)


def run(folder: Path, *settings: str, source: Brightening | None = None) -> Path:
    recipe = load_recipe(write_tiny(folder), [*SETTINGS, *settings])
    result = train(recipe, folder / "out", clips=source or Brightening(), device="cpu")
    assert result.steps == 18
    return folder / "out"


def test_it_trains_on_generated_clips_and_validates_on_files(tmp_path: Path) -> None:
    val = make_folder(tmp_path / "val", 3, ("brighter", "darker"))
    out = run(tmp_path, f"data.val={val}")
    losses = losses_of(out)
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    clip = make_folder(tmp_path / "new", 1, ("darker",)) / "darker" / "clip00.mp4"
    labels = Predictor.load(out / "model").classify(clip)
    assert {label for label, _ in labels.top(2)} == {"brighter", "darker"}


@pytest.mark.slow
def test_workers_change_nothing(tmp_path: Path) -> None:
    for name in ("none", "two"):
        (tmp_path / name).mkdir()
    losses = losses_of(run(tmp_path / "none", "run.workers=0"))
    assert losses == losses_of(run(tmp_path / "two", "run.workers=2"))
    assert len(set(losses)) == len(losses), "each step has new clips"


@pytest.mark.parametrize(
    ("settings", "source", "says"),
    [
        (("data.val_fraction=0.2",), None, "data.val"),
        (("data=somewhere",), None, "data.train"),
        ((), Brightening(num_frames=3), "clip.num_frames"),
    ],
)
def test_what_contradicts_generated_clips_is_rejected(
    tmp_path: Path, settings: tuple[str, ...], source: Brightening | None, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        run(tmp_path, *settings, source=source)
