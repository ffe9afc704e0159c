"""README: short, links that work on a package index, and code blocks that print what it shows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.snippets import REASONS, read_blocks, run_page

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
REPOSITORY = "https://github.com/video-swin-transformer/video-swin-transformer/blob/main/"


def test_every_block_of_the_readme_runs_and_prints_what_it_shows(monkeypatch, tmp_path):
    monkeypatch.setenv("VIDEOSWIN_HOME", str(tmp_path / "home"))  # nothing downloaded yet
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    assert run_page(README, tmp_path) == 2
    skipped = [block.reason for block in read_blocks(README) if block.reason is not None]
    assert skipped == ["installs packages"] and set(skipped) <= REASONS


def test_the_readme_is_short():
    assert len(TEXT.splitlines()) <= 150


def test_links_of_the_readme_are_absolute_and_lead_to_files_of_the_project():
    targets = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert all(target.startswith("https://") for target in targets)
    ours = [target for target in targets if target.startswith(REPOSITORY)]
    assert len(ours) >= 10
    for target in ours:
        assert (ROOT / target.removeprefix(REPOSITORY)).exists(), target


def test_the_readme_credits_the_work_it_builds_on():
    for name in ("haofanwang", "berniwal", "SwinTransformer/Video-Swin-Transformer"):
        assert name in TEXT
