"""Training on clips that show several classes at once, or none."""

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
from video_swin_transformer.training import load_recipe, train
from video_swin_transformer.training.batches import clip_losses, mix, targets_of
from video_swin_transformer.training.dataloader import LoadedClip, collate
from video_swin_transformer.training.transforms import NO_BOX, AugmentedClip, Mix

CLASSES = ("brighter", "darker", "striped")
PAIRS = [(change, ground) for change in ("brighter", "darker", "") for ground in ("striped", "")]
RECIPE = TINY + "augment: {area: [0.5, 1.0]}\n"


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
    said: list[str] = []
    recipe = load_recipe(write_tiny(folder, RECIPE), given)
    return train(recipe, folder / name, device="cpu", say=said.append, **options), said


# --- the way of a user ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory, lists):
    """The clips to watch are those to test as well: one must agree with `videoswin evaluate`."""
    folder = tmp_path_factory.mktemp("trained")
    result, said = train_here(
        folder, "out", *settings(lists), f"data.val={lists / 'val.txt'}", "schedule.epochs=12",
        "batch.clips=6",
    )  # fmt: skip
    assert result is not None
    return folder / "out", result, said


def test_it_learns_every_class_on_its_own(trained, lists, tmp_path):
    out, result, said = trained
    untrained, _ = train_here(
        tmp_path, "out", *settings(lists), f"data.val={lists / 'val.txt'}", "schedule.epochs=1",
        "optimizer.learning_rate=1e-9",
    )  # fmt: skip
    assert untrained is not None
    assert any("several labels" in line and "mAP is watched. 5 clips have none" in line for line in said)  # fmt: skip  # noqa: E501
    epochs = rows_of(out / "epochs.csv")
    watched = [float(row["val_map"]) for row in epochs]
    assert max(watched) > 0.97 > 0.92 > untrained.val_map  # 0.86: a third to a half are right
    assert float(epochs[-1]["val_loss"]) < 0.8 * float(epochs[0]["val_loss"])
    assert "val_top1" not in epochs[0] and all(0 <= float(r["val_hit1"]) <= 1 for r in epochs)
    assert result.val_map == pytest.approx(max(watched)) and result.val_top1 is None
    assert result.kept_epoch == max(
        range(len(epochs)), key=lambda n: (watched[n], -float(epochs[n]["val_loss"]))
    )
    losses = losses_of(out)
    # Where nothing is known each question costs log 2.
    assert losses[0] == pytest.approx(math.log(2), abs=0.02) and losses[-1] < 0.4
    assert {row["accuracy"] for row in rows_of(out / "steps.csv")} == {"nan"}
    written = json.loads((out / "result.json").read_text())
    assert written["val_map"] == result.val_map and "val_top1" not in written
    assert any("mAP on the 12 watched clips" in line for line in said)


def test_the_finished_folder_scores_each_class_on_its_own(trained, lists, tmp_path, run):
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


def test_the_test_at_the_end_is_what_evaluate_finds(trained, lists, tmp_path):
    """A linear probe without a step worth the name, so that only the end is new."""
    _, result, _ = trained
    tested, _ = train_here(
        tmp_path, "out", *settings(lists), f"data.test={lists / 'val.txt'}",
        f"from={result.model}", "model.sizes=null", "model.train=head", "schedule.epochs=1",
        "optimizer.learning_rate=1e-9",
    )  # fmt: skip
    assert tested is not None
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


def test_a_model_of_several_labels_stays_one_on_a_list_of_single_labels(trained, tmp_path):
    """The list decides what is measured, the model what its scores are."""
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


# --- other ways of training -----------------------------------------------------------------------


def test_interrupted_or_in_two_processes_it_is_the_same(tmp_path, lists, trained):
    """Mixing is off for the processes: it takes place within a pass."""
    given = [*settings(lists), "data.hold_out=0.2", "batch.micro=2", "schedule.epochs=3"]
    whole, said = train_here(tmp_path, "whole", *given)
    assert whole is not None and whole.val_map is not None
    held = read_annotations(lists / "train.txt", labels=CLASSES)
    assert any("of the clips are held out" in line for line in said) and held.is_multilabel
    train_here(tmp_path, "again", *given)
    for path in sorted((tmp_path / "again" / "checkpoints").glob("step_*.pt"))[1:]:
        path.unlink()  # as if it had been killed in the last epoch
    resumed, _ = train_here(tmp_path, "again", *given, resume=True)
    assert resumed is not None and resumed.val_map == whole.val_map
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
    assert "watched clips: mAP" in done.stdout


def test_mixing_and_smoothing_learn(tmp_path, lists):
    result, _ = train_here(
        tmp_path, "out", *settings(lists), "augment.mixup=0.4", "augment.cutmix=1.0",
        "loss.label_smoothing=0.1", "schedule.epochs=4", "run.precision=bf16",
    )  # fmt: skip
    assert result is not None
    losses = losses_of(tmp_path / "out")
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) < 0.8


def test_a_list_of_single_labels_may_ask_questions_of_yes_and_no(tmp_path):
    folder = make_folder(tmp_path / "clips", 5, ("darker", "left"))
    result, _ = train_here(
        tmp_path, "out", f"data={folder}", "loss.kind=binary", "data.hold_out=0.2",
        "loss.class_weights=balanced",
    )  # fmt: skip
    assert result is not None and result.val_top1 is not None and result.val_map is None
    assert losses_of(tmp_path / "out")[0] == pytest.approx(math.log(2), abs=0.02)
    assert VideoSwinTransformer.from_pretrained(result.model).bundle.multi_label


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("loss.kind=cross_entropy", "takes one to be right and all others wrong"),
        ("loss.class_weights=balanced", "weighs a clip by its class"),
        ("data.class_balanced=true", "draws clips by their class"),
    ],
)
def test_what_one_label_is_needed_for_is_refused(tmp_path, lists, setting, says):
    with pytest.raises(ConfigError, match=f"{says}.*several labels|several labels.*{says}"):
        train_here(tmp_path, "out", *settings(lists), setting)


# --- by hand --------------------------------------------------------------------------------------


def clip_of(labels: tuple[int, ...]) -> LoadedClip:
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    return LoadedClip(AugmentedClip(pixels, NO_BOX, Mix()), labels, 1.0, [])


def test_targets_and_losses_are_those_of_timm_and_mmaction2():
    """Both smooth a target y to y * (1 - s) + s / K and take the mean over clips and classes."""
    batch = collate([clip_of((2, 0)), clip_of(()), clip_of((1,))])
    assert batch.labels.tolist() == [[2, 0], [-1, -1], [1, -1]]
    targets = targets_of(batch.labels, 4, 0.1)
    plain = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    assert torch.allclose(targets, plain * 0.9 + 0.1 / 4)
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    losses = clip_losses(logits, targets, multi_label=True)
    assert losses.shape == (3,) and torch.allclose(losses.mean(), wanted)
    _, blended = mix(torch.zeros(3, 3, 2, 4, 4), plain, [Mix(0.75), Mix(0.5), Mix(0.25)])
    assert blended.tolist() == [[0.75, 0.25, 0.75, 0], [0, 0, 0, 0], [0.75, 0.25, 0.75, 0]]


def test_the_flag_goes_to_json_and_back():
    config = BundleConfig(multi_label=True)
    assert BundleConfig.from_json(config.to_json()) == config
    older = json.loads(config.to_json())
    del older["multi_label"]
    assert not BundleConfig.from_json(json.dumps(older)).multi_label
    with pytest.raises(ConfigError, match="multi_label is 'yes'"):
        BundleConfig.from_json(json.dumps(older | {"multi_label": "yes"}))
