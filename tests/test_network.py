"""No network unless asked, and nothing in the home folder outside of the cache.

Children run under a guard: an audit hook that writes down and refuses every name that is looked up
and every connection but those between processes of this machine (AF_UNIX).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.samples import example_list
from tests.training import TINY, make_clip, make_folder, write_tiny

EXAMPLES = Path(__file__).parent.parent / "examples" / "clips"
GUARD = """
import os, socket, sys

def _guard(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        what = arguments[0]
    elif event in ("socket.connect", "socket.sendto"):
        if arguments[0].family == getattr(socket, "AF_UNIX", None):
            return
        what = arguments[1]
    else:
        return
    with open(os.environ["NETWORK_LOG"], "a") as log:
        log.write(f"{event} {what}\\n")
    raise OSError("no network in this test")

sys.addaudithook(_guard)
"""
COMMANDS = """
import json, sys
from video_swin_transformer import bench
from video_swin_transformer.cli import run
bench.PRODUCT_SIZE = 256  # processors without bf16 take minutes
for arguments in json.loads(sys.argv[1]):
    assert run(arguments) == 0, arguments
"""


class Guarded:
    """Runs Python under the guard, with a home folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self._log = folder / "network.log"
        (folder / "guard").mkdir(parents=True)
        (folder / "guard" / "sitecustomize.py").write_text(GUARD)
        self.home.mkdir()
        # Neither what this machine's user has set nor what would silence the libraries anyway.
        unset = (
            "XDG_",
            "HF_",
            "VIDEOSWIN_",
            "NNCF_",
            "ORT_",
            "DO_NOT_TRACK",
            "DISABLE_TELEMETRY",
            "CI",
            "TF_BUILD",
            "JENKINS_URL",
        )
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(unset)}
        paths = [str(folder / "guard"), os.environ.get("PYTHONPATH", "")]
        self._environment |= {
            "HOME": str(self.home),
            "USERPROFILE": str(self.home),
            "LOCALAPPDATA": str(self.home),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "NETWORK_LOG": str(self._log),
            "MPLCONFIGDIR": str(folder / "matplotlib"),  # keeps a list of the fonts it found
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
            "OMP_NUM_THREADS": "1",
        }

    def python(
        self, script: str, *arguments: object, under: Sequence[str] = (), **environment: str
    ) -> str:
        done = subprocess.run(
            [*under, sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=280,
            env=self._environment | environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def attempts(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def written(self) -> list[str]:
        """Files in the home folder that are not in our cache."""
        files = [path.relative_to(self.home) for path in self.home.rglob("*") if path.is_file()]
        caches = [Path(".cache", "videoswin"), Path("Library", "Caches", "videoswin")]
        caches.append(Path("videoswin"))
        return [str(f) for f in files if not any(f.is_relative_to(cache) for cache in caches)]


@pytest.fixture
def guarded(tmp_path):
    return Guarded(tmp_path / "guarded")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_clip(root / "clip", "left", 0, num_frames=24)
    make_folder(root / "labeled", 2, ("left", "brighter"))
    text = TINY.replace("epochs: 2", "epochs: 1").replace("clips: 8, micro: 8", "clips: 2")
    write_tiny(root, text)
    clips = example_list(root / "all.txt").read_text().split("\n")
    (root / "list.txt").write_text("\n".join(clips[:2]))
    return root


ONE_VIEW = ["--views", "1x1", "--device", "cpu"]
CLASSIFY = ["classify", "{data}/clip.mp4", *ONE_VIEW, "--runtime"]
SESSIONS = {
    "torch": [
        ["--version"],
        ["models"],
        ["models", "swin-t", "--json"],
        ["inspect", "camera-motion"],
        [*CLASSIFY, "torch"],
        ["features", "{data}/clip.mp4", "--out", "{new}", "--runtime", "torch"],
        ["evaluate", "{data}/list.txt", *ONE_VIEW, "--out", "{new}/e", "--runtime", "torch"],
        ["check-data", "{data}/labeled"],
        ["export", "camera-motion", "--format", "torch", "--out", "{new}/m.pt2"],
        ["classify", "{data}/clip.mp4", "--model", "{new}/m.pt2"],
    ],
    "train": [
        ["train", "{data}/tiny.yaml", "data={data}/labeled", "--out", "{new}", "--device", "cpu"],
        ["classify", "{data}/clip.mp4", "--model", "{new}/model"],
        ["convert", "{new}/model", "--to", "official", "--out", "{new}/official.pth"],
        ["bench", "--model", "{new}/model", "--rounds", "1"],
    ],
    "openvino": [
        [*CLASSIFY, "openvino"],
        ["features", "{data}/clip.mp4", "--out", "{new}", "--runtime", "openvino"],
        ["export", "camera-motion", "--format", "openvino", "--out", "{new}/m.xml"],
        ["classify", "{data}/clip.mp4", "--model", "{new}/m.xml"],
    ],
    "int8": [
        [
            *("export", "camera-motion", "--format", "openvino", "--precision", "int8"),
            *("--calibrate", "{examples}/pan_left.mp4", "--max-error", "10"),
            *("--out", "{new}/m.xml"),
        ],
        ["classify", "{data}/clip.mp4", "--model", "{new}/m.xml"],
    ],
    "onnxruntime": [
        ["export", "camera-motion", "--format", "onnx", "--out", "{new}/m.onnx"],
        [*CLASSIFY, "onnxruntime"],
        ["classify", "{data}/clip.mp4", "--model", "{new}/m.onnx"],
    ],
}


@pytest.mark.parametrize(
    "name",
    ["torch", *(pytest.param(n, marks=pytest.mark.slow) for n in SESSIONS if n != "torch")],
)
def test_commands_ask_nobody_and_write_nothing_at_home(name, data, tmp_path, guarded):
    places = {"data": data, "new": tmp_path / "new", "examples": EXAMPLES}
    session = [[one.format(**places) for one in command] for command in SESSIONS[name]]
    guarded.python(COMMANDS, json.dumps(session))
    assert guarded.attempts() == ""
    assert guarded.written() == []


@pytest.mark.slow
def test_the_python_interface_asks_nobody(data, guarded):
    script = """
        import sys
        import video_swin_transformer as vst
        import video_swin_transformer.hf
        model = vst.create_model("camera-motion", pretrained=True)
        model.save_pretrained(sys.argv[2])
        assert vst.VideoSwinTransformer.from_pretrained(sys.argv[2]) is not None
        for runtime in ("torch", "openvino", "onnxruntime"):
            predictor = vst.Predictor.load(sys.argv[2], runtime=runtime, device="cpu")
            assert predictor.with_views(1, 1).classify(sys.argv[1]).top(1)
        import huggingface_hub.constants
        assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
    """
    guarded.python(script, data / "clip.mp4", guarded.home.parent / "saved")
    assert guarded.attempts() == ""
    assert guarded.written() == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="there is no C++ compiler"
)
def test_a_compiled_network_asks_nobody(data, guarded):
    script = """
        import sys
        import video_swin_transformer as vst
        predictor = vst.Predictor.load("camera-motion", runtime="torch-compile", device="cpu")
        assert predictor.with_views(1, 1).classify(sys.argv[1]).top(1)
    """
    guarded.python(script, data / "clip.mp4")
    assert guarded.attempts() == ""
    assert guarded.written() == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace sees native code, too")
@pytest.mark.slow
@pytest.mark.parametrize("runtime_name", ["onnxruntime", "openvino"])
def test_no_native_code_of_a_runtime_connects(runtime_name, data, guarded):
    script = """
        import sys, time
        import video_swin_transformer as vst
        predictor = vst.Predictor.load("camera-motion", runtime=sys.argv[2]).with_views(1, 1)
        assert predictor.classify(sys.argv[1]).top(1)
        time.sleep(2)  # for what is sent later
    """
    log = guarded.home.parent / "strace.log"
    strace = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(log)]
    guarded.python(script, data / "clip.mp4", runtime_name, under=strace)
    assert [line for line in log.read_text().splitlines() if "AF_INET" in line] == []


IMPORT_OPENVINO = """
    from video_swin_transformer.runtimes.openvino_runtime import import_openvino
    import_openvino()
"""


def test_the_guard_sees_what_the_libraries_would_do(guarded):
    """Also how telemetry is left on, and that nothing else keeps it off in these tests."""
    guarded.python(IMPORT_OPENVINO, VIDEOSWIN_TELEMETRY="1")
    assert "socket.getaddrinfo" in guarded.attempts()
    assert guarded.written()


def test_the_process_is_left_as_it_was(guarded):
    script = f"""
        import os, sys
        import cv2  # adds to LD_LIBRARY_PATH
        before = dict(os.environ)
        {IMPORT_OPENVINO.strip().replace(chr(10) + "    ", chr(10) + "        ")}
        assert dict(os.environ) == before
        assert "openvino_telemetry" not in sys.modules
        import openvino_telemetry  # as somebody else may want to
        from video_swin_transformer.telemetry import without_telemetry
        with without_telemetry():
            with without_telemetry():
                assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
                assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "True"
            assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
        assert dict(os.environ) == before
        assert sys.modules["openvino_telemetry"] is openvino_telemetry
    """
    guarded.python(script, GRADIO_ANALYTICS_ENABLED="True")  # what the user has set stays
    assert guarded.attempts() == ""
    assert guarded.written() == []
