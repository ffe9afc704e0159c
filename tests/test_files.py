"""File names of any bytes and any length: as text, in every output, and in temporary names."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media import Clip, save_picture
from tests.samples import EXAMPLE_CLIPS
from tests.training import make_clip, write_tiny
from video_swin_transformer import ConfigError, DataError, cli, train
from video_swin_transformer.data import Quarantine, default_quarantine, read_annotations
from video_swin_transformer.evaluation.scores import Plan
from video_swin_transformer.features import load_features
from video_swin_transformer.file_names import (
    csv_cell,
    one_line,
    path_from_text,
    path_to_text,
    plain_text,
)
from video_swin_transformer.files import (
    open_atomic,
    output_paths,
    read_file,
    read_text_file,
    sibling_path,
    write_atomic,
)
from video_swin_transformer.video import VideoReader

bytes_only = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="file names are Unicode there"
)
LONG = "x" * 251 + ".mp4"  # 255 bytes
NAMES = [
    b"caf\xe9.mp4",
    b"two\nlines.mp4",
    b"\xff\xfe\x80.mp4",
    b'quote"comma, semi;.mp4',
    b"back\\xe9slash.mp4",
    "line\u2028separator\x85.mp4".encode(),
    b"\x1b[31mred\r.mp4",
    b"<b>&amp;.mp4",
    LONG.encode(),
    ("\u00fc" * 125 + ".mp4").encode(),
]


# --- as text ------------------------------------------------------------------------------------


@given(st.binary(max_size=30))
def test_path_to_text_is_utf_8_and_reversible(data: bytes) -> None:
    name = data.decode("utf-8", "surrogateescape")
    text = path_to_text(name)
    text.encode("utf-8")
    assert path_from_text(text) == name
    assert path_from_text(one_line(name)) == name and one_line(name).splitlines() in (
        [],
        [one_line(name)],
    )
    plain_text(name).encode("utf-8")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"caf\xe9.mp4", r"caf\xe9.mp4"),
        ("caf\u00e9.mp4".encode(), "caf\u00e9.mp4"),
        (b"a\nb", "a\nb"),
        (rb"C:\data\x.mp4", r"C:\data\x.mp4"),
        (rb"a\xe9", r"a\x5cxe9"),
        (rb"\\x41", r"\\x5cx41".replace("\\\\x5c", "\\\\x5c")),
        (b"\\\xe9", r"\\xe9"),
    ],
)  # fmt: skip
def test_path_to_text_changes_only_what_it_must(data, text):
    assert path_to_text(data.decode("utf-8", "surrogateescape")) == text


def test_one_line_and_plain_text():
    assert one_line("a\n\x1b[1m\udce9") == r"a\x0a\x1b[1m\xe9"
    assert plain_text("C:\\xe9 \udce9\n") == "C:\\xe9 \\xe9\n"
    assert plain_text("\ud800") == r"\xed\xa0\x80"


# --- temporary and derived names ------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a" * 255, "\u00fc" * 127, "\U0001f600" * 63, "a.b" * 85, "x" * 254, "." + "y" * 254]
)
def test_write_atomic_accepts_names_of_any_legal_length(tmp_path, name):
    path = tmp_path / name
    write_atomic(path, b"1")
    write_atomic(path, b"2")
    assert path.read_bytes() == b"2" and [p.name for p in tmp_path.iterdir()] == [name]


@bytes_only
def test_write_atomic_accepts_names_of_any_bytes(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff\n" * 100)
    write_atomic(path, b"1")
    assert path.read_bytes() == b"1"


@pytest.mark.parametrize("length", [240, 251, 252, 255])
@pytest.mark.parametrize("character", ["a", "\u00fc"])
def test_sibling_path_is_never_too_long(tmp_path, length, character):
    name = character * (length // len(character.encode()))
    path = sibling_path(tmp_path / name, ".quarantine.jsonl")
    assert path.parent == tmp_path and path.name.endswith(".quarantine.jsonl")
    path.touch()
    other = sibling_path(tmp_path / f"{name[:-1]}b", ".quarantine.jsonl")
    assert other != path and sibling_path(tmp_path / name, ".quarantine.jsonl") == path
    assert sibling_path(tmp_path / "list.txt", ".q").name == "list.txt.q"


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (["a/x.mp4", "b/y.mp4"], ["x", "y"]),
        (["a/x.mp4", "b/x.mp4"], ["a/x", "b/x"]),
        (["r/a/x.mp4", "r/b/x.mp4", "r/b/c/y.mp4"], ["a/x", "b/x", "b/c/y"]),
        (["a/x.mp4", "a/x.avi", "a/y.avi"], ["x.mp4", "x.avi", "y"]),
        (["x.mp4", "b/x.mp4"], ["x", "b/x"]),
        (["x.mp4", "./x.mp4"], ["x", "x"]),  # the same file
        (["/m/a/x.mp4", "/n/x.mp4"], ["m/a/x", "n/x"]),
    ],
)
def test_output_paths_never_make_one_of_two(inputs, outputs):
    found = output_paths(inputs, Path("out"), ".npy")
    assert [path.as_posix() for path in found.values()] == [f"out/{name}.npy" for name in outputs]


def test_output_paths_that_clash_are_rejected():
    with pytest.raises(DataError, match=r"x\.mp4\.avi.* would both be written"):
        output_paths(["a/x.mp4", "a/x.avi", "a/x.mp4.avi", "b/x.mp4"], Path("out"), ".npy")


def test_default_quarantine_of_a_long_list_can_be_written(tmp_path):
    path = default_quarantine(tmp_path / ("l" * 255))
    Quarantine(path).add([("a.mp4", "absent")])
    assert Quarantine(path).reason("a.mp4") == "absent"


# --- stores --------------------------------------------------------------------------------------


@bytes_only
@pytest.mark.parametrize("data", NAMES)
def test_quarantine_and_plan_keep_any_name(tmp_path, data):
    path = tmp_path / os.fsdecode(data)
    path.touch()
    kept = Quarantine(tmp_path / "q.jsonl")
    kept.add([(str(path), f"Cannot read {path}"), ("other.mp4", "x")])
    again = Quarantine(tmp_path / "q.jsonl")
    assert len(again) == 2 and again.reason(str(path)) == plain_text(f"Cannot read {path}")
    plan = Plan({}, (str(path), "b"), ((0,), (1,)), (7, None))
    text = plan.to_json()
    assert Plan.from_json(json.loads(json.dumps(text.encode().decode()))) == plan


# --- commands ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two classes of clips under unusual names, one of which is broken."""
    root = tmp_path_factory.mktemp("clips")
    made = sorted(EXAMPLE_CLIPS.glob("*.mp4"))[:2]
    for number, data in enumerate(NAMES):
        folder = root / os.fsdecode(b"static" if number % 2 else b"caf\xe9")
        folder.mkdir(exist_ok=True)
        (folder / os.fsdecode(data)).write_bytes(made[number % 2].read_bytes())
    (root / "static" / os.fsdecode(b"broken\xe9\n.mp4")).write_bytes(b"no video")
    return root


