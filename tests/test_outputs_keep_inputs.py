"""Outputs replace only their own kind; inputs are byte-identical after every misuse."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.media import Clip
from tests.samples import example_list
from tests.training import make_folder, write_tiny
from video_swin_transformer import create_model, files
from video_swin_transformer.files import open_atomic, write_atomic

EXAMPLES = Path(__file__).parent.parent / "examples" / "clips"
FAST = ("--views", "1x1", "--runtime", "torch", "--device", "cpu")
posix_only = pytest.mark.skipif(os.name == "nt", reason="modes, FIFOs and links are those of POSIX")


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Files of a user, whose names are those that commands write to."""
    root = tmp_path_factory.mktemp("inputs")
    for name in ("a", "b"):
        Clip(num_frames=8).make(root / name)
    make_folder(root / "labeled", 2, ("left", "brighter"))
    for name in ("a.json", "annotations.json", "crops.json", "evaluation.json", "clips.csv"):
        (root / name).write_text('{"mine": [1, 2, 3]}')
    for name in ("a.npy", "opentad.py", "actionformer.yaml", "result.json", "report.html"):
        (root / name).write_text("mine")
    example_list(root / "list.txt")
    write_tiny(root).rename(root / "recipe.yaml")
    create_model("swin-nano", num_classes=2).save_pretrained(root / "net")
    (root / "net.onnx").write_text("mine")
    (root / "net2.bin").write_text("mine")
    return root


@pytest.fixture
def inputs(template, tmp_path):
    return Path(shutil.copytree(template, tmp_path / "inputs"))


REFUSED = "exists and (is|was) not"
MISUSE = {
    "classify *.mp4 as the table": (
        ["classify", "--topk", "1", "--csv", "a.mp4", "b.mp4", *FAST],
        REFUSED,
    ),
    "classify list as the table": (["classify", "b.mp4", "--csv", "list.txt", *FAST], REFUSED),
    "check-data report": (["check-data", "labeled", "--json", "a.mp4"], REFUSED),
    "check-data other JSON": (["check-data", "labeled", "--json", "a.json"], REFUSED),
    "check-data quarantine": (
        ["check-data", "labeled", "--quarantine", "a.mp4"],
        "Cannot read the quarantine list|not a quarantine entry",
    ),
    "bench": (["bench", "--json", "a.mp4", "--runtime", "torch:f32"], REFUSED),
    "bench other JSON": (["bench", "--json", "a.json", "--runtime", "torch:f32"], REFUSED),
    "features npy": (["features", "a.mp4", "--out", ".", "--format", "npy", *FAST[2:]], REFUSED),
    "features layout": (
        ["features", "b.mp4", "--out", ".", "--layout", "actionformer", *FAST[2:]],
        REFUSED,
    ),
    "features opentad": (
        ["features", "b.mp4", "--out", ".", "--layout", "opentad", *FAST[2:]],
        REFUSED,
    ),
    "evaluate": (["evaluate", "list.txt", "--out", ".", *FAST], REFUSED),
    "train": (["train", "recipe.yaml", "data=labeled", "--out", "."], REFUSED),
    "export": (["export", "net", "--format", "onnx", "--out", "net.onnx"], "already exists"),
    "export bin": (["export", "net", "--format", "openvino", "--out", "net2.xml"], "net2.bin"),
    "convert": (["convert", "net", "--to", "safetensors", "--out", "a.mp4"], "exists; add --force"),
    "convert folder": (["convert", "net", "--to", "safetensors", "--out", "."], "is a folder"),
    "csv folder": (["classify", "b.mp4", "--csv", "."], "is a folder"),
}


@pytest.mark.parametrize("misuse", MISUSE)
def test_inputs_are_byte_identical_after_misuse(misuse, inputs, run, monkeypatch):
    monkeypatch.chdir(inputs)
    arguments, says = MISUSE[misuse]
    before = digests(inputs)
    code, _, err = run(*arguments)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code in (1, 2) and len(errors) == 1
    assert digests(inputs) == before
    assert re.search(says, errors[0])


