"""The Hub, played by a server on this machine that keeps what is uploaded and gives it back."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch
import yaml

import video_swin_transformer as vst
from video_swin_transformer.hub import is_repo_id, model_card_text, published_card
from video_swin_transformer.registry import find_card

REPO = "ann/clips"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_test"
TINY = vst.ModelConfig(
    embed_dim=12, depths=(1, 1), num_heads=(2, 2), window_size=(2, 3, 3), num_classes=3
)


class Hub:
    """What the server holds: the files of one repository, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.created: dict[str, Any] = {}
        self.tokens: dict[str, str | None] = {}  # by path
        self.refuse = 0  # a status to answer everything with


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined]

    def reply(self, code: int, body: bytes, kind: str = "application/json", **more: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refused(self) -> bool:
        path = self.path.partition("?")[0]
        self.hub.asked.append((self.command, path))
        self.hub.tokens[path] = self.headers["Authorization"]
        if self.hub.refuse:
            self.reply(self.hub.refuse, b'{"error": "no"}', X_Error_Message="no, says the test")
        return bool(self.hub.refuse)

    def do_GET(self) -> None:
        if self.refused():
            return
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{REPO}/tree/"):
            listed = [
                {"type": "file", "path": name, "size": len(data), "oid": _digest(data)}
                for name, data in self.hub.files.items()
            ]
            self.reply(200, json.dumps(listed).encode())
        elif path.startswith(f"/api/models/{REPO}"):
            siblings = [{"rfilename": name} for name in self.hub.files]
            facts = {"id": REPO, "sha": COMMIT, "siblings": siblings, "private": False}
            self.reply(200, json.dumps(facts).encode())
        elif (name := path.rpartition("/")[2]) in self.hub.files and f"/{REPO}/resolve/" in path:
            data = self.hub.files[name]
            self.reply(200, data, "x/y", ETag=f'"{_digest(data)}"', X_Repo_Commit=COMMIT)
        else:
            self.reply(404, b"{}", X_Error_Code="RepoNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.refused():
            return
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            self.hub.created = json.loads(body)
            answer: dict[str, Any] = {
                "url": f"http://{self.headers['Host']}/{REPO}",
                "name": REPO,
                "id": REPO,
            }
        elif "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            answer = {"files": files}
        elif "/commit/" in path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    data = base64.b64decode(entry["value"]["content"])
                    self.hub.files[entry["value"]["path"]] = data
            answer = {
                "commitUrl": f"http://{self.headers['Host']}/{REPO}/commit/{COMMIT}",
                "commitOid": COMMIT,
            }
        else:  # /api/validate-yaml
            answer = {"errors": [], "warnings": []}
        self.reply(200, json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.hub = Hub()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    _use(monkeypatch, f"http://127.0.0.1:{server.server_port}", tmp_path / "cache")
    yield server.hub  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()
    huggingface_hub.close_session()


def _use(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def model() -> vst.VideoSwinTransformer:
    torch.manual_seed(0)
    bundle = vst.BundleConfig(model=TINY, labels=("run", "jump", "sit"), name="my clips")
    return vst.VideoSwinTransformer(bundle).eval()


def test_what_goes_up_comes_down_again(hub: Hub, model: vst.VideoSwinTransformer) -> None:
    url = model.push_to_hub(REPO, private=True, token=TOKEN)
    assert url.endswith(COMMIT)
    assert hub.created.get("private") is True or hub.created.get("visibility") == "private"
    written = [path for method, path in hub.asked if method == "POST" and REPO in path]
    for path in ("/api/repos/create", *written):
        assert hub.tokens[path] == f"Bearer {TOKEN}"
    assert sorted(hub.files) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "video_preprocessor_config.json",
    ]
    assert "run, jump, sit" in hub.files["README.md"].decode()
    back = vst.VideoSwinTransformer.from_pretrained(REPO, token=TOKEN)
    assert back.bundle == model.bundle and not back.training
    video = torch.randn(1, 3, 4, 32, 32)
    assert torch.equal(back(video), model(video))
    got = {path.rpartition("/")[2] for _, path in hub.asked if "/resolve/" in path}
    assert got == {"config.json", "model.safetensors"}


def test_a_file_on_the_hub_is_read_as_strictly_as_any(
    hub: Hub, model: vst.VideoSwinTransformer
) -> None:
    model.push_to_hub(REPO, token=TOKEN)
    settings = json.loads(hub.files["config.json"])
    settings["model"]["depths"] = [1, 2]
    hub.files["config.json"] = json.dumps(settings).encode()
    with pytest.raises(vst.CheckpointError, match="do not match its config"):
        vst.VideoSwinTransformer.from_pretrained(REPO)
    hub.files.clear()
    hub.files["pytorch_model.bin"] = b"x"
    with pytest.raises(vst.CheckpointError):
        vst.VideoSwinTransformer.from_pretrained(REPO, revision=COMMIT[:7])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_a_sentence(hub: Hub, model: vst.VideoSwinTransformer, status: int) -> None:
    hub.refuse = status
    with pytest.raises(vst.CheckpointError, match=r"No local folder 'ann/clips'.*manually"):
        vst.VideoSwinTransformer.from_pretrained(REPO)
    with pytest.raises(vst.CheckpointError, match=r"Cannot upload the model to 'ann/clips'.*token"):
        model.push_to_hub(REPO)


def test_without_a_network_the_cache_serves_or_a_sentence_comes(
    hub: Hub,
    model: vst.VideoSwinTransformer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    model.push_to_hub(REPO, token=TOKEN)
    vst.VideoSwinTransformer.from_pretrained(REPO)
    nobody = "http://127.0.0.1:9"
    _use(monkeypatch, nobody, tmp_path / "cache")
    assert vst.VideoSwinTransformer.from_pretrained(REPO).bundle == model.bundle
    _use(monkeypatch, nobody, tmp_path / "another cache")
    with pytest.raises(vst.CheckpointError, match="cannot be downloaded from the Hub"):
        vst.VideoSwinTransformer.from_pretrained(REPO)
    with pytest.raises(vst.CheckpointError, match="Cannot upload"):
        model.push_to_hub(REPO, token=TOKEN)


def test_what_is_taken_for_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_repo_id("ann/clips") and is_repo_id("ann-b/clips_v1.0")
    for other in ("clips", "./ann/clips", "/ann/clips", "a/b/c", "ann/", "../clips", Path("a/b")):
        assert not is_repo_id(other)
    (tmp_path / "ann" / "clips").mkdir(parents=True)
    assert not is_repo_id("ann/clips")


def test_the_card_of_published_weights_carries_their_protocol() -> None:
    card = find_card("camera-motion")
    assert card.weights is not None and card.weights.accuracy is not None
    text = model_card_text("ann/camera", card.bundle, published_card(card.bundle))
    data = yaml.safe_load(text.split("---")[1])
    assert data["license"] == "apache-2.0" and data["pipeline_tag"] == "video-classification"
    assert data["library_name"] == "video-swin-transformer"
    metric = data["model-index"][0]["results"][0]["metrics"][0]
    assert metric["value"] == card.weights.accuracy.top1
    assert card.weights.accuracy.protocol in metric["name"]
    assert 'from_pretrained("ann/camera")' in text and "pan_left" in text


def test_the_card_of_kinetics_weights_names_the_data() -> None:
    name = next(name for name in vst.list_models("*kinetics400*", pretrained=True, download=True))
    card = find_card(name)
    data = yaml.safe_load(model_card_text("a/b", card.bundle, card).split("---")[1])
    assert data["datasets"] == [card.label_set]
    names = [m["name"] for m in data["model-index"][0]["results"][0]["metrics"]]
    assert names[0].startswith("top-1") and names[1].startswith("top-5")


def test_another_model_under_an_old_name_claims_nothing() -> None:
    bundle = find_card("camera-motion").bundle
    fewer = dataclasses.replace(bundle.model, num_classes=2)
    other = dataclasses.replace(bundle, model=fewer, labels=("a", "b"))
    assert published_card(other) is None
    text = model_card_text("ann/own", other)
    data = yaml.safe_load(text.split("---")[1])
    assert not {"license", "datasets", "model-index"} & set(data)
    assert "not stated" in text
