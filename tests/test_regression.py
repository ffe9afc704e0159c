"""Regression: lists of numbers, training, prediction in original units, measures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.regression import RECIPE
from benchmarks.zoom_clips import write_zoom_clips
from tests.media import Clip
from tests.training import losses_of, write_tiny
from video_swin_transformer import Predictor, evaluate_regression, replay
from video_swin_transformer.config import BundleConfig, ModelConfig, RegressionTarget
from video_swin_transformer.data import TimeRange, read_target_annotations
from video_swin_transformer.errors import ConfigError, DataError
from video_swin_transformer.evaluation.regression import plcc, srcc
from video_swin_transformer.postprocess import combine_views
from video_swin_transformer.training import load_recipe, train
from video_swin_transformer.training.losses import regression_losses

LEVELS = [20 + 14 * number for number in range(16)]


def write_levels(folder: Path, *, num_clips: int = 16) -> Path:
    """Flat clips; their gray level and minus a tenth of it are the targets."""
    rows = ["path,level,other"]
    for number in range(num_clips):
        level = LEVELS[number]
        frames = [np.full((36, 48, 3), level, np.uint8)] * 12
        Clip(height=36, width=48).make(folder / f"{number}", frames)
        rows.append(f"{number}.mp4,{level},{-level / 10}")
    (folder / "list.csv").write_text("\n".join(rows))
    return folder / "list.csv"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A list, and a model that was trained on it."""
    folder = tmp_path_factory.mktemp("regression")
    source = write_levels(folder)
    settings = [
        f"data.train={source}", "data.targets=[level,other]", "data.val_fraction=0.25",
        "loss.kind=regression", "schedule.epochs=8", "optimizer.learning_rate=0.003",
        "optimizer.backbone_multiplier=1", f"data.test={source}",
    ]  # fmt: skip
    with pytest.raises(DataError, match="in both"):
        train(load_recipe(write_tiny(folder), settings), folder / "both", device="cpu")
    recipe = load_recipe(write_tiny(folder), settings[:-1])
    return source, train(recipe, folder / "out", device="cpu").model


# --- lists ----------------------------------------------------------------------------------------


def test_numbers_are_read_from_tables_and_json(tmp_path):
    (tmp_path / "list.csv").write_text("video;mos;split\na.mp4;3.5;train\nb.mp4;-1e2;val\n")
    found = read_target_annotations(tmp_path / "list.csv", ["mos"])
    assert [item.targets for item in found.items] == [(3.5,), (-100.0,)]
    assert found.targets == found.classes == ("mos",)
    val = read_target_annotations(tmp_path / "list.csv", ["mos"], split="val")
    assert [item.path for item in val.items] == [str(tmp_path / "b.mp4")]
    rows = [{"path": "a.mp4", "start": 1, "end": "0:02.5", "x": 1, "y": "2"}]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    (item,) = read_target_annotations(tmp_path / "list.json", ["y", "x"]).items
    assert item.targets == (2.0, 1.0) and item.segment == TimeRange(1.0, 2.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,mos\na.mp4,good\n", "Line 2 .* mos 'good', which is not a finite number"),
        ("path,mos\na.mp4,nan\n", "not a finite number"),
        ("path,mos\na.mp4\n", "not a finite number"),
        ("path,score\na.mp4,1\n", "no column 'mos'; it has path, score"),
        ("mos\n3\n", "has no path"),
        ("path,mos\n", "contains no clips"),
    ],
)
def test_wrong_lists_of_numbers_are_named(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_target_annotations(tmp_path / "list.csv", ["mos"])
    with pytest.raises(DataError, match="is not a file"):
        read_target_annotations(tmp_path, ["mos"])


# --- configuration and losses ---------------------------------------------------------------------


def test_targets_survive_the_config_file_and_turn_outputs_into_units():
    bundle = BundleConfig(
        model=ModelConfig(embed_dim=16, depths=(1,), num_heads=(1,), num_classes=2),
        targets=(RegressionTarget("mos", 3.0, 0.5), RegressionTarget("ef", 55.0, 10.0)),
    )
    assert BundleConfig.from_json(bundle.to_json()) == bundle
    values, of_views = combine_views(np.array([[1.0, -2.0], [3.0, 0.0]]), bundle)
    assert of_views.tolist() == [[3.5, 35.0], [4.5, 55.0]] and values.tolist() == [4.0, 45.0]
    with pytest.raises(ConfigError, match="number of regression targets"):
        BundleConfig(model=bundle.model, targets=bundle.targets[:1])
    with pytest.raises(ConfigError, match="std"):
        RegressionTarget("mos", 0.0, 0.0)


def test_losses_are_mean_squared_error_and_huber():
    logits, targets = torch.tensor([[0.5, 4.0]]), torch.tensor([[0.0, 1.0]])
    assert regression_losses(logits, targets, "mse", 1.0).tolist() == [(0.25 + 9) / 2]
    expected = (0.5 * 0.25 + 2 * (3 - 1)) / 2  # delta 2: quadratic below, delta * (x - delta / 2)
    assert regression_losses(logits, targets, "huber", 2.0).tolist() == [expected]


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 9, 50).astype(float)  # with ties
    found = truth + rng.normal(0, 2, 50)
    assert srcc(truth, found) == pytest.approx(stats.spearmanr(truth, found).statistic)
    assert plcc(truth, found) == pytest.approx(stats.pearsonr(truth, found).statistic)
    assert srcc(truth, np.zeros(50)) == plcc(truth, np.zeros(50)) == 0.0


# --- training and prediction ----------------------------------------------------------------------


