"""Downloads from a real server that breaks off, lies and stalls: a complete file or a message."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.oracle import fill_by_name
from tests.samples import environment_without_coverage
from tests.server import FileServer, Handler
from video_swin_transformer import cli, registry
from video_swin_transformer.config import BundleConfig, ModelConfig
from video_swin_transformer.errors import CheckpointError, ConfigError
from video_swin_transformer.labels import LABEL_SETS
from video_swin_transformer.model import VideoSwinTransformer
from video_swin_transformer.registry import WeightsSource, cache_folder, find_card
from video_swin_transformer.weights import create_model, http
from video_swin_transformer.weights.download import (
    download_labels,
    download_weights,
    load_card_labels,
)
from video_swin_transformer.weights.http import DownloadRequest, download_file
from video_swin_transformer.weights.progress import terminal_progress

CONTENT = np.random.default_rng(0).bytes(3_000_000)
CHILD = """
import sys
from pathlib import Path
from video_swin_transformer.weights.http import DownloadRequest, download_file
print(download_file(DownloadRequest(sys.argv[1], Path(sys.argv[2]))))
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOSWIN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(http, "RETRY_DELAY_SECONDS", 0.001)
    return tmp_path / "home"


@pytest.fixture
def server():
    with FileServer(CONTENT) as server:
        yield server


@pytest.fixture
def download(server, tmp_path):
    target = tmp_path / "cache" / "file.bin"
    return DownloadRequest(f"{server.url}/file.bin", target, server.digest[:8], timeout_seconds=10)


def left(download: DownloadRequest) -> set[str]:
    """What lies in the folder of the target, locks aside."""
    folder = download.target.parent
    return {p.name for p in folder.iterdir() if p.suffix != ".lock"} if folder.is_dir() else set()


def refused(download: DownloadRequest, match: str) -> str:
    with pytest.raises(CheckpointError, match=match) as caught:
        download_file(download)
    assert not download.target.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- as it should be --------------------------------------------------------------------------


def test_a_file_comes_whole_and_once(server, download):
    seen: list[tuple[int, int | None]] = []
    assert (
        download_file(download, progress=lambda done, total: seen.append((done, total)))
        == download.target
    )
    assert download.target.read_bytes() == CONTENT and left(download) == {"file.bin"}
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    download_file(download)
    assert len(server.ranges) == 1
    download_file(download, force=True)
    assert len(server.ranges) == 2 and download.target.read_bytes() == CONTENT


def test_force_keeps_the_old_file_until_the_new_one_is_complete(server, download):
    download.target.parent.mkdir()
    download.target.write_bytes(b"old")
    server.answer = lambda handler, _: handler.send_status(404)
    with pytest.raises(CheckpointError, match="404"):
        download_file(download, force=True)
    assert download.target.read_bytes() == b"old"


def test_redirects_are_followed(server, download):
    server.answer = lambda handler, number: (
        number == 0 and handler.send_status(302, Location="/moved")
    )
    assert download_file(download).read_bytes() == CONTENT


def test_a_server_that_does_not_tell_the_length(server, download):
    def chunked(handler: Handler, _: int) -> bool:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(CONTENT), CONTENT))
        return True

    server.answer = chunked
    assert download_file(download).read_bytes() == CONTENT


# --- broken connections -----------------------------------------------------------------------


def test_a_broken_connection_is_tried_again(server, download):
    server.answer = lambda handler, number: (
        number < 2 and (handler.send_file(stop_after=1_000_000) or True)
    )
    assert download_file(download).read_bytes() == CONTENT and left(download) == {"file.bin"}
    assert len(server.ranges) == 3


def test_a_connection_that_always_breaks_leaves_nothing(server, download):
    server.answer = lambda handler, _: handler.send_file(stop_after=400_000) or True
    message = refused(download, "could not be downloaded after 5 attempts: the connection was lost")
    assert "after 0.4 MB" in message and left(download) == set()


def test_what_a_killed_process_left_is_replaced(server, download):
    download.target.parent.mkdir()
    download.part.write_bytes(b"other" * 10)
    assert download_file(download).read_bytes() == CONTENT and left(download) == {"file.bin"}


def test_a_busy_server_is_asked_again(server, download):
    server.answer = lambda handler, number: number < 2 and handler.send_status(503)
    assert download_file(download).read_bytes() == CONTENT
    server.answer = lambda handler, _: handler.send_status(500)
    with pytest.raises(CheckpointError, match=r"after 5 attempts: .* status 500\. Try again later"):
        download_file(download, force=True)


