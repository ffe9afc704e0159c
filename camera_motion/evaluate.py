"""Measures the camera-movement network: all figures of its card, in one JSON file.

    python -m camera_motion.evaluate --out camera_motion/evaluation.json --real FOLDER \\
        --training runs/camera
    python -m camera_motion.evaluate --model runs/camera/model --out runs/camera/evaluation.json

Without --model, what the package ships is measured. --real wants the folder that the names in
static_clips.txt and the two lists of real clips are relative to: footage found static by eye, over
which virtual cameras move, and clips labeled by eye before any answer was seen. Footage is tested
on, never trained on. A folder that holds other footage can be given with lists of one's own.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from video_swin_transformer import Predictor
from video_swin_transformer.files import write_atomic
from video_swin_transformer.registry import DEFAULT_MODEL
from video_swin_transformer.training import load_recipe
from video_swin_transformer.weights import load_model

from .footage import STRIDE_SECONDS, LabeledClips, as_seen, read_footage, virtual_set
from .generator import NUM_FRAMES, ClipGenerator
from .labels import LABELS
from .metrics import measure, wilson
from .model import predict
from .video_files import VARIANTS, write_variants

_HERE = Path(__file__).parent
_PICTURES_A_SEED = 12  # each seed draws its own; clips of one seed share them
_LABELLED_SECONDS = 1.4  # of a real clip were looked at by eye


def held_out_set(first_seed: int, num_seeds: int, clips_a_seed: int = 20) -> LabeledClips:
    """Clips over pictures never trained on; the clips of one seed are one group."""
    clips, labels, groups = [], [], []
    for seed in range(first_seed, first_seed + num_seeds):
        some, theirs = ClipGenerator("test", seed, num_pictures=_PICTURES_A_SEED).batch(
            0, clips_a_seed
        )
        clips.append(some)
        labels.append(theirs)
        groups.append(np.full(clips_a_seed, seed))
    return LabeledClips(np.concatenate(clips), np.concatenate(labels), np.concatenate(groups))


def real_clips(model: nn.Module, root: Path, rows: list[dict[str, str]]) -> dict[str, Any]:
    """The network's labels of real clips as they are, beside those given by eye.

    rows: `file`, `start_seconds` and `label` of each clip of 1.4 s; the network sees its middle.
    Labels outside the ten ("mixed", "unclear") are answered but not counted.
    """
    answers = []
    for row in rows:
        footage = read_footage(root / row["file"])
        unseen = _LABELLED_SECONDS - (NUM_FRAMES - 1) * STRIDE_SECONDS
        start = round((float(row["start_seconds"]) + unseen / 2) * footage.fps)
        scores = predict(model, as_seen(footage.window(start))[None])[0]
        best = int(scores.argmax())
        answers.append({**row, "answer": LABELS[best], "score": round(float(scores[best]), 3)})
    named = [row for row in answers if row["label"] in LABELS]
    moving = [row for row in named if row["label"] != "static"]
    result: dict[str, Any] = {"clips": answers}
    for title, some in (("named", named), ("moving", moving)):
        hits = sum(row["answer"] == row["label"] for row in some)
        result[title] = {"count": len(some), "hits": hits, "interval": wilson(hits, len(some))}
    return result


def kept_labels(seed: int, clips_a_label: int) -> dict[str, Any]:
    """Whether a clip keeps its label in another file: frame rate, size, compression, gray.

    Of the weights that ship, with real files and in the product's own way. `kept` counts the clips
    whose label is that of the file "as it is", `right` those with the true one.
    """
    predictor = Predictor.load(DEFAULT_MODEL)
    counts = {name: {"kept": 0, "right": 0} for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(clips_a_label):
            for label, truth in enumerate(LABELS):
                paths = write_variants(Path(folder), label, seed + number)
                answers = {
                    name: predictor.classify(path).top(1)[0][0] for name, path in paths.items()
                }
                for name, answer in answers.items():
                    counts[name]["kept"] += answer == answers["as it is"]
                    counts[name]["right"] += answer == truth
                    paths[name].unlink()
    return {"count": clips_a_label * len(LABELS), "variants": counts}


def milliseconds_a_clip(model: nn.Module) -> float:
    """Of the network alone, one clip at a time; the median of 50."""
    clip = torch.zeros(1, 3, 8, 112, 112)

    def once(batch: Tensor) -> float:
        start = time.perf_counter()
        model(batch)
        return time.perf_counter() - start

    with torch.inference_mode():
        return 1000 * sorted(once(clip) for _ in range(50))[25]


def show(title: str, result: dict[str, Any]) -> None:
    """Prints the main figures of one set."""
    low, high = result["interval"]
    print(f"\n{title}: {result['accuracy']:.3f} [{low:.3f}, {high:.3f}] of {result['count']} clips")
    for (name, row), counts in zip(result["per_label"].items(), result["confusion"], strict=True):
        low, high = row["interval"]
        cells = " ".join(f"{count:4d}" for count in counts)
        print(f"{name:>10}  {row['accuracy']:.3f}  [{low:.3f}, {high:.3f}]  {cells}")
    print(
        f"one frame {result['single_frame_accuracy']:.3f}, "
        f"shuffled {result['shuffled_accuracy']:.3f}, calibration error "
        f"{result['reliability']['expected_calibration_error']:.3f}"
    )
    for name, row in result["symmetry"].items():
        print(f"{name}: same answer {row['same_answer']:.3f}, accuracy {row['accuracy']:.3f}")
    for row in result["answered"]:
        print(
            f"score from {row['threshold']}: {row['answered']:.3f} answered, "
            f"{row['accuracy']:.3f} right"
        )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--model", help="folder of a model that is not shipped")
    parser.add_argument("--training", type=Path, help="folder of the training, for the card")
    parser.add_argument("--real", type=Path, help="folder of real footage (see above)")
    parser.add_argument("--static-list", type=Path, default=_HERE / "static_clips.txt")
    parser.add_argument("--labeled-list", type=Path, default=_HERE / "real_clips.csv")
    parser.add_argument("--seen-list", type=Path, default=_HERE / "real_clips_seen.csv")
    parser.add_argument("--seed", type=int, default=500_000, help="first of the test clips")
    parser.add_argument("--num-seeds", type=int, default=100, help="20 clips each")
    parser.add_argument("--clips-per-label", type=int, default=150, help="over real footage")
    parser.add_argument("--files-a-label", type=int, default=6, help="as real video files")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    args = _parse()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    model = load_model(args.model or DEFAULT_MODEL).eval()
    results: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "milliseconds_a_clip": milliseconds_a_clip(model),
        "held_out_pictures": measure(model, held_out_set(args.seed, args.num_seeds)),
    }
    show("Held-out pictures", results["held_out_pictures"])
    if args.model is None:
        results["as_files"] = kept_labels(args.seed, args.files_a_label)
        for name, row in results["as_files"]["variants"].items():
            print(f"{name}: {row['kept']} of {results['as_files']['count']} keep their label")
    if args.real:
        names = args.static_list.read_text().split()
        test = virtual_set(args.real, names, args.clips_per_label, args.seed)
        results["real_footage"] = measure(model, test)
        show("Real footage under virtual cameras", results["real_footage"])
        for name, path in (
            ("real_clips", args.labeled_list),
            ("real_clips_seen", args.seen_list),
        ):
            with path.open(newline="") as file:
                results[name] = real_clips(model, args.real, list(csv.DictReader(file)))
            for title in ("named", "moving"):
                row = results[name][title]
                print(f"{name}, {title}: {row['hits']} of {row['count']}")
    if args.training:
        report = json.loads((args.training / "result.json").read_text())
        results["training"] = {
            "steps": report["steps"],
            "minutes": report["minutes"],
            "batch": load_recipe(args.training / "recipe.yaml").batch_size,
        }
    write_atomic(args.out, (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
