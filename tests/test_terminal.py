"""Results reach stdout whole while something moves on stderr, in a real terminal (a pty)."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.samples import example_list, small_bundle
from tests.server import FileServer
from tests.training import TINY, make_clip, make_folder, write_tiny
from video_swin_transformer import (
    Predictor,
    VideoSwinTransformer,
    bench,
    cli,
    registry,
    write_features,
)
from video_swin_transformer.config import RegressionTarget
from video_swin_transformer.registry import find_card

pty = pytest.importorskip("pty", reason="terminals of this kind are a matter of POSIX")

PROJECT = Path(__file__).parent.parent
EXAMPLES = PROJECT / "examples" / "clips"
ERASED = "\r\x1b[2K"
CURSOR = re.compile(r"\x1b\[\?25[hl]")
FAST = ("--views", "1x1", "--runtime", "torch", "--device", "cpu")


@dataclass
class Stream:
    """One end that the command writes to, read to its end by a thread."""

    reader: int
    writer: int
    _parts: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self.reader, 65536)
            except OSError:  # how Linux says that nobody has the terminal open
                part = b""
            if not part:
                return
            self._parts.append(part)

    def text(self) -> str:
        os.close(self.writer)
        self._thread.join()
        os.close(self.reader)
        return b"".join(self._parts).decode()


@pytest.fixture
def in_terminal(tmp_path, monkeypatch):
    """Runs a command whose stderr is a terminal: (exit code, stdout, what the terminal got).

    stdout: "file", "pipe", or "terminal", which is the one of stderr.
    """
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")

    def call(arguments: list[object], stdout: str) -> tuple[int, str, str]:
        terminal = Stream(*pty.openpty())
        pipe = Stream(*os.pipe()) if stdout == "pipe" else None
        target = {
            "file": lambda: (tmp_path / "stdout.txt").open("w"),
            "pipe": lambda: os.fdopen(os.dup(pipe.writer), "w"),
            "terminal": lambda: os.fdopen(os.dup(terminal.writer), "w"),
        }[stdout]()
        with (
            target,
            os.fdopen(os.dup(terminal.writer), "w", buffering=1) as error,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "stdout", target)
            patch.setattr(sys, "stderr", error)
            code = cli.run([str(argument) for argument in arguments])
            assert (sys.stdout, sys.stderr) == (target, error)
        seen = terminal.text()
        if stdout == "file":
            return code, (tmp_path / "stdout.txt").read_text(), seen
        return code, seen if pipe is None else pipe.text(), seen

    return call


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two clips to look at, and four to learn from."""
    root = tmp_path_factory.mktemp("data")
    for number, kind in enumerate(("left", "brighter")):
        make_clip(root / "clips" / kind, kind, number, num_frames=24)
    make_folder(root / "labeled", 2, ("left", "brighter"))
    write_tiny(
        root,
        TINY.replace("epochs: 2", "epochs: 1").replace("batch_size: 8", "batch_size: 2"),
    )
    bundle = small_bundle()  # of one block, which is quickly exported
    small = dataclasses.replace(bundle.model, depths=(1,), num_heads=(2,))
    VideoSwinTransformer(dataclasses.replace(bundle, model=small)).save_pretrained(root / "model")
    targets = tuple(RegressionTarget(f"number{n}", 0.0, 1.0) for n in range(small.num_classes))
    numbers = dataclasses.replace(bundle, model=small, labels=(), targets=targets)
    VideoSwinTransformer(numbers).save_pretrained(root / "numbers")
    predictor = Predictor.load(root / "model", runtime="torch", device="cpu")
    clips = sorted((root / "labeled").rglob("*.mp4"))
    assert not any(one.error for one in write_features(predictor, clips, root / "features"))
    receipt = predictor.with_receipts().classify(clips[0]).receipt
    assert receipt is not None
    receipt.save(root / "receipt.json")
    (root / "list.txt").write_text(
        "\n".join(example_list(root / "all.txt").read_text().split("\n")[:2])
    )
    return root


@pytest.fixture
def served(monkeypatch, tmp_path):
    """A server whose file `videoswin download small` fetches, into an empty cache."""
    monkeypatch.setenv("VIDEOSWIN_HOME", str(tmp_path / "home"))
    with FileServer(os.urandom(1 << 20)) as server:
        card = find_card("swin-t-k400")
        assert card.weights is not None
        weights = dataclasses.replace(
            card.weights, sha256_prefix=server.digest[:8], url=f"{server.url}/small.pth"
        )
        small = dataclasses.replace(card, weights=weights)
        monkeypatch.setitem(registry._BY_NAME, "small", small)
        yield


COMMANDS = {
    "classify": (["classify", "{data}/clips", "--json", *FAST], "classifying"),
    "features": (["features", "{data}/clips", "--out", "{new}", *FAST[2:]], "features"),
    "evaluate": (["evaluate", "{data}/list.txt", "--out", "{new}", *FAST], "evaluating"),
    "check-data": (["check-data", "{data}/labeled"], "checking"),
    "prepare": (["prepare", "{data}/labeled", "--out", "{new}"], "preparing"),
    "bench": (["bench", "--rounds", "1", "--runtime", "torch:f32"], "timing"),
    "train": (
        ["train", "{data}/tiny.yaml", "data={data}/labeled", "--out", "{new}", "--device", "cpu"],
        "clips/s",
    ),
    "explain": (
        ["explain", "{data}/clips", "--model", "{data}/model", "--out", "{new}", *FAST],
        "explaining",
    ),
    "segments": (["segments", "{data}/clips", "--json"], "segments"),
    "annotate": (["annotate", "{data}/clips", "--to", "csv", "--out", "{new}/a.csv"], "annotating"),
    "predict": (["predict", "{data}/clips", "--model", "{data}/numbers"], "predicting"),
    # Commands that show nothing while they work.
    "watch": (["watch", str(EXAMPLES / "pan_left.mp4"), "--speed", "max"], ""),
    "replay": (["replay", "{data}/receipt.json"], ""),
    "export": (["export", "{data}/model", "--format", "torch", "--out", "{new}/m.pt2"], ""),
    "convert": (["convert", "{data}/model", "--to", "official", "--out", "{new}/m.pth"], ""),
    "inspect": (["inspect", "{data}/model"], ""),
    "models": (["models", "swin-t*"], ""),
    "probe": (["probe", "{data}/features", "{data}/labeled", "--folds", "2"], ""),
    "search": (["search", "{data}/features/left/clip00.npz", "{data}/features", "--windows"], ""),
}


