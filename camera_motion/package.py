"""Puts trained weights where the package ships them, as half-precision safetensors.

python -m camera_motion.package runs/camera/weights.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from video_swin_transformer.model import VideoSwinTransformer
from video_swin_transformer.registry import DEFAULT_MODEL, find_card
from video_swin_transformer.weights import embedded_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="the state dict that training wrote")
    options = parser.parse_args()
    card = find_card(DEFAULT_MODEL)
    model = VideoSwinTransformer(card.bundle)
    model.load_state_dict(torch.load(options.weights, weights_only=True))
    folder = embedded_folder(card)
    assert folder is not None
    model.save_pretrained(folder, dtype=torch.float16)
    for path in sorted(folder.iterdir()):
        print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
