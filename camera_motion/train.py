"""Trains the camera-movement network on generated clips; one command makes the weights.

    python -m camera_motion.train --out runs/camera
    python -m camera_motion.train --out runs/camera --resume   # after an interruption

Nothing depends on the clock or on an interruption: batches follow from (seed, number), there is no
dropout, and a resumed run goes on from the last checkpoint as if it had never stopped.

Writes into --out:
    checkpoint.pt        all that resuming needs, rewritten every 100 steps
    weights.pt           the averaged weights, a float32 state dict
    training.json        arguments, steps, minutes, loss and accuracy as they went
"""

from __future__ import annotations

import argparse
import contextlib
import copy
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

from video_swin_transformer.config import IMAGENET_MEAN, IMAGENET_STD
from video_swin_transformer.files import replace_file
from video_swin_transformer.model import VideoSwinTransformer
from video_swin_transformer.registry import DEFAULT_MODEL, find_card

from .generator import ClipGenerator
from .motion_filters import start_with_movement

# The shape that the registry describes, with nothing dropped: it never fits its clips too well.
CAMERA_MODEL = dataclasses.replace(
    find_card(DEFAULT_MODEL).bundle.model, drop_path_rate=0.0, head_drop_rate=0.0
)
_LEARNING_RATE = 2e-3
_WEIGHT_DECAY = 0.05
_WARM_UP_STEPS = 100
_NUM_STEPS = 7000
_STEPS_TO_FULL_DIFFICULTY = 1000
_AVERAGE_DECAY = 0.998  # of the weights that ship: about the last 500 steps
_STEPS_PER_LINE, _STEPS_PER_TEST = 50, 500
_CHECKPOINT = "checkpoint.pt"
_TEST_SEED = 20_000


def normalise(clips: Tensor) -> Tensor:
    """(B, T, H, W, 3) uint8 RGB -> (B, 3, T, H, W) float32, the network's input."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((clips.float() - mean) / std).permute(0, 4, 1, 2, 3).contiguous()


def _make_batches(
    queue: Queue, seed: int, size: int, first: int, stride: int, full_difficulty: int
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
        difficulty = min(1.0, index / full_difficulty)
        batch = generator.batch(index, size, difficulty)
        while True:
            try:
                queue.put(batch, timeout=10)
                break
            except Full:
                if parent is not None and not parent.is_alive():
                    # A killed training must not leave its workers behind: what waits in the queue
                    # would be waited for at exit, and nobody reads it any more.
                    queue.cancel_join_thread()
                    return
        index += stride


class _Feed:
    """Batches made ahead by worker processes, in order: clips (B, T, H, W, 3) and labels (B,)."""

    def __init__(self, args: argparse.Namespace, start: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._queues: list[Queue] = [context.Queue(maxsize=3) for _ in range(args.workers)]
        self._processes = []
        for number, queue in enumerate(self._queues):
            work = (queue, args.seed, args.batch, start + number, args.workers, args.ramp)
            process = context.Process(target=_make_batches, args=work, daemon=True)
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


def _learning_rate(step: int, num_steps: int) -> float:
    warm_up = min(1.0, (step + 1) / _WARM_UP_STEPS)
    return _LEARNING_RATE * warm_up * 0.5 * (1 + math.cos(math.pi * step / num_steps))


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
    parser.add_argument("--steps", type=int, default=_NUM_STEPS, help="length of the training")
    parser.add_argument("--batch", type=int, default=32, help="clips in a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="of the network")
    parser.add_argument("--workers", type=int, default=1, help="processes that make clips")
    parser.add_argument(
        "--ramp",
        type=int,
        default=_STEPS_TO_FULL_DIFFICULTY,
        help="step from which on the clips are as hard as they get",
    )
    parser.add_argument("--steps-per-checkpoint", type=int, default=100)
    parser.add_argument("--test-clips", type=int, default=480, help="for the figures on the way")
    parser.add_argument("--resume", action="store_true", help="go on from checkpoint.pt in --out")
    return parser.parse_args()


class _Training:
    """The state of one run and its loop."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        torch.manual_seed(args.seed)
        self.model = VideoSwinTransformer(CAMERA_MODEL)
        start_with_movement(self.model)
        self.average = copy.deepcopy(self.model)
        self.optimizer = _optimizer(self.model)
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []
        if args.resume:
            self._load()
        self.feed = _Feed(args, self.step)

    def _load(self) -> None:
        saved = torch.load(self.args.out / _CHECKPOINT, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.history = saved["history"]

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
        }
        _write_atomically(self.args.out / _CHECKPOINT, state)

    def test_accuracy(self) -> float:
        """Of the averaged weights, on the few held-out clips that are watched on the way."""
        clips, labels = ClipGenerator("test", _TEST_SEED).batch(0, self.args.test_clips)
        return float((predict(self.average, clips).argmax(-1).numpy() == labels).mean())

    def _learn(self, clips: Tensor, labels: Tensor) -> tuple[float, float]:
        """One step; loss and accuracy of the batch before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = _learning_rate(self.step, self.args.steps)
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.model(normalise(clips))
        loss = nn.functional.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        # Near the start the average must forget the random weights faster.
        decay = min(_AVERAGE_DECAY, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(new, 1 - decay)
        return loss.item(), (logits.argmax(-1) == labels).float().mean().item()

    def run(self) -> None:
        self.model.train()
        recent: list[tuple[float, float]] = []
        last = time.monotonic()
        while self.step < self.args.steps:
            recent.append(self._learn(*self.feed.next()))
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            if self.step % _STEPS_PER_LINE == 0:
                loss, accuracy = (float(value) for value in np.mean(recent, axis=0))
                self.history.append({"step": self.step, "loss": loss, "accuracy": accuracy})
                print(
                    f"step {self.step}  {self.seconds / 60:.1f} min  loss {loss:.4f}  "
                    f"accuracy {accuracy:.3f}",
                    flush=True,
                )
                recent = []
            if self.step % _STEPS_PER_TEST == 0:
                self.history[-1]["held_out_accuracy"] = self.test_accuracy()
                print(f"held-out pictures: {self.history[-1]['held_out_accuracy']:.3f}", flush=True)
            if self.step % self.args.steps_per_checkpoint == 0:
                self._save()
        self._save()

    def finish(self) -> None:
        self.feed.close()
        out: Path = self.args.out
        accuracy = self.test_accuracy()
        _write_atomically(out / "weights.pt", self.average.state_dict())
        report = {
            "arguments": {key: str(value) for key, value in vars(self.args).items()},
            "steps": self.step,
            "minutes": self.seconds / 60,
            "held_out_accuracy": accuracy,
            "history": self.history,
        }
        replace_file(out / "training.json", (json.dumps(report, indent=2) + "\n").encode())
        print(f"{self.step} steps, {self.seconds / 60:.1f} min, held-out accuracy {accuracy:.3f}")
        print(f"weights: {out / 'weights.pt'}")


def main() -> None:
    args = _parse()
    there = (args.out / _CHECKPOINT).exists()
    if there != args.resume:
        raise SystemExit(
            f"{args.out / _CHECKPOINT} is there already. Add --resume to go on from it, or choose "
            "another --out."
            if there
            else f"There is no {args.out / _CHECKPOINT} to resume from. Leave out --resume."
        )
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    _keep_freed_memory()
    training = _Training(args)
    training.run()
    training.finish()


if __name__ == "__main__":
    main()
