"""`train` and `videoswin train`: from a folder of clips to a model, and every way it can fail."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import video_swin_transformer as vst
from tests.training import (
    TINY,
    command,
    environment,
    log_messages,
    losses_of,
    make_clip,
    make_folder,
    rows_of,
    write_tiny,
)
from video_swin_transformer import ClipSampling, cli
from video_swin_transformer.data import read_annotations
from video_swin_transformer.errors import (
    CheckpointError,
    DataError,
    DeviceMemoryError,
    TrainingDivergedError,
)
from video_swin_transformer.model import VideoSwinTransformer
from video_swin_transformer.training import Progress, load_recipe, profile_training, train
from video_swin_transformer.training.dataloader import BatchShards, EpochOrder
from video_swin_transformer.training.setup import build_setup
from video_swin_transformer.training.validation import validate

TWO = ("darker", "left")
needs_no_gpu = pytest.mark.skipif(
    torch.accelerator.is_available(), reason="this machine has the device"
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("clips"), 5, TWO)


def train_here(folder: Path, text: str, *overrides: str, **options):
    """The result, and the log messages."""
    recipe = write_tiny(folder, text)
    with log_messages() as messages:
        result = train(recipe, folder / "out", overrides=overrides, device="cpu", **options)
    return result, messages


# --- the whole way --------------------------------------------------------------------------------


def test_train_a_folder_of_clips_and_classify_a_new_clip(tmp_path, monkeypatch, run):
    """As in docs/training.md, with fewer clips and epochs."""
    monkeypatch.chdir(tmp_path)
    make_folder(Path("clips"), 4, TWO)
    code, out, err = run(
        "train", "finetune", "data=clips", "schedule.epochs=2", "batch_size=4",
        "data.val_fraction=0.25", "run.workers=0", "--out", "runs/camera-motion", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    assert "starts with the weights camera-motion" in err
    assert "2 of 8 clips become the validation set" in err
    assert "batch size 4 = 1 process x 1 micro batch x 4 clips on cpu" in err
    folder = out.splitlines()[-1].removeprefix("model: ")
    make_clip(Path("new"), "left", 999)
    code, out, err = run("classify", "new.mp4", "--model", folder, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert {label["label"] for label in answer["labels"]} == set(TWO)
    # Not the name of the published weights, although the output folder has that name.
    model = VideoSwinTransformer.from_pretrained(folder)
    assert model.bundle.name == "camera-motion-trained"
    assert model.bundle.preprocessing.crop_size == 112
    written = {path.name for path in Path("runs/camera-motion").iterdir()}
    assert written == {
        "checkpoints", "epochs.csv", "model", "recipe.yaml", "result.json", "steps.csv",
        "tensorboard",
    }  # fmt: skip
    assert any(Path("runs/camera-motion/tensorboard").iterdir())
    steps = [int(row["step"]) for row in rows_of(Path("runs/camera-motion/steps.csv"))]
    assert steps == [1, 2, 3, 4]


def test_train_takes_the_name_of_a_shipped_recipe_and_reports_progress(tmp_path, clips):
    seen: list[Progress] = []
    result = vst.train(
        "finetune",
        str(tmp_path / "out"),
        overrides=[
            f"data.train={clips}", "data.val_fraction=0", "schedule.epochs=2", "batch_size=5",
            "run.workers=0",
        ],
        seed=5,
        device="cpu",
        progress=seen.append,
    )  # fmt: skip
    assert isinstance(result, vst.TrainResult)
    assert (result.metric_name, result.val_metric, result.steps) == ("top1", None, 4)
    assert [p.step for p in seen] == [1, 2, 3, 4] and [p.epoch for p in seen] == [0, 0, 1, 1]
    assert [p.is_epoch_end for p in seen] == [False, True, False, True]
    assert all(p.num_steps == 4 and p.seconds_left >= 0 and p.memory_bytes > 0 for p in seen)
    assert load_recipe(tmp_path / "out" / "recipe.yaml").seed == 5


def test_the_seed_option_replaces_the_seed_of_the_recipe(tmp_path, clips, run):
    recipe = write_tiny(tmp_path)
    losses = {}
    seeds: dict[str, list[object]] = {"a": ["--seed", 1], "b": ["--seed", 2], "c": ["seed=1"]}
    for name, options in seeds.items():
        arguments = [*options, "schedule.epochs=1", "--device", "cpu", "--out", tmp_path / name]
        assert run("train", recipe, f"data={clips}", *arguments)[0] == 0
        losses[name] = losses_of(tmp_path / name)
    assert losses["a"] == losses["c"] != losses["b"]


def test_list_prints_the_shipped_recipes_and_keys_the_settings(run):
    code, out, _ = run("train", "--list")
    assert code == 0
    assert "finetune         Fine-tuning on your own clips, one folder per class" in out
    code, out, _ = run("train", "finetune", "schedule.epochs=7", "--keys")
    lines = dict(line.split("=", 1) for line in out.splitlines())
    assert code == 0 and lines["schedule.epochs"] == "7  # default: 30"
    assert lines["model.sizes"] == "null" and lines["run.keep_checkpoint"] == "best"
    # What it prints are settings that the command takes.
    settings = [line.partition("  #")[0] for line in out.splitlines()]
    assert load_recipe("finetune", settings) == load_recipe("finetune", ["schedule.epochs=7"])
    code, _, err = run("train")
    assert code == 2 and "RECIPE is missing" in err and "--list" in err


def test_a_run_is_neither_overwritten_nor_resumed_with_another_recipe(tmp_path, clips, run):
    arguments = ["train", write_tiny(tmp_path), f"data={clips}", "--out", tmp_path / "out"]
    assert run(*arguments, "--device", "cpu")[0] == 0
    code, _, err = run(*arguments, "--device", "cpu")
    assert code == 2 and "already contains a run" in err and "resume" in err
    code, _, err = run(*arguments, "seed=3", "--resume", "--device", "cpu")
    assert code == 2 and "has a different seed" in err
    code, _, err = run(*arguments[:-1], tmp_path / "none", "--resume")
    assert code == 1 and "no checkpoint" in err
    # The recipe that the run has written is the same; there is nothing left to do.
    own = ["train", tmp_path / "out" / "recipe.yaml", "--out", tmp_path / "out", "--resume"]
    code, out, err = run(*own, "--device", "cpu")
    assert code == 0 and "Resuming after step 4" in err and "model:" in out
    make_clip(clips / "left" / "later", "left", 5)
    try:
        code, _, err = run(*own, "--device", "cpu")
        assert code == 2 and "clips were added, removed or moved" in err
    finally:
        (clips / "left" / "later.mp4").unlink()


# --- misuse and errors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        ([], 2, "has no training clips; set data.train to a folder of classes"),
        (["data=nowhere"], 1, "File not found: 'nowhere'"),
        (["data={clips}", "init_from=null", "model.pretrained=required"], 2, "init_from=swin-t"),
        (["data={clips}", "init_from=nonsens"], 2, "Unknown model 'nonsens'"),
        (["data={clips}", "model.sizes=null"], 2, "describes no network"),
        (["data={clips}", "run.precision=fp16"], 2, "needs a GPU"),
        (["data={clips}", "data.group=(", "data.val_fraction=0.2"], 2, "not a regular expression"),
        (["data={clips}", "clip.train_short_side=8"], 2, "at least the crop size, 32"),
        (["data={clips}", "optimizer.learning_rate=1e30"], 1, "Lower optimizer.learning_rate"),
    ],
)
def test_misuse_is_one_line_with_an_exit_code(tmp_path, clips, run, settings, code, says):
    given = [setting.format(clips=clips) for setting in settings]
    arguments = [*given, "--out", tmp_path / "out", "--device", "cpu"]
    found, out, err = run("train", write_tiny(tmp_path), *arguments)
    assert (found, out) == (code, ""), err
    assert says in err and err.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("gpu", "must be auto, cpu, cuda, cuda:N (such as cuda:0) or mps"),
        ("cuda:x", "must be auto, cpu, cuda, cuda:N (such as cuda:0) or mps"),
        pytest.param("cuda", "finds no CUDA GPU", marks=needs_no_gpu),
        pytest.param("cuda:99", "finds no CUDA GPU", marks=needs_no_gpu),
        pytest.param("mps", "no Apple GPU", marks=needs_no_gpu),
    ],
)
def test_a_device_that_is_not_there_is_refused(tmp_path, clips, run, device, says):
    arguments = [f"data={clips}", "--out", tmp_path / "out", "--device", device]
    code, out, err = run("train", write_tiny(tmp_path), *arguments)
    assert (code, out) == (2, "") and err.startswith("error: device is") and says in err
    assert len(err.splitlines()) == 1


def test_a_diverged_loss_has_its_own_error(tmp_path, clips):
    with pytest.raises(TrainingDivergedError, match=r"the loss of step 1 is (nan|inf)"):
        train_here(tmp_path, TINY, f"data={clips}", "optimizer.learning_rate=1e30")


@pytest.mark.parametrize(
    ("size", "advice"),
    [
        (1, "1 clip per micro batch. Set run.grad_checkpointing=true, or reduce clip.num_frames"),
        (4, "4 clips per micro batch. Set micro_batch_size=2 or run.grad_checkpointing=true"),
    ],
)
def test_out_of_memory_has_its_own_error(tmp_path, clips, run, monkeypatch, size, advice):
    """PyTorch's allocator refuses a real request that is larger than any memory."""
    forward = VideoSwinTransformer.forward

    def forward_of_a_huge_network(self, clip):
        torch.empty(2**50)
        return forward(self, clip)

    monkeypatch.setattr(VideoSwinTransformer, "forward", forward_of_a_huge_network)
    with pytest.raises(DeviceMemoryError, match="Out of memory") as caught:
        train_here(tmp_path, TINY, f"data={clips}", f"micro_batch_size={size}")
    assert advice in str(caught.value)
    arguments = [f"data={clips}", "--out", tmp_path / "other", "--device", "cpu"]
    for setting in ("micro_batch_size=8", "micro_batch_size=null"):
        code, _, err = run("train", tmp_path / "tiny.yaml", setting, *arguments)
        assert code == 1 and "error: Out of memory" in err