def test_a_connection_that_breaks_before_the_answer(server, download):
    server.answer = lambda handler, number: number == 0  # closes without a word
    assert download_file(download).read_bytes() == CONTENT


# --- refused ----------------------------------------------------------------------------------


def test_wrong_bytes_are_refused_and_deleted(server, download):
    server.content = b"something else"
    message = refused(download, "SHA-256 .* but it must start with")
    assert "deleted; download it again" in message and left(download) == set()


@pytest.mark.parametrize(
    ("code", "says"), [(404, "does not exist"), (410, "removed"), (403, "denied"), (400, "refus")]
)
def test_statuses_that_bring_no_file(server, download, code, says):
    server.answer = lambda handler, _: handler.send_status(code)
    message = refused(download, says)
    assert str(download.target) in message and download.url in message
    assert len(server.ranges) == 1 and left(download) == set()


def test_a_web_page_is_no_file(server, download):
    def page(handler: Handler, _: int) -> bool:
        return handler.send_status(200, Content_Type="text/html; charset=utf-8")

    server.answer = page
    refused(download, "web page instead of the file")


def test_more_than_expected_is_refused(server, download):
    refused(dataclasses.replace(download, max_bytes=1000), "larger than the maximum of 1000 bytes")

    def endless(handler: Handler, _: int) -> bool:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(CONTENT)
        return True

    server.answer = endless
    refused(dataclasses.replace(download, max_bytes=1000), "larger than the maximum of 1000 bytes")


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://a/b", "http:///x", "http://a:b/", "http://a/b c", "b.pth", ""],
)
def test_only_web_addresses(download, url):
    refused(dataclasses.replace(download, url=url), "give an http or https URL")


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("ftp://a/b", "too many or unsupported redirects"),
        ("file:///etc/passwd", "too many or unsupported redirects"),
        ("/again", "too many or unsupported redirects"),
    ],
)
def test_redirects_out_of_the_web_or_in_circles(server, download, location, says):
    server.answer = lambda handler, _: handler.send_status(302, Location=location)
    refused(download, says)


# --- slow and absent --------------------------------------------------------------------------


def test_a_server_that_does_not_answer(server, download):
    server.answer = lambda handler, _: time.sleep(1) or True
    message = refused(dataclasses.replace(download, timeout_seconds=0.2), "connection was lost")
    assert str(download.target) in message


def test_a_server_that_falls_silent(server, download, monkeypatch):
    monkeypatch.setattr(http, "MAX_ATTEMPTS", 2)
    quick = dataclasses.replace(download, timeout_seconds=0.3)
    server.answer = lambda handler, _: (
        handler.send_file(stop_after=100_000) or time.sleep(0.6) or True
    )
    message = refused(quick, "the connection was lost")
    assert "after 0.1 MB" in message


def test_no_network_says_where_to_put_the_file(download):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
    message = refused(dataclasses.replace(download, url=url), "cannot connect to 127.0.0.1")
    assert f"download {url} elsewhere and copy it to {download.target}" in message
    assert left(download) == set()


# --- processes --------------------------------------------------------------------------------


def child(download: DownloadRequest) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, download.url, str(download.target)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_of_two_processes_one_downloads_and_the_other_waits(server, download, caplog):
    server.answer = lambda handler, _: handler.send_file(pause_seconds=0.04) or True  # two seconds
    other = child(download)
    wait_until(lambda: server.ranges)
    with caplog.at_level(logging.WARNING):
        assert download_file(download).read_bytes() == CONTENT
    out, err = other.communicate(timeout=60)
    assert (other.returncode, out.strip(), err) == (0, str(download.target), "")
    assert server.ranges == [None] and left(download) == {"file.bin"}
    assert "Waiting for another process" in caplog.text


def test_a_killed_process_leaves_no_lock_and_no_half_file(server, download):
    server.answer = lambda handler, number: (
        number == 0 and (handler.send_file(pause_seconds=0.1) or True)
    )
    other = child(download)
    wait_until(lambda: download.part.is_file() and download.part.stat().st_size > 100_000)
    other.kill()
    other.communicate()
    assert not download.target.exists()
    assert download_file(download).read_bytes() == CONTENT
    assert left(download) == {"file.bin"}


