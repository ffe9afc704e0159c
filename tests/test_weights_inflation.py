"""Image weights become video weights that say of a still video what the image network says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import swin_t
from torchvision.models.swin_transformer import SwinTransformer

from tests.containers import (
    IMAGE_FORMATS,
    TORCHVISION_IMAGE_TINY,
    image_container,
    random_state,
    save,
)
from video_swin_transformer.config import ModelConfig
from video_swin_transformer.errors import CheckpointError
from video_swin_transformer.weights import load_checkpoint
from video_swin_transformer.weights.inflation import (
    adapt_input_channels,
    inflate_bias_table,
    resize_bias_table,
)

TINY_12 = ModelConfig(window_size=(8, 12, 12), num_classes=1000)


@pytest.fixture(scope="module")
def image_weights():
    return random_state(TORCHVISION_IMAGE_TINY)


@pytest.fixture(scope="module")
def image_network(image_weights):
    network = swin_t()
    network.load_state_dict(image_weights)
    return network.eval()


def still_video(side, num_frames):
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    return image, image[:, :, None].expand(-1, -1, num_frames, -1, -1)


@pytest.mark.parametrize("kind", IMAGE_FORMATS)
def test_a_still_video_gets_what_the_image_network_says(
    kind, image_weights, image_network, tmp_path
):
    path = save(image_container(kind, image_weights), tmp_path / "image.pth")
    model, report = load_checkpoint(path, allow={"inflate"})
    assert report.is_complete and report.architecture == "swin_tiny_patch244_window877"
    assert report.adaptations[0].startswith("inflate: ")
    still, video = still_video(224, 4)
    with torch.inference_mode():
        expected = image_network.norm(image_network.features(still)).permute(0, 3, 1, 2)
        features = model.forward_features(video)
        assert features.shape == (1, 768, 2, 7, 7)
        for step in features.unbind(2):
            torch.testing.assert_close(step, expected, rtol=0, atol=2e-5)
        if kind == "transformers-backbone":
            assert model.num_classes == 0
        else:
            logits = image_network(still)
            torch.testing.assert_close(model.forward_head(features), logits, rtol=0, atol=2e-5)


def test_windows_of_7_become_windows_of_12(image_weights, tmp_path):
    resized = dict(image_weights)
    for name, table in image_weights.items():
        if name.endswith("bias_table"):
            grid = table.t().reshape(1, -1, 13, 13)
            grid = F.interpolate(grid, size=(23, 23), mode="bicubic", align_corners=False)
            resized[name] = grid.reshape(-1, 529).t()
    oracle = SwinTransformer([4, 4], 96, [2, 2, 6, 2], [3, 6, 12, 24], [12, 12])
    index = {n: t for n, t in oracle.state_dict().items() if n.endswith("position_index")}
    oracle.load_state_dict(resized | index)
    path = save(image_container("timm", image_weights), tmp_path / "image.pth")
    model, report = load_checkpoint(path, architecture=TINY_12, allow={"inflate"})
    assert "12 bias tables resized to windows of 12 (bicubic)" in report.conversions
    assert model.bundle.preprocessing.crop_size == 384
    still, video = still_video(384, 2)
    with torch.inference_mode():
        torch.testing.assert_close(model(video), oracle.eval()(still), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", IMAGE_FORMATS)
def test_image_weights_are_not_taken_for_video_weights(kind, tmp_path):
    state = random_state(TORCHVISION_IMAGE_TINY, shrink=8)
    path = save(image_container(kind, state), tmp_path / "image.pth")
    for architecture in (None, "swin-t"):
        with pytest.raises(CheckpointError, match=r'image weights .* allow=\{"inflate"\}'):
            load_checkpoint(path, architecture=architecture)


def test_the_classifier_of_images_is_kept_dropped_or_made_fresh(tmp_path):
    state = random_state(TORCHVISION_IMAGE_TINY, shrink=8)
    path = save(image_container("microsoft", state), tmp_path / "image.pth")
    kept, _ = load_checkpoint(path, allow={"inflate"})
    assert torch.equal(kept.state_dict()["cls_head.fc_cls.weight"], state["head.weight"])
    dropped, report = load_checkpoint(path, num_classes=0, allow={"inflate"})
    assert dropped.num_classes == 0
    assert report.adaptations[1] == "inflate: image classifier dropped"
    with pytest.raises(CheckpointError, match=r'head\.weight .*allow=\{"head"\}'):
        load_checkpoint(path, num_classes=12, allow={"inflate"})
    fresh, report = load_checkpoint(path, num_classes=12, allow={"inflate", "head"})
    assert fresh.cls_head.fc_cls.weight.shape == (12, 96)
    assert "new classifier of 12 classes" in report.adaptations[1]


# --- the functions -----------------------------------------------------------------------------


def test_inflated_tables_are_alike_at_every_time_offset():
    table = torch.randn(169, 3)
    inflated = inflate_bias_table(table, (8, 7, 7))
    assert torch.equal(inflated.view(15, 169, 3), table.expand(15, 169, 3))


def test_a_resized_window_keeps_its_middle_and_its_ends():
    table = torch.randn(2535, 4)
    old = table.view(15, 13, 13, 4)
    new = resize_bias_table(table, (8, 7, 7), (16, 7, 7)).view(31, 13, 13, 4)
    for ours, theirs in ((0, 0), (15, 7), (30, 14)):
        torch.testing.assert_close(new[ours], old[theirs])
    torch.testing.assert_close(new[8], old[3] + (old[4] - old[3]) * (8 * 14 / 30 - 3))
    assert torch.equal(resize_bias_table(table, (8, 7, 7), (8, 7, 7)), table)
    wider = resize_bias_table(table, (8, 7, 7), (8, 12, 12)).view(15, 529, 4)
    torch.testing.assert_close(
        wider[2].repeat(15, 1),
        inflate_bias_table(old[2].flatten(0, 1), (8, 12, 12)),
    )


@pytest.mark.parametrize(("old", "new"), [(3, 1), (3, 6), (1, 3), (4, 1)])
def test_equal_channels_give_what_they_gave(old, new):
    weight = torch.randn(8, old, 2, 4, 4, dtype=torch.float64)
    gray = torch.randn(1, 1, 4, 8, 8, dtype=torch.float64)
    expected = F.conv3d(gray.expand(-1, old, -1, -1, -1), weight)
    got = F.conv3d(gray.expand(-1, new, -1, -1, -1), adapt_input_channels(weight, new))
    torch.testing.assert_close(got, expected)


def test_channels_that_are_no_multiple_are_repeated_in_turn():
    weight = torch.randn(8, 3, 2, 4, 4)
    adapted = adapt_input_channels(weight, 5)
    torch.testing.assert_close(adapted, weight[:, [0, 1, 2, 0, 1]] * 3 / 5)