def paths_in(root: Path) -> set[str]:
    return {str(path) for path in root.rglob("*.mp4")}


@bytes_only
def test_classify_writes_any_name_as_json_and_csv(clips, tmp_path):
    arguments = [
        "classify",
        str(clips),
        "--json",
        "--csv",
        str(tmp_path / "out.csv"),
        "--views",
        "1x1",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "video_swin_transformer", *arguments, "--runtime", "torch"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1 and b"Traceback" not in done.stderr
    assert b"1 of 11 inputs failed" in done.stderr
    rows = [json.loads(line) for line in done.stdout.decode("utf-8").split("\n")[:-1]]
    assert {path_from_text(row["input"]) for row in rows} == paths_in(clips)
    assert sum(row["error"] is not None for row in rows) == 1
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert {path_from_text(row["input"]) for row in table} == paths_in(clips)


@bytes_only
def test_classify_prints_one_line_per_name_in_any_locale(clips):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for options in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "video_swin_transformer", "classify", *options, "--views", "1x1",
             "--runtime", "torch", str(clips / os.fsdecode(b"caf\xe9"))],
            capture_output=True, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = done.stdout.decode("ascii").splitlines()
        if options:
            assert all(json.loads(line)["error"] is None for line in lines) and len(lines) == 5
        else:
            assert len(lines) == 5 * 6 and not any("\x1b" in line for line in lines)


@bytes_only
def test_features_writes_any_name_and_goes_on_after_a_failure(clips, tmp_path, capsys):
    out = tmp_path / "features"
    code = cli.run(
        ["features", str(clips), "--out", str(out), "--num-windows", "1", "--runtime", "torch"]
    )
    captured = capsys.readouterr()
    assert code == 1 and "1 of 11 inputs failed" in captured.err
    written = {os.fsencode(path.name) for path in out.rglob("*.npz")}
    assert written == {data.removesuffix(b".mp4") + b".npz" for data in NAMES}
    assert len(captured.out.splitlines()) == len(NAMES)


