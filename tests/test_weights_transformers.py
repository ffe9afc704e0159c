"""Image weights saved by transformers, inflated: a static video gives the image model's output."""

from __future__ import annotations

import pytest
import torch

from video_swin_transformer import CheckpointError, load_checkpoint

transformers = pytest.importorskip("transformers")


def test_a_still_video_equals_the_image(tmp_path):
    torch.manual_seed(0)
    config = transformers.SwinConfig(num_labels=11)  # the tiny network at 224 px
    image_model = transformers.SwinForImageClassification(config).eval()
    for parameter in image_model.parameters():  # fresh bias tables and biases are all zero
        parameter.data.normal_(std=0.05)
    path = tmp_path / "model.safetensors"
    image_model.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()  # the tensors alone must tell
    with pytest.raises(CheckpointError, match="inflate"):
        load_checkpoint(path)
    model, report = load_checkpoint(path, allow={"inflate"})
    assert report.is_complete and model.config.num_classes == 11
    image = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = image_model(image).logits
        still = model(image[:, :, None].expand(-1, -1, 8, -1, -1))
    torch.testing.assert_close(still, expected, rtol=1e-4, atol=1e-4 * expected.std().item())