# --- unreadable clips and contradictory labels ----------------------------------------------------


def test_unreadable_clips_are_named_counted_and_skipped_by_later_runs(tmp_path, run):
    """A tenth of the files is corrupt, a path does not exist, and one class has a single clip."""
    folder = make_folder(tmp_path / "clips", 9, TWO)
    make_clip(folder / "singleton" / "only", "right", 7)
    corrupt = [folder / "left" / "clip03.mp4", folder / "darker" / "clip05.mp4"]
    corrupt[0].write_bytes(b"not a video")
    corrupt[1].write_bytes(corrupt[1].read_bytes()[:300])
    paths = sorted(folder.rglob("*.mp4"))
    lines = [f"{path.relative_to(folder)} {path.parent.name}" for path in paths]
    annotation = tmp_path / "train.txt"
    annotation.write_text("\n".join([*lines, "left/gone.mp4 left"]) + "\n")
    bad = [*corrupt, folder / "left" / "gone.mp4"]
    arguments = ["train", write_tiny(tmp_path), f"data={annotation}", f"data.root={folder}"]
    code, out, err = run(*arguments, "--out", tmp_path / "first", "--device", "cpu")
    assert code == 1, err
    for path in bad:
        named = [line for line in err.splitlines() if str(path) in line]
        assert len(named) == 1 and named[0].startswith("error: "), path
    assert "warning: 1 class has a single training clip: singleton" in err
    assert "3 clips could not be read" in err and "model:" in out
    result = json.loads((tmp_path / "first" / "result.json").read_text())
    assert {clip["path"] for clip in result["unusable_clips"]} == set(map(str, bad))
    assert result["num_replaced"] == 6 and result["train_clips"] == 20  # 3 clips in 2 epochs
    losses = losses_of(tmp_path / "first")
    assert len(losses) == 6 and all(np.isfinite(losses))
    code, _, err = run(*arguments, "--out", tmp_path / "second", "--device", "cpu")
    assert code == 0 and "Left out: 3 clips in the quarantine list" in err
    result = json.loads((tmp_path / "second" / "result.json").read_text())
    assert result["unusable_clips"] == [] and result["train_clips"] == 17


