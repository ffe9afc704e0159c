"""Accuracy of the camera-movement network, with its controls.

    python -m camera_motion.evaluate --run runs/camera                      # held-out pictures
    python -m camera_motion.evaluate --run runs/camera --real FOLDER        # and real footage
    python -m camera_motion.evaluate --run runs/camera --look FILE FOLDER   # labels of real clips

--real wants the folder that the names in static_clips.txt are relative to: clips found static by
measurement and by eye, over which virtual cameras move. Footage is tested on, never trained on.
Prints tables and writes evaluation.json into the run's folder.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from video_swin_transformer.config import ModelConfig
from video_swin_transformer.model import VideoSwinTransformer

from . import labels as lb
from .footage import (
    as_seen,
    measured_label,
    measured_movement,
    read_footage,
    videos_in,
    virtual_set,
)
from .generator import ClipGenerator
from .labels import LABELS
from .train import predict

_SEED = 90_000  # of the test clips; training and its own checks use others
_STATIC_LIST = Path(__file__).parent / "static_clips.txt"

Clips = NDArray[np.uint8]
Labels = NDArray[np.int64]


def load_run(run: Path) -> nn.Module:
    """The network that a training wrote into its folder, ready for inference."""
    config = ModelConfig(**json.loads((run / "model_config.json").read_text()))
    model = VideoSwinTransformer(config)
    model.load_state_dict(torch.load(run / "weights.pt", weights_only=True))
    return model.eval()


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share."""
    if count == 0:
        return 0.0, 1.0
    z, share = 1.96, hits / count
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - spread) / (1 + z * z / count), (middle + spread) / (1 + z * z / count)


