"""Measures everything that docs/performance.md says, and writes it there.

    python -m benchmarks [--rounds 7] [--threads 2] [--out docs] [--only network memory]

About 35 minutes on two cores. Nothing else should run meanwhile; what is compared runs in
alternation, so that the ratios hold even where the times drift.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
from datetime import date
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.end_to_end import end_to_end, write_clip
from benchmarks.features import NUM_FRAMES, features
from benchmarks.forward_pass import compare, memory
from benchmarks.report import write_report
from benchmarks.scaling import scaling
from benchmarks.training import training
from benchmarks.whole_frame import whole_frame
from video_swin_transformer import create_model
from video_swin_transformer.bench import open_exported, open_runtimes
from video_swin_transformer.exporting import export
from video_swin_transformer.files import write_atomic
from video_swin_transformer.runtimes import Runtime

ARCHITECTURE = "swin_tiny_patch244_window877"
PAIRS = (
    ("torch", "f32"),
    ("torch", "bf16"),
    ("onnxruntime", "f32"),
    ("openvino", "f32"),
    ("openvino", "bf16"),
)
SCALED = (("torch", "f32"), ("openvino", "f32"))
END_TO_END = (*SCALED, ("openvino", "bf16"))

_log = logging.getLogger("benchmarks")


def machine(threads: int) -> str:
    """One line on what the figures were measured with."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line for line in information.read_text().splitlines() if "model name" in line]
        processor = names[0].partition(":")[2].strip() if names else processor
    versions = ", ".join(f"{n} {version(n)}" for n in ("torch", "openvino", "onnxruntime"))
    python = f"Python {platform.python_version()}"
    return f"{processor}, {threads} threads, {python}, {versions} ({date.today()})."


class _Bench:
    """The things to measure: random weights of the network, its runtimes, and a clip."""

    def __init__(self, rounds: int, threads: int, scratch: Path) -> None:
        self.rounds, self.threads = rounds, threads
        self.source, self.int8 = scratch / "tiny", scratch / "openvino.xml"
        self.clip = scratch / "clip.mp4"
        torch.manual_seed(0)
        create_model(ARCHITECTURE).save_pretrained(self.source)
        write_clip(self.clip)

    @cached_property
    def runtimes(self) -> dict[tuple[str, str], Runtime]:
        _log.info("int8: export")
        export(self.source, self.int8, "openvino", "int8", calibrate=[self.clip])
        weights = open_runtimes(self.source, PAIRS, self.threads)
        return weights | open_exported([self.int8], self.threads)

    def network(self) -> dict[str, Any]:
        views = np.random.default_rng(0).standard_normal((1, 3, 32, 224, 224), np.float32)
        return compare(self.source, self.runtimes, views, self.rounds)

    def end_to_end(self) -> dict[str, Any]:
        pairs = (*END_TO_END, (self.int8.name, "int8"))
        runtimes = {key: runtime for key, runtime in self.runtimes.items() if key in pairs}
        return end_to_end(self.source, runtimes, self.clip, max(1, self.rounds // 2))

    def memory(self) -> dict[str, Any]:
        sources = dict.fromkeys(SCALED, self.source)
        return memory(self.source, sources, (1, 4, 8), self.threads)

    def whole_frame(self) -> dict[str, Any]:
        camera = open_runtimes("camera-motion", [("torch", "f32")], self.threads)
        return whole_frame(camera["torch", "f32"], 1000)

    def features(self) -> dict[str, Any]:
        video = self.clip.with_name("long.mp4")
        write_clip(video, num_frames=NUM_FRAMES)
        return {
            name: features(source, video, max(1, self.rounds // 3), "torch")
            for name, source in (("included network", "camera-motion"), ("Swin-T", self.source))
        }

    def scaling(self) -> dict[str, Any]:
        return scaling(open_runtimes(self.source, SCALED, self.threads), 2)

    def training(self) -> dict[str, Any]:
        return training(ARCHITECTURE, max(1, self.rounds // 2), self.threads)


PARTS = ("network", "end_to_end", "memory", "whole_frame", "features", "scaling", "training")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of performance.md")
    parser.add_argument(
        "--only", nargs="*", choices=PARTS, default=PARTS, help="measure these; keep the others"
    )
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    torch.set_num_threads(options.threads)
    stored = options.out / "performance.json"
    figures = json.loads(stored.read_text()) if stored.exists() else {}
    if options.only:
        with TemporaryDirectory() as scratch:
            bench = _Bench(options.rounds, options.threads, Path(scratch))
            for part in options.only:
                _log.info(part)
                figures[part] = getattr(bench, part)()
                figures["machine"] = machine(options.threads)
                write_atomic(stored, (json.dumps(figures, indent=1) + "\n").encode())
    write_report(figures, options.out)


if __name__ == "__main__":
    main()