def test_a_resumed_run_keeps_its_clips_although_the_quarantine_list_has_grown(tmp_path):
    folder = make_folder(tmp_path / "clips", 6, TWO)
    (folder / "left" / "clip00.mp4").write_bytes(b"not a video")
    whole, _ = train_here(tmp_path, TINY, f"data={folder}", "schedule.epochs=3")
    (tmp_path / "out").rename(tmp_path / "whole")
    assert [Path(p).name for p, _ in whole.failures] == ["clip00.mp4"]
    (folder / "quarantine.jsonl").unlink()
    train_here(tmp_path, TINY, f"data={folder}", "schedule.epochs=3")
    for path in sorted((tmp_path / "out" / "checkpoints").glob("step_*.pt"))[1:]:
        path.unlink()  # as if it had been killed in the last epoch
    resumed, _ = train_here(tmp_path, TINY, f"data={folder}", "schedule.epochs=3", resume=True)
    assert resumed.num_replaced == whole.num_replaced > 0
    assert losses_of(tmp_path / "out") == losses_of(tmp_path / "whole")


@pytest.mark.parametrize("workers", [0, 1])
def test_only_unreadable_clips_is_an_error(tmp_path, workers):
    for kind in TWO:
        (tmp_path / "clips" / kind).mkdir(parents=True)
        (tmp_path / "clips" / kind / "bad.mp4").write_text("not a video")
    with pytest.raises(DataError, match="clips in a row cannot be read"):
        train_here(tmp_path, TINY, f"data={tmp_path / 'clips'}", f"run.workers={workers}")


