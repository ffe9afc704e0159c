"""Sphinx configuration: `make docs` builds this folder into build/docs."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "video-swin-transformer"
author = "video-swin-transformer contributors"
project_copyright = "2026, video-swin-transformer contributors"
version = release = installed_version("video-swin-transformer")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "command_pages",
    "module_layers",
]
exclude_patterns = ["_ext"]

# Links to the documentation of Python, NumPy and PyTorch need the network: `-t intersphinx`.
if "intersphinx" in tags:  # type: ignore[name-defined]  # noqa: F821
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# `name` in a docstring is code; "--" in a help text is the start of an option.
default_role = "literal"
smartquotes = False

autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "video-swin-transformer"
html_theme_options = {
    "source_repository": "https://github.com/video-swin-transformer/video-swin-transformer",
    "source_branch": "main",
    "source_directory": "docs/",
}


def _keep_first_paragraph(
    app: object, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """The docstrings of packages go on with a list of their files, for developers."""
    if what == "module" and not name.endswith(".errors") and "" in lines:
        del lines[lines.index("") :]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _keep_first_paragraph)
