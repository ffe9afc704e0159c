"""The peer beside us: torchvision's swin3d, filled with our weights."""

from __future__ import annotations

import re

from torchvision.models.video import SwinTransformer3d

from video_swin_transformer.model import VideoSwinTransformer


def torchvision_name(name: str) -> str:
    """Our parameter name -> torchvision's."""
    if name.startswith("cls_head.fc_cls."):
        return name.replace("cls_head.fc_cls.", "head.")
    name = name.removeprefix("backbone.")
    name = re.sub(r"^layers\.(\d)\.blocks\.", lambda m: f"features.{2 * int(m[1])}.", name)
    name = re.sub(r"^layers\.(\d)\.downsample\.", lambda m: f"features.{2 * int(m[1]) + 1}.", name)
    return name.replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.3.")


def torchvision_twin(model: VideoSwinTransformer) -> SwinTransformer3d:
    """torchvision's network of the same shape with the same weights, in eval mode."""
    c = model.config
    twin = SwinTransformer3d(
        patch_size=list(c.patch_size),
        embed_dim=c.embed_dim,
        depths=list(c.depths),
        num_heads=list(c.num_heads),
        window_size=list(c.window_size),
        num_classes=c.num_classes,
        stochastic_depth_prob=c.drop_path_rate,
    )
    weights = {torchvision_name(name): tensor for name, tensor in model.state_dict().items()}
    missing, unexpected = twin.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith("relative_position_index") for name in missing), missing
    return twin.eval()