def test_wrong_labels_shared_clips_and_empty_lists_are_rejected(tmp_path, clips):
    first, second = (sorted((clips / kind).iterdir())[0] for kind in TWO)
    lines = [f"{first} 0", f"{second} 1"]
    (tmp_path / "train.txt").write_text("\n".join([*lines, f"{second} 7"]) + "\n")
    with pytest.raises(DataError, match=r"not in the label map: .*label is 7"):
        train_here(tmp_path, TINY, f"data={tmp_path / 'train.txt'}", "data.num_classes=2")
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "val.txt").write_text(lines[1] + "\n")
    with pytest.raises(DataError, match="remove them from one of the splits"):
        train_here(
            tmp_path, TINY, f"data={tmp_path / 'train.txt'}", f"data.val={tmp_path / 'val.txt'}"
        )
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="contains no clips"):
        train_here(tmp_path, TINY, f"data={tmp_path / 'empty.txt'}")
    (tmp_path / "one" / "left").mkdir(parents=True)
    shutil.copy(second, tmp_path / "one" / "left")
    with pytest.raises(DataError, match="have the same class"):
        train_here(tmp_path, TINY, f"data={tmp_path / 'one'}")


def test_a_validation_fraction_that_gives_no_clip_is_warned_about(tmp_path, clips):
    result, messages = train_here(tmp_path, TINY, f"data={clips}", "data.val_fraction=0.05")
    expected = "warning: data.val_fraction=0.05 of 10 clips gives no validation clip"
    assert sum(line.startswith(expected) for line in messages) == 1
    assert result.val_metric is None
    written = json.loads((tmp_path / "out" / "result.json").read_text())
    assert written["val_top1"] is None and len(written["warnings"]) == 1


# --- settings -------------------------------------------------------------------------------------


def test_a_linear_probe_does_not_change_the_backbone(tmp_path, clips):
    train_here(tmp_path, TINY, f"data={clips}")
    (tmp_path / "out").rename(tmp_path / "start")
    text = TINY.replace("drop_path_rate: 0.0", "drop_path_rate: 0.5\n  train: head")
    before = VideoSwinTransformer.from_pretrained(tmp_path / "start" / "model")
    probe, messages = train_here(
        tmp_path, text, f"data={clips}", f"init_from={tmp_path / 'start' / 'model'}"
    )
    assert any("classifier is kept" in line for line in messages)
    after = VideoSwinTransformer.from_pretrained(probe.model)
    for old, new in zip(before.backbone.parameters(), after.backbone.parameters(), strict=True):
        assert torch.equal(old, new)
    key = "cls_head.fc_cls.weight"
    assert not torch.equal(before.state_dict()[key], after.state_dict()[key])
    loss = losses_of(tmp_path / "out")
    assert len(set(loss)) == len(loss)


