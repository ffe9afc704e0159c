"""Figures -> docs/performance.md and its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

_PEER = "torchvision f32"
_OURS, _THEIRS, _BOUND = "#2f6db3", "#9a9a9a", "#d9a441"
_TITLES = {"openvino.xml int8": "openvino int8"}  # by the name of the exported file
_COLOURS = {"torch": "#c8553d", "openvino": "#2f6db3", "onnxruntime": "#5b8c5a"}


def draw_ratios(figures: Mapping[str, Any], path: Path) -> None:
    """Bars: how many times faster than torchvision's network."""
    rows = {_TITLES.get(name, name): row["ratio"] for name, row in figures["runtimes"].items()}
    rows |= {
        f"at the rate of a {precision} matrix product": row["ratio_at_that_rate"]
        for precision, row in figures["matrix_products"].items()
    }
    names = sorted(rows, key=rows.__getitem__)
    colors = [
        _BOUND if name.startswith("at the") else _THEIRS if "torchvision" in name else _OURS
        for name in names
    ]
    figure, axes = plt.subplots(figsize=(7.5, 0.42 * len(names) + 0.8), layout="constrained")
    bars = axes.barh(names, [rows[name] for name in names], color=colors)
    axes.bar_label(bars, fmt="%.2fx", padding=3)
    axes.set_xlim(0, max(rows.values()) * 1.12)
    axes.set_xlabel("times torchvision's swin3d_t in f32 (1x3x32x224x224)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_scaling(scaling: Mapping[str, Any], path: Path) -> None:
    """Lines: seconds over frames, pixels and batch, both axes logarithmic, beside slope 1."""
    titles = {
        "frames": "frames (224 x 224)",
        "side": "pixels a frame (32 frames)",
        "batch": "batch (32 x 224 x 224)",
    }
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True, layout="constrained")
    for axes, (axis, title) in zip(panels, titles.items(), strict=True):
        for name, points in scaling[axis].items():
            sizes = [int(v) ** 2 if axis == "side" else int(v) for v in points]
            seconds = list(points.values())
            color = _COLOURS[name.split()[0]]
            style = "--" if "bf16" in name else "-"
            axes.loglog(sizes, seconds, style, marker="o", label=name, color=color)
            linear = [seconds[-1] * size / sizes[-1] for size in sizes]
            axes.loglog(sizes, linear, ":", color=color, linewidth=0.8)
        values = list(next(iter(scaling[axis].values())))
        ticks = [int(v) ** 2 if axis == "side" else int(v) for v in values]
        axes.set_xticks(ticks, [f"{v}²" if axis == "side" else v for v in values])
        axes.minorticks_off()
        axes.set_xlabel(title)
        axes.grid(alpha=0.3, which="both", linewidth=0.4)
    panels[0].set_ylabel("seconds per pass")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _engines_table(figures: Mapping[str, Any]) -> str:
    rows = [
        [
            _TITLES.get(name, name),
            f"{row['seconds']:.2f}",
            f"**{row['ratio']:.2f}**",
            f"{row['relative_error']:.0e}",
        ]
        for name, row in sorted(figures["runtimes"].items(), key=lambda item: item[1]["ratio"])
    ]
    rows += [
        [
            f"{figures['operations'] / 1e9:.1f} GFLOP at the rate of a {precision} matrix product "
            f"({row['operations_per_second'] / 1e9:.0f} GFLOP/s)",
            f"{figures['operations'] / row['operations_per_second']:.2f}",
            f"{row['ratio_at_that_rate']:.2f}",
            "",
        ]
        for precision, row in figures["matrix_products"].items()
    ]
    return table(["", "seconds", "times torchvision", "relative error"], rows)


def _memory_table(memory: Mapping[str, Mapping[str, float]]) -> str:
    batches = list(memory[_PEER])
    rows = [
        [
            name,
            *(f"{row[batch]:,.0f} ({row[batch] / memory[_PEER][batch]:.2f})" for batch in batches),
        ]
        for name, row in memory.items()
    ]
    return table(["MiB (share of torchvision's)", *(f"batch {b}" for b in batches)], rows)


