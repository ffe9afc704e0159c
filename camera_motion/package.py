"""Puts a trained model where the package ships it, as half-precision safetensors.

python -m camera_motion.package runs/camera/model
"""

from __future__ import annotations

import argparse

import torch

from video_swin_transformer.model import VideoSwinTransformer
from video_swin_transformer.registry import DEFAULT_MODEL, find_card
from video_swin_transformer.weights import load_model, pretrained_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the model folder that training wrote")
    options = parser.parse_args()
    card = find_card(DEFAULT_MODEL)
    model = VideoSwinTransformer(card.bundle)
    model.load_state_dict(load_model(options.model).state_dict())
    folder = pretrained_folder(card)
    assert folder is not None
    model.save_pretrained(folder, dtype=torch.float16)
    for path in sorted(folder.iterdir()):
        print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