@bytes_only
def test_check_data_and_evaluate_write_any_name(clips, tmp_path, capsys):
    quarantine, report = tmp_path / "q.jsonl", tmp_path / "report.json"
    code = cli.run(
        ["check-data", str(clips), "--quarantine", str(quarantine), "--json", str(report)]
    )
    assert code == 1
    data = json.loads(report.read_bytes().decode("utf-8"))
    broken = next(path for path in paths_in(clips) if "broken" in path)
    unusable = [problem["path"] for problem in data["problems"] if problem["unusable"]]
    assert [path_from_text(path) for path in unusable] == [broken]
    assert list(data["splits"][0]["class_counts"]) == [r"caf\xe9", "static"]
    assert Quarantine(quarantine).reason(broken) is not None

    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join([r"caf\xe9", "static", *(f"c{n}" for n in range(8))]))
    out = tmp_path / os.fsdecode(b"evaluation\xe9")
    code = cli.run([
        "evaluate", str(clips), "--labels", str(labels), "--out", str(out), "--views", "1x1",
        "--quarantine", str(tmp_path / "q2.jsonl"), "--runtime", "torch",
    ])  # fmt: skip
    captured = capsys.readouterr()
    assert code == 1 and "1 of 11 clips failed" in captured.err
    with (out / "clips.csv").open(encoding="utf-8", newline="") as file:
        assert {path_from_text(row["path"]) for row in csv.DictReader(file)} == paths_in(clips)
    json.loads((out / "evaluation.json").read_bytes().decode("utf-8"))
    page = (out / "report.html").read_bytes().decode("utf-8")
    assert r"caf\xe9" in page and "<b>&amp;.mp4" not in page
    code = cli.run(["evaluate", "--scores", str(out)])
    assert code == 0 and "10 clips" in capsys.readouterr().out


@bytes_only
@pytest.mark.timeout(120)
def test_train_reads_and_resumes_clips_of_any_name(tmp_path):
    root = tmp_path / os.fsdecode(b"clips\xe9")
    names = [b"caf\xe9", b"two\nlines", b"x" * 251, "\u2028".encode()]
    for label, kind in enumerate(("brighter", "darker")):
        for number, data in enumerate(names):
            folder = root / os.fsdecode(kind.encode() + b"\xff")
            made = make_clip(folder / "made", kind, 10 * label + number)
            made.rename(folder / os.fsdecode(data + b".mp4"))
    broken = folder / os.fsdecode(b"broken\xe9.mp4")
    broken.write_bytes(b"no video")
    with pytest.raises(ConfigError, match="TensorBoard"):
        train("finetune", tmp_path / os.fsdecode(b"out\xe9"))
    out = tmp_path / "out"
    for resume in (False, True):
        result = train(
            str(write_tiny(tmp_path)),
            out,
            overrides=[f"data={root}", "schedule.epochs=1"],
            resume=resume,
        )
    assert [Path(path) for path, _ in result.failures] == [broken]
    data = json.loads((out / "result.json").read_bytes().decode("utf-8"))
    assert path_from_text(data["unusable_clips"][0]["path"]) == str(broken)
    config = json.loads((result.model / "config.json").read_bytes().decode("utf-8"))
    assert config["id2label"] == {"0": r"brighter\xff", "1": r"darker\xff"}


@bytes_only
def test_an_unwritable_feature_file_does_not_end_the_loop(tmp_path, capsys):
    for name in ("a", "b", "c"):
        Clip(num_frames=2).make(tmp_path / name)
    (tmp_path / "out" / "b.npz").mkdir(parents=True)
    code = cli.run(
        ["features", str(tmp_path), "--out", str(tmp_path / "out"), "--runtime", "torch"]
    )
    captured = capsys.readouterr()
    assert code == 1 and "b.npz' (Is a directory)" in captured.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.npz", "b.npz", "c.npz"}


def test_features_of_equal_names_keep_their_folders(tmp_path, capsys):
    for name in ("a/x", "b/x", "b/c/x", "b/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Clip(num_frames=2).make(tmp_path / name)
    Clip(".avi", "mpeg4", num_frames=3).make(tmp_path / "a" / "x")
    out = tmp_path / "out"
    code = cli.run(["features", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out)])
    assert code == 0, capsys.readouterr().err
    found = {path.relative_to(out).as_posix() for path in out.rglob("*.npz")}
    assert found == {"a/x.avi.npz", "a/x.mp4.npz", "b/x.npz", "b/c/x.npz", "b/y.npz"}
    assert all(load_features(out / name).values.ndim == 2 for name in found)


