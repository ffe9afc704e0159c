"""README is true: its commands are run and its programs executed, and they print what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from video_swin_transformer import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SESSION = re.compile(r"```console\n\$ (videoswin [^\n]+)\n```\n+```text\n(.*?)```", re.DOTALL)
PROGRAM = re.compile(r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"\d+\.\d+")


def assert_same_print(printed: str, shown: str) -> None:
    """Equal but for the last digits of scores, which differ from one processor to another."""
    assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", shown).split()
    for ours, theirs in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
        assert float(ours) == pytest.approx(float(theirs), abs=0.2)


@pytest.mark.parametrize(("command", "shown"), SESSION.findall(README))
def test_commands_print_what_is_shown(command, shown, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDEOSWIN_HOME", str(tmp_path / "home"))  # nothing downloaded yet
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    assert cli.run(shlex.split(command)[1:]) == 0
    assert_same_print(capsys.readouterr().out, shown)


# "Inference as official" needs files that only test_openmmlab.py makes, and is run there.
PROGRAMS = [found for found in PROGRAM.findall(README) if "openmmlab" not in found[0]]


@pytest.mark.parametrize(("program", "shown"), PROGRAMS)
def test_programs_run_and_print_what_is_shown(program, shown, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})
    assert_same_print(capsys.readouterr().out, shown)


def test_readme_shows_at_least_these():
    commands = {shlex.split(command)[1] for command, _ in SESSION.findall(README)}
    assert {"classify", "features", "models"} <= commands
    assert len(PROGRAMS) >= 2
    for name in ("haofanwang", "berniwal", "SwinTransformer/Video-Swin-Transformer"):
        assert name in README
