"""A regression of the zoom speed of rendered clips, from the weights of the included model.

python -m benchmarks.regression --train 600 --test 200 --epochs 12
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

from benchmarks.zoom_clips import write_zoom_clips
from video_swin_transformer import Predictor, evaluate_regression
from video_swin_transformer.training import load_recipe, train

RECIPE = """
model: {init_from: camera-motion}
data: {targets: [zoom_percent_per_second], val_fraction: 0.1}
clip: {num_frames: 8, stride_seconds: 0.1}
augment: {scale: [0.8, 1.0], ratio: [1.0, 1.0], flip: 0.5}
loss: {kind: regression, distance: huber}
optimizer: {learning_rate: 0.001, backbone_multiplier: 0.3, weight_decay: 0.02}
schedule: {epochs: 12, warmup_epochs: 1}
batch_size: 16
"""


def main() -> None:
    """Trains and prints the measures on clips of other scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=600)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text(RECIPE)
        clips = write_zoom_clips(folder / "train", arguments.train, seed=0)
        unseen = write_zoom_clips(folder / "test", arguments.test, seed=1)
        settings = [f"data.train={clips}", f"schedule.epochs={arguments.epochs}"]
        start = time.perf_counter()
        result = train(load_recipe(folder / "recipe.yaml", settings), folder / "run", device="cpu")
        minutes = (time.perf_counter() - start) / 60
        measured = evaluate_regression(Predictor.load(result.model), unseen)
    for one in measured.targets:
        print(f"{minutes:.1f} minutes; {one}")


if __name__ == "__main__":
    main()
