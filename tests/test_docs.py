"""The documentation: every code block is run, generated pages are current, the site builds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.snippets import REASONS, read_blocks, run_page
from video_swin_transformer.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
# Pages for people who change the project: their commands install, publish or take hours.
FOR_DEVELOPERS = {"releasing.md"}
WITH_CODE = [
    page
    for page in PAGES
    if page.name not in FOR_DEVELOPERS
    and any(b.language in ("console", "python") and b.reason is None for b in read_blocks(page))
]
# In every run of the tests; the other pages are marked slow.
QUICK = {"docs/quickstart.md", "docs/tutorials/classify.md"}


@pytest.fixture
def folder(tmp_path):
    """The working directory of a page: the example clips, also sorted by class."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for clip in sorted((ROOT / "examples" / "clips").glob("*.mp4")):
        label = clip.stem.removesuffix("_with_things_in_front")
        target = tmp_path / "clips" / label / clip.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, target)
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=str(page.relative_to(DOCS)),
            marks=[] if str(page.relative_to(ROOT)) in QUICK else [pytest.mark.slow],
        )
        for page in WITH_CODE
    ],
)
@pytest.mark.timeout(900)
def test_every_block_of_a_page_runs_and_prints_what_it_shows(page, folder):
    assert run_page(page, folder) > 0


def test_blocks_are_left_out_for_the_allowed_reasons_only():
    skipped = [
        (page.name, block.reason)
        for page in PAGES
        for block in read_blocks(page)
        if block.reason is not None
    ]
    assert {reason for _, reason in skipped} <= REASONS
    for page in PAGES:
        # A mark that no block follows would go unnoticed.
        text = page.read_text(encoding="utf-8")
        marked = sum(block.reason is not None for block in read_blocks(page))
        assert text.count("<!-- not run:") == marked, page.name


def test_the_model_zoo_shows_what_the_command_prints(run):
    _, printed, _ = run("models", "--markdown")
    page = (DOCS / "model-zoo.md").read_text(encoding="utf-8")
    assert page.split("<!-- models -->")[1].split("<!-- /models -->")[0].strip() == printed.strip()


def test_every_command_has_a_page_that_shows_its_help():
    names = {command.callback.__name__.replace("_", "-") for command in app.registered_commands}
    pages = {path.stem for path in (DOCS / "commands").glob("*.md")} - {"index"}
    assert pages == names
    for name in names:
        page = (DOCS / "commands" / f"{name}.md").read_text(encoding="utf-8")
        assert f"```{{videoswin}} {name}\n" in page


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run([*command, str(DOCS), str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def test_the_site_builds_without_a_warning(site):
    assert (site / "index.html").exists()


def test_command_pages_list_every_option_with_its_default(site):
    page = (site / "commands" / "check-data.html").read_text(encoding="utf-8")
    for text in ("--clip-length", "--timeout", "Time limit per clip.", "120.0"):
        assert text in page
    assert "videoswin check-data train.txt --val val.txt" in page


def test_the_architecture_page_draws_every_module(site):
    page = (site / "architecture.html").read_text(encoding="utf-8")
    folder = ROOT / "src" / "video_swin_transformer"
    modules = {
        p.stem for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    for module in modules - {"__init__", "__main__"}:
        assert f">{module}</text>" in page


def test_the_api_reference_lists_every_public_name(site):
    import video_swin_transformer
    from video_swin_transformer import (
        data,
        evaluation,
        explanation,
        features,
        openmmlab,
        quality,
        registry,
        training,
    )

    pages = "".join(path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html"))
    modules = (data, evaluation, explanation, features, openmmlab, quality, registry, training)
    for module in (video_swin_transformer, *modules):
        for name in module.__all__:
            if callable(getattr(module, name)):
                assert f'.{name}"' in pages, f"{module.__name__}.{name}"
