"""Trains the camera-movement network on generated clips; one command makes the weights.

    python -m camera_motion.train --out runs/camera --minutes 25
    python -m camera_motion.train --out runs/camera --minutes 25 --resume   # after an interruption

Writes into --out:
    checkpoint.pt        all that resuming needs, rewritten every 100 steps
    weights.pt           the state_dict alone, float32
    model_config.json    the ModelConfig that rebuilds the network
    training.json        arguments, steps, minutes, accuracy on held-out pictures as it grew
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import json
import math
import multiprocessing
import time
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty, Full
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from video_swin_transformer.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig
from video_swin_transformer.model import VideoSwinTransformer

from .generator import ClipGenerator
from .labels import LABELS
from .motion_filters import start_with_movement

CAMERA_MODEL = ModelConfig(
    embed_dim=64,
    depths=(2, 2),
    num_heads=(2, 4),
    patch_size=(2, 8, 8),
    window_size=(8, 7, 7),
    num_classes=len(LABELS),
    drop_path_rate=0.02,
    head_drop_rate=0.1,
)
_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 0.05
_WARM_UP_STEPS = 100
_DIFFICULTY_SHARE = 0.3  # of the training, after which clips are as hard as they get
_STEPS_PER_LINE, _STEPS_PER_CHECKPOINT, _STEPS_PER_TEST = 50, 100, 500
_TEST_SEED = 20_000
_NUM_TEST_CLIPS = 480


def normalise(clips: Tensor) -> Tensor:
    """(B, T, H, W, 3) uint8 RGB -> (B, 3, T, H, W) float32, the network's input."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((clips.float() - mean) / std).permute(0, 4, 1, 2, 3).contiguous()


def _make_batches(
    queue: Queue, seed: int, size: int, first: int, stride: int, steps_to_full_difficulty: int
) -> None:
    """Fills the queue with batches first, first + stride, ... for ever (runs in its own process).

    A batch and its difficulty follow from its number alone, so a resumed run sees the same ones.
    """
    cv2.setNumThreads(1)  # the other core belongs to the network
    torch.set_num_threads(1)
    generator = ClipGenerator("train", seed)
    parent = multiprocessing.parent_process()
    index = first
    while True:
        difficulty = min(1.0, index / max(1, steps_to_full_difficulty))
        batch = generator.batch(index, size, difficulty)
        while True:
            try:
                queue.put(batch, timeout=10)
                break
            except Full:
                if parent is not None and not parent.is_alive():
                    return  # a killed training must not leave its workers behind
        index += stride


