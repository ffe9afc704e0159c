"""Recipes: the published settings, learning rates and parameter groups, and what is rejected."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from tests.training import TINY, write_tiny
from video_swin_transformer.config import ModelConfig
from video_swin_transformer.errors import CheckpointError, ConfigError, UnknownNameError
from video_swin_transformer.model import VideoSwinTransformer
from video_swin_transformer.registry import find_card
from video_swin_transformer.training import find_recipe, load_recipe, shipped_recipes
from video_swin_transformer.training.config import OptimizerConfig, ScheduleConfig
from video_swin_transformer.training.optim import layer_depth, learning_rate, parameter_groups
from video_swin_transformer.training.setup import build_setup

# name: architecture, start, classes, drop path, weight decay, head rate, epochs, groups, views
PUBLISHED = {
    "swin-t-k400": ("swin_tiny_patch244_window877", "swin_tiny_patch4_window7_224",
                    400, 0.1, 0.02, 1e-3, 30, "official", (4, 3)),
    "swin-s-k400": ("swin_small_patch244_window877", "swin_small_patch4_window7_224",
                    400, 0.1, 0.02, 1e-3, 30, "official", (4, 3)),
    "swin-b-k400-1k": ("swin_base_patch244_window877", "swin_base_patch4_window7_224",
                    400, 0.3, 0.05, 1e-3, 30, "official", (4, 3)),
    "swin-b-k400-22k": ("swin_base_patch244_window877", "swin_base_patch4_window7_224_22k",
                    400, 0.2, 0.05, 3e-4, 30, "official", (4, 3)),
    "swin-b-k600": ("swin_base_patch244_window877", "swin_base_patch4_window7_224_22k",
                    600, 0.2, 0.05, 3e-4, 30, "official", (4, 3)),
    "swin-b-ssv2": ("swin_base_patch244_window1677",
                    "swin_base_patch244_window1677_kinetics400_22k",
                    174, 0.4, 0.05, 3e-4, 60, "official", (1, 3)),
    "swin-l-k400": ("swin_large_patch244_window877", "swin_large_patch4_window7_224_22k",
                    400, 0.4, 0.05, 1e-3, 30, "mmaction2", (4, 3)),
    "swin-l-384-k400": ("swin_large_patch244_window81212", "swin_large_patch4_window12_384_22k",
                    400, 0.4, 0.05, 3e-4, 30, "official", (10, 5)),
    "swin-l-384-k600": ("swin_large_patch244_window81212", "swin_large_patch4_window12_384_22k",
                    600, 0.4, 0.05, 3e-4, 30, "official", (10, 5)),
}  # fmt: skip
OURS = {"camera-motion", "finetune", "linear-probe", "ucf6"}


def shipped(name: str, *overrides: str):
    return load_recipe(name, overrides)


def test_every_shipped_recipe_is_listed_here_and_states_its_source():
    assert set(shipped_recipes()) == set(PUBLISHED) | OURS
    for name in shipped_recipes():
        head = find_recipe(name).read_text()
        for word in ("# Data ", "# Cost ", "# Accuracy ", "# Source "):
            assert word in head, (name, word)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes_have_the_published_settings(name):
    recipe = shipped(name)
    network, start, classes, path, decay, rate, epochs, groups, views = PUBLISHED[name]
    assert (recipe.model.architecture, recipe.model.init_from) == (network, start)
    assert find_card(start).weights.url is not None and recipe.model.pretrained == "required"
    assert (recipe.data.num_classes, recipe.model.drop_path_rate) == (classes, path)
    assert recipe.model.head_drop_rate == 0.5
    plan = recipe.optimizer
    assert (plan.weight_decay, plan.learning_rate, plan.groups) == (decay, rate, groups)
    assert plan.backbone_multiplier == 0.1 and plan.betas == [0.9, 0.999]
    assert plan.grad_clip_norm is None and plan.layer_decay is None and recipe.ema_decay is None
    assert recipe.batch_size == 64 and recipe.schedule.epochs == epochs
    assert (recipe.schedule.warmup_epochs, recipe.schedule.warmup_factor) == (2.5, 0.1)
    assert (recipe.clip.num_frames, recipe.clip.stride) == (32, 2)
    assert (recipe.clip.test_clips, recipe.clip.test_crops) == views
    size = (384, 438) if "384" in name else (224, 256)
    assert (recipe.clip.crop_size, recipe.clip.train_short_side) == size
    assert recipe.augment.scale == [0.08, 1.0] and recipe.augment.ratio == [0.75, 4 / 3]
    assert recipe.augment.mixup == recipe.augment.cutmix == 0
    special = (0.0, 4, 7, 0.25) if name == "swin-b-ssv2" else (0.5, 0, 7, 0.0)
    a = recipe.augment
    assert (a.flip, a.randaugment_ops, a.randaugment_magnitude, a.erase) == special
    assert recipe.loss.label_smoothing == (0.1 if name == "swin-b-ssv2" else 0.0)
    assert recipe.clip.rule == {"swin-b-ssv2": "uniform", "swin-l-k400": "mmaction2"}.get(
        name, "official"
    )


# --- learning rate --------------------------------------------------------------------------------

# Reference: base 1e-3, 30 epochs, warm-up of 2.5 epochs from 0.1; time in epochs -> learning rate.
RATES = [(0.0, 1.0e-4), (0.5, 2.80e-4), (1.0, 4.587e-4), (2.0, 8.110e-4), (2.5, 9.891e-4), (29.0, 2.739e-6), (29.9, 2.739e-6)]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(("epochs", "rate"), RATES)
@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "swin-b-ssv2"])
def test_learning_rates_match_the_reference(name, epochs, rate):
    recipe = shipped(name)
    steps_per_epoch = 3750  # 240 thousand clips, 64 a step
    base = recipe.optimizer.learning_rate
    found = learning_rate(round(epochs * steps_per_epoch), steps_per_epoch, base, recipe.schedule)
    assert found == pytest.approx(rate * base / 1e-3, rel=1e-3)


def test_learning_rates_of_something_something():
    recipe = shipped("swin-b-ssv2")
    # lr/2 (1 + cos(pi e / 60)) of 3e-4 by hand: e = 30 halves it, e = 59 leaves 2.056e-7
    for epoch, rate in ((0, 3e-5), (30, 1.5e-4), (59, 2.056e-7)):
        assert learning_rate(epoch * 100, 100, 3e-4, recipe.schedule) == pytest.approx(rate, 1e-3)


def test_the_cosine_changes_per_epoch_or_per_step():
    by_epoch = ScheduleConfig(epochs=10, warmup_epochs=0.0)
    by_step = ScheduleConfig(epochs=10, warmup_epochs=0.0, cosine="step")
    assert {learning_rate(s, 7, 1.0, by_epoch) for s in range(7)} == {1.0}
    assert learning_rate(35, 7, 1.0, by_epoch) == pytest.approx(0.5)
    rates = [learning_rate(s, 7, 1.0, by_step) for s in range(70)]
    assert rates == sorted(rates, reverse=True) and rates[35] == pytest.approx(0.5)


# --- parameter groups -----------------------------------------------------------------------------

TABLE = "backbone.layers.0.blocks.1.attn.relative_position_bias_table"
NORMS = [
    "backbone.patch_embed.norm.weight", "backbone.layers.0.blocks.0.norm1.bias",
    "backbone.layers.0.downsample.norm.weight", "backbone.norm.weight",
]  # fmt: skip
OTHERS = [
    "backbone.patch_embed.proj.weight", "backbone.layers.1.blocks.0.attn.qkv.bias",
    "backbone.layers.0.blocks.0.mlp.fc1.weight", "backbone.layers.0.downsample.reduction.weight",
]  # fmt: skip
HEAD = ["cls_head.fc_cls.weight", "cls_head.fc_cls.bias"]
# (rate of the group, decay) for base rate 1e-3 and decay 0.02: the reference's table in numbers
GROUPS = {
    "official": {TABLE: (1e-3, 0.0), "norms": (1e-4, 0.02),
                 "others": (1e-4, 0.02), "head": (1e-3, 0.02)},
    "mmaction2": {TABLE: (1e-4, 0.0), "norms": (1e-4, 0.0),
                 "others": (1e-4, 0.02), "head": (1e-3, 0.02)},
}  # fmt: skip


def small_model() -> VideoSwinTransformer:
    config = ModelConfig(
        embed_dim=16, depths=(2, 1), num_heads=(2, 2), window_size=(2, 4, 4), num_classes=3
    )
    return VideoSwinTransformer(config)


def rate_and_decay(plan: OptimizerConfig) -> dict[str, tuple[float, float]]:
    model = small_model()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in parameter_groups(model, model.config.depths, plan)
        for parameter in group["params"]
    }
    assert set(found) == set(names.values())
    return found


@pytest.mark.parametrize("preset", GROUPS)
def test_parameter_groups_match_the_reference(preset):
    found = rate_and_decay(OptimizerConfig(groups=preset))
    expected = GROUPS[preset]
    assert found[TABLE] == pytest.approx(expected[TABLE])
    for kind, names in (("norms", NORMS), ("others", OTHERS), ("head", HEAD)):
        for name in names:
            assert found[name] == pytest.approx(expected[kind]), name
    # Every parameter is of one of these kinds.
    kinds = list(expected.values())
    assert all(any(pair == pytest.approx(kind) for kind in kinds) for pair in found.values())


def test_layer_decay_by_depth():
    depths = (2, 1)
    for name, depth in [
        ("backbone.patch_embed.proj.weight", 0),
        ("backbone.layers.0.blocks.0.norm1.weight", 1),
        ("backbone.layers.0.blocks.1.mlp.fc1.bias", 2),
        ("backbone.layers.0.downsample.reduction.weight", 2),
        ("backbone.layers.1.blocks.0.attn.qkv.weight", 3),
        ("backbone.norm.weight", 4),
        ("cls_head.fc_cls.bias", 4),
    ]:
        assert layer_depth(name, depths) == depth, name
    plan = OptimizerConfig(groups="mmaction2", backbone_multiplier=1.0, layer_decay=0.5)
    found = rate_and_decay(plan)
    assert found["cls_head.fc_cls.weight"][0] == pytest.approx(1e-3)
    assert found["backbone.layers.1.blocks.0.attn.qkv.weight"][0] == pytest.approx(5e-4)
    assert found["backbone.patch_embed.proj.weight"][0] == pytest.approx(1e-3 / 16)


# --- recipe files and overrides -------------------------------------------------------------------


def test_find_recipe_takes_a_file_or_the_name_of_a_shipped_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("finetune").read_text().startswith("#")
    for path in ("recipes/finetune.yaml", "finetune.yaml", "mine/finetune"):
        with pytest.raises(ConfigError, match=f"no recipe file '{path}'.*shipped.* finetune"):
            find_recipe(path)
    Path("recipes").mkdir()
    Path("recipes/finetune.yaml").write_text("seed: 5\n")
    assert find_recipe("recipes/finetune.yaml") == Path("recipes/finetune.yaml")
    assert load_recipe("recipes/finetune.yaml").seed == 5
    with pytest.raises(UnknownNameError, match="Did you mean 'finetune'"):
        find_recipe("fintune")


def test_overrides_have_the_type_of_their_key():
    recipe = shipped(
        "finetune", "data=7", "init_from=scratch", "optimizer.learning_rate=1e-3",
        "data.val_fraction=0.5", "model.sizes={embed_dim: 8, depths: [1], num_heads: [1]}",
        "data.labels=null",
    )  # fmt: skip
    assert recipe.data.train == "7"  # a path, whatever it looks like
    assert recipe.model.init_from == "scratch" and recipe.data.labels is None
    assert recipe.optimizer.learning_rate == 1e-3 and recipe.data.val_fraction == 0.5
    assert recipe.model.sizes is not None and recipe.model.sizes.depths == [1]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (
            "optimizer.learning_rate=fast",
            "sets optimizer.learning_rate to 'fast': input should be a",
        ),
        ("schedule.epochs=2.5", "sets schedule.epochs to 2.5: input should be a valid integer"),
        ("schedule.epochs=true", "sets schedule.epochs to True"),
        ("optimizer.learning_rate=-1", "greater than 0"),
        ("augment.scale=[0.5, 0.1]", "fault in augment: scale and ratio are ranges [min, max]"),
        ("schedule", "write key=value"),
        ("data.val_fraction=[", "is not valid YAML"),
    ],
)
def test_wrong_values_are_named(setting, says):
    with pytest.raises(ConfigError) as caught:
        load_recipe("swin-t-k400", [setting])
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("optimizer.learning_rte", "optimizer.learning_rate"),
        ("learning_rate", "optimizer.learning_rate"),
        ("optimizer.lr", "optimizer.learning_rate"),
        ("lr", "optimizer.learning_rate"),
        ("epochs", "schedule.epochs"),
        ("schedule.epoch", "schedule.epochs"),
        ("batch.total", "batch_size"),
        ("batch.clips", "batch_size"),
        ("batch.micro", "micro_batch_size"),
        ("from", "model.init_from"),
        ("model.from", "model.init_from"),
        ("val_fraction", "data.val_fraction"),
        ("optimizer.clip_norm", "optimizer.grad_clip_norm"),
        ("run.checkpointing", "run.grad_checkpointing"),
        ("num_workers", "run.workers"),
    ],
)
def test_an_unknown_key_names_the_right_one(tmp_path, key, right):
    with pytest.raises(ConfigError) as caught:
        load_recipe("swin-t-k400", [f"{key}=1"])
    assert f"There is no recipe key {key!r}. Did you mean {right!r}?" in str(caught.value)
    *sections, name = key.split(".")
    text = "".join(f"{'  ' * depth}{part}:\n" for depth, part in enumerate(sections))
    path = write_tiny(tmp_path, f"{text}{'  ' * len(sections)}{name}: 1\n")
    with pytest.raises(ConfigError, match=re.escape(f"Did you mean {right!r}?")):
        load_recipe(path)


def test_a_key_without_a_near_one_names_the_sections():
    with pytest.raises(ConfigError, match="Known: augment, batch_size, clip, data, ema_decay"):
        load_recipe("finetune", ["xyzzy=1"])


def test_duplicate_keys_and_files_that_are_not_recipes_are_rejected(tmp_path):
    with pytest.raises(ConfigError, match="'seed' twice"):
        load_recipe(write_tiny(tmp_path, "seed: 1\nseed: 2\n"))
    with pytest.raises(ConfigError, match="not a mapping"):
        load_recipe(write_tiny(tmp_path, "- 1\n"))
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_recipe(write_tiny(tmp_path, "!!python/object/apply:os.system ['true']\n"))


# --- initial weights ------------------------------------------------------------------------------


def test_random_weights_instead_of_pretrained_ones_are_refused_or_warned_about(tmp_path):
    recipe = load_recipe(write_tiny(tmp_path, TINY.replace("scratch", "null").replace("optional", "required")))  # fmt: skip  # noqa: E501
    with pytest.raises(ConfigError, match="requires pretrained weights and names none"):
        build_setup(recipe, 3, ())
    explicit = load_recipe(write_tiny(tmp_path, TINY.replace("optional", "required")))
    (warning,) = build_setup(explicit, 3, ()).warnings
    assert "meant for pretrained weights" in warning


def test_weights_that_do_not_fit_are_rejected(tmp_path):
    small_model().save_pretrained(tmp_path / "weights")
    other = load_recipe(
        "finetune",
        [f"init_from={tmp_path / 'weights'}", "model.architecture=swin-nano"],
    )
    with pytest.raises(CheckpointError, match="weights"):
        build_setup(other, 3, ())


def test_the_classifier_is_kept_for_the_same_classes_only():
    recipe = shipped("finetune")
    card = find_card("camera-motion")
    labels = card.bundle.labels
    kept = build_setup(recipe, 10, labels).model
    other = build_setup(recipe, 10, tuple(f"class {n}" for n in range(10))).model
    assert float(kept.cls_head.fc_cls.weight.detach().std()) > 0.02  # learned
    assert float(other.cls_head.fc_cls.weight.detach().std()) == pytest.approx(
        0.01, rel=0.2
    )  # fresh
    fresh_bias = other.cls_head.fc_cls.bias
    assert not fresh_bias.any() and other.bundle.labels[0] == "class 0"
    assert other.bundle.name is None and math.isclose(other.config.drop_path_rate, 0.1)
    for one, two in zip(kept.backbone.parameters(), other.backbone.parameters(), strict=True):
        assert one.equal(two)


def test_frames_and_pixels_are_those_of_the_weights_unless_the_recipe_sets_them(tmp_path):
    start = build_setup(shipped("finetune"), 3, ())
    sampling, pixels = start.model.bundle.sampling, start.model.bundle.preprocessing
    assert (sampling.num_frames, sampling.stride_seconds) == (8, 0.1)
    assert (pixels.crop_size, pixels.interpolation, start.train_short_side) == (112, "area", 128)
    own = build_setup(shipped("finetune", "clip.stride=3", "clip.crop_size=56"), 3, ())
    assert own.model.bundle.sampling.stride_seconds is None
    assert own.model.bundle.sampling.stride == 3
    assert own.model.bundle.preprocessing.short_side == 56 and own.train_short_side == 64
    sizes = "model.sizes={embed_dim: 8, depths: [1], num_heads: [1]}"
    official = build_setup(
        shipped("swin-t-k400", "init_from=scratch", "model.architecture=null", sizes), 400, ()
    )
    assert official.model.bundle.preprocessing.short_side == 224
    assert (
        official.val_preprocessing.short_side == 256 and official.val_preprocessing.num_crops == 1
    )
    assert official.val_sampling.num_clips == 1 and official.train_sampling.num_frames == 32