def _scaling_tables(scaling: Mapping[str, Any]) -> str:
    parts = []
    for axis, by_engine in scaling.items():
        values = list(next(iter(by_engine.values())))
        rows = []
        for name, points in by_engine.items():
            sizes = [int(v) ** 2 if axis == "side" else int(v) for v in values]
            unit = sizes[0] if axis == "side" else 1
            cells = [
                f"{points[v]:.2f} ({1e3 * points[v] * unit / size:.0f})"
                for v, size in zip(values, sizes, strict=True)
            ]
            rows.append([name, *cells])
        parts.append(table([axis, *values], rows))
    return "\n\n".join(parts)


def _end_to_end_table(rows: Mapping[str, Any]) -> str:
    cells = []
    for name, row in sorted(rows.items(), key=lambda item: item[1]["ratio"]):
        stages = row.get("stages", {})
        shares = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items())
        difference = row.get("largest_difference_of_a_score")
        cells.append(
            [
                _TITLES.get(name, name),
                f"{row['seconds']:.2f}",
                f"**{row['ratio']:.2f}**",
                "" if difference is None else f"{difference:.0e}",
                shares,
            ]
        )
    head = ["", "seconds", "vs torchvision", "largest score difference", "time per stage"]
    return table(head, cells)


def _training_tables(by_shape: Mapping[str, Any]) -> str:
    head = [
        "seconds per step",
        "times torchvision",
        "peak MiB (share of torchvision's)",
        "difference of the loss",
        "of the gradient",
    ]
    parts = []
    for shape, rows in by_shape.items():
        whole = rows[_PEER]["peak_mib"]
        cells = [
            [
                name,
                f"{row['seconds']:.2f}",
                f"**{row['ratio']:.2f}**",
                f"{row['peak_mib']:,.0f} ({row['peak_mib'] / whole:.2f})",
                f"{row['loss_difference']:.0e}",
                f"{row['gradient_difference']:.0e}",
            ]
            for name, row in rows.items()
        ]
        parts.append(table([shape, *head], cells))
    return "\n\n".join(parts)


def _whole_frame_table(rows: Mapping[str, Any]) -> str:
    one = rows["1x1"]["seconds"]
    cells = [
        [kind, f"{100 * row['accuracy']:.1f}%", f"{row['seconds'] / one:.2f}"]
        for kind, row in rows.items()
    ]
    return table(["views", "accuracy", "cost, in passes of one crop"], cells)


def _features_table(by_model: Mapping[str, Any]) -> str:
    cells = [
        [
            f"{model}, {name}",
            f"{1e3 * seconds:.0f}",
            f"{seconds / row['seconds_per_row']['stream']:.2f}",
        ]
        for model, row in by_model.items()
        for name, seconds in row["seconds_per_row"].items()
        if "network only" not in name
    ]
    return table(["", "milliseconds per row", "times the stream"], cells)


def write_report(figures: Mapping[str, Any], docs: Path) -> None:
    """Fills what was measured into `performance.md`, between its marks, and draws its pictures."""
    writers: dict[str, Callable[[Any], str]] = {
        "network": _engines_table,
        "memory": _memory_table,
        "scaling": _scaling_tables,
        "end_to_end": _end_to_end_table,
        "whole_frame": _whole_frame_table,
        "features": _features_table,
        "training": _training_tables,
        "machine": str,
    }
    page = docs / "performance.md"
    text = page.read_text()
    for name, measured in figures.items():
        text = between_marks(text, name, writers[name](measured))
    page.write_text(text)
    if "network" in figures:
        draw_ratios(figures["network"], docs / "images" / "ratios.png")
    if "scaling" in figures:
        draw_scaling(figures["scaling"], docs / "images" / "scaling.png")


def between_marks(text: str, name: str, content: str) -> str:
    before, opening, rest = text.partition(f"<!-- {name} -->\n")
    _, closing, after = rest.partition(f"<!-- /{name} -->")
    if not opening or not closing:
        raise SystemExit(f"The page has no place for {name!r}.")
    return f"{before}{opening}{content}\n{closing}{after}"