def test_force_and_own_kind_are_replaced(inputs, run, monkeypatch):
    monkeypatch.chdir(inputs)
    clip = EXAMPLES / "static.mp4"
    for arguments, output in (
        (["classify", clip, *FAST, "--csv"], "x.csv"),
        (["check-data", "labeled", "--json"], "x.json"),
    ):
        for _ in range(2):
            assert run(*arguments, output)[0] == 0
        Path(output).write_text("mine")
        assert run(*arguments, output)[0] == 2 and Path(output).read_text() == "mine"
        assert run(*arguments, output, "--force")[0] == 0 and Path(output).read_text() != "mine"
    for format in ("npz", "npy", "safetensors", "parquet"):
        for _ in range(2):
            code, _, err = run("features", clip, "--out", "f", "--format", format, *FAST[2:])
            assert code == 0, err


@posix_only
def test_links_are_followed_and_modes_kept(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_atomic(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    before = os.umask(0o077)
    try:
        write_atomic(tmp_path / "private", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    (tmp_path / "dangling").symlink_to(tmp_path / "later")
    write_atomic(tmp_path / "dangling", b"x")
    assert (tmp_path / "later").read_bytes() == b"x"


@posix_only
def test_fifos_and_devices_are_written_to(tmp_path, run):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    code, _, _ = run("classify", EXAMPLES / "static.mp4", "--topk", 1, "--csv", fifo, *FAST)
    reader.join()
    assert code == 0 and stat.S_ISFIFO(fifo.stat().st_mode)
    assert read[0].startswith(b"input,rank,label") and read[0].count(b"\n") == 2
    write_atomic(Path("/dev/null"), b"x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@posix_only
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_dev_stdout_is_what_the_shell_opened(kind, tmp_path):
    command = [sys.executable, "-m", "video_swin_transformer", "classify"]
    command += [str(EXAMPLES / "static.mp4"), "--topk", "1", "--csv", "/dev/stdout", *FAST]
    path = tmp_path / "out"
    if kind == "file":
        with path.open("wb") as out:
            assert subprocess.run(command, stdout=out, timeout=120).returncode == 0
        text = path.read_text()
    else:
        text = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert text.count("static.mp4") == 2 and text.count("input,rank,label") == 1


@posix_only
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_names_the_target_and_what_to_do(run):
    code, _, err = run("classify", EXAMPLES / "static.mp4", "--csv", "/dev/full", *FAST)
    assert code == 1
    assert "error: /dev/full: No space left on device; free some space or choose another" in err


def test_errors_name_the_target_and_nothing_is_left(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as raised, open_atomic(tmp_path / "x"):
        pass
    assert raised.value.filename == str(tmp_path / "x") and not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as raised:
        write_atomic(tmp_path / "file" / "x", b"")
    assert raised.value.filename == str(tmp_path / "file" / "x")


def test_a_table_that_exists_is_json_only_if_it_parses(tmp_path):
    (tmp_path / "a").write_text(json.dumps({"a": 1}))
    assert files.is_json_with(tmp_path / "a", "a") and not files.is_json_with(tmp_path / "a", "b")
    (tmp_path / "a").write_text("[" * 100_000)
    assert not files.is_json_with(tmp_path / "a", "a")


def test_explain_refuses_a_folder_where_it_would_replace_its_input(tmp_path, run, monkeypatch):
    pytest.importorskip("matplotlib")
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(next(iter(EXAMPLES.glob("*.mp4"))).read_bytes())
    before = clip.read_bytes()
    monkeypatch.chdir(tmp_path)
    code, out, err = run("explain", "clip.mp4", "--out", ".")
    assert (code, out) == (2, "") and "would replace the input 'clip.mp4'" in err
    assert clip.read_bytes() == before and list(tmp_path.iterdir()) == [clip]