@bytes_only
def test_image_folders_of_any_name(tmp_path):
    folder = tmp_path / "c" / os.fsdecode(b"f\xe9\n")
    folder.mkdir(parents=True)
    for data in (b"\xe9_1.png", b"\xe9_2.png"):
        save_picture(folder / "x.png", np.zeros((64, 96, 3), np.uint8)).rename(
            folder / os.fsdecode(data)
        )
    found = read_annotations(tmp_path)
    with VideoReader(found.items[0].path) as reader:
        assert reader.frames_at([0, 1]).shape == (2, 64, 96, 3)


def test_text_is_read_with_its_limit(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9\r\n")
    assert read_text_file(file) == "caf\xe9\r\n"
    assert read_file(file, max_bytes=10) == file.read_bytes()
    with pytest.raises(DataError, match="larger than 9 bytes, the most allowed"):
        read_text_file(file, max_bytes=9)
    file.write_bytes(b"caf\xe9")
    with pytest.raises(ConfigError, match=r"the recipe .*: byte 3 is not UTF-8; save"):
        read_text_file(file, what="recipe", error=ConfigError)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs and devices are a matter of POSIX")
def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, cause in {
        tmp_path / "fifo": "it is a pipe",
        tmp_path: "it is a folder",
        Path("/dev/zero"): "it is a device",
        tmp_path / "none": "No such file",
        tmp_path / "a\0b": "null",
    }.items():
        with pytest.raises(DataError, match=rf"Cannot read the label file .*: .*{cause}") as found:
            read_text_file(path, what="label file")
        assert str(found.value).count("Cannot read") == 1


@bytes_only
def test_weights_of_any_name_are_converted_and_read_where_libraries_can(tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9")
    for target, suffix in (("official", "pth"), ("safetensors", "safetensors")):
        out = str(tmp_path / f"{name}.{suffix}")
        assert cli.run(["convert", "camera-motion", "--to", target, "--out", out]) == 0
        capsys.readouterr()
        code = cli.run(["inspect", out, "--json"])
        captured = capsys.readouterr()
        if target == "official":
            assert code == 0 and json.loads(captured.out)["classes"] == 10
        else:
            assert (
                code == 1 and r"caf\xe9.safetensors' has bytes that are not UTF-8" in captured.err
            )
    out = str(tmp_path / f"{name}.onnx")
    assert cli.run(["export", "camera-motion", "--format", "onnx", "--out", out]) == 2
    assert r"caf\xe9.onnx', which has bytes that are not UTF-8" in capsys.readouterr().err


@bytes_only
def test_search_prints_any_name(clips, tmp_path, capsys):
    out = tmp_path / "f"
    arguments = ["--num-windows", "1", "--runtime", "torch"]
    cli.run(["features", str(clips / "static"), "--out", str(out), *arguments])
    capsys.readouterr()
    query = next(iter(sorted(out.rglob("*.npz"))))
    for options in ([], ["--json"]):
        command = ["search", str(query), str(out), "--windows", "--top-k", "20", *options]
        assert cli.run(command) == 0
        lines = capsys.readouterr().out.encode().decode().split("\n")[:-1]
        assert len(lines) == sum(path.suffix == ".npz" for path in out.rglob("*"))
    found = {path_from_text(json.loads(line)["video"]) for line in lines}
    assert found <= paths_in(clips)


def test_csv_cell_is_no_formula():
    assert [csv_cell(text) for text in ("=1+1", "@SUM(A1)", "+1", "-cmd", "-3", "a=1", "")] == [
        "'=1+1",
        "'@SUM(A1)",
        "'+1",
        "'-cmd",
        "-3",
        "a=1",
        "",
    ]


@pytest.mark.skipif(os.name != "posix", reason="asks for a process by its number")
def test_open_atomic_removes_what_killed_processes_left(tmp_path):
    script = """
import sys, os, signal
from pathlib import Path
from video_swin_transformer.files import open_atomic, temporary_folder
folder = Path(sys.argv[1])
with temporary_folder(folder) as inner, open_atomic(folder / "a.txt") as file:
    (inner / "draft").write_text("x")
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    with open_atomic(tmp_path / "b.txt") as file:
        # The files of running processes stay.
        assert [path.name.startswith(".b.txt.") for path in tmp_path.iterdir()] == [True]
        file.write(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_saved_models_are_the_same_files_in_every_process(tmp_path):
    script = """
import sys, hashlib, torch
from video_swin_transformer.saving import safetensors_bytes
data = safetensors_bytes({"a": torch.ones(3), "b": torch.zeros(2)}, "{}")
print(hashlib.sha256(data).hexdigest())
"""
    digests = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
        for _ in range(6)
    ]
    assert len(set(digests)) == 1 and digests[0]