class _Feed:
    """Batches made ahead by worker processes, in order: clips (B, T, H, W, 3) and labels (B,)."""

    def __init__(self, args: argparse.Namespace, start: int, steps_to_full_difficulty: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._queues: list[Queue] = [context.Queue(maxsize=3) for _ in range(args.workers)]
        self._processes = []
        for number, queue in enumerate(self._queues):
            work = (queue, args.seed, args.batch, start + number, args.workers)
            process = context.Process(
                target=_make_batches, args=(*work, steps_to_full_difficulty), daemon=True
            )
            process.start()
            self._processes.append(process)
        self._turn = 0

    def next(self) -> tuple[Tensor, Tensor]:
        number = self._turn % len(self._queues)
        self._turn += 1
        while True:
            try:
                clips, labels = self._queues[number].get(timeout=20)
            except Empty:
                if not self._processes[number].is_alive():
                    raise RuntimeError("The process that makes clips has died.") from None
            else:
                return torch.from_numpy(clips), torch.from_numpy(labels)

    def close(self) -> None:
        for process in self._processes:
            process.terminate()


def _optimizer(model: nn.Module) -> torch.optim.AdamW:
    """Weight decay on matrices only: not on biases, norms and position tables."""
    decayed, kept = [], []
    for name, parameter in model.named_parameters():
        plain = parameter.ndim < 2 or "relative_position_bias_table" in name
        (kept if plain else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": _WEIGHT_DECAY},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=_LEARNING_RATE)


def _learning_rate(step: int, progress: float) -> float:
    warm_up = min(1.0, (step + 1) / _WARM_UP_STEPS)
    return _LEARNING_RATE * warm_up * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@torch.inference_mode()
def predict(model: nn.Module, clips: NDArray[np.uint8], batch_size: int = 48) -> Tensor:
    """(N, T, H, W, 3) uint8 RGB -> (N, 10) float32 probabilities."""
    model.eval()
    parts = [
        model(normalise(torch.from_numpy(clips[start : start + batch_size]))).softmax(-1)
        for start in range(0, len(clips), batch_size)
    ]
    return torch.cat(parts).float()


def _keep_freed_memory() -> None:
    """Tells glibc to keep freed blocks: giving them back at each step is slow."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((-1, 1 << 30), (-2, 1 << 28), (-3, 1 << 30)):  # trim, pad, mmap
            libc.mallopt(option, value)


def _write_atomically(path: Path, content: Any) -> None:
    unfinished = path.with_suffix(".part")
    torch.save(content, unfinished)
    unfinished.replace(path)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is written")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, default=3000, help="length of the training")
    length.add_argument("--minutes", type=float, help="length in minutes, instead of --steps")
    parser.add_argument("--batch", type=int, default=32, help="clips in a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="of the network")
    parser.add_argument("--workers", type=int, default=1, help="processes that make clips")
    parser.add_argument("--resume", action="store_true", help="go on from checkpoint.pt in --out")
    return parser.parse_args()


class _Training:
    """The state of one run and its loop."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        torch.manual_seed(args.seed)
        self.model = VideoSwinTransformer(CAMERA_MODEL)
        start_with_movement(self.model)
        self.optimizer = _optimizer(self.model)
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []
        if args.resume:
            self._load()
        # By the clock, the number of steps is not known beforehand: two cores make two a second.
        expected = args.steps if args.minutes is None else int(args.minutes * 60 * 1.6)
        self.feed = _Feed(args, self.step, int(expected * _DIFFICULTY_SHARE))
        self.test_clips, self.test_labels = ClipGenerator("test", _TEST_SEED).batch(
            0, _NUM_TEST_CLIPS
        )

    def _load(self) -> None:
        saved = torch.load(self.args.out / "checkpoint.pt", weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.history = saved["history"]
        torch.set_rng_state(saved["rng"])

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "rng": torch.get_rng_state(),
        }
        _write_atomically(self.args.out / "checkpoint.pt", state)

    def _progress(self) -> float:
        if self.args.minutes is not None:
            return self.seconds / (60 * self.args.minutes)
        return self.step / self.args.steps

    def test_accuracy(self) -> float:
        chosen = predict(self.model, self.test_clips).argmax(-1).numpy()
        self.model.train()
        return float((chosen == self.test_labels).mean())

    def run(self) -> None:
        self.model.train()
        losses, hits = [], []
        seconds_before, last = self.seconds, time.monotonic()
        while self._progress() < 1:
            clips, labels = self.feed.next()
            for group in self.optimizer.param_groups:
                group["lr"] = _learning_rate(self.step, self._progress())
            with torch.autocast("cpu", torch.bfloat16):
                logits = self.model(normalise(clips))
            loss = nn.functional.cross_entropy(logits.float(), labels)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
            losses.append(loss.item())
            hits.append((logits.argmax(-1) == labels).float().mean().item())
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            if self.step % _STEPS_PER_LINE == 0:
                pace = (self.seconds - seconds_before) / _STEPS_PER_LINE
                print(
                    f"step {self.step}  {self.seconds / 60:.1f} min  loss {np.mean(losses):.3f}  "
                    f"accuracy {np.mean(hits):.3f}  {pace:.2f} s/step",
                    flush=True,
                )
                losses, hits, seconds_before = [], [], self.seconds
            if self.step % _STEPS_PER_TEST == 0:
                accuracy = self.test_accuracy()
                self.history.append({"step": self.step, "held_out_accuracy": accuracy})
                print(f"step {self.step}  held-out pictures: accuracy {accuracy:.3f}", flush=True)
            if self.step % _STEPS_PER_CHECKPOINT == 0:
                self._save()
        self._save()

    def finish(self) -> None:
        self.feed.close()
        out: Path = self.args.out
        accuracy = self.test_accuracy()
        _write_atomically(out / "weights.pt", self.model.state_dict())
        (out / "model_config.json").write_text(
            json.dumps(dataclasses.asdict(CAMERA_MODEL), indent=2) + "\n"
        )
        report = {
            "arguments": {key: str(value) for key, value in vars(self.args).items()},
            "steps": self.step,
            "minutes": self.seconds / 60,
            "held_out_accuracy": accuracy,
            "history": self.history,
        }
        (out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
        print(f"{self.step} steps, {self.seconds / 60:.1f} min, held-out accuracy {accuracy:.3f}")
        print(f"weights: {out / 'weights.pt'}")


def main() -> None:
    args = _parse()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    _keep_freed_memory()
    training = _Training(args)
    training.run()
    training.finish()


if __name__ == "__main__":
    main()
