"""Writes the results and learning curves of finished trainings into a page.

    python -m benchmarks.training_runs docs/results/ucf6.md scratch=runs/ucf-scratch ...

Each run is TITLE=FOLDER, an output folder of `videoswin train`. Replaces the section between the
marks of the page, and the image of the same name next to it.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from benchmarks.report import between_marks
from video_swin_transformer.files import write_atomic

Row = dict[str, Any]


def read_run(folder: Path) -> Row:
    """result.json with the columns of epochs.csv."""
    result: Row = json.loads((folder / "result.json").read_text())
    with (folder / "epochs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return result | {"curves": {name: [float(row[name]) for row in rows] for name in rows[0]}}


def table(runs: dict[str, Row]) -> str:
    lines = [
        "| run | minutes | kept epoch | validation top-1 | test top-1, 95% interval |",
        "|---|---|---|---|---|",
    ]
    for title, run in runs.items():
        low, high = run["test"]["top1_interval"]
        lines.append(
            f"| {title} | {run['minutes']:.0f} | {run['kept_epoch']} of {run['epochs']} "
            f"| {run['val_top1']:.1%} | **{run['test']['top1']:.1%}** ({low:.1%} to {high:.1%}) |"
        )
    return "\n".join(lines)


def draw(runs: dict[str, Row], path: Path) -> None:
    """Left the training loss, right the validation accuracy, by epoch."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for title, run in runs.items():
        curves = run["curves"]
        epochs = [epoch + 1 for epoch in curves["epoch"]]
        left.plot(epochs, curves["train_loss"], label=title)
        line = right.plot(epochs, [100 * v for v in curves["val_top1"]], linewidth=1)[0]
        kept = run["kept_epoch"]
        right.plot([kept], [100 * run["val_top1"]], "o", color=line.get_color())
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="validation top-1 in % (dot: kept)")
    left.legend(fontsize="small")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path)
    parser.add_argument("runs", nargs="+", metavar="TITLE=FOLDER")
    args = parser.parse_args()
    pairs = (run.rsplit("=", 1) for run in args.runs)
    runs = {title: read_run(Path(folder)) for title, folder in pairs}
    image = args.page.with_suffix(".png")
    draw(runs, image)
    shown = f"{table(runs)}\n\n![Learning curves]({image.name})"
    page = args.page.read_text(encoding="utf-8")
    write_atomic(args.page, between_marks(page, "runs", shown).encode())


if __name__ == "__main__":
    main()
