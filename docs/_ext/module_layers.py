"""The directive `module-layers`: a diagram of the layers that import-linter checks."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
_WIDTH, _BOX_HEIGHT, _GAP = 640, 28, 14  # of the drawing, of a layer, between layers; in pixels


class ModuleLayersDirective(SphinxDirective):
    """One row per layer, the highest first; the modules of a row do not import each other."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(_PYPROJECT))
        settings = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))
        contracts = settings["tool"]["importlinter"]["contracts"]
        (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
        return [nodes.raw("", "\n".join(_svg(layers)), format="html")]


def _svg(layers: list[str]) -> Iterator[str]:
    height = len(layers) * (_BOX_HEIGHT + _GAP)
    yield (
        f'<svg class="module-layers" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'aria-label="Layers of modules, the highest first">'
    )
    for row, layer in enumerate(layers):
        top = row * (_BOX_HEIGHT + _GAP)
        modules = layer.split(" | ")
        width = (_WIDTH - _GAP * (len(modules) - 1)) / len(modules)
        for column, module in enumerate(modules):
            left = column * (width + _GAP)
            yield (
                f'<rect x="{left + 1:.1f}" y="{top + 1}" width="{width - 2:.1f}" '
                f'height="{_BOX_HEIGHT - 2}" rx="4"/>'
                f'<text x="{left + width / 2:.1f}" y="{top + _BOX_HEIGHT / 2 + 5}">{module}</text>'
            )
        if row < len(layers) - 1:
            middle, bottom = _WIDTH / 2, top + _BOX_HEIGHT
            yield f'<path d="M{middle} {bottom + 1}v{_GAP - 3}m-4 -5l4 5l4 -5"/>'
    yield "</svg>"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("module-layers", ModuleLayersDirective)
    return {"parallel_read_safe": True}
