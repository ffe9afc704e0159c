"""Threads, connections, kills, long use, full disks and read-only folders: docs/reliability.md.

    python -m benchmarks.reliability [threads network kills life disk] [--calls 2000] [--kills 12]

Prints markdown tables. Disk needs a file system of limited size, which root can mount on Linux.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.media import Clip
from tests.test_network import Guarded
from video_swin_transformer import Predictor
from video_swin_transformer.postprocess import Floats
from video_swin_transformer.runtimes import Runtime, open_runtime

MODEL = "camera-motion"
RUNTIMES = ("torch", "openvino", "onnxruntime")
NUM_THREADS, NUM_THREAD_CALLS = 4, 400
COMMAND = (sys.executable, "-m", "video_swin_transformer")
RECIPE = """data: {train: clips, val_fraction: 0.5}
model: {init_from: camera-motion}
schedule: {epochs: 3}
batch_size: 2
run: {checkpoint_minutes: 0.01}
"""


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(*cells: str) -> None:
    print()
    row(*cells)
    print("|---" + "|--:" * (len(cells) - 1) + "|", flush=True)


def make_clips(folder: Path, count: int = 6) -> Path:
    """A folder of two classes."""
    for number in range(count):
        label = ("static", "zoom_in")[number % 2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        Clip(".mp4", num_frames=40).make(folder / label / str(number))
    return folder


# --- threads and long use ------------------------------------------------------------------------


def threads() -> None:
    head("runtime", "calls from four threads", "different from serial calls", "errors")
    for name in RUNTIMES:
        runtime = open_runtime(MODEL, name, "f32", "cpu", threads=1)
        shape = runtime.bundle.clip_shape
        rng = np.random.default_rng(0)
        inputs = [rng.standard_normal((1, *shape), np.float32) for _ in range(8)]
        different, errors = _call_in_threads(runtime, inputs)
        row(name, NUM_THREAD_CALLS, different, errors)


def _call_in_threads(runtime: Runtime, inputs: list[Floats]) -> tuple[int, int]:
    expected = [runtime.run(views).logits for views in inputs]
    start = threading.Barrier(NUM_THREADS)

    def work(thread: int) -> tuple[int, int]:
        different = errors = 0
        start.wait()
        for call in range(thread, NUM_THREAD_CALLS, NUM_THREADS):
            try:
                got = runtime.run(inputs[call % len(inputs)]).logits
                different += not np.array_equal(got, expected[call % len(inputs)])
            except Exception:
                errors += 1
        return different, errors

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        results = list(pool.map(work, range(NUM_THREADS)))
    return sum(r[0] for r in results), sum(r[1] for r in results)


def life(num_calls: int) -> None:
    head("runtime", "calls", "memory after 200, MB", "at the end, MB", "open files", "threads")
    with tempfile.TemporaryDirectory() as folder:
        clips = sorted(make_clips(Path(folder), 2).rglob("*.mp4"))
        for name in RUNTIMES:
            predictor = Predictor.load(MODEL, runtime=name, threads=1)
            before = (0.0, 0, 0)
            for call in range(num_calls):
                predictor.classify(clips[call % len(clips)])
                if call == 199:
                    before = _usage()
            memory, files, num_threads = _usage()
            files_text = f"{before[1]} -> {files}"
            threads_text = f"{before[2]} -> {num_threads}"
            row(name, num_calls, f"{before[0]:.0f}", f"{memory:.0f}", files_text, threads_text)


def _usage() -> tuple[float, int, int]:
    status = Path("/proc/self/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    num_files = len(list(Path("/proc/self/fd").iterdir()))
    return int(values["VmRSS"].split()[0]) / 1024, num_files, int(values["Threads"])


# --- network -------------------------------------------------------------------------------------


def network() -> None:
    head("command", "connections and lookups", "files in the home folder outside the cache")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = make_clips(folder / "clips")
        clip = next(clips.rglob("*.mp4"))
        (folder / "recipe.yaml").write_text(RECIPE.replace("clips", str(clips)))
        commands = {
            "classify": ["classify", str(clip)],
            "classify --runtime onnxruntime": ["classify", str(clip), "--runtime", "onnxruntime"],
            "features": ["features", str(clip), "--out", str(folder / "features")],
            "evaluate": ["evaluate", str(clips), *_EVALUATE, "--out", str(folder / "evaluation")],
            "train": ["train", str(folder / "recipe.yaml"), "--out", str(folder / "run")],
            "export": ["export", MODEL, "--format", "openvino", "--out", str(folder / "m.xml")],
            "check-data": ["check-data", str(clips)],
            "models": ["models"],
            "inspect": ["inspect", MODEL],
        }
        for number, (label, arguments) in enumerate(commands.items()):
            guarded = Guarded(folder / f"guard{number}")
            script = _RUN
            guarded.python(script, *arguments)
            row(label, len(guarded.attempts().splitlines()), len(guarded.written()))


_RUN = "import sys\nfrom video_swin_transformer import cli\nsys.exit(cli.run(sys.argv[1:]))"
_EVALUATE = ("--views", "1x1")


# --- kills ---------------------------------------------------------------------------------------


def kills(num_kills: int) -> None:
    head("command", "kills", "runs until complete", "results different", "leftover files")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = make_clips(folder / "clips", 12)
        recipe = folder / "recipe.yaml"
        recipe.write_text(RECIPE.replace("clips", str(clips)))
        cases: dict[str, tuple[list[str], list[str]]] = {
            "features": (["features", str(clips), "--format", "npz", "--out"], []),
            "convert": (["convert", MODEL, "--to", "official", "--out"], ["--force"]),
            "export": (["export", MODEL, "--format", "onnx", "--out"], ["--force"]),
            "train": (["train", str(recipe), "--seed", "0", "--out"], ["--resume"]),
        }
        suffixes = {"convert": "w.pth", "export": "m.onnx"}
        for label, (arguments, again) in cases.items():
            seconds, expected = _whole_run(
                arguments, folder / f"{label}-whole", suffixes.get(label)
            )
            place = folder / f"{label}-killed"
            rng, num_runs, num_done = random.Random(0), 0, 0
            different = 0
            while num_done < num_kills:
                out = place / suffixes[label] if label in suffixes else place
                place.mkdir(exist_ok=True)
                extra = again if any(place.iterdir()) else []
                process = subprocess.Popen([*COMMAND, *arguments, str(out), *extra], **_QUIET)
                num_runs += 1
                try:
                    process.wait(rng.uniform(0.2, 1.0) * seconds)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    num_done += 1
                    continue
                if process.returncode == 0:
                    different += _contents(place) != expected
                    _empty(place)
            final = subprocess.run([*COMMAND, *arguments, str(out), *again], check=False, **_QUIET)
            different += final.returncode != 0 or _contents(place) != expected
            leftovers = [p for p in place.rglob(".*") if p.is_file()]
            row(label, num_done, num_runs + 1, different, len(leftovers))


_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _whole_run(arguments: list[str], place: Path, suffix: str | None) -> tuple[float, Any]:
    place.mkdir()
    start = time.perf_counter()
    out = place / suffix if suffix else place
    subprocess.run([*COMMAND, *arguments, str(out)], check=True, **_QUIET)
    return time.perf_counter() - start, _contents(place)


def _contents(place: Path) -> dict[str, str]:
    """Digests of the results: weights and features; logs hold times and paths."""
    kinds = (".npz", ".pth", ".onnx", ".safetensors")
    files = sorted(p for p in place.rglob("*") if p.suffix in kinds and p.name[0] != ".")
    files = [p for p in files if "checkpoint" not in str(p.relative_to(place))]
    return {str(p.relative_to(place)): hashlib.sha256(_content(p)).hexdigest() for p in files}


def _content(path: Path) -> bytes:
    """The content; of safetensors only the tensors, since the config has the name of the run."""
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        data = data[8 + int.from_bytes(data[:8], "little") :]
    return data


def _empty(place: Path) -> None:
    import shutil

    shutil.rmtree(place)
    place.mkdir()


# --- full and read-only disks --------------------------------------------------------------------


def disk() -> None:
    head("command", "disk", "exit code", "names the target", "traceback", "input and old output")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = make_clips(folder / "clips")
        clip = str(next(clips.rglob("*.mp4")))
        recipe = folder / "recipe.yaml"
        recipe.write_text(RECIPE.replace("clips", str(clips)))
        commands: dict[str, list[str]] = {
            "classify": ["classify", clip, "--csv", "{}/scores.csv"],
            "features": ["features", clip, "--out", "{}/features"],
            "evaluate": ["evaluate", str(clips), *_EVALUATE, "--out", "{}/evaluation"],
            "check-data": ["check-data", str(clips), "--json", "{}/report.json"],
            "convert": ["convert", MODEL, "--to", "official", "--out", "{}/w.pth"],
            "export": ["export", MODEL, "--format", "onnx", "--out", "{}/m.onnx"],
            "train": ["train", str(recipe), "--out", "{}/run"],
        }
        for label, arguments in commands.items():
            for state in ("full", "read-only"):
                with _small_disk(folder / "disk", state) as place:
                    old = place / "old.txt"
                    filled = [part.format(place) for part in arguments]
                    done = subprocess.run(
                        [*COMMAND, *filled], capture_output=True, text=True, timeout=300
                    )
                    is_kept = old.read_text() == "old"
                    row(
                        label,
                        state,
                        done.returncode,
                        "yes" if str(place) in done.stderr else "no",
                        "yes" if "Traceback" in done.stderr else "no",
                        "unchanged" if is_kept else "changed",
                    )
                    if done.returncode == 0 or "Traceback" in done.stderr:
                        print(done.stderr[-500:], file=sys.stderr)


@contextmanager
def _small_disk(place: Path, state: str) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    size = "24k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        (place / "old.txt").write_text("old")
        if state == "full":
            free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
            (place / "filler").write_bytes(bytes(free))
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts: dict[str, Callable[[argparse.Namespace], None]] = {
        "threads": lambda _: threads(),
        "network": lambda _: network(),
        "kills": lambda a: kills(a.kills),
        "life": lambda a: life(a.calls),
        "disk": lambda _: disk(),
    }
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=list(parts))
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=12)
    arguments = parser.parse_args()
    for part in arguments.parts:
        parts[part](arguments)


if __name__ == "__main__":
    main()