# --- the disk ---------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk(download):
    download.target.parent.mkdir()
    download.part.symlink_to("/dev/full")
    message = refused(download, "disk is full")
    assert "VIDEOSWIN_HOME" in message and left(download) == set()


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_cache_that_may_not_be_written(download, tmp_path):
    # Root may write everywhere, so root becomes somebody else once everything is loaded.
    script = CHILD.replace(
        "print(",
        "import os\ndownload_file(DownloadRequest(sys.argv[1], Path(sys.argv[3])))\n"
        "if os.geteuid() == 0: os.seteuid(65534)\nprint(",
    )
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    paths = [str(locked / "cache" / "file"), str(tmp_path / "writable" / "file")]
    command = [sys.executable, "-c", script, download.url, *paths]
    done = subprocess.run(
        command, env=environment_without_coverage(), capture_output=True, text=True, timeout=60
    )
    last = done.stderr.splitlines()[-1]
    assert "CheckpointError" in last and "cannot be written" in last and "VIDEOSWIN_HOME" in last


def test_a_folder_that_cannot_be_made(download, tmp_path):
    (tmp_path / "file").touch()
    refused(dataclasses.replace(download, target=tmp_path / "file" / "x"), "cannot be written to")


def test_what_is_there_is_used_without_writing(server, download):
    download.target.parent.mkdir()
    download.target.write_bytes(b"by hand")
    assert download_file(download).read_bytes() == b"by hand"
    assert server.ranges == [] and list(download.target.parent.iterdir()) == [download.target]


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "home"
    monkeypatch.setenv("VIDEOSWIN_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "win32":
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "videoswin"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    if sys.platform != "win32":
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder() == tmp_path / ".cache" / "videoswin"
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without a home folder
        with pytest.raises(ConfigError, match="set VIDEOSWIN_HOME"):
            cache_folder()


# --- names ------------------------------------------------------------------------------------

SMALL = ModelConfig(
    embed_dim=8, depths=(1, 1), num_heads=(1, 2), num_classes=174, window_size=(8, 7, 7)
)


@pytest.fixture
def trained():
    model = VideoSwinTransformer(SMALL).eval()
    fill_by_name(model)
    return model


@pytest.fixture
def card(server, trained, tmp_path, monkeypatch):
    """A card like those of the official repository, whose file and labels the server has."""
    torch.save({"meta": {}, "state_dict": trained.state_dict()}, tmp_path / "small.pth")
    server.content = (tmp_path / "small.pth").read_bytes()
    weights = WeightsSource(
        publisher="official repository",
        trained_on="Something-Something v2",
        license="Apache-2.0",
        url=f"{server.url}/small_sthv2.pth",
        sha256_prefix=server.digest[:8],
    )
    card = dataclasses.replace(
        find_card("swin-b-ssv2"),
        name="small_sthv2",
        aliases=(),
        bundle=BundleConfig(model=SMALL, name="small_sthv2"),
        weights=weights,
    )
    monkeypatch.setitem(registry._BY_NAME, "small_sthv2", card)
    labels = dataclasses.replace(LABEL_SETS["sthv2"], url=f"{server.url}/a/label_map.txt")
    monkeypatch.setitem(LABEL_SETS, "sthv2", labels)
    names = "\n".join(f"label {number}" for number in range(174)).encode()

    def answer(handler: Handler, _: int) -> bool:
        if handler.path != "/a/label_map.txt":
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(names)))
        handler.end_headers()
        handler.wfile.write(names)
        return True

    server.answer = answer
    return card


def test_pretrained_downloads_and_loads(card, trained, server, home):
    model = create_model("small_sthv2", pretrained=True)
    x = torch.rand(1, 3, 8, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model(x), trained(x))
    assert not model.training and model.bundle.labels[173] == "label 173"
    assert model.bundle.name == "small_sthv2" and (home / "weights" / "small_sthv2.pth").is_file()
    fine = create_model("small_sthv2", pretrained=True, num_classes=5, drop_path_rate=0.4)
    assert fine.num_classes == 5 and fine.bundle.labels == ()
    assert fine.backbone.layers[1].blocks[0].drop_path.rate == pytest.approx(0.4)
    assert len(server.ranges) == 2  # weights and labels, once each


def test_without_labels_there_are_class_numbers_and_a_hint(card, server, caplog):
    usual = server.answer
    server.answer = lambda handler, number: (
        handler.send_status(404) if handler.path.endswith(".txt") else usual(handler, number)
    )
    model = create_model("small_sthv2", pretrained=True)
    assert model.bundle.labels == ()
    assert "so numbers are shown" in caplog.text and "404" in caplog.text