def calibration_error(scores: NDArray[np.float32], labels: Labels, num_bins: int = 10) -> float:
    """Expected calibration error: mean gap between a score and the share that is right."""
    best, right = scores.max(1), scores.argmax(1) == labels
    bins = np.minimum((best * num_bins).astype(int), num_bins - 1)
    gaps = [
        abs(best[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
        for b in range(num_bins)
        if (bins == b).any()
    ]
    return float(sum(gaps))


def single_frames(clips: Clips) -> Clips:
    """One middle frame, repeated: no movement is left to see."""
    return np.repeat(clips[:, 4:5], clips.shape[1], axis=1)


def shuffled(clips: Clips, rng: np.random.Generator) -> Clips:
    """The frames of each clip in an order of chance."""
    return np.stack([clip[rng.permutation(len(clip))] for clip in clips])


def report(model: nn.Module, clips: Clips, labels: Labels) -> dict[str, Any]:
    """Accuracy with intervals, confusion, calibration and controls on one set of clips."""
    scores = predict(model, clips).numpy()
    chosen = scores.argmax(1)
    confusion = np.zeros((len(LABELS), len(LABELS)), int)
    np.add.at(confusion, (labels, chosen), 1)
    per_class = {}
    for number, name in enumerate(LABELS):
        hits, count = int(confusion[number, number]), int(confusion[number].sum())
        per_class[name] = {"hits": hits, "count": count, "interval": wilson(hits, count)}
    hits = int(np.trace(confusion))
    one = predict(model, single_frames(clips)).argmax(-1).numpy()
    mixed = predict(model, shuffled(clips, np.random.default_rng(0))).argmax(-1).numpy()
    agreement, under = {}, {}
    symmetries = {
        "mirrored": (clips[:, :, :, ::-1], lb.MIRRORED),
        "reversed": (clips[:, ::-1], lb.REVERSED),
        "transposed": (clips.transpose(0, 1, 3, 2, 4), lb.TRANSPOSED),
    }
    for name, (changed, mapping) in symmetries.items():
        again = predict(model, np.ascontiguousarray(changed)).argmax(-1).numpy()
        agreement[name] = float((again == np.array(mapping)[chosen]).mean())
        under[name] = float((again == np.array(mapping)[labels]).mean())
    return {
        "accuracy": hits / len(labels),
        "interval": wilson(hits, len(labels)),
        "count": len(labels),
        "per_class": per_class,
        "confusion": confusion.tolist(),
        "calibration_error": calibration_error(scores, labels),
        "mean_score": float(scores.max(1).mean()),
        "single_frame_accuracy": float((one == labels).mean()),
        "single_frame_called_static": float((one == LABELS.index("static")).mean()),
        "shuffled_accuracy": float((mixed == labels).mean()),
        "agreement_with_itself": agreement,
        "accuracy_under_symmetry": under,
    }


def show(title: str, result: dict[str, Any]) -> None:
    low, high = result["interval"]
    print(f"\n{title}: accuracy {result['accuracy']:.3f} [{low:.3f}, {high:.3f}]", end="")
    print(f" of {result['count']} clips, calibration error {result['calibration_error']:.3f}")
    print(f"{'label':>10}  right  interval         chosen as (rows of the confusion matrix)")
    for number, (name, row) in enumerate(result["per_class"].items()):
        low, high = row["interval"]
        share = row["hits"] / max(1, row["count"])
        cells = " ".join(f"{count:4d}" for count in result["confusion"][number])
        print(f"{name:>10}  {share:.3f}  [{low:.3f}, {high:.3f}]  {cells}")
    print(
        f"controls: one frame {result['single_frame_accuracy']:.3f} "
        f"({result['single_frame_called_static']:.3f} called static), "
        f"shuffled {result['shuffled_accuracy']:.3f}"
    )
    for key, title in (
        ("agreement_with_itself", "agrees with itself when"),
        ("accuracy_under_symmetry", "accuracy when"),
    ):
        print(f"{title} " + ", ".join(f"{name} {v:.3f}" for name, v in result[key].items()))


def write_sheet(path: Path, strips: list[NDArray[np.uint8]], titles: list[str]) -> None:
    """A picture with one clip a row, its eight frames side by side, titled."""
    rows = []
    for strip, title in zip(strips, titles, strict=True):
        row = np.ascontiguousarray(np.concatenate(list(strip), axis=1)[:, :, ::-1])
        cv2.putText(row, title, (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3)
        cv2.putText(row, title, (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 255, 255), 1)
        rows.append(row)
    cv2.imwrite(str(path), np.concatenate(rows))


def look(
    model: nn.Module, paths: list[Path], clips_per_video: int, sheet: Path | None
) -> list[dict[str, Any]]:
    """Labels of real clips as they are, beside a measurement by tracked corners."""
    rows, strips, titles = [], [], []
    for path in videos_in(paths):
        try:
            footage = read_footage(path)
        except (OSError, IndexError, ValueError) as error:
            print(f"{path.name}: not read ({error})")
            continue
        for start in footage.windows(clips_per_video):
            window = footage.window(start)
            clip = as_seen(window)
            scores = predict(model, clip[None])[0].numpy()
            order = np.argsort(-scores)[:2]
            movement = measured_movement(clip)
            row = {
                "video": str(path),
                "start_seconds": start / footage.fps,
                "label": LABELS[order[0]],
                "score": float(scores[order[0]]),
                "second": LABELS[order[1]],
                "measured": measured_label(movement),
                "movement": movement,
            }
            rows.append(row)
            if sheet is not None:
                strips.append(clip)
                titles.append(f"{path.stem[:30]} {row['label']} {row['score']:.2f}")
            print(
                f"{path.name:36.36} {row['start_seconds']:5.1f} s  {row['label']:>9} "
                f"{row['score']:.2f} (then {row['second']:>9})  measured {row['measured']!s:>9}  "
                + " ".join(f"{key} {value:.1f}" for key, value in movement.items())
            )
    if sheet is not None and strips:
        write_sheet(sheet, strips, titles)
    clear = [row for row in rows if row["measured"] is not None]
    same = sum(row["label"] == row["measured"] for row in clear)
    print(f"{len(rows)} clips; {same} of {len(clear)} with a clear measured movement agree")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="folder that the training wrote")
    parser.add_argument("--real", type=Path, help="folder of real footage (see above)")
    parser.add_argument("--look", type=Path, nargs="+", help="videos to label as they are")
    parser.add_argument("--clips-per-label", type=int, default=100)
    parser.add_argument("--clips-per-video", type=int, default=3, help="for --look")
    parser.add_argument("--sheet", type=Path, help="for --look: a .png of the clips and labels")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    model = load_run(args.run)
    if args.look:
        rows = look(model, args.look, args.clips_per_video, args.sheet)
        (args.run / "look.json").write_text(json.dumps(rows, indent=2) + "\n")
        return
    num_clips = args.clips_per_label * len(LABELS)
    clips, labels = ClipGenerator("test", _SEED).batch(0, num_clips)
    results = {"held_out_pictures": report(model, clips, labels)}
    show("Held-out pictures", results["held_out_pictures"])
    if args.real:
        names = _STATIC_LIST.read_text().split()
        clips, labels = virtual_set(args.real, names, args.clips_per_label, _SEED)
        results["real_footage"] = report(model, clips, labels)
        show("Real footage under virtual cameras", results["real_footage"])
    (args.run / "evaluation.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
