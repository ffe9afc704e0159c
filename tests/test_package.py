"""The package as a whole: what is public, what a bare import loads, and that images are true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import video_swin_transformer as vst

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "video_swin_transformer"


def test_every_public_name_is_there():
    assert vst.__all__ == sorted(vst.__all__)
    for name in vst.__all__:
        assert getattr(vst, name).__name__ == name
    assert set(dir(vst)) == set(vst.__all__)
    try:
        vst.no_such_name  # noqa: B018
    except AttributeError as error:
        assert "no_such_name" in str(error)
    else:
        raise AssertionError("an unknown name must raise AttributeError")


def test_importing_the_package_loads_no_library():
    script = (
        "import sys, video_swin_transformer\n"
        "print(sorted({'torch', 'numpy', 'cv2', 'av', 'typer'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def test_video_sampling_and_preprocessing_work_without_torch(tmp_path):
    clip = ROOT / "examples" / "clips" / "static.mp4"
    script = f"""
import sys
sys.modules["torch"] = None  # importing it now raises
import video_swin_transformer as vst
with vst.VideoReader({str(clip)!r}) as video:
    indices = vst.clip_indices(video.num_frames, vst.ClipSampling(num_frames=8, num_clips=2))
    clips = video.frames_at(indices.ravel()).reshape(2, 8, video.height, video.width, 3)
print(vst.views_from_frames(clips, vst.Preprocessing()).shape)
"""
    out = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert out.strip() == "(6, 3, 8, 224, 224)"


def test_the_architecture_page_lists_every_module():
    page = (ROOT / "docs" / "architecture.md").read_text()
    listed = set(re.findall(r"^([a-z0-9_]+(?:\.py|/)) ", page, flags=re.MULTILINE))
    modules = {
        path.name + ("/" if path.is_dir() else "")
        for path in PACKAGE.iterdir()
        if not path.name.startswith("_") and path.name != "py.typed"
    }
    beside = {"camera_motion/", "benchmarks/", "examples/", "tests/"}
    assert listed - beside == modules
    assert all((ROOT / folder).is_dir() for folder in beside)


def test_paths_named_in_the_documents_exist():
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        text = document.read_text()
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
        for target in re.findall(
            r"`((?:src|docs|examples|benchmarks|camera_motion|tests)/[\w./-]*)`", text
        ):
            assert (ROOT / target).exists(), f"{document.name}: {target}"