def test_a_label_list_of_another_length_is_not_kept(card, server, home):
    server.answer = lambda handler, _: False  # the weights instead of labels
    server.content = b"one\ntwo\n"
    with pytest.raises(CheckpointError, match="not a list of 174 labels"):
        download_labels("sthv2")
    assert [p.suffix for p in (home / "labels").iterdir()] == [".lock"]
    assert load_card_labels(find_card("swin-t-k400"))[0] == "abseiling"  # these ship


def test_a_damaged_file_in_the_cache_is_found(card, home):
    download_weights(card)
    (home / "weights" / "small_sthv2.pth").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="videoswin download small_sthv2 --force"):
        download_weights(card)
    download_weights(card, force=True)
    download_weights(card)


def test_what_cannot_be_downloaded_is_explained():
    with pytest.raises(CheckpointError, match=r"architecture without weights.*400_1k, .*swin-tiny"):
        download_weights(find_card("swin-t"))
    with pytest.raises(CheckpointError, match="never released"):
        create_model("swin-l-384-k400", pretrained=True)
    with pytest.raises(CheckpointError, match="bundled with the package"):
        download_weights(find_card("camera-motion"))


def test_image_weights_become_a_video_network_without_classifier(
    card, trained, server, tmp_path, monkeypatch
):
    tensors = {
        name.removeprefix("backbone."): tensor
        for name, tensor in trained.state_dict().items()
        if name.startswith("backbone.")
    }
    tensors["patch_embed.proj.weight"] = tensors["patch_embed.proj.weight"][:, :, 0].clone()
    for name in list(tensors):
        if name.endswith("bias_table"):
            tensors[name] = tensors[name][:169].clone()
    tensors["head.weight"], tensors["head.bias"] = torch.ones(1000, 16), torch.ones(1000)
    torch.save({"model": tensors}, tmp_path / "image.pth")
    server.content = (tmp_path / "image.pth").read_bytes()
    bundle = BundleConfig(model=dataclasses.replace(SMALL, num_classes=0))
    weights = dataclasses.replace(card.weights, sha256_prefix="", url=f"{server.url}/image.pth")
    image = dataclasses.replace(
        card, name="image", kind="image", bundle=bundle, weights=weights, label_set=None
    )
    monkeypatch.setitem(registry._BY_NAME, "image", image)
    model = create_model("image", pretrained=True)
    assert model(torch.rand(1, 3, 8, 64, 64)).shape == (1, 16)
    assert create_model("image", pretrained=True, num_classes=7).num_classes == 7


def test_a_bar_is_drawn_on_terminals_only(server, download, monkeypatch, capsys):
    with terminal_progress("file") as progress:
        assert progress is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with terminal_progress("file.bin") as progress:
        download_file(download, progress=progress)
        assert progress is not None
        progress(len(CONTENT), len(CONTENT))
    out, err = capsys.readouterr()
    assert out == "" and "file.bin" in err


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def test_download_prints_where_the_file_is(run, card, home, server):
    path = home / "weights" / "small_sthv2.pth"
    assert run("download", "small_sthv2") == (0, f"{path}\n", "")
    assert path.read_bytes() == server.content and (home / "labels").is_dir()
    assert run("download", "small_sthv2")[:2] == (0, f"{path}\n")
    path.write_bytes(b"damaged")
    code, out, err = run("download", "small_sthv2")
    assert (code, out) == (1, "") and "--force" in err
    assert run("download", "small_sthv2", "--force")[:2] == (0, f"{path}\n")


def test_download_does_the_rest_where_some_fail(run, card, home):
    code, out, err = run("download", "swim-t", "swin-l-384-k400", "camera-motion", "small_sthv2")
    assert code == 1
    assert [Path(line).name for line in out.splitlines()] == ["camera_motion", "small_sthv2.pth"]
    assert "Did you mean 'swin-t'" in err and "never released" in err
    assert "2 of 4 could not be downloaded" in err


def test_download_of_an_unknown_name_is_misuse(run):
    code, out, err = run("download", "swim-t")
    assert (code, out) == (2, "") and "Did you mean 'swin-t'" in err


def test_models_say_what_is_here(run, home):
    def weights(name: str) -> str:
        return json.loads(run("models", name, "--json")[1])["weights"]

    assert weights("swin-t-k400") == "to download"
    path = Path(json.loads(run("models", "swin-t-k400", "--json")[1])["file"])
    assert path == home / "weights" / "swin_tiny_patch244_window877_kinetics400_1k.pth"
    path.parent.mkdir(parents=True)
    path.touch()
    assert weights("swin-t-k400") == "on this machine"
    assert weights("swin-l-384-k600") == "not released"
    assert weights("camera-motion") == "on this machine"