def test_frozen_stages_do_not_change_and_the_others_do(tmp_path, clips):
    text = TINY.replace("drop_path_rate: 0.0", "drop_path_rate: 0.0\n  frozen_stages: 1")
    result, _ = train_here(tmp_path, text, f"data={clips}")
    recipe = load_recipe(tmp_path / "tiny.yaml", [f"data={clips}"])
    first = build_setup(recipe, 2, TWO).model.backbone
    last = VideoSwinTransformer.from_pretrained(result.model).backbone
    assert torch.equal(first.patch_embed.proj.weight, last.patch_embed.proj.weight)
    assert torch.equal(first.layers[0].blocks[0].mlp.fc1.weight, last.layers[0].blocks[0].mlp.fc1.weight)  # fmt: skip  # noqa: E501
    assert not torch.equal(first.layers[1].blocks[0].mlp.fc1.weight, last.layers[1].blocks[0].mlp.fc1.weight)  # fmt: skip  # noqa: E501


def test_the_moving_average_by_hand(tmp_path, clips):
    """The decay 0.1 is below its warm-up from the first step on."""
    settings = [f"data={clips}", "batch_size=10", "micro_batch_size=10", "ema_decay=0.1"]
    averaged, _ = train_here(tmp_path, TINY, *settings, "schedule.epochs=2")
    name = "cls_head.fc_cls.weight"
    steps = [
        torch.load(path, weights_only=True)
        for path in sorted((tmp_path / "out" / "checkpoints").glob("step_*.pt"))
    ]
    recipe = load_recipe(tmp_path / "tiny.yaml", settings)
    mean = build_setup(recipe, 2, TWO).model.state_dict()[name]
    for state in steps:
        mean = 0.1 * mean + 0.9 * state["model"][name]
        assert torch.allclose(state["ema"][f"module.{name}"], mean, atol=1e-7)
    finished = VideoSwinTransformer.from_pretrained(averaged.model).state_dict()[name]
    assert torch.equal(finished, steps[-1]["ema"][f"module.{name}"])


def test_bf16_with_mixing_and_gradient_clipping_gives_finite_losses(tmp_path, clips):
    text = TINY + "augment: {mixup: 0.2, cutmix: 1.0, flip: 0.0}\n"
    result, _ = train_here(
        tmp_path, text, f"data={clips}", "run.precision=bf16", "optimizer.grad_clip_norm=1.0",
        "data.class_balanced=true", "loss.label_smoothing=0.1", "optimizer.layer_decay=0.8",
    )  # fmt: skip
    rows = rows_of(tmp_path / "out" / "steps.csv")
    assert all(0 < float(row["loss"]) < 2 and row["accuracy"] == "nan" for row in rows)
    from safetensors.torch import load_file

    stored = load_file(result.model / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}


def test_splits_of_a_folder_and_the_final_test_agree_with_evaluate(tmp_path):
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        make_folder(tmp_path / "clips" / part, count, TWO)
    (tmp_path / "clips" / "test" / "left" / "clip00.mp4").write_text("not a video")
    result, messages = train_here(tmp_path, TINY, f"data={tmp_path / 'clips'}")
    assert result.test is not None and result.val_metric is not None
    assert result.test.num_clips == 5 and [Path(p).name for p, _ in result.failures] == ["clip00.mp4"]  # fmt: skip  # noqa: E501
    written = json.loads((tmp_path / "out" / "result.json").read_text())["test"]
    assert written["clips"] == 5 and written["top1"] == result.test.num_correct / 5
    assert sum("clip00.mp4" in line for line in messages) == 1
    # The same accuracy as `videoswin evaluate` finds for the finished model.
    code = cli.run(
        ["evaluate", str(tmp_path / "clips" / "test"), "--model", str(result.model), "--runtime",
         "torch", "--device", "cpu", "--out", str(tmp_path / "evaluation")]
    )  # fmt: skip
    assert code == 1  # of the unreadable clip
    figures = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert figures["metrics"]["top1"]["value"] == pytest.approx(written["top1"])


