"""The cards agree with what was published and with one another."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

import pytest

from video_swin_transformer import cli
from video_swin_transformer.labels import find_label_set
from video_swin_transformer.registry import (
    DEFAULT_MODEL,
    cards_for,
    find_card,
    list_cards,
    list_models,
    weights_path,
    weights_state,
)
from video_swin_transformer.sampling import at_fps

WITH_WEIGHTS = [card for card in list_cards() if card.weights is not None]
VIDEO = [card for card in WITH_WEIGHTS if card.kind == "video"]
IMAGE = [card for card in WITH_WEIGHTS if card.kind == "image"]

# Parameters, classes, top-1, top-5, views: the published figures.
PUBLISHED = {
    "swin_tiny_patch244_window877_kinetics400_1k": (28_158_070, 400, 78.8, 93.6, "4x3"),
    "swin_small_patch244_window877_kinetics400_1k": (49_816_678, 400, 80.6, 94.5, "4x3"),
    "swin_base_patch244_window877_kinetics400_1k": (88_048_984, 400, 80.6, 94.6, "4x3"),
    "swin_base_patch244_window877_kinetics400_22k": (88_048_984, 400, 82.7, 95.5, "4x3"),
    "swin_base_patch244_window877_kinetics600_22k": (88_253_984, 600, 84.0, 96.5, "4x3"),
    "swin_base_patch244_window1677_sthv2": (88_834_038, 174, 69.6, 92.7, "1x3"),
    "swin_large_patch244_window81212_kinetics400_22k": (199_999_516, 400, 84.9, 96.7, "10x5"),
    "swin_large_patch244_window81212_kinetics600_22k": (200_306_916, 600, 86.1, None, "10x5"),
    "swin-t-k400-mmaction2": (28_158_070, 400, 78.90, 93.77, "4x3"),
    "swin-s-k400-mmaction2": (49_816_678, 400, 80.54, 94.46, "4x3"),
    "swin-b-k400-mmaction2": (88_048_984, 400, 80.57, 94.49, "4x3"),
    "swin-l-k400": (196_953_916, 400, 83.46, 95.91, "4x3"),
    "swin-l-k700": (197_415_016, 700, 75.92, 92.72, "4x3"),
    "swin-s-k710": (50_055_068, 710, 76.90, 92.96, "4x3"),
    "Swin3D_T_Weights.KINETICS400_V1": (28_158_070, 400, 77.715, 93.519, "12x1"),
    "Swin3D_S_Weights.KINETICS400_V1": (49_816_678, 400, 79.521, 94.158, "12x1"),
    "Swin3D_B_Weights.KINETICS400_V1": (88_048_984, 400, 79.427, 94.386, "12x1"),
    "Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1": (88_048_984, 400, 81.643, 95.574, "12x1"),
}


@pytest.mark.parametrize(("name", "figures"), PUBLISHED.items())
def test_published_figures(name, figures):
    card = find_card(name)
    accuracy, model = card.weights.accuracy, card.bundle.model
    found = (model.num_params, model.num_classes, accuracy.top1, accuracy.top5, accuracy.views)
    assert found == figures
    views = f"{card.bundle.sampling.num_clips}x{card.bundle.preprocessing.num_crops}"
    assert views == accuracy.views and f"{views} views" in accuracy.protocol
    assert card.label_set is not None
    assert find_label_set(card.label_set).title in accuracy.protocol


def test_everything_published_has_a_card():
    publishers = [card.weights.publisher for card in WITH_WEIGHTS]
    assert {name: publishers.count(name) for name in publishers} == {
        "this package": 1,
        "official repository": 7,
        "the paper": 2,
        "mmaction2": 6,
        "torchvision": 4,
        "microsoft/Swin-Transformer": 14,
    }


def test_names_and_aliases_are_unique_and_the_default_is_first():
    names = [name for card in list_cards() for name in (card.name, *card.aliases)]
    assert len(names) == len(set(names))
    assert find_card(DEFAULT_MODEL) is list_cards()[0]
    assert list_cards()[0].weights.shipped_folder


@pytest.mark.parametrize("card", list_cards(), ids=lambda card: card.name)
def test_a_card_agrees_with_itself(card):
    architecture = find_card(card.architecture)
    assert architecture.kind == "architecture" and card.bundle.name == card.name
    ours, its = card.bundle.model, architecture.bundle.model
    for field in ("embed_dim", "depths", "num_heads", "patch_size", "window_size", "in_chans"):
        assert getattr(ours, field) == getattr(its, field)
    assert card.bundle.preprocessing.crop_size == architecture.bundle.preprocessing.crop_size
    assert (card.kind == "architecture") == (card.weights is None)
    assert len(card.summary) <= 28
    if card.label_set is not None:
        assert ours.num_classes == find_label_set(card.label_set).num_classes
    assert bool(card.bundle.labels) == (
        card.label_set == "kinetics400" or card.name == list_cards()[0].name
    )
    if card.kind == "image":
        assert ours.num_classes == 0 and card.bundle.labels == ()


@pytest.mark.parametrize("card", WITH_WEIGHTS, ids=lambda card: card.name)
def test_sources(card):
    weights = card.weights
    assert weights.trained_on and weights.publisher
    if weights.url is None:
        assert weights.shipped_folder or weights_state(card) == "not released"
        assert weights_path(card) is None
        return
    parts = urlsplit(weights.url)
    assert parts.scheme == "https" and parts.hostname and not parts.query
    assert re.fullmatch(r"[\w.-]+\.pth", weights.file_name)
    assert weights.license and weights.license_note
    report = re.search(r"-([0-9a-f]{8})\.pth$", weights.url)
    assert weights.sha256_prefix == (report[1] if report else "")


def test_files_of_different_weights_have_different_names():
    paths = [weights_path(card) for card in WITH_WEIGHTS if card.weights.url]
    assert len(paths) == len(set(paths)) == 31


def test_torchvision_says_the_same():
    video = pytest.importorskip("torchvision.models.video")
    for card in VIDEO:
        if card.weights.publisher != "torchvision":
            continue
        enum, member = card.name.split(".")
        theirs = getattr(video, enum)[member]
        assert theirs.url == card.weights.url
        assert theirs.meta["num_params"] == card.bundle.model.num_params
        metrics = theirs.meta["_metrics"]["Kinetics-400"]
        accuracy = card.weights.accuracy
        assert metrics == {"acc@1": accuracy.top1, "acc@5": accuracy.top5}
        assert tuple(theirs.meta["categories"]) == card.bundle.labels
        preset = theirs.transforms()
        ours = card.bundle.preprocessing
        assert (preset.resize_size, preset.crop_size) == ([ours.short_side], [ours.crop_size] * 2)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("swin-t-k400", "official"),
        ("swin-b-ssv2", "uniform"),
        ("swin-b-w16-k400", "official"),
        ("swin-t-k400-mmaction2", "mmaction2"),
        ("swin-l-384-k600", "official"),
    ],
)
def test_each_publisher_samples_its_own_way(name, rule):
    sampling = find_card(name).bundle.sampling
    assert (sampling.rule, sampling.num_frames, sampling.stride) == (rule, 32, 2)
    assert sampling.stride_seconds is None


def test_torchvision_samples_by_time():
    card = find_card("Swin3D_T_Weights.KINETICS400_V1")
    assert [at_fps(card.bundle.sampling, fps).stride for fps in (15, 30, 60)] == [1, 2, 4]
    assert "exactly 15 frames per second" in card.note


def test_lists():
    assert list_models("*sthv2*") == ["swin_base_patch244_window1677_sthv2"]
    shipped = list_models(pretrained=True, download=False)
    assert shipped == ["swin_nano_patch488_window877_camera"]
    to_be_had = list_models(pretrained=True, download=True)
    assert to_be_had[0] == shipped[0] and len(to_be_had) == 32
    assert not any("window81212" in name for name in to_be_had)
    assert [card.aliases[0] for card in cards_for("swin_large_patch244_window877")] == [
        "swin-l-k400",
        "swin-l-k700",
    ]


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("VIDEOSWIN_HOME", str(tmp_path))

    def call(*arguments: str) -> list[str]:
        assert cli.run(["models", *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    return call


def test_the_table_fits_and_names_can_be_used(run):
    head, *lines = run()
    assert len(lines) == len(list_cards()) and max(map(len, [head, *lines])) <= 140
    for line, card in zip(lines, list_cards(), strict=True):
        assert find_card(line.split()[0]) is card
        assert (weights_state(card) or "none") in line


def test_json_has_everything(run):
    for line, card in zip(run("--json"), list_cards(), strict=True):
        row = json.loads(line)
        assert row["name"] == card.name and row["weights"] == weights_state(card)
        assert row["parameters"] == card.bundle.model.num_params
        assert row["url"] == (card.weights.url if card.weights else None)
        assert row["sampling"]["rule"] == card.bundle.sampling.rule


def test_markdown_table_of_everything_published(run):
    lines = run("--markdown")
    assert sum(line.startswith(("| `", "| [`")) for line in lines) == len(WITH_WEIGHTS)
    for line in lines:
        for alias, views in re.findall(r"evaluate DATA --model (\S+) --views (\S+)`", line):
            card = find_card(alias)
            assert f"`{card.name}`" in line
            assert card.weights.accuracy is None or card.weights.accuracy.views == views
    (best,) = (line for line in lines if "window81212_kinetics400" in line)
    assert "84.9 / 96.7" in best and "10x5 views" in best and "not released" in best
    assert run("swin-t", "--markdown") == [""]
