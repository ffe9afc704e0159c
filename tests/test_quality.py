"""Video quality models: attention, fragments, checkpoints of FAST-VQA and DOVER, scores."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from torch import nn

import video_swin_transformer as vst
from tests.containers import random_state
from tests.oracle import fill_by_name, input_by_shape, reference
from video_swin_transformer import quality
from video_swin_transformer.layers import WindowAttention3D
from video_swin_transformer.quality.attention import (
    FragmentAttention3D,
    FragmentLayer,
    plan_fragments,
)

OUTPUTS = reference("quality_outputs")
KEY_LISTS = {
    "fast-vqa": "fast_vqa",
    "fast-vqa-m": "fast_vqa_m",
    "faster-vqa": "fast_vqa",
    "faster-vqa-ms": "fast_vqa",
    "faster-vqa-mt": "fast_vqa",
    "dover-technical": "dover",
}
SMALL = quality.QualityConfig(
    name="small",
    network=quality.FragmentModelConfig(backbone=vst.ModelConfig(embed_dim=12, num_classes=0)),
    sampling=quality.FragmentSampling(
        grid=(2, 3), fragment_size=32, num_frames=8, num_clips=2, aligned_frames=4
    ),
    score_mean=0.1,
    score_std=0.5,
)


def fill(model: nn.Module) -> None:
    """As `fill_by_name`, with bias tables that matter: twenty times as large."""
    fill_by_name(model)
    for name, parameter in model.named_parameters():
        if name.endswith("bias_table"):
            parameter.data *= 20


# --- attention ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry", OUTPUTS, ids=[f"{e['code']}-{'x'.join(map(str, e['input_shape']))}" for e in OUTPUTS]
)
def test_score_maps_equal_the_recorded_ones(entry):
    config = quality.FragmentModelConfig(
        backbone=vst.ModelConfig(num_classes=0, **entry["backbone"]), **entry["network"]
    )
    model = quality.VideoQualityModel(quality.QualityConfig(network=config)).eval()
    fill(model)
    x = input_by_shape(tuple(entry["input_shape"]))
    with torch.inference_mode():
        out = model.score_map(x)
        assert torch.equal(model(x), out.mean(dim=(1, 2, 3, 4)))
    assert list(out.shape) == entry["output_shape"]
    torch.testing.assert_close(
        out.flatten()[entry["at"]], torch.tensor(entry["values"]), rtol=0, atol=1e-5
    )
    assert out.mean().item() == pytest.approx(entry["mean"], abs=1e-6)


def dense_attention(x, attn, table_window, window, shift, follows_offsets):
    """Attention of every token with every token, from the formula: (D, h, w, C), normed -> same.

    Tokens of other windows get -inf, those on the other side of the wrap -100.
    """
    grid, channels = x.shape[:3], x.shape[3]
    padded = [-(-n // w) * w for n, w in zip(grid, window, strict=True)]
    whole = x.new_zeros(*padded, channels)
    whole[: grid[0], : grid[1], : grid[2]] = x
    origin = torch.tensor(list(itertools.product(*map(range, padded))))  # (P, 3)
    size, side, step = (torch.tensor(list(v)) for v in (padded, window, shift))
    rolled = (origin - step) % size
    wrapped = (rolled + step >= size) & (step > 0)
    inside = rolled % side
    if not follows_offsets:  # the quirk: numbered in the used window, read in the configured one
        number = (inside[:, 0] * window[1] + inside[:, 1]) * window[2] + inside[:, 2]
        inside = torch.from_numpy(np.stack(np.unravel_index(number.numpy(), table_window), axis=1))
    table = torch.tensor(list(table_window))
    offset = inside[:, None] - inside[None] + table - 1
    row = (offset[..., 0] * (2 * table[1] - 1) + offset[..., 1]) * (2 * table[2] - 1)
    row = row + offset[..., 2]
    place = origin[:, 1:] * side[1:] // size[1:]
    distance = (place[:, None] - place[None]).abs().sum(-1)

    qkv = attn.qkv(whole.view(-1, channels)).view(-1, 3, attn.num_heads, channels // attn.num_heads)
    q, k, v = qkv.permute(1, 2, 0, 3)  # (heads, P, C / heads)
    window_of = rolled // side
    same_window = (window_of[:, None] == window_of[None]).all(-1)
    row = row.where(same_window, torch.zeros_like(row))
    bias = attn.relative_position_bias_table[row]  # (P, P, heads)
    if isinstance(attn, quality.FragmentAttention3D):
        near, far = (distance == 0)[..., None], distance[..., None]
        fragment = attn.fragment_position_bias_table[row]
        bias = torch.where(near, fragment, far * bias - (far - 1) * fragment)
    logits = (q @ k.transpose(1, 2)) * attn.scale + bias.permute(2, 0, 1)
    logits = logits - 100.0 * (wrapped[:, None] != wrapped[None]).any(-1)
    weights = logits.masked_fill(~same_window, -torch.inf).softmax(-1)
    out = attn.proj((weights @ v).transpose(0, 1).reshape(-1, channels))
    return out.view(*padded, channels)[: grid[0], : grid[1], : grid[2]]


@pytest.mark.parametrize("fragment_bias", [True, False])
@pytest.mark.parametrize(
    ("grid", "table_window", "window"),
    [
        ((4, 8, 8), (2, 4, 4), None),
        ((3, 7, 10), (2, 4, 4), None),  # padded
        ((4, 3, 8), (2, 4, 4), None),  # clipped in space: the quirk
        ((1, 8, 8), (2, 4, 4), None),  # clipped in time
        ((4, 8, 8), (4, 4, 4), (2, 3, 4)),  # a shift of one whole window in time
        ((6, 5, 8), (8, 5, 4), (2, 3, 1)),  # shifts larger than the window
        ((2, 2, 9), (4, 5, 5), (3, 3, 3)),  # resized, then clipped
    ],
)
def test_attention_equals_the_dense_formula(grid, table_window, window, fragment_bias):
    layer = FragmentLayer(
        8,
        depth=2,
        num_heads=2,
        window_size=table_window,
        mlp_ratio=2.0,
        qkv_bias=True,
        attention=FragmentAttention3D if fragment_bias else WindowAttention3D,
    ).eval()
    fill(layer)
    x = input_by_shape((2, 8, *grid))
    expected = []
    for sample in x.permute(0, 2, 3, 4, 1):
        for block, shifted in zip(layer.blocks, (False, True), strict=True):
            wanted = layer.shift_size if shifted else (0, 0, 0)
            configured = window or table_window
            used = tuple(map(min, configured, grid))
            shift = [s if g > c else 0 for s, g, c in zip(wanted, grid, configured, strict=True)]
            sample = sample + dense_attention(
                block.norm1(sample), block.attn, table_window, used, shift, window is not None
            )
            sample = sample + block.mlp(block.norm2(sample))
        expected.append(sample.permute(3, 0, 1, 2))
    with torch.no_grad():  # the path of inference, and the path with gradients
        out = layer(x, window=window)
    torch.testing.assert_close(out, torch.stack(expected), rtol=0, atol=2e-5)
    torch.testing.assert_close(layer(x, window=window), out, rtol=0, atol=1e-5)


def test_chunks_do_not_change_the_result(monkeypatch):
    model = quality.VideoQualityModel(SMALL).eval()
    fill(model)
    x = input_by_shape((2, 3, 10, 130, 100))
    with torch.no_grad():
        whole = model.score_map(x)
        monkeypatch.setattr(quality.attention, "CPU_CHUNK_TOKENS", 1000)
        torch.testing.assert_close(model.score_map(x), whole, rtol=0, atol=1e-6)


def test_both_tables_learn_and_checkpointing_changes_nothing():
    config = quality.FragmentModelConfig(
        backbone=vst.ModelConfig(
            embed_dim=12,
            depths=(2, 1),
            num_heads=(3, 6),
            num_classes=0,
            head_drop_rate=0.0,
            drop_path_rate=0.0,
        ),
        fragment_biases=(True, False),
        adaptive_window=False,
    )
    model = quality.VideoQualityModel(quality.QualityConfig(network=config)).train()
    assert len(model.no_weight_decay()) == 5
    gradients = []
    for recompute in (False, True):
        model.set_grad_checkpointing(recompute)
        model.zero_grad()
        model(input_by_shape((1, 3, 4, 64, 64))).sum().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient.abs().sum() > 0, name
        torch.testing.assert_close(gradients[1][name], gradient)


def test_the_fragment_of_a_position_is_that_of_nearest_interpolation():
    for count, size in itertools.product((1, 2, 3, 5, 7, 12), range(1, 120)):
        if size < count:
            continue
        plan = quality.attention._fragments((1, size, 1), (1, count, 1), (0, 0, 0))
        cells = torch.arange(count).float()[None, None]
        expected = nn.functional.interpolate(cells, size=size)
        assert plan[:, 0].tolist() == expected.flatten().tolist(), (count, size)


def test_attention_without_a_plan_is_refused():
    attention = quality.FragmentAttention3D(8, (2, 4, 4), 2)
    x = torch.rand(1, 32, 8)
    with pytest.raises(vst.ConfigError, match="must be a FragmentPlan"):
        attention(x)
    plan = plan_fragments((2, 4, 4), (2, 4, 4), None, (0, 0, 0), torch.device("cpu"))
    assert attention(x, plan=plan).shape == x.shape


def test_inputs_that_have_no_window_are_refused():
    model = quality.VideoQualityModel(SMALL)
    for shape, says in [
        ((1, 3, 32, 256, 224), "windows of .* tokens, but the bias tables are for"),
        ((1, 3, 2, 224, 224), "which is empty"),
        ((1, 1, 32, 224, 224), "must be \\(batch, 3 channels"),
    ]:
        with pytest.raises(vst.ConfigError, match=says):
            model(torch.rand(shape))


# --- fragments ----------------------------------------------------------------------------------


def coordinates(num_frames: int, height: int, width: int) -> torch.Tensor:
    """A video whose channels are the frame, row and column of each pixel: (3, T, H, W) float32."""
    axes = torch.meshgrid(*map(torch.arange, (num_frames, height, width)), indexing="ij")
    return torch.stack(axes).float()


def test_fragments_are_where_the_original_puts_them():
    sampling = quality.FragmentSampling(
        grid=(2, 3), fragment_size=8, num_frames=2, aligned_frames=2
    )
    generator = torch.Generator().manual_seed(5)
    out = quality.sample_fragments(coordinates(4, 33, 41), sampling, generator)
    assert out.shape == (3, 4, 16, 24)
    assert out[1:, ::2, ::8, ::8].tolist() == [  # recorded: rows, then columns
        [[[3, 7, 6], [16, 16, 23]], [[6, 5, 6], [17, 20, 22]]],
        [[[1, 16, 29], [2, 17, 28]], [[2, 16, 26], [4, 15, 30]]],
    ]
    whole = coordinates(4, 33, 41)
    for frame, row, column in itertools.product(range(4), range(2), range(3)):
        part = out[:, frame, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
        top, left = int(part[1, 0, 0]), int(part[2, 0, 0])
        assert torch.equal(part, whole[:, frame, top : top + 8, left : left + 8])
        assert row * 16 <= top <= row * 16 + 8 and column * 13 <= left <= column * 13 + 5


def test_small_frames_are_enlarged_as_in_the_original():
    sampling = quality.FragmentSampling(
        grid=(3, 3), fragment_size=8, num_frames=2, aligned_frames=2
    )
    video = (coordinates(2, 20, 50)[1:2] * 4).to(torch.uint8)
    out = quality.sample_fragments(video, sampling, torch.Generator().manual_seed(5))
    assert out.mean().item() == pytest.approx(31.0416660, abs=1e-4)
    assert out[0, 0, ::5, 0].tolist() == [0, 16, 26, 43, 53]


def test_one_frame_and_exact_cells_need_no_alignment_and_no_randomness():
    sampling = quality.FragmentSampling(grid=(2, 2), fragment_size=8)
    video = coordinates(1, 16, 16)
    assert torch.equal(quality.sample_fragments(video, sampling), video)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((3, 32, 224), "must be \\(channels"),
        ((3, 0, 224, 224), "none of them empty"),
        ((3, 32, 31, 224), "224x31 pixels, but must be at least 32x32"),
        ((3, 33, 224, 224), "multiple of aligned_frames"),
    ],
)
def test_videos_without_fragments_are_refused(shape, says):
    with pytest.raises(vst.ConfigError, match=says):
        quality.sample_fragments(torch.zeros(shape), quality.FragmentSampling())


class Largest:
    """A generator that always draws the largest number."""

    def integers(self, high, size):
        return np.full(size, high - 1)


def test_frames_are_taken_from_equal_parts():
    clips = quality.FragmentSampling(num_frames=4, stride=2, num_clips=3, aligned_frames=4)
    first = quality.fragment_frame_indices(60, clips, np.random.default_rng(0))
    assert first.shape == (3, 4)
    last = quality.fragment_frame_indices(60, clips, Largest())  # type: ignore[arg-type]
    assert last.tolist() == [[11, 13, 15, 17], [31, 33, 35, 37], [51, 53, 55, 57]]
    segments = quality.FragmentSampling(
        num_frames=4, stride=2, num_clips=2, num_segments=2, aligned_frames=2
    )
    last = quality.fragment_frame_indices(20, segments, Largest())  # type: ignore[arg-type]
    assert last.tolist() == [[5, 7, 15, 17]] * 2
    # Too short: from the beginning of each part, then around.
    short = quality.fragment_frame_indices(9, clips, Largest())  # type: ignore[arg-type]
    assert short.tolist() == [[0, 2, 4, 6], [3, 5, 7, 0], [6, 8, 1, 3]]
    with pytest.raises(vst.ConfigError, match="0 frames"):
        quality.fragment_frame_indices(0, clips, np.random.default_rng(0))


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        (quality.FragmentModelConfig, {"backbone": vst.ModelConfig()}, "num_classes is 400"),
        (
            quality.FragmentModelConfig,
            {"backbone": vst.ModelConfig(num_classes=0, patch_stride=(1, 4, 4))},
            "patch_stride",
        ),
        (quality.FragmentModelConfig, {"window_sizes": ((4, 4, 4),)}, "4 sizes, one for each"),
        (quality.FragmentModelConfig, {"window_sizes": ((4, 4),) * 4}, "three positive"),
        (quality.FragmentModelConfig, {"fragment_biases": (True,)}, "4 values, one for each"),
        (quality.FragmentModelConfig, {"base_size": (32, 224)}, "base_size"),
        (quality.FragmentModelConfig, {"head_dim": 0}, "head_dim is 0"),
        (quality.FragmentSampling, {"grid": (7,)}, "two positive"),
        (quality.FragmentSampling, {"stride": 0}, "stride is 0"),
        (quality.FragmentSampling, {"num_segments": 5}, "a divisor of num_frames"),
        (quality.QualityConfig, {"score_mean": 1.0}, "both set or None"),
        (quality.QualityConfig, {"score_mean": 1.0, "score_std": 0.0}, "above 0"),
    ],
)
def test_settings_outside_their_range_are_refused(kind, settings, says):
    with pytest.raises(vst.ConfigError, match=says):
        kind(**settings)


def test_published_models_take_their_own_fragments():
    for name, config in quality.QUALITY_MODELS.items():
        assert config.name == name
        sampling, network = config.sampling, config.network
        for stage in range(4):
            with torch.device("meta"):
                backbone = quality.FragmentSwinTransformer3D(network)
            window = backbone._window(stage, (sampling.num_frames, *sampling.frame_size))
            table = network.window_size(stage)
            assert window is None or all(a <= b for a, b in zip(window, table, strict=True))


# --- checkpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", quality.QUALITY_MODELS)
def test_the_network_has_the_names_and_shapes_of_the_published_file(name):
    with torch.device("meta"):
        model = quality.VideoQualityModel(quality.QUALITY_MODELS[name])
    prefix = re.compile(r"(?:fragments|technical)_backbone\.|(?:vqa|technical)_head\.")
    expected = {}
    for key, shape in reference(KEY_LISTS[name]).items():
        found = prefix.match(key)
        if found and not key.endswith("relative_position_index"):
            part = "backbone." if "backbone" in found[0] else "head."
            expected[part + key[found.end() :]] = shape
    assert {key: list(tensor.shape) for key, tensor in model.state_dict().items()} == expected


@pytest.mark.parametrize(
    ("list_name", "wrap", "rename", "title"),
    [
        ("fast_vqa", True, {}, "FAST-VQA or FasterVQA"),
        ("fast_vqa", True, {"fragments_backbone.": "module.backbone.", "vqa_": "module.vqa_"},
         "FAST-VQA, single branch"),
        ("dover", False, {}, "DOVER, technical branch"),
        ("dover", False, {"technical_": "fragments_", "aesthetic_": "resize_"},
         "DOVER in FAST-VQA, fragments branch"),
    ],
)  # fmt: skip
def test_checkpoints_load_strictly(list_name, wrap, rename, title, tmp_path):
    state = random_state(list_name, shrink=8)
    for before, after in rename.items():
        state = {re.sub(f"^{before}", after, key): tensor for key, tensor in state.items()}
    path = tmp_path / "file.pth"
    results = (np.float64(0.87), np.float64(0.88))  # of the training script of FAST-VQA
    torch.save({"state_dict": state, "validation_results": results} if wrap else state, path)
    model, report = quality.load_quality_model(path, SMALL)
    assert report.is_complete and report.format == title and not model.training
    assert report.matched_tensors == len(model.state_dict()) == 185
    assert "12 derived buffers dropped" in report.conversions
    other = [key for key in state if re.match("aesthetic_|resize_", key)]
    assert list(report.ignored_keys) == other
    assert len(other) == (184 if list_name == "dover" else 0)
    assert [text for text in report.adaptations if "branch is left out" in text] == (
        [f"the {other[0].partition('_')[0]} branch is left out"] if other else []
    )
    for name, tensor in model.state_dict().items():
        part, _, rest = name.partition(".")
        keys = [k for k in state if k.endswith(f"{part}.{rest}") and k not in other]
        assert len(keys) == 1 or part == "head"
        assert any(torch.equal(tensor, state[key]) for key in keys)
    assert model(torch.rand(1, 3, 8, 64, 96)).shape == (1,)


def test_own_weights_load_again(tmp_path):
    model = quality.VideoQualityModel(SMALL).eval()
    torch.save(model.state_dict(), tmp_path / "own.pth")
    again, report = quality.load_quality_model(tmp_path / "own.pth", SMALL)
    assert report.format == "video-swin-transformer quality model" and report.conversions == ()
    x = torch.rand(1, 3, 8, 64, 96)
    assert torch.equal(again(x), model(x))


def test_a_wrong_model_names_the_right_one(tmp_path):
    state = random_state("fast_vqa_m")
    state = {key: t.half() if t.is_floating_point() else t for key, t in state.items()}
    torch.save({"state_dict": state}, tmp_path / "m.pth")
    with pytest.raises(vst.CheckpointError, match="The file matches: fast-vqa-m\\.") as error:
        quality.load_quality_model(tmp_path / "m.pth", "fast-vqa")
    assert "fragments_backbone.layers.0.blocks.0.attn.fragment_position_bias_table" in str(
        error.value
    )
    _, report = quality.load_quality_model(tmp_path / "m.pth", "fast-vqa-m")
    assert "float16 to float32" in report.conversions
    with pytest.raises(vst.UnknownNameError, match="Did you mean 'fast-vqa'"):
        quality.load_quality_model(tmp_path / "m.pth", "fastvqa")


def test_incomplete_and_foreign_files_are_refused(tmp_path):
    state = random_state("fast_vqa", shrink=8)
    del state["vqa_head.fc_last.bias"]
    state["another.weight"] = torch.zeros(1)
    path = tmp_path / "file.pth"
    torch.save(state, path)
    with pytest.raises(vst.CheckpointError) as error:
        quality.load_quality_model(path, SMALL)
    assert "1 missing: vqa_head.fc_last.bias" in str(error.value)
    assert "1 unexpected: another.weight" in str(error.value)
    mobile = {"technical_backbone.downsample_layers.0.0.weight": torch.zeros(4)}
    mobile["technical_head.fc_hid.weight"] = torch.zeros(4)
    torch.save(mobile, path)
    with pytest.raises(vst.CheckpointError, match="not a Swin Transformer"):
        quality.load_quality_model(path, "dover-technical")
    torch.save({"features.0.weight": torch.zeros(4)}, path)
    with pytest.raises(vst.CheckpointError, match="is not a checkpoint of a quality model"):
        quality.load_quality_model(path, "dover-technical")


# --- scores -------------------------------------------------------------------------------------


def test_a_video_gets_the_same_score_for_the_same_seed():
    model = quality.VideoQualityModel(SMALL).eval()
    fill(model)
    clip = "examples/clips/pan_left.mp4"
    result = quality.score_video(model, clip, seed=3)
    assert result.raw == quality.score_video(model, clip, seed=3).raw
    assert result.raw != quality.score_video(model, clip, seed=4).raw
    assert result.frame_indices.shape == (2, 8) and result.clip_scores.shape == (2,)
    assert result.raw == pytest.approx(result.clip_scores.mean(), abs=1e-6)
    assert result.score == pytest.approx(1 / (1 + np.exp(-(result.raw - 0.1) / 0.5)))


def test_fragments_are_normalized_by_the_numbers_of_imagenet():
    colors = torch.tensor([123.675, 116.28 + 57.12, 103.53 - 57.375])
    out = quality.normalize_fragments(colors.view(3, 1, 1, 1).expand(3, 2, 4, 4))
    torch.testing.assert_close(out[:, 1, 2, 3], torch.tensor([0.0, 1.0, -1.0]))


def test_the_score_is_that_of_the_steps_by_hand():
    config = quality.QualityConfig(network=SMALL.network, sampling=SMALL.sampling)
    model = quality.VideoQualityModel(config).eval()
    video = np.random.default_rng(0).integers(0, 256, (40, 90, 120, 3), np.uint8)
    result = quality.score_video(model, video)
    assert result.score is None
    generator = torch.Generator().manual_seed(0)
    for clip, score in zip(result.frame_indices, result.clip_scores, strict=True):
        frames = torch.from_numpy(video[clip]).permute(3, 0, 1, 2)
        fragments = quality.sample_fragments(frames, config.sampling, generator)
        with torch.no_grad():
            expected = model(quality.normalize_fragments(fragments)[None])
        assert score == pytest.approx(expected.item(), abs=1e-6)