# --- control experiments without temporal order ---------------------------------------------------


@dataclass(frozen=True)
class Rising:
    """Noise that gets brighter (class 0), or the same frames backwards (class 1).

    Only the order of the frames tells the classes apart. other_seed: replaces all frames but the
    middle one, which is at index 2 of 4.
    """

    classes: tuple[str, ...] = ("forward", "backward")
    clips_per_epoch: int = 24
    other_seed: int | None = None

    def make(self, label: int, number: int) -> np.ndarray:
        texture = np.random.default_rng(number).integers(60, 180, (32, 32, 3))
        frames = np.stack([texture + offset for offset in (-24, -8, 8, 24)])
        frames = (frames if label == 0 else frames[::-1]).astype(np.uint8)
        if self.other_seed is not None:
            other = np.random.default_rng((self.other_seed, number))
            frames[[0, 1, 3]] = other.integers(0, 256, (3, 32, 32, 3), np.uint8)
        return frames


def train_rising(folder: Path, frame_order: str, source: Rising) -> list[float]:
    folder.mkdir()
    train_here(
        folder, TINY, "schedule.epochs=8", "clip.train_short_side=32", "augment.scale=[1,1]",
        "augment.ratio=[1,1]", "augment.flip=0", f"data.frame_order={frame_order}", clips=source,
    )  # fmt: skip
    return losses_of(folder / "out")


def test_single_frame_training_depends_on_the_middle_frame_only(tmp_path):
    first = train_rising(tmp_path / "first", "single_frame", Rising(other_seed=1))
    second = train_rising(tmp_path / "second", "single_frame", Rising(other_seed=2))
    assert first == second
    # With all frames, the others matter.
    third = train_rising(tmp_path / "third", "natural", Rising(other_seed=1))
    fourth = train_rising(tmp_path / "fourth", "natural", Rising(other_seed=2))
    assert third != fourth


def test_shuffled_training_cannot_learn_what_only_the_order_of_frames_shows(tmp_path):
    natural = train_rising(tmp_path / "natural", "natural", Rising())
    shuffled = train_rising(tmp_path / "shuffled", "shuffled", Rising())
    assert np.mean(natural[-6:]) < 0.3
    assert np.mean(shuffled[-6:]) > 0.6  # log 2 is 0.69
    written = json.loads((tmp_path / "shuffled" / "out" / "result.json").read_text())
    assert written["frame_order"] == "shuffled"


def test_single_frame_validation_depends_on_the_middle_frame_only(tmp_path, clips):
    """On frame folders, whose pixels no codec changes."""
    start, _ = train_here(tmp_path, TINY, f"data={clips}", "schedule.epochs=1")
    model = VideoSwinTransformer.from_pretrained(start.model)
    losses = {}
    for other_seed in (1, 2):
        folder = tmp_path / f"val{other_seed}"
        for label in (0, 1):
            write_frames(folder / f"clip{label}", Rising(other_seed=other_seed).make(label, 7))
        (folder / "list.txt").write_text("clip0 4 0\nclip1 4 1\n")
        annotations = read_annotations(folder / "list.txt", root=folder, format="frames")
        for frame_order in ("single_frame", "natural"):
            found = validate(
                model,
                annotations,
                ClipSampling(num_frames=4, stride=1, num_clips=1),
                model.bundle.preprocessing,
                frame_order,
                range(2),
                1,
                torch.device("cpu"),
                contextlib.nullcontext(),
            )
            assert found.num_clips == 2, found.failures
            losses[frame_order, other_seed] = found.loss_sum
    assert losses["single_frame", 1] == losses["single_frame", 2]
    assert losses["natural", 1] != losses["natural", 2]


