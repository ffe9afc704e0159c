"""Writes the card of the weights that ship, and its pictures, from what `evaluate` measured.

    python -m camera_motion.card

Reads camera_motion/evaluation.json; writes docs/camera-motion.md with docs/images/camera-*.png,
and the same text without the pictures beside the weights.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

from video_swin_transformer.files import write_atomic
from video_swin_transformer.registry import DEFAULT_MODEL, find_card
from video_swin_transformer.weights import pretrained_folder

from .labels import LABELS

_HERE = Path(__file__).parent
_DOCS = _HERE.parent / "docs"
PICTURES = """\
![Confusion matrices](images/camera-confusion.png)

![Reliability of the scores](images/camera-reliability.png)

"""
_SETS = ("held_out_pictures", "real_footage")

Row = dict[str, Any]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _interval(pair: Iterable[float]) -> str:
    low, high = pair
    return f"{100 * low:.0f}-{100 * high:.0f}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _accuracy_table(figures: Row) -> str:
    sets = [figures[name] for name in _SETS]

    def shares(title: str, parts: list[Row]) -> list[str]:
        return [title, *(f"{_percent(p['accuracy'])} ({_interval(p['interval'])})" for p in parts)]

    rows = [shares("**all**", sets)]
    rows += [shares(label, [one["per_label"][label] for one in sets]) for label in LABELS]
    rows.append(
        [
            "control: one frame repeated",
            *(
                f"{_percent(one['single_frame_accuracy'])}, "
                f"{_percent(one['single_frame_called_static'])} predicted static"
                for one in sets
            ),
        ]
    )
    rows.append(["control: frames shuffled", *(_percent(one["shuffled_accuracy"]) for one in sets)])
    for name in ("reversed", "mirrored", "transposed"):
        parts = [one["symmetry"][name] for one in sets]
        rows.append([f"{name}: {name} label", *(_percent(part["accuracy"]) for part in parts)])
        rows.append(
            [
                f"{name}: consistent with the original",
                *(_percent(part["same_answer"]) for part in parts),
            ]
        )
    counts = [str(one["count"]) for one in sets]
    return _table(
        ["", f"held-out images, {counts[0]}", f"real footage, virtual cameras, {counts[1]}"], rows
    )


def _files_table(figures: Row) -> str:
    files = figures["as_files"]
    return _table(
        ["file", "same label", "correct"],
        [
            [name, f"{row['kept']} of {files['count']}", f"{row['right']}"]
            for name, row in files["variants"].items()
        ],
    )


def _answered_table(figures: Row) -> str:
    rows = []
    for one, other in zip(*(figures[name]["answered"] for name in _SETS), strict=True):
        cells = [f"{one['threshold']:.1f}"]
        cells += [f"{_percent(r['answered'])}, {_percent(r['accuracy'])}" for r in (one, other)]
        rows.append(cells)
    return _table(["threshold", "images: coverage, accuracy", "footage: coverage, accuracy"], rows)


def _real_table(clips: list[Row]) -> str:
    rows = []
    for label in LABELS:
        answers = Counter(row["answer"] for row in clips if row["label"] == label)
        if answers:
            told = ", ".join(f"{name} {count}" for name, count in answers.most_common())
            rows.append([label, str(answers.total()), str(answers[label]), told])
    return _table(["by eye", "clips", "agreement", "predictions"], rows)


def _disagreements(clips: list[Row]) -> str:
    lines = []
    for row in clips:
        if row["label"] in LABELS and row["answer"] != row["label"]:
            name = row["file"].rsplit("/", 1)[-1].rsplit(".", 1)[0]
            lines.append(
                f"- {name} at {float(row['start_seconds']):.1f} s: by eye {row['label']}, "
                f"predicted {row['answer']} ({row['score']:.2f})"
            )
    return "\n".join(lines)


def text(figures: Row, pictures: str) -> str:
    """The card in Markdown."""
    real, seen = figures["real_clips"], figures["real_clips_seen"]
    named = [row for row in real["clips"] if row["label"] in LABELS]
    left_out = Counter(row["label"] for row in real["clips"] if row["label"] not in LABELS)
    error = {n: figures[n]["reliability"]["expected_calibration_error"] for n in _SETS}
    return Template((_HERE / "card.md").read_text()).substitute(
        parameters=f"{figures['parameters']:,}",
        megabytes=f"{2 * figures['parameters'] / 1e6:.1f}",
        steps=f"{figures['training']['steps']:,}",
        batch=figures["training"]["batch"],
        minutes=f"{figures['training']['minutes']:.0f}",
        held_out_groups=figures["held_out_pictures"]["groups"],
        real_groups=figures["real_footage"]["groups"],
        accuracy_table=_accuracy_table(figures),
        pictures=pictures,
        files_count=figures["as_files"]["count"],
        files_table=_files_table(figures),
        real_labeled=len(named),
        real_videos=len({row["file"] for row in named}),
        real_left_out=left_out.total(),
        real_left_out_why=", ".join(f"{count} {name}" for name, count in left_out.most_common()),
        named_hits=real["named"]["hits"],
        named_count=real["named"]["count"],
        named_interval=_interval(real["named"]["interval"]) + "%",
        moving_hits=real["moving"]["hits"],
        moving_count=real["moving"]["count"],
        moving_interval=_interval(real["moving"]["interval"]) + "%",
        seen_hits=seen["moving"]["hits"],
        seen_count=seen["moving"]["count"],
        real_table=_real_table(real["clips"]),
        disagreements=_disagreements(real["clips"]),
        ece_held_out=f"{100 * error['held_out_pictures']:.1f} points",
        ece_real=f"{100 * error['real_footage']:.1f} points",
        answered_table=_answered_table(figures),
        milliseconds=f"{figures['milliseconds_a_clip']:.0f}",
    )


def draw_confusion(figures: Row, path: Path) -> None:
    """Both confusion matrices side by side, in per cent of the true label's clips."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
    for axis, name in zip(axes, _SETS, strict=True):
        counts = np.array(figures[name]["confusion"])
        shares = 100 * counts / counts.sum(1, keepdims=True)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.5:
                color = "white" if share > 50 else "black"
                axis.text(column, row, f"{share:.0f}", ha="center", va="center", color=color)
        axis.set_xticks(range(len(LABELS)), LABELS, rotation=60, ha="right")
        axis.set_yticks(range(len(LABELS)), LABELS)
        axis.set(title=name.replace("_", " "), xlabel="answer", ylabel="truth")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def draw_reliability(figures: Row, path: Path) -> None:
    """Accuracy against score, ten bins, both sets; the area of a point is its share of clips."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5.2, 5), layout="constrained")
    axis.plot([0, 1], [0, 1], color="gray", linewidth=1)
    for name in _SETS:
        bins = figures[name]["reliability"]["bins"]
        total = sum(one["count"] for one in bins)
        axis.plot([b["score"] for b in bins], [b["accuracy"] for b in bins], linewidth=1)
        axis.scatter(
            [b["score"] for b in bins],
            [b["accuracy"] for b in bins],
            s=[20 + 600 * b["count"] / total for b in bins],
            alpha=0.6,
            label=name.replace("_", " "),
        )
    axis.set(xlabel="score", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.04))
    axis.legend(loc="upper left", markerscale=0.5)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", type=Path, default=_HERE / "evaluation.json")
    args = parser.parse_args()
    figures = json.loads(args.figures.read_text())
    folder = pretrained_folder(find_card(DEFAULT_MODEL))
    assert folder is not None
    write_atomic(_DOCS / "camera-motion.md", text(figures, PICTURES).encode())
    write_atomic(folder / "README.md", text(figures, "").encode())
    draw_confusion(figures, _DOCS / "images" / "camera-confusion.png")
    draw_reliability(figures, _DOCS / "images" / "camera-reliability.png")


if __name__ == "__main__":
    main()