def left(seen: str) -> str:
    """What stays on the screen of what was written there, if nothing is drawn over anything else.

    The displays know two ways to take something away: erase the line they are on, or go up to the
    line above and erase that.
    """
    seen = CURSOR.sub("", seen).replace("\r\n", "\n")
    while (shorter := re.sub(r"[^\n]*\n\r?\x1b\[1A\x1b\[2K", lambda _: ERASED, seen)) != seen:
        seen = shorter
    return "\n".join(line.rpartition(ERASED)[2] for line in seen.split("\n"))


def without_figures(text: str) -> list[str]:
    """The lines with what differs from run to run left out."""
    text = re.sub(r"\d[\d.,e+-]*", "N", text)
    return [re.sub(r"[ ─]+", " ", line) for line in text.split("\n")]


@pytest.mark.parametrize("name", COMMANDS)
def test_output_is_whole_beside_what_moves(name, data, tmp_path, in_terminal, run, monkeypatch):
    arguments, moving = COMMANDS[name]
    monkeypatch.setattr(bench, "PRODUCT_SIZE", 256)  # processors without bf16 take minutes

    def filled() -> list[str]:
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        return [one.format(data=data, new=tmp_path / "new") for one in arguments]

    code, expected, _ = run(*filled())  # without any terminal
    assert code == 0 and expected.strip()
    for kind in ("file", "pipe") if moving else ("file",):
        code, out, seen = in_terminal(filled(), kind)
        assert code == 0
        assert without_figures(out) == without_figures(expected)
        assert moving in seen
        for line in out.splitlines():
            assert line == "" or line not in seen
    code, seen, _ = in_terminal(filled(), "terminal")
    assert code == 0 and moving in seen
    assert "\n".join(without_figures(expected)).strip() in "\n".join(without_figures(left(seen)))


def test_every_command_is_tested_here():
    names = {
        one.name or one.callback.__name__.replace("_", "-") for one in cli.app.registered_commands
    }
    assert names == {*COMMANDS, "download"}


def test_watch_displays_the_last_minute(in_terminal):
    arguments = ["watch", str(EXAMPLES / "pan_left.mp4"), "--speed", "2", "--display"]
    code, out, seen = in_terminal(arguments, "file")
    assert code == 0 and "latency" in seen and "pan_left" in seen and "\u2588" in seen
    assert '"state": "ended"' in out and "from frame to score" in left(seen)


@pytest.mark.parametrize("stdout", ["file", "pipe", "terminal"])
def test_a_download_prints_its_path_beside_the_bar(stdout, served, tmp_path, in_terminal):
    code, out, seen = in_terminal(["download", "small"], stdout)
    path = tmp_path / "home" / "weights" / "small.pth"
    assert code == 0 and path.is_file() and "swin" in seen
    assert out.replace("\r\n", "\n").endswith(f"{path}\n")
    if stdout != "terminal":
        assert out == f"{path}\n"


def test_errors_reach_the_terminal_beside_the_bar(data, tmp_path, in_terminal):
    (tmp_path / "bad.mp4").write_text("no video")
    code, out, seen = in_terminal(
        ["classify", data / "clips", tmp_path / "bad.mp4", "--json", *FAST], "file"
    )
    assert code == 1 and len(out.splitlines()) == 3
    assert re.search("^error: .*bad.mp4", left(seen), re.MULTILINE)
    assert "1 of 3 inputs failed" in seen


def test_a_terminal_that_cannot_redraw_gets_no_bar(data, in_terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    code, out, seen = in_terminal(["classify", data / "clips", "--json", *FAST], "file")
    assert code == 0 and len(out.splitlines()) == 2 and seen == ""


def test_the_command_of_a_shell_fills_its_file(tmp_path):
    """`videoswin classify examples/clips --json > out.jsonl` as a person starts it."""
    terminal = Stream(*pty.openpty())
    with (tmp_path / "out.jsonl").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "video_swin_transformer", "classify", EXAMPLES, "--json"],
            stdin=terminal.writer,
            stdout=out,
            stderr=terminal.writer,
            env=os.environ | {"TERM": "xterm"},
            timeout=120,
        )
    assert "classifying" in terminal.text()
    assert done.returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["input"] for line in lines] == [str(clip) for clip in sorted(EXAMPLES.iterdir())]
    assert all(len(line["labels"]) == 5 and line["error"] is None for line in lines)


def test_one_module_alone_opens_live_displays():
    """Any other would have to remember not to take stdout away."""
    opening = []
    for path in (PROJECT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                if names & {"rich.progress.Progress", "rich.live.Live", "rich.progress.track"}:
                    opening.append(path.name)
    assert set(opening) == {"terminal.py"}