def test_a_regression_learns_and_predicts_in_original_units(trained):
    source, model = trained
    losses = losses_of(model.parent)
    assert np.mean(losses[-2:]) < 0.5 * losses[0]
    with (model.parent / "epochs.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["val_srcc"]) > 0.9 and "val_plcc" in last
    predictor = Predictor.load(model, runtime="torch", device="cpu")
    level, other = predictor.bundle.targets
    assert (level.name, other.name) == ("level", "other")
    assert other.mean == pytest.approx(-level.mean / 10) and 15 < level.std < 90
    found = predictor.predict(source.parent / "8.mp4")
    assert set(found.to_dict()) == {"level", "other"}
    assert abs(found.values[0] - LEVELS[8]) < level.std
    receipt = predictor.with_receipts().predict(source.parent / "8.mp4").receipt
    assert receipt is not None and replay(receipt).is_equal


def test_evaluate_regression_measures_what_predict_says(trained, tmp_path):
    source, model = trained
    predictor = Predictor.load(model, runtime="torch", device="cpu")
    result = evaluate_regression(predictor, source, tmp_path / "out")
    truth = np.array(LEVELS, float)
    found = np.array([predictor.predict(path).values[0] for path in result.paths])
    level = result.targets[0]
    assert level.srcc.value == pytest.approx(stats.spearmanr(truth, found).statistic)
    assert level.mae.value == pytest.approx(np.abs(truth - found).mean())
    assert level.rmse.value == pytest.approx(np.sqrt(np.mean((truth - found) ** 2)))
    assert level.srcc.low <= level.srcc.value <= level.srcc.high
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["true_level"]) for row in rows] == truth.tolist()
    assert float(rows[3]["predicted_level"]) == pytest.approx(found[3])
    written = json.loads((tmp_path / "out" / "regression.json").read_text())
    assert written["targets"][0]["srcc"] == level.srcc.value


def test_models_of_numbers_and_of_classes_are_not_mixed_up(trained):
    source, model = trained
    predictor = Predictor.load(model, runtime="torch", device="cpu")
    with pytest.raises(ConfigError, match=r"predicts numbers \(level, other\).*use predict"):
        predictor.classify(source.parent / "0.mp4")
    classes = Predictor.load("camera-motion")
    with pytest.raises(ConfigError, match="use classify"):
        classes.predict(source.parent / "0.mp4")
    with pytest.raises(ConfigError, match="use evaluate"):
        evaluate_regression(classes, source)


def test_commands_predict_and_evaluate_numbers(trained, run, tmp_path):
    source, model = trained
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 100)
    code, out, err = run("predict", source.parent / "0.mp4", broken, "--model", model, "--json")
    assert code == 1 and "broken.mp4" in err
    first, second = (json.loads(line) for line in out.splitlines())
    assert set(first["values"]) == {"level", "other"} and second["values"] == {}
    code, out, _ = run("predict", source.parent / "0.mp4", "--model", model)
    assert code == 0 and out.splitlines()[1].endswith("  level")
    code, out, err = run("evaluate", source, "--model", model, "--out", tmp_path / "out")
    assert code == 0, err
    assert "SRCC" in out and (tmp_path / "out" / "predictions.csv").is_file()
    code, _, err = run("evaluate", source, "--model", model, "--resume")
    assert code == 2 and "--resume" in err
    code, _, err = run("classify", source.parent / "0.mp4", "--model", model)
    assert code == 2 and "use predict" in err
    code, _, err = run("segments", source.parent / "0.mp4", "--model", model)
    assert code == 2 and "predicts numbers" in err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.targets=[level]"], "needs both"),
        (["loss.kind=regression"], "needs both"),
        (["loss.kind=regression", "data.targets=[size]"], "no column 'size'"),
        (
            ["loss.kind=regression", "data.targets=[level]", "data.class_balanced=true"],
            "class_balanced",
        ),
        (
            ["loss.kind=regression", "data.targets=[level]", "loss.class_weights=balanced"],
            "class_weights",
        ),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(trained, settings, message, tmp_path):
    source, _ = trained
    if settings == ["loss.kind=regression"]:
        (tmp_path / "classes.txt").write_text(f"{source.parent}/0.mp4 a\n{source.parent}/1.mp4 b")
        source = tmp_path / "classes.txt"
    recipe = load_recipe(write_tiny(tmp_path), [f"data.train={source}", *settings])
    with pytest.raises((ConfigError, DataError), match=message):
        train(recipe, tmp_path / "out", device="cpu")


def test_a_constant_target_is_nothing_to_learn(tmp_path):
    write_levels(tmp_path, num_clips=2)
    (tmp_path / "list.csv").write_text("path,level\n0.mp4,5\n1.mp4,5\n")
    settings = [
        f"data.train={tmp_path / 'list.csv'}", "data.targets=[level]", "loss.kind=regression",
        "data.val_fraction=0",
    ]  # fmt: skip
    with pytest.raises(DataError, match="have the level 5, so there is nothing to learn"):
        train(load_recipe(write_tiny(tmp_path), settings), tmp_path / "out", device="cpu")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_zoom_speed_of_rendered_clips_is_learned(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    clips = write_zoom_clips(tmp_path / "train", 300, seed=0)
    unseen = write_zoom_clips(tmp_path / "test", 100, seed=1)
    settings = [f"data.train={clips}", "schedule.epochs=8"]
    recipe = load_recipe(tmp_path / "recipe.yaml", settings)
    result = train(recipe, tmp_path / "run", device="cpu")
    (measured,) = evaluate_regression(Predictor.load(result.model), unseen).targets
    assert measured.srcc.value > 0.95
