"""Training on multi-label clips: several classes or none per clip."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import (
    TINY,
    environment,
    log_messages,
    losses_of,
    make_clip,
    make_folder,
    rows_of,
    write_tiny,
)
from video_swin_transformer import Predictor, cli
from video_swin_transformer.config import BundleConfig
from video_swin_transformer.data import read_annotations
from video_swin_transformer.errors import ConfigError
from video_swin_transformer.model import VideoSwinTransformer
from video_swin_transformer.training import train
from video_swin_transformer.training.dataloader import LoadedClip, collate
from video_swin_transformer.training.losses import build_targets, clip_losses
from video_swin_transformer.training.transforms import NO_BOX, AugmentedClip, Mix, mix

CLASSES = ("brighter", "darker", "striped")
PAIRS = [(change, ground) for change in ("brighter", "darker", "") for ground in ("striped", "")]
RECIPE = TINY + "augment: {scale: [0.5, 1.0]}\n"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_list(folder: Path, name: str, num_each: int, seed: int) -> Path:
    """`num_each` clips of each of the six pairs, and the list of them."""
    lines = []
    for place, kinds in enumerate(PAIRS):
        shown = [kind for kind in kinds if kind]
        for number in range(num_each):
            clip = folder / name / f"{place}-{number}"
            make_clip(clip, "+".join(shown), seed + 100 * place + number)
            lines.append(" ".join([f"{name}/{clip.name}.mp4", *(str(CLASSES.index(k)) for k in shown)]))  # fmt: skip  # noqa: E501
    path = folder / f"{name}.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    (folder / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    write_list(folder, "train", 5, 0)
    write_list(folder, "val", 2, 5000)
    return folder


def settings(lists: Path) -> list[str]:
    return [f"data={lists / 'train.txt'}", f"data.labels={lists / 'labels.txt'}"]


def train_here(folder: Path, name: str, *given: str, **options):
    """The result, and the log messages."""
    with log_messages() as messages:
        result = train(
            write_tiny(folder, RECIPE), folder / name, overrides=given, device="cpu", **options
        )
    return result, messages


# --- the whole way --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory, lists):
    """A finished training with validation clips."""
    folder = tmp_path_factory.mktemp("trained")
    result, messages = train_here(
        folder, "out", *settings(lists), f"data.val={lists / 'val.txt'}", "schedule.epochs=12",
        "batch_size=6",
    )  # fmt: skip
    return folder / "out", result, messages


def test_training_learns_each_class_and_reports_map(trained, lists, tmp_path):
    out, result, messages = trained
    untrained, _ = train_here(
        tmp_path, "out", *settings(lists), f"data.val={lists / 'val.txt'}", "schedule.epochs=1",
        "optimizer.learning_rate=1e-9",
    )  # fmt: skip
    assert any("several labels" in line and "metric is mAP. 5 clips have no label" in line for line in messages)  # fmt: skip  # noqa: E501
    epochs = rows_of(out / "epochs.csv")
    val_map = [float(row["val_map"]) for row in epochs]
    assert max(val_map) > 0.97 > 0.92 > untrained.val_metric  # 0.86: a third to a half are positive
    assert float(epochs[-1]["val_loss"]) < 0.8 * float(epochs[0]["val_loss"])
    assert "val_top1" not in epochs[0] and all(0 <= float(r["val_hit1"]) <= 1 for r in epochs)
    assert result.metric_name == "map" and result.val_metric == pytest.approx(max(val_map))
    assert result.kept_epoch == max(
        range(len(epochs)), key=lambda n: (val_map[n], -float(epochs[n]["val_loss"]))
    )
    losses = losses_of(out)
    # Without any knowledge, the binary cross-entropy is log 2.
    assert losses[0] == pytest.approx(math.log(2), abs=0.02) and losses[-1] < 0.4
    assert {row["accuracy"] for row in rows_of(out / "steps.csv")} == {"nan"}
    written = json.loads((out / "result.json").read_text())
    assert written["val_map"] == result.val_metric and "val_top1" not in written
    assert any(line.endswith("% on 12 validation clips") and "mAP" in line for line in messages)


def test_the_finished_model_gives_sigmoid_scores(trained, lists, tmp_path, run):
    _, result, _ = trained
    assert VideoSwinTransformer.from_pretrained(result.model).bundle.multi_label
    make_clip(tmp_path / "new", "striped+darker", 999)
    code, out, err = run("classify", tmp_path / "new.mp4", "--model", result.model, "--json")
    assert code == 0, err
    scores = {one["label"]: one["score"] for one in json.loads(out)["labels"]}
    assert min(scores["striped"], scores["darker"]) > 0.5 > scores["brighter"]
    predictor = Predictor.load(result.model, runtime="torch")
    views = torch.from_numpy(predictor.views(tmp_path / "new.mp4"))
    with torch.no_grad():
        expected = VideoSwinTransformer.from_pretrained(result.model)(views).sigmoid()
    found = predictor.classify(tmp_path / "new.mp4")
    np.testing.assert_allclose(found.view_scores, expected, atol=1e-6)
    np.testing.assert_allclose(found.scores, expected.mean(0), atol=1e-6)


def test_the_final_test_agrees_with_evaluate(trained, lists, tmp_path):
    """A linear probe with a negligible learning rate, so that only the test is new."""
    _, result, _ = trained
    tested, _ = train_here(
        tmp_path, "out", *settings(lists), f"data.test={lists / 'val.txt'}",
        f"init_from={result.model}", "model.sizes=null", "model.train=head", "schedule.epochs=1",
        "optimizer.learning_rate=1e-9",
    )  # fmt: skip
    written = json.loads((tmp_path / "out" / "result.json").read_text())["test"]
    code = cli.run(
        ["evaluate", str(lists / "val.txt"), "--model", str(tested.model), "--runtime", "torch",
         "--device", "cpu", "--out", str(tmp_path / "evaluation")]
    )  # fmt: skip
    assert code == 0
    metrics = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["metrics"]
    assert metrics["map"]["value"] == pytest.approx(written["map"], abs=1e-9)
    assert [metrics["map"]["low"], metrics["map"]["high"]] == pytest.approx(written["map_interval"])
    assert metrics["hit1"]["value"] == pytest.approx(written["hit1"])


def test_a_multi_label_model_keeps_sigmoid_scores_on_single_label_annotations(trained, tmp_path):
    """The annotation decides on the metric, the model on its scores."""
    _, result, _ = trained
    folder = make_folder(tmp_path / "clips", 1, CLASSES)
    code = cli.run(
        ["evaluate", str(folder), "--model", str(result.model), "--runtime", "torch", "--device",
         "cpu", "--out", str(tmp_path / "evaluation")]
    )  # fmt: skip
    assert code == 0
    rows = rows_of(tmp_path / "evaluation" / "clips.csv")
    for row in rows:
        best = Predictor.load(result.model, runtime="torch").classify(row["path"]).scores.max()
        assert float(row["confidence"]) == pytest.approx(best, abs=1e-4)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_resumed_run_and_two_processes_give_the_same_losses(tmp_path, lists, trained):
    """Without mixing, which depends on the micro batch."""
    given = [*settings(lists), "data.val_fraction=0.2", "micro_batch_size=2", "schedule.epochs=3"]
    whole, messages = train_here(tmp_path, "whole", *given)
    assert whole.metric_name == "map"
    assert any("clips become the validation set" in line for line in messages)
    assert read_annotations(lists / "train.txt", labels=CLASSES).is_multilabel
    train_here(tmp_path, "again", *given)
    for path in sorted((tmp_path / "again" / "checkpoints").glob("step_*.pt"))[1:]:
        path.unlink()  # as if it had been killed in the last epoch
    resumed, _ = train_here(tmp_path, "again", *given, resume=True)
    assert resumed.val_metric == whole.val_metric
    assert losses_of(tmp_path / "again") == losses_of(tmp_path / "whole")
    assert rows_of(tmp_path / "again" / "epochs.csv")[0]["val_map"] == rows_of(tmp_path / "whole" / "epochs.csv")[0]["val_map"]  # fmt: skip  # noqa: E501

    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    launch += ["-m", "video_swin_transformer", "train", str(write_tiny(tmp_path, RECIPE)), *given]
    done = subprocess.run(
        [*launch, "--out", str(tmp_path / "two"), "--device", "cpu"],
        capture_output=True, text=True, timeout=240, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert losses_of(tmp_path / "two") == pytest.approx(losses_of(tmp_path / "whole"), abs=1e-5)
    both = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("two", "whole")]
    assert both[0]["val_map"] == pytest.approx(both[1]["val_map"], abs=0.02)
    assert "validation: mAP" in done.stdout


def test_mixing_and_label_smoothing_lower_the_loss(tmp_path, lists):
    train_here(
        tmp_path, "out", *settings(lists), "augment.mixup=0.4", "augment.cutmix=1.0",
        "loss.label_smoothing=0.1", "schedule.epochs=4", "run.precision=bf16",
    )  # fmt: skip
    losses = losses_of(tmp_path / "out")
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) < 0.8


def test_binary_loss_on_single_label_annotations(tmp_path):
    folder = make_folder(tmp_path / "clips", 5, ("darker", "left"))
    result, _ = train_here(
        tmp_path, "out", f"data={folder}", "loss.kind=binary", "data.val_fraction=0.2",
        "loss.class_weights=balanced",
    )  # fmt: skip
    assert result.metric_name == "top1" and result.val_metric is not None
    assert losses_of(tmp_path / "out")[0] == pytest.approx(math.log(2), abs=0.02)
    assert VideoSwinTransformer.from_pretrained(result.model).bundle.multi_label


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("loss.kind=cross_entropy", "allows one correct class per clip"),
        ("loss.class_weights=balanced", "weights a clip by its class"),
        ("data.class_balanced=true", "samples clips by their class"),
    ],
)
def test_settings_that_require_one_label_per_clip_are_rejected(tmp_path, lists, setting, says):
    with pytest.raises(ConfigError, match=f"{says}.*several labels|several labels.*{says}"):
        train_here(tmp_path, "out", *settings(lists), setting)


# --- by hand --------------------------------------------------------------------------------------


def clip_of(labels: tuple[int, ...]) -> LoadedClip:
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    return LoadedClip(AugmentedClip(pixels, NO_BOX, Mix()), labels, 1.0, [])


def test_targets_and_losses_match_timm_and_mmaction2():
    """Both smooth a target y to y * (1 - s) + s / K and average over clips and classes."""
    batch = collate([clip_of((2, 0)), clip_of(()), clip_of((1,))])
    assert batch.labels.tolist() == [[2, 0], [-1, -1], [1, -1]]
    targets = build_targets(batch.labels, 4, 0.1)
    plain = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    assert torch.allclose(targets, plain * 0.9 + 0.1 / 4)
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    losses = clip_losses(logits, targets, binary=True)
    assert losses.shape == (3,) and torch.allclose(losses.mean(), expected)
    _, blended = mix(torch.zeros(3, 3, 2, 4, 4), plain, [Mix(0.75), Mix(0.5), Mix(0.25)])
    assert blended.tolist() == [[0.75, 0.25, 0.75, 0], [0, 0, 0, 0], [0.75, 0.25, 0.75, 0]]


def test_the_multi_label_flag_survives_json():
    config = BundleConfig(multi_label=True)
    assert BundleConfig.from_json(config.to_json()) == config
    older = json.loads(config.to_json())
    del older["multi_label"]
    assert not BundleConfig.from_json(json.dumps(older)).multi_label
    with pytest.raises(ConfigError, match="multi_label is 'yes'"):
        BundleConfig.from_json(json.dumps(older | {"multi_label": "yes"}))