def write_frames(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        assert cv2.imwrite(str(folder / f"img_{number:05d}.png"), frame)


# --- the order of an epoch, and micro batches -----------------------------------------------------


def test_an_epoch_has_each_clip_once_or_each_class_equally_often():
    labels = (0,) * 90 + (1,) * 10
    order = EpochOrder(labels, 8, 0, class_balanced=False)
    assert order.steps_per_epoch == 13
    assert [order.num_clips_in(step) for step in (0, 12, 13, 25)] == [8, 4, 8, 4]
    first, second = order.epoch(0), order.epoch(1)
    assert sorted(first) == sorted(second) == list(range(100)) and list(first) != list(second)
    assert list(order.epoch(1)) == list(second)
    balanced = EpochOrder(labels, 8, 0, class_balanced=True)
    fraction = np.mean([np.mean(balanced.epoch(e) >= 90) for e in range(40)])
    assert abs(fraction - 0.5) < 0.05


@pytest.mark.parametrize("num_clips", [1, 2, 7, 8])
@pytest.mark.parametrize(("world", "micro"), [(1, 3), (2, 4), (3, 1), (5, 2)])
def test_micro_batches_cover_a_step_and_are_equally_many_in_all_processes(num_clips, world, micro):
    shards = [BatchShards(rank, world, micro).micro_batches(num_clips) for rank in range(world)]
    assert len({len(batches) for batches in shards}) == 1
    counted = [at for batches in shards for one in batches for at, weight in one if weight]
    assert sorted(counted) == list(range(num_clips))
    assert all(one and len(one) <= micro for batches in shards for one in batches)


# --- the dry run ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dry_run_measures_a_step_and_writes_nothing(tmp_path, clips, run):
    before = set(tmp_path.iterdir())
    recipe = write_tiny(tmp_path)
    code, out, err = run("train", recipe, f"data={clips}", "micro_batch_size=null", "--dry-run", "--device", "cpu")  # fmt: skip  # noqa: E501
    assert code == 0 and set(tmp_path.iterdir()) - before == {recipe}
    assert "suggested: micro_batch_size=" in out and "an epoch of 10 clips" in out
    assert "measuring 1 clips" in err and "workers read" in out
    profile = profile_training(load_recipe(recipe, [f"data={clips}"]), "cpu")
    assert profile.suggested in profile.measured
    assert {m.grad_checkpointing for m in profile.measured} == {True, False}
    assert all(m.seconds > 0 and m.peak_bytes > 2**20 for m in profile.measured)
    assert profile.bytes_per_clip > 4 * 3 * 4 * 32 * 32 and profile.num_clips == 10
    code, out, _ = run("train", recipe, "--dry-run", "--device", "cpu")
    assert code == 0 and "give data=FOLDER" in out


def test_resume_starts_over_a_run_that_has_no_checkpoint_yet(tmp_path):
    folder = make_folder(tmp_path / "clips", 2)
    for name in "abc":
        (tmp_path / name).mkdir()
    train_here(tmp_path / "a", TINY, f"data={folder}")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        train_here(tmp_path / "b", TINY, f"data={folder}", resume=True)
    train_here(tmp_path / "c", TINY, f"data={folder}")
    for path in (tmp_path / "c").rglob("step_*.pt"):
        path.unlink()  # as if it had been killed before
    _, messages = train_here(tmp_path / "c", TINY, f"data={folder}", resume=True)
    assert any("starts over" in message for message in messages)
    assert losses_of(tmp_path / "c" / "out") == losses_of(tmp_path / "a" / "out")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc")
@pytest.mark.parametrize("moment", ["worker starts", "first step"])
def test_data_loading_workers_end_when_the_trainer_is_killed(moment, tmp_path):
    folder = make_folder(tmp_path / "clips", 2)
    recipe = write_tiny(tmp_path)
    arguments = command(recipe, f"data={folder}", "schedule.epochs=500", "run.workers=1")
    process = subprocess.Popen(
        [*arguments, "--out", str(tmp_path / "out")],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    log = tmp_path / "out" / "steps.csv"
    children: list[int] = []
    try:
        while process.poll() is None and not children:
            text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            has_step = log.exists() and log.read_text().count("\n") > 1
            if has_step or moment == "worker starts":
                children = [int(number) for number in text.split()]
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert children
    end = time.monotonic() + 30
    while (left := [n for n in children if _is_running(n)]) and time.monotonic() < end:
        time.sleep(0.2)
    assert not left


def _is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except OSError:
        return False
