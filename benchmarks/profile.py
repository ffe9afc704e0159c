"""Where one eager pass spends its time, by operator.

python -m benchmarks.profile [--model swin_tiny_patch244_window877] [--bf16] [--rows 15]
"""

from __future__ import annotations

import argparse

import torch
from torch.profiler import ProfilerActivity, profile

from video_swin_transformer import create_model


@torch.inference_mode()
def operators(model: torch.nn.Module, clip: torch.Tensor, bf16: bool) -> list[tuple[str, float]]:
    """(operator, its own share of the time of one pass), largest first."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        model(clip)  # builds what is kept for the shape
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            model(clip)
    events = recorded.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    shares = [(event.key, event.self_cpu_time_total / total) for event in events]
    return sorted(shares, key=lambda row: -row[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="swin_tiny_patch244_window877")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--rows", type=int, default=15)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = create_model(options.model).eval()
    sampling, preprocessing = model.bundle.sampling, model.bundle.preprocessing
    side = preprocessing.crop_size
    clip = torch.randn(1, model.config.in_chans, sampling.num_frames, side, side)
    for name, share in operators(model, clip, options.bf16)[: options.rows]:
        print(f"{100 * share:5.1f}%  {name}")


if __name__ == "__main__":
    main()
