"""Heat maps: attention and rollout against dense matrices, Grad-CAM against Captum, round trips."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.media import audio_only
from tests.samples import CLIP, EXAMPLE_CLIPS, fresh, small_bundle, views_of
from video_swin_transformer import Predictor, VideoSwinTransformer, explain, sampled_views
from video_swin_transformer.config import Preprocessing
from video_swin_transformer.errors import ConfigError, UnknownNameError, VideoDecodeError
from video_swin_transformer.explanation.attention import block_attention, rollout
from video_swin_transformer.explanation.cam import grad_cam
from video_swin_transformer.explanation.clip import Clip, read_clip
from video_swin_transformer.explanation.layers import BlockAddress, token_grid
from video_swin_transformer.explanation.pixels import token_steps, tokens_to_pixels
from video_swin_transformer.preprocess import crop_boxes
from video_swin_transformer.runtimes.torch_runtime import TorchRuntime
from video_swin_transformer.video import VideoReader
from video_swin_transformer.windows import clip_window_to_grid

BLOCKS = [BlockAddress(stage, block) for stage in range(2) for block in range(2)]
METHODS: list[Any] = ["grad-cam", "eigen-cam", "attention", "rollout", "occlusion"]


@pytest.fixture(scope="module")
def model():
    return fresh().eval()


def predictor_of(model: VideoSwinTransformer) -> Predictor:
    return Predictor(TorchRuntime(model, model.bundle, "f32", "cpu"), "small")


@pytest.fixture(scope="module")
def predictor(model):
    return predictor_of(model)


@pytest.fixture
def clip():
    """12 frames of noise, 48 high and 72 wide."""
    return np.random.default_rng(1).integers(0, 256, (12, 48, 72, 3), np.uint8)


def size_of(x: torch.Tensor) -> tuple[int, int, int]:
    return x.shape[2], x.shape[3], x.shape[4]


def dense_attention(model, x, address) -> np.ndarray:
    """(heads, P, P) float64: the attention of all pairs of the padded grid, by the paper's text.

    Tokens attend to each other if they are in one window of the shifted grid and neither wrapped
    around against the other. The token of padded position (d, h, w) is at row d * H * W + ...
    """
    block = address.of(model)
    inputs = []
    handle = block.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.no_grad():
        model.forward_features(x)
    handle.remove()
    grid = token_grid(model.backbone, size_of(x), address.stage)
    window, shift = clip_window_to_grid(grid, block.window_size, block.shift_size)
    padded = [-(-side // length) * length for side, length in zip(grid, window, strict=True)]
    with torch.no_grad():
        normed = block.norm1(inputs[0])[0].view(*grid, -1)
        spread = torch.zeros(*padded, normed.shape[-1])
        spread[: grid[0], : grid[1], : grid[2]] = normed
        qkv = block.attn.qkv(spread.flatten(0, 2)).double()
    heads = block.num_heads
    q, k, _ = qkv.view(len(qkv), 3, heads, -1).permute(1, 2, 0, 3).unbind(0)
    logits = (q * block.attn.scale) @ k.transpose(1, 2)
    # Position in the shifted grid, window, and whether it came around, of each padded token.
    places = np.array(list(itertools.product(*map(range, padded))))
    shifted = (places - np.array(shift)) % padded
    wrapped = shifted >= np.array(padded) - np.array(shift)
    windows, inside = shifted // window, shifted % window
    allowed = (windows[:, None] == windows[None]).all(-1)
    allowed &= (wrapped[:, None] == wrapped[None]).all(-1)
    # The bias table is indexed by the number of the token in its window (see relative_position).
    d, h, w = block.window_size
    number = (inside * [window[1] * window[2], window[2], 1]).sum(1)
    coords = np.stack([number // (h * w), number // w % h, number % w], 1)
    offset = coords[:, None] - coords[None] + [d - 1, h - 1, w - 1]
    rows = (offset * [(2 * h - 1) * (2 * w - 1), 2 * w - 1, 1]).sum(-1)
    rows[~allowed] = 0
    bias = block.attn.relative_position_bias_table.detach().double()[torch.from_numpy(rows)]
    logits = logits + bias.permute(2, 0, 1)
    logits[:, ~torch.from_numpy(allowed)] = -torch.inf
    return logits.softmax(-1).numpy()


def real_tokens(model, x, address) -> np.ndarray:
    """Numbers of the tokens without padding in the padded grid."""
    block = address.of(model)
    grid = token_grid(model.backbone, size_of(x), address.stage)
    window, _ = clip_window_to_grid(grid, block.window_size, block.shift_size)
    padded = [-(-side // length) * length for side, length in zip(grid, window, strict=True)]
    numbers = np.arange(np.prod(padded)).reshape(padded)
    return numbers[: grid[0], : grid[1], : grid[2]].ravel()


@pytest.mark.parametrize("shape", [CLIP, (3, 6, 40, 32)], ids=str)
@pytest.mark.parametrize("address", BLOCKS, ids=str)
def test_attention_equals_that_of_all_pairs_with_the_mask_of_the_paper(model, shape, address):
    x = torch.from_numpy(views_of(shape, 1))
    (attention,) = block_attention(model, x, [address])
    dense, real = dense_attention(model, x, address), real_tokens(model, x, address)
    received, padding_share = attention.received()
    expected = dense[:, real].sum(axis=1)  # of what real tokens and padding pay, real rows only
    # Padding tokens pay as well, but they are nobody: only what real tokens pay counts.
    np.testing.assert_allclose(received.flatten(1).numpy(), expected[:, real], atol=1e-5)
    lost = 1 - dense[:, real][:, :, real].sum(-1).mean()
    assert padding_share == pytest.approx(lost, abs=1e-5)
    token = len(real) // 3
    paid, share = attention.paid_by(token)
    np.testing.assert_allclose(paid.flatten(1).numpy(), dense[:, real[token]][:, real], atol=1e-5)
    assert share == pytest.approx(1 - float(paid.flatten(1).sum(1).mean()), abs=1e-5)


def test_some_of_the_checked_blocks_are_shifted_and_padded(model):
    x = torch.from_numpy(views_of((3, 6, 40, 32), 1))
    address = BLOCKS[1]
    block, grid = address.of(model), token_grid(model.backbone, size_of(x), 0)
    _, shift = clip_window_to_grid(grid, block.window_size, block.shift_size)
    assert any(shift)
    assert block_attention(model, x, [address])[0].received()[1] > 0


def test_rollout_equals_the_product_of_dense_matrices(model):
    x = torch.from_numpy(views_of((3, 6, 40, 32), 1))
    grids = [token_grid(model.backbone, size_of(x), stage) for stage in range(2)]
    relevance = np.full(np.prod(grids[1]), 1 / np.prod(grids[1]))
    for address in reversed(BLOCKS):
        if address == BLOCKS[1]:  # patches were merged after it, in pairs of rows and columns
            merged, spread = relevance.reshape(grids[1]), np.zeros(grids[0])
            for d, row, column in itertools.product(*map(range, grids[1])):
                part = spread[d, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                part += merged[d, row, column] / part.size
            relevance = spread.ravel()
        real = real_tokens(model, x, address)
        weights = dense_attention(model, x, address).mean(axis=0)[np.ix_(real, real)]
        relevance = 0.5 * relevance + 0.5 * relevance @ weights
    np.testing.assert_allclose(rollout(model, x).flatten().numpy(), relevance, atol=1e-6)


@pytest.mark.parametrize("address", BLOCKS, ids=str)
def test_tokens_of_a_block_put_to_slots_and_back_are_where_they_were(model, address):
    x = torch.from_numpy(views_of((3, 6, 40, 32), 1))
    (attention,) = block_attention(model, x, [address])
    found = torch.zeros(attention.num_tokens + 1)
    count = torch.zeros(attention.num_tokens + 1)
    numbers = torch.cat((torch.arange(attention.num_tokens), torch.tensor([-1]))).float()
    for tokens, weights in attention.regions():
        # With an identity matrix for attention, every token gets its own value.
        assert weights.shape[-1] == tokens.shape[1]
        found.index_add_(0, tokens.flatten(), numbers[tokens].flatten())
        count.index_add_(0, tokens.flatten(), torch.ones(tokens.numel()))
    assert (count[:-1] == 1).all(), "each token is in one region"
    assert torch.equal(found[:-1], numbers[:-1])


@pytest.mark.parametrize("stage", [0, 1])
def test_values_of_tokens_put_to_pixels_and_averaged_are_what_they_were(model, stage):
    size = (6, 40, 32)
    grid = token_grid(model.backbone, size, stage)
    steps = token_steps(model.backbone, stage)
    values = torch.rand(grid)
    pixels = tokens_to_pixels(values, size, steps, smooth=False)
    assert pixels.shape == size
    for at in itertools.product(*map(range, grid)):
        box = tuple(slice(i * step, (i + 1) * step) for i, step in zip(at, steps, strict=True))
        np.testing.assert_array_equal(pixels[box], float(values[at]))
    smooth = tokens_to_pixels(values, size, steps, smooth=True)
    assert smooth.mean() == pytest.approx(float(values.mean()), abs=0.05)


@pytest.mark.parametrize("num_crops", [1, 3, 5, 10, "full"])
def test_maps_of_views_put_to_frames_are_where_the_crops_were(num_crops):
    size = (32, 56) if num_crops != 10 else (40, 56)
    preprocessing = Preprocessing(
        short_side=size[0],
        crop_size=32,
        num_crops=1 if num_crops == "full" else num_crops,
        whole_frame=num_crops == "full",
    )
    boxes = crop_boxes(*size, preprocessing)
    ramp = np.arange(2 * size[0] * size[1], dtype=np.float32).reshape(2, *size) / 100
    maps = []
    for box in boxes:
        cut = ramp[:, box.top : box.top + box.height, box.left : box.left + box.width]
        maps.append(cut[..., ::-1] if box.is_mirrored else cut)
    clip = Clip(
        np.arange(2), None, np.zeros((2, *size, 3), np.uint8), size, boxes, np.empty(0, np.float32)
    )
    seen = clip.seen()
    placed = clip.to_frames(np.stack(maps))
    np.testing.assert_allclose(placed[:, seen], ramp[:, seen], rtol=1e-6)
    assert (placed[:, ~seen] == 0).all()
    assert seen.all() == (num_crops != 1)
    for crop, box in enumerate(boxes):
        row, column = box.top + 3, box.left + 5
        at = clip.position_in_view(row, column, crop)
        assert at is not None
        assert maps[crop][0][at] == ramp[0, row, column]
    assert clip.position_in_view(-1, 0, 0) is None


@pytest.mark.parametrize("layer", ["norm1", "norm2"])
@pytest.mark.parametrize("address", BLOCKS, ids=str)
def test_grad_cam_equals_that_of_captum_with_channels_first(model, address, layer):
    captum = pytest.importorskip("captum.attr")

    class Transposed(nn.Module):
        def forward(self, x):
            return x.transpose(1, 2)

    x = torch.from_numpy(views_of(CLIP, 1))
    grid = token_grid(model.backbone, CLIP[1:], address.stage)
    ours = grad_cam(model, x, grid, address, layer, 2)
    other = fresh().eval()
    block = address.of(other)
    first, second = Transposed(), Transposed()
    setattr(block, layer, nn.Sequential(getattr(block, layer), first, second))
    theirs = captum.LayerGradCam(other, first).attribute(x, target=2, relu_attributions=True)
    np.testing.assert_allclose(ours.flatten().numpy(), theirs.detach().flatten().numpy(), atol=1e-6)


def test_occlusion_is_what_the_logit_loses(predictor, clip):
    pytest.importorskip("captum")
    found = explain(
        predictor, clip, method="occlusion", label=1, window=(4, 16, 16), stride=(4, 16, 16)
    )
    views = predictor.views(clip)
    whole = predictor.runtime.run(views).logits[0, 1]
    box = found.views[0].box
    for row, column in itertools.product((0, 16), (0, 16)):
        hidden = views.copy()
        hidden[..., row : row + 16, column : column + 16] = 0
        expected = whole - predictor.runtime.run(hidden).logits[0, 1]
        part = found.maps[:, box.top + row :, box.left + column :][:, :16, :16]
        np.testing.assert_allclose(part, expected, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("views", [(1, 1), (2, 3), (2, "full")], ids=str)
def test_every_method_explains_every_kind_of_view(predictor, clip, method, views):
    steps = []
    chosen = predictor.with_views(*views)
    before = chosen.classify(clip).scores
    found = explain(chosen, clip, method=method, progress=lambda *step: steps.append(step))
    assert found.maps.shape == (len(found.frame_indices), 32, 48)
    assert np.isfinite(found.maps).all() and found.maps.any()
    assert found.seen.all() == (views[1] != 1)
    assert (found.maps[~found.seen] == 0).all()
    assert found.frames.shape == (len(found.maps), 48, 72, 3)
    assert found.maps_in_video().shape == found.frames.shape[:3]
    np.testing.assert_allclose(found.scores, before, atol=1e-6)
    assert found.class_index == before.argmax() and found.label == "abcde"[found.class_index]
    assert found.score == pytest.approx(before.max())
    assert len(found.views) == len(chosen.views(clip))
    assert steps[-1][0] == steps[-1][1]
    assert method in repr(found) and method in found._repr_html_()
    np.testing.assert_array_equal(chosen.classify(clip).scores, before), "the model is unchanged"


def test_maps_of_clips_are_averaged_where_clips_overlap(model, predictor, clip):
    both = explain(predictor.with_views(2, 1), clip)
    dense = predictor_of(model)
    dense.bundle = dataclasses.replace(
        dense.bundle, sampling=dataclasses.replace(dense.bundle.sampling, stride=1)
    )
    total: dict[int, list[np.ndarray]] = {}
    for view in both.views:
        frames = view.frame_indices
        alone = explain(dense, clip[frames], label=both.class_index).maps
        for frame in both.frame_indices:
            if frames[0] <= frame <= frames[-1]:
                place = (frame - frames[0]) / (frames[1] - frames[0])
                before, after = int(np.floor(place)), int(np.ceil(place))
                total.setdefault(int(frame), []).append((alone[before] + alone[after]) / 2)
    assert {len(found) for found in total.values()} == {1, 2}
    for frame, expected in zip(both.frame_indices, both.maps, strict=True):
        np.testing.assert_allclose(np.mean(total[int(frame)], axis=0), expected, atol=1e-6)


def test_a_query_shows_what_its_token_pays(predictor, clip):
    found = explain(
        predictor.with_views(2, "full"), clip, method="attention", stage=0, query=(9, 20, 30)
    )
    assert len(found.frame_indices) == 4, "the clip whose frames come nearest"
    # Tokens of 2 frames and 4 x 4 pixels, each with one value.
    total = found.maps.sum() / (2 * 4 * 4) + (found.padding_share or 0)
    assert total == pytest.approx(1, abs=0.1)
    by_head = explain(predictor, clip, method="attention", stage=0, head=1, query=(9, 20, 30))
    assert by_head.settings["head"] == 1 and "head 1" in by_head.layer


def test_pixels_that_no_view_sees_cannot_be_asked_about(predictor, clip):
    with pytest.raises(ConfigError, match="no view sees this pixel"):
        explain(predictor, clip, method="attention", query=(5, 20, 1))


def test_models_without_a_classifier_have_maps_that_need_no_class(clip):
    bundle = small_bundle()
    bundle = dataclasses.replace(
        bundle, labels=(), model=dataclasses.replace(bundle.model, num_classes=0)
    )
    torch.manual_seed(0)
    predictor = predictor_of(VideoSwinTransformer(bundle).eval())
    found = explain(predictor, clip, method="eigen-cam")
    assert found.class_index is None and found.score is None and found.label == ""
    with pytest.raises(ConfigError, match="no classifier"):
        explain(predictor, clip)


def test_the_maps_change_when_the_weights_are_shuffled(predictor, clip):
    """The sanity check of Adebayo et al. in small; benchmarks/explanations.py has the numbers."""
    other = predictor_of(fresh(1).eval())
    for method in METHODS[:4]:
        ours = explain(predictor, clip, method=method, label=0).maps
        theirs = explain(other, clip, method=method, label=0).maps
        assert not np.allclose(ours, theirs, rtol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "gradcam"}, "Did you mean 'grad-cam'"),
        ({"layer": "norm3"}, "Did you mean"),
        ({"method": "occlusion", "fill": "black"}, "Unknown fill 'black'"),
        ({"label": "z"}, "Unknown label 'z'"),
        ({"label": 5}, "label is 5, but must be a name, or from 0 to 4"),
        ({"stage": 2}, "must name stages from 0 to 1"),
        ({"block": 2}, "block is 2, but must be from -2 to 1"),
        ({"method": "attention", "head": 4}, "head is 4, but must be from 0 to 3"),
        ({"head": 0}, "the method 'grad-cam' does not use it"),
        ({"method": "rollout", "stage": 0}, "the method 'rollout' does not use it"),
        ({"method": "attention", "query": (1, 2)}, "three integers"),
        ({"method": "attention", "query": (99, 2, 2)}, "inside of the video"),
        ({"method": "occlusion", "window": (9, 1, 1)}, "to the view"),
        ({"method": "occlusion", "stride": (1, 9, 1)}, "to leave no gaps"),
        ({"method": "occlusion", "window": (0, 1, 1)}, "three positive integers"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named_with_what_is_allowed(predictor, clip, options, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message.replace("(", r"\(")):
        explain(predictor, clip, **options)


@pytest.mark.parametrize(
    "runtime",
    [
        "openvino",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("onnxruntime", "torch-compile")),
    ],
)
def test_other_runtimes_are_refused_with_a_sentence(runtime, clip):
    predictor = Predictor.load(runtime=runtime)
    for method in METHODS[:4]:
        with pytest.raises(ConfigError, match=f"'{method}' looks into the network.*'occlusion'"):
            explain(predictor, clip, method=method)


def test_occlusion_runs_on_another_runtime():
    pytest.importorskip("captum")
    pytest.importorskip("openvino")
    path = EXAMPLE_CLIPS / "shake.mp4"
    options: dict[str, Any] = {"method": "occlusion", "window": (8, 56, 56), "stride": (8, 56, 56)}
    ours, theirs = (
        explain(Predictor.load(runtime=runtime).with_views(1, 1), path, **options).maps
        for runtime in ("torch", "openvino")
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-2)


def test_saved_files_say_what_the_explanation_says(predictor, clip, tmp_path):
    pytest.importorskip("matplotlib")
    found = explain(predictor.with_views(2, 1), clip)
    for theme in ("light", "dark"):
        files = found.save(tmp_path / theme, "noise", theme=theme)
        assert [f.name for f in files] == [
            "noise.mp4", "noise.png", "noise-curve.png", "noise.json", "noise.npz",
        ]  # fmt: skip
    with VideoReader(files[0]) as video:
        assert video.num_frames == len(found.maps)
        dark = video.frames_at([0])[0]
    with VideoReader(tmp_path / "light" / "noise.mp4") as video:
        light = video.frames_at([0])[0]
    assert light[:6].mean() > 200 and dark[:6].mean() < 60, "the banner has the color of the theme"
    data = json.loads(files[3].read_text())
    assert data["method"] == "grad-cam" and data["class_index"] == found.class_index
    assert [frame["frame"] for frame in data["frames"]] == found.frame_indices.tolist()
    assert data["frames"][0]["mean"] == pytest.approx(float(found.curve[0]), rel=1e-4)
    assert data["frames"][0]["time_seconds"] is None, "an array has no times"
    with np.load(files[4]) as stored:
        np.testing.assert_array_equal(stored["maps"], found.maps)
        assert np.isnan(stored["times_seconds"]).all()
        assert json.loads(str(stored["info"])) == data
    with pytest.raises(UnknownNameError, match="Unknown theme"):
        found.save_sheet(tmp_path / "x.png", theme="blue")


@pytest.mark.parametrize("num_crops", [1, 3, 10, "full"])
def test_sampled_views_are_the_pixels_that_the_network_gets(predictor, clip, num_crops):
    chosen = predictor.with_views(2, num_crops)
    found = sampled_views(chosen, clip)
    views = chosen.views(clip)
    assert len(found.views) == len(views)
    bundle = chosen.bundle
    with VideoReader(clip) as video:
        for record, view in zip(found.views, views, strict=True):
            read = read_clip(video, record.frame_indices, bundle)
            np.testing.assert_array_equal(read.views[record.crop], view)
            assert read.boxes[record.crop] == record.box
            scale = found.video_size[0] / found.resized_size[0]
            assert record.video_box.height == pytest.approx(record.box.height * scale)


def test_sampled_views_of_a_file_have_its_times(predictor, tmp_path):
    pytest.importorskip("matplotlib")
    path = EXAMPLE_CLIPS / "shake.mp4"
    found = sampled_views(predictor.with_views(2, 3), path)
    data = json.loads(found.save_json(tmp_path / "views.json").read_text())
    with VideoReader(path) as video:
        for view in data["views"]:
            times = video.times_seconds[view["frames"]]
            np.testing.assert_allclose(view["times_seconds"], times, atol=1e-6)
    with VideoReader(found.save_sheet(tmp_path / "views.png")) as sheet:
        assert sheet.height > 400 and sheet.width > 400


def test_classifications_and_features_show_themselves_in_notebooks(clip):
    pytest.importorskip("matplotlib")
    from video_swin_transformer import extract_features

    predictor = Predictor.load(runtime="torch").with_views(1, 1)
    path = EXAMPLE_CLIPS / "roll_cw.mp4"
    page = predictor.classify(path)._repr_html_()
    assert page.count("<img") == 6 and "roll_cw" in page and "%" in page
    assert "<img" not in predictor.classify(clip)._repr_html_(), "an array has no frames left"
    (failed,) = predictor.classify_many(["<nothing>.mp4"])
    assert "&lt;nothing&gt;" in failed._repr_html_()
    table = extract_features(predictor, path, hop_frames=8)
    assert "<svg" in table._repr_html_() and "FeatureTable" in table._repr_html_()
    assert "<svg" not in extract_features(predictor, clip)._repr_html_(), "it has no times"


# The command -------------------------------------------------------------------------------------


def test_the_command_writes_all_files_and_says_where(run, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    paths = [EXAMPLE_CLIPS / "shake.mp4", EXAMPLE_CLIPS / "static.mp4"]
    code, printed, errors = run("explain", *paths, "--views", "1x1", "--out", out)
    assert (code, errors) == (0, "")
    assert printed.splitlines()[0].startswith(f"{out / 'shake.mp4'}  shake 9")
    names = {path.name for path in out.iterdir()}
    suffixes = (".mp4", ".png", "-curve.png", ".json", ".npz")
    assert names == {f"{stem}{suffix}" for stem in ("shake", "static") for suffix in suffixes}
    code, printed, _ = run("explain", paths[0], "--sampling", "--json", "--out", out)
    data = json.loads(printed)
    assert code == 0 and data["files"] == [
        str(out / "shake-sampling.png"), str(out / "shake-sampling.json"),
    ]  # fmt: skip


def test_unreadable_videos_are_named_and_the_others_explained(run, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video")
    audio_only(tmp_path / "sound.mp4")
    whole = (EXAMPLE_CLIPS / "shake.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 4])
    bad = [tmp_path / f"{name}.mp4" for name in ("empty", "text", "sound", "cut", "missing")]
    good = EXAMPLE_CLIPS / "shake.mp4"
    code, printed, errors = run(
        "explain", *bad, good, "--views", "1x1", "--out", tmp_path / "out", "--json"
    )
    rows = [json.loads(line) for line in printed.splitlines()]
    assert code == 1 and "5 of 6 inputs failed" in errors
    assert [row["error"] is None for row in rows] == [False] * 5 + [True]
    for path in bad:
        assert path.name in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--query", "1,2"), "three numbers"),
        (("--views", "3x7"), "num_crops is 7"),
        (("--theme", "blue"), "Unknown theme 'blue'"),
        (("--runtime", "openvino"), "load the weights with runtime 'torch'"),
        (("--method", "rollout", "--layer", "norm1"), "does not use it"),
    ],
    ids=str,
)
def test_wrong_options_end_with_a_sentence_and_code_2(run, tmp_path, options, message):
    pytest.importorskip("matplotlib")
    code, printed, errors = run("explain", EXAMPLE_CLIPS / "shake.mp4", "--out", tmp_path, *options)
    assert code == 2 and not printed and message in errors
    assert not list(tmp_path.iterdir())


def test_a_video_that_cannot_be_read_raises(predictor, tmp_path):
    with pytest.raises(VideoDecodeError):
        explain(predictor, tmp_path / "missing.mp4")
