"""Training as people meet it: from a folder of clips to a model, and what gets in the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import TINY, losses_of, make_clip, make_folder, rows_of, write_tiny
from video_swin_transformer import cli
from video_swin_transformer.errors import DataError
from video_swin_transformer.model import VideoSwinTransformer
from video_swin_transformer.training import load_recipe, profile_training, train
from video_swin_transformer.training.dataloader import BatchShards, EpochOrder

TWO = ("darker", "left")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("clips"), 5, TWO)


def train_here(folder: Path, text: str, *settings: str, **options):
    said: list[str] = []
    recipe = load_recipe(write_tiny(folder, text), settings)
    return train(recipe, folder / "out", device="cpu", say=said.append, **options), said


# --- a newcomer -----------------------------------------------------------------------------------


def test_from_a_folder_of_clips_to_labels_for_a_new_clip(tmp_path, monkeypatch, run):
    """As docs/training.md walks, with fewer clips and epochs."""
    monkeypatch.chdir(tmp_path)
    make_folder(Path("clips"), 4, TWO)
    code, out, err = run(
        "train", "recipes/finetune.yaml", "data=clips", "schedule.epochs=2", "batch.clips=4",
        "data.hold_out=0.25", "run.workers=0", "--out", "runs/camera-motion", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    assert "the recipe that ships is used" in err
    assert (
        "begins with the weights of camera-motion" in err and "2 of the clips are held out" in err
    )
    assert "1 process x 1 pass x 4 clips on cpu" in err
    folder = out.splitlines()[-1].removeprefix("model: ")
    make_clip(Path("new"), "left", 999)
    code, out, err = run("classify", "new.mp4", "--model", folder, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert {label["label"] for label in answer["labels"]} == set(TWO)
    # A name of its own, not that of the published weights which its folder happens to have.
    model = VideoSwinTransformer.from_pretrained(folder)
    assert model.bundle.name == "camera-motion-trained"
    assert model.bundle.preprocessing.crop_size == 112
    written = {path.name for path in Path("runs/camera-motion").iterdir()}
    assert written == {
        "checkpoints", "epochs.csv", "model", "recipe.yaml", "result.json", "steps.csv",
        "tensorboard",
    }  # fmt: skip
    assert any(Path("runs/camera-motion/tensorboard").iterdir())
    assert [int(row["step"]) for row in rows_of(Path("runs/camera-motion/steps.csv"))] == [
        1,
        2,
        3,
        4,
    ]


def test_a_run_is_not_overwritten_and_another_recipe_does_not_go_on(tmp_path, clips, run):
    arguments = ["train", write_tiny(tmp_path), f"data={clips}", "--out", tmp_path / "out"]
    assert run(*arguments, "--device", "cpu")[0] == 0
    code, _, err = run(*arguments, "--device", "cpu")
    assert code == 2 and "holds a run already. Add --resume" in err
    code, _, err = run(*arguments, "seed=3", "--resume", "--device", "cpu")
    assert code == 2 and "had another seed" in err
    code, _, err = run(*arguments[:-1], tmp_path / "none", "--resume")
    assert code == 1 and "no checkpoint" in err
    # Its own recipe, as it was written down, is the same; there is nothing left to do.
    own = ["train", tmp_path / "out" / "recipe.yaml", "--out", tmp_path / "out", "--resume"]
    code, out, err = run(*own, "--device", "cpu")
    assert code == 0 and "Going on after step 4" in err and "model:" in out
    make_clip(clips / "left" / "later", "left", 5)
    try:
        code, _, err = run(*own, "--device", "cpu")
        assert code == 2 and "clips have come, gone or changed" in err
    finally:
        (clips / "left" / "later.mp4").unlink()


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        ([], 2, "no clips to learn from; give a folder of classes or a list: data=FOLDER"),
        (["data=nowhere"], 1, "There is no list or folder 'nowhere'"),
        (["data={clips}", "model.from=null", "model.pretrained=required"], 2, "from=scratch"),
        (["data={clips}", "model.from=nonsens"], 2, "Unknown model 'nonsens'"),
        (["data={clips}", "model.sizes=null"], 2, "describes no network"),
        (["data={clips}", "run.precision=fp16"], 2, "needs a GPU"),
        (["data={clips}", "data.group=("], 2, "is no pattern"),
        (["data={clips}", "clip.train_short_side=8"], 2, "at least the crop of 32"),
        (["data={clips}", "optimizer.learning_rate=1e30"], 2, "lower optimizer.learning_rate"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, clips, run, settings, code, says):
    given = [setting.format(clips=clips) for setting in settings]
    if "data.group=(" in given:
        given.append("data.hold_out=0.2")
    found, out, err = run("train", write_tiny(tmp_path), *given, "--out", tmp_path / "out", "--device", "cpu")  # fmt: skip  # noqa: E501
    assert (found, out) == (code, ""), err
    assert says in err and err.strip().splitlines()[-1].startswith("error: ")


# --- trouble with clips ---------------------------------------------------------------------------


def test_bad_clips_are_named_counted_and_left_out_later(tmp_path, run):
    """A tenth of the files is broken, paths lead nowhere, and one class has a single clip."""
    folder = make_folder(tmp_path / "clips", 9, TWO)
    make_clip(folder / "lonely" / "only", "right", 7)
    broken = [folder / "left" / "clip03.mp4", folder / "darker" / "clip05.mp4"]
    broken[0].write_bytes(b"no video at all")
    broken[1].write_bytes(broken[1].read_bytes()[:300])
    lines = [f"{path.relative_to(folder)} {path.parent.name}" for path in sorted(folder.rglob("*.mp4"))]  # fmt: skip  # noqa: E501
    listed = tmp_path / "train.txt"
    listed.write_text("\n".join([*lines, "left/gone.mp4 left"]) + "\n")
    bad = [*broken, folder / "left" / "gone.mp4"]
    arguments = ["train", write_tiny(tmp_path), f"data={listed}", f"data.root={folder}"]
    code, out, err = run(*arguments, "--out", tmp_path / "first", "--device", "cpu")
    assert code == 1, err
    for path in bad:
        assert sum(str(path) in line for line in err.splitlines()) == 1, path  # each once
    assert "1 classes have a single clip to learn from: lonely" in err
    assert "3 clips could not be used" in err and "model:" in out
    result = json.loads((tmp_path / "first" / "result.json").read_text())
    assert {clip["path"] for clip in result["unusable_clips"]} == set(map(str, bad))
    assert result["num_replaced"] == 6 and result["train_clips"] == 20  # 3 clips in 2 epochs
    losses = losses_of(tmp_path / "first")
    assert len(losses) == 6 and all(np.isfinite(losses))
    code, _, err = run(*arguments, "--out", tmp_path / "second", "--device", "cpu")
    assert code == 0 and "3 clips are left out: they stand in" in err
    result = json.loads((tmp_path / "second" / "result.json").read_text())
    assert result["unusable_clips"] == [] and result["train_clips"] == 17


def test_bad_clips_do_not_disturb_what_is_exact(tmp_path):
    """The run that is resumed keeps the clips it began with, though the quarantine has grown."""
    folder = make_folder(tmp_path / "clips", 6, TWO)
    (folder / "left" / "clip00.mp4").write_bytes(b"no video")
    whole, _ = train_here(tmp_path, TINY, f"data={folder}", "schedule.epochs=3")
    (tmp_path / "out").rename(tmp_path / "whole")
    assert whole is not None and [Path(p).name for p, _ in whole.failures] == ["clip00.mp4"]
    (folder / "quarantine.jsonl").unlink()
    train_here(tmp_path, TINY, f"data={folder}", "schedule.epochs=3")
    for path in sorted((tmp_path / "out" / "checkpoints").glob("step_*.pt"))[1:]:
        path.unlink()  # as if it had been killed in the last epoch
    resumed, _ = train_here(tmp_path, TINY, f"data={folder}", "schedule.epochs=3", resume=True)
    assert resumed is not None and resumed.num_replaced == whole.num_replaced > 0
    assert losses_of(tmp_path / "out") == losses_of(tmp_path / "whole")


def test_nothing_but_bad_clips_is_an_error_that_names_one(tmp_path):
    for kind in TWO:
        (tmp_path / "clips" / kind).mkdir(parents=True)
        (tmp_path / "clips" / kind / "bad.mp4").write_text("no video")
    for workers in (0, 1):
        with pytest.raises(DataError, match="clips in a row cannot be read"):
            train_here(tmp_path, TINY, f"data={tmp_path / 'clips'}", f"run.workers={workers}")


def test_labels_and_splits_that_contradict_are_refused(tmp_path, clips):
    first, second = (sorted((clips / kind).iterdir())[0] for kind in TWO)
    lines = [f"{first} 0", f"{second} 1"]
    (tmp_path / "train.txt").write_text("\n".join([*lines, f"{second} 7"]) + "\n")
    with pytest.raises(DataError, match=r"outside the map: .*its label is 7"):
        train_here(tmp_path, TINY, f"data={tmp_path / 'train.txt'}", "data.num_classes=2")
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "val.txt").write_text(lines[1] + "\n")
    with pytest.raises(DataError, match="a clip may be in one split only"):
        train_here(
            tmp_path, TINY, f"data={tmp_path / 'train.txt'}", f"data.val={tmp_path / 'val.txt'}"
        )
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="a list must not be empty"):
        train_here(tmp_path, TINY, f"data={tmp_path / 'empty.txt'}")
    with pytest.raises(DataError, match="of one class"):
        (tmp_path / "one" / "left").mkdir(parents=True)
        shutil.copy(second, tmp_path / "one" / "left")
        train_here(tmp_path, TINY, f"data={tmp_path / 'one'}")


# --- ways of training -----------------------------------------------------------------------------


def test_a_linear_probe_leaves_the_backbone_alone(tmp_path, clips):
    start, _ = train_here(tmp_path, TINY, f"data={clips}")
    assert start is not None
    (tmp_path / "out").rename(tmp_path / "start")
    text = TINY.replace("drop_path_rate: 0.0", "drop_path_rate: 0.5\n  train: head")
    before = VideoSwinTransformer.from_pretrained(tmp_path / "start" / "model")
    probe, said = train_here(
        tmp_path, text, f"data={clips}", f"from={tmp_path / 'start' / 'model'}"
    )
    assert probe is not None and any("classifier is kept" in line for line in said)
    after = VideoSwinTransformer.from_pretrained(probe.model)
    for old, new in zip(before.backbone.parameters(), after.backbone.parameters(), strict=True):
        assert torch.equal(old, new)
    assert not torch.equal(before.cls_head.fc_cls.weight, after.cls_head.fc_cls.weight)
    loss = losses_of(tmp_path / "out")
    assert len(set(loss)) == len(loss)


def test_frozen_stages_stay_and_the_others_learn(tmp_path, clips):
    text = TINY.replace("drop_path_rate: 0.0", "drop_path_rate: 0.0\n  frozen_stages: 1")
    result, _ = train_here(tmp_path, text, f"data={clips}")
    assert result is not None
    recipe = load_recipe(tmp_path / "tiny.yaml", [f"data={clips}"])
    from video_swin_transformer.training.setup import build_setup

    first = build_setup(recipe, 2, TWO).model.backbone
    last = VideoSwinTransformer.from_pretrained(result.model).backbone
    assert torch.equal(first.patch_embed.proj.weight, last.patch_embed.proj.weight)
    assert torch.equal(first.layers[0].blocks[0].mlp.fc1.weight, last.layers[0].blocks[0].mlp.fc1.weight)  # fmt: skip  # noqa: E501
    assert not torch.equal(first.layers[1].blocks[0].mlp.fc1.weight, last.layers[1].blocks[0].mlp.fc1.weight)  # fmt: skip  # noqa: E501


def test_the_average_is_the_mean_of_the_steps(tmp_path, clips):
    """ema_decay 0.1 is below the warm-up of the average from the first step on: by hand."""
    settings = [f"data={clips}", "batch.clips=10", "batch.micro=10", "ema_decay=0.1"]
    averaged, _ = train_here(tmp_path, TINY, *settings, "schedule.epochs=2")
    assert averaged is not None
    name = "cls_head.fc_cls.weight"
    steps = [
        torch.load(path, weights_only=True)
        for path in sorted((tmp_path / "out" / "checkpoints").glob("step_*.pt"))
    ]
    recipe = load_recipe(tmp_path / "tiny.yaml", settings)
    from video_swin_transformer.training.setup import build_setup

    mean = build_setup(recipe, 2, TWO).model.state_dict()[name]
    for state in steps:
        mean = 0.1 * mean + 0.9 * state["model"][name]
        assert torch.allclose(state["average"][name], mean, atol=1e-7)
    product = VideoSwinTransformer.from_pretrained(averaged.model).state_dict()[name]
    assert torch.equal(product, steps[-1]["average"][name])


def test_bf16_and_mixing_and_clipping_learn(tmp_path, clips):
    text = TINY + "augment: {mixup: 0.2, cutmix: 1.0, flip: 0.0}\n"
    result, _ = train_here(
        tmp_path, text, f"data={clips}", "run.precision=bf16", "optimizer.grad_clip_norm=1.0",
        "data.class_balanced=true", "loss.label_smoothing=0.1", "optimizer.layer_decay=0.8",
    )  # fmt: skip
    assert result is not None
    rows = rows_of(tmp_path / "out" / "steps.csv")
    assert all(0 < float(row["loss"]) < 2 and row["accuracy"] == "nan" for row in rows)
    from safetensors.torch import load_file

    stored = load_file(result.model / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}


def test_parts_of_a_folder_and_the_test_at_the_end(tmp_path):
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        make_folder(tmp_path / "clips" / part, count, TWO)
    (tmp_path / "clips" / "test" / "left" / "clip00.mp4").write_text("no video")
    result, said = train_here(tmp_path, TINY, f"data={tmp_path / 'clips'}")
    assert result is not None and result.test is not None and result.val_top1 is not None
    assert result.test.num_clips == 5 and [Path(p).name for p, _ in result.failures] == ["clip00.mp4"]  # fmt: skip  # noqa: E501
    written = json.loads((tmp_path / "out" / "result.json").read_text())["test"]
    assert written["clips"] == 5 and written["top1"] == result.test.num_right / 5
    assert sum("clip00.mp4" in line for line in said) == 1
    # The same figure as `videoswin evaluate` finds for the finished model.
    code = cli.run(
        ["evaluate", str(tmp_path / "clips" / "test"), "--model", str(result.model), "--runtime",
         "torch", "--device", "cpu", "--out", str(tmp_path / "evaluation")]
    )  # fmt: skip
    assert code in (0, 1)
    figures = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert figures["metrics"]["top1"]["value"] == pytest.approx(written["top1"])


@pytest.mark.parametrize("control", ["single_frame", "shuffled"])
def test_controls_reach_the_network(tmp_path, clips, control):
    plain, _ = train_here(tmp_path, TINY, f"data={clips}", "data.hold_out=0.2")
    first = losses_of(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    result, _ = train_here(
        tmp_path, TINY, f"data={clips}", "data.hold_out=0.2", f"data.control={control}"
    )
    assert plain is not None and result is not None
    assert losses_of(tmp_path / "out") != first
    assert json.loads((tmp_path / "out" / "result.json").read_text())["control"] == control


# --- order and shares -----------------------------------------------------------------------------


def test_every_clip_once_an_epoch_or_every_class_alike():
    labels = (0,) * 90 + (1,) * 10
    order = EpochOrder(labels, 8, 0, class_balanced=False)
    assert order.steps_per_epoch == 13
    assert [order.num_clips_of(step) for step in (0, 12, 13, 25)] == [8, 4, 8, 4]
    first, second = order.epoch(0), order.epoch(1)
    assert sorted(first) == sorted(second) == list(range(100)) and list(first) != list(second)
    assert list(order.epoch(1)) == list(second)
    balanced = EpochOrder(labels, 8, 0, class_balanced=True)
    share = np.mean([np.mean(balanced.epoch(e) >= 90) for e in range(40)])
    assert abs(share - 0.5) < 0.05


@pytest.mark.parametrize("num_clips", [1, 2, 7, 8])
@pytest.mark.parametrize(("world", "micro"), [(1, 3), (2, 4), (3, 1), (5, 2)])
def test_shares_cover_a_step_and_meet_in_every_pass(num_clips, world, micro):
    shares = [BatchShards(rank, world, micro).passes(num_clips) for rank in range(world)]
    assert len({len(passes) for passes in shares}) == 1
    counted = [place for passes in shares for one in passes for place, weight in one if weight]
    assert sorted(counted) == list(range(num_clips))
    assert all(one and len(one) <= micro for passes in shares for one in passes)


# --- the plan -------------------------------------------------------------------------------------


def test_the_plan_measures_a_step_and_writes_nothing(tmp_path, clips, run):
    before = set(tmp_path.iterdir())
    recipe = write_tiny(tmp_path)
    code, out, err = run("train", recipe, f"data={clips}", "batch.micro=null", "--plan", "--device", "cpu")  # fmt: skip  # noqa: E501
    assert code == 0 and set(tmp_path.iterdir()) - before == {recipe}
    assert "suggested: batch.micro=" in out and "an epoch of 10 clips" in out
    assert "measuring 1 clips" in err and "readers give" in out
    plan = profile_training(load_recipe(recipe, [f"data={clips}"]), "cpu")
    assert plan.suggested in plan.measured and {m.checkpointing for m in plan.measured} == {
        True,
        False,
    }
    assert all(m.seconds > 0 and m.peak_bytes > 2**20 for m in plan.measured)
    assert plan.bytes_per_clip > 4 * 3 * 4 * 32 * 32 and plan.num_clips == 10
    code, out, _ = run("train", recipe, "--plan", "--device", "cpu")
    assert code == 0 and "give data=FOLDER" in out
