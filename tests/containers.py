"""Makes files as other tools write them: their names, real shapes, random numbers.

The names are taken from `tests/reference` where it has a list of the tool, so that nothing here
depends on the conversion it is meant to test.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.oracle import reference
from video_swin_transformer.windows import relative_position_index

OFFICIAL_TINY = "official_swin_tiny_patch244_window877_kinetics400_1k"
OFFICIAL_BASE_W16 = "official_swin_base_patch244_window1677_sthv2"
TORCHVISION_TINY = "torchvision_swin3d_t"
TIMM_IMAGE_TINY = "timm_image_swin_tiny_patch4_window7_224"
TORCHVISION_IMAGE_TINY = "torchvision_image_swin_t"

State = dict[str, Tensor]


def random_state(list_name: str, seed: int = 0, shrink: int = 1) -> State:
    """The tensors of a recorded key list, random; index buffers as the tools build them.

    shrink: divides channels and classes, for tests that are not about size.
    """
    generator = torch.Generator().manual_seed(seed)
    state: State = OrderedDict()
    for name, shape in reference(list_name).items():
        if shape and shape[-1] == "int64":
            sides = {392: (8, 7, 7), 784: (16, 7, 7), 2401: (1, 7, 7), 64: (4, 4, 4)}
            window = sides[shape[0]]
            index = relative_position_index(window, window[0] * window[1] * window[2])
            state[name] = index.reshape(shape[:-1])
            continue
        if not name.endswith("bias_table"):
            shape = [size // shrink if size >= 96 else size for size in shape]
        noise = torch.randn(shape, generator=generator)
        state[name] = 1 + 0.1 * noise if re.search(r"norm\d?\.weight$", name) else 0.05 * noise
    return state


def official_container(state: State) -> dict[str, Any]:
    """As mmcv's runner saves it: weights, plain meta, an optimizer that was not stripped."""
    weights = OrderedDict(state)
    weights._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    meta = {
        "env_info": "sys.platform: linux",
        "config": "model = dict(type='Recognizer3D')\n" * 40,
        "config_name": "swin_tiny_patch244_window877_kinetics400_1k.py",
        "seed": None,
        "epoch": 30,
        "iter": 225960,
        "mmaction_version": "0.15.0+db018fb",
    }
    optimizer = {"state": {0: {"step": 1, "exp_avg": torch.zeros(3)}}, "param_groups": []}
    return {"meta": meta, "state_dict": weights, "optimizer": optimizer}


def mmaction2_container(official: State) -> dict[str, Any]:
    """As mmaction2 1.x publishes it: the final norm has another name, the meta other keys."""
    state = OrderedDict(
        (re.sub(r"^backbone\.norm\.", "backbone.norm3.", name), tensor)
        for name, tensor in official.items()
    )
    meta = {"cfg": "model = dict()", "epoch": 30, "dataset_meta": {}, "mmengine_version": "0.1.0"}
    return {"meta": meta, "state_dict": state}


def backbone_container(official: State) -> State:
    """The backbone alone, as the single-file copy saves it."""
    start = "backbone."
    return {n.removeprefix(start): t for n, t in official.items() if n.startswith(start)}


def torchvision_from_official(official: State) -> State:
    """The official weights under torchvision's names, in the order of torchvision's list."""
    return OrderedDict(
        (name, official[_official_name(name)]) for name in reference(TORCHVISION_TINY)
    )


def _official_name(torchvision: str) -> str:
    if torchvision.startswith("head."):
        return torchvision.replace("head.", "cls_head.fc_cls.")
    name = re.sub(r"mlp\.0\.", "mlp.fc1.", re.sub(r"mlp\.3\.", "mlp.fc2.", torchvision))
    if match := re.match(r"features\.(\d+)\.(.+)", name):
        stage, odd = divmod(int(match[1]), 2)
        inner = "downsample." if odd else "blocks."
        name = f"layers.{stage}.{inner}{match[2]}"
    return "backbone." + name


def timm_from_torchvision_image(state: State) -> State:
    """torchvision's image weights under the names of current timm."""
    renamed: State = {}
    for name, tensor in state.items():
        if name.endswith("relative_position_index"):
            continue
        name = name.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.3.", ".mlp.fc2.")
        name = name.replace("features.0.0.", "patch_embed.proj.")
        name = name.replace("features.0.2.", "patch_embed.norm.").replace("head.", "head.fc.")
        if match := re.match(r"features\.(\d+)\.(.+)", name):
            number = int(match[1])
            inner = "blocks." if number % 2 else "downsample."
            name = f"layers.{number // 2}.{inner}{match[2]}"
        renamed[name] = tensor
    return renamed


def microsoft_from_timm(timm: State) -> dict[str, Any]:
    """Microsoft's file: merging at the end of a stage, index and mask buffers, `model` around."""
    state: State = {}
    for name, tensor in timm.items():
        moved = re.sub(
            r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name
        )
        state[moved.replace("head.fc.", "head.")] = tensor
        if name.endswith("relative_position_bias_table"):
            block = name.removesuffix("attn.relative_position_bias_table")
            side = (round(tensor.shape[0] ** 0.5) + 1) // 2
            state[f"{block}attn.relative_position_index"] = relative_position_index(
                (1, side, side), side * side
            )
            stage, number = map(int, re.findall(r"\d+", block))
            if number % 2 and stage < 3:
                state[f"{block}attn_mask"] = torch.zeros(4, side * side, side * side)
    return {"model": state}


def transformers_from_timm(timm: State, prefix: str = "swin.") -> State:
    """The names of transformers' SwinForImageClassification (prefix "swin.") or SwinModel ("")."""
    state: State = {}
    for name, tensor in microsoft_from_timm(timm)["model"].items():
        if name.endswith(("relative_position_index", "attn_mask")):
            continue
        if name.startswith("head."):
            if prefix:
                state[name.replace("head.", "classifier.")] = tensor
            continue
        for old, new in (
            ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
            ("patch_embed.norm.", "embeddings.norm."),
            ("layers.", "encoder.layers."),
            (".norm1.", ".layernorm_before."),
            (".norm2.", ".layernorm_after."),
            (".attn.proj.", ".attention.output.dense."),
            (".attn.relative", ".attention.self.relative"),
            (".mlp.fc1.", ".intermediate.dense."),
            (".mlp.fc2.", ".output.dense."),
        ):
            name = name.replace(old, new)
        name = re.sub(r"^norm\.", "layernorm.", name)
        if ".attn.qkv." in name:
            for third, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                changed = name.replace(".attn.qkv.", f".attention.self.{third}.")
                state[prefix + changed] = part.clone()
        else:
            state[prefix + name] = tensor
    return state


def save(content: object, path: Path, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


OFFICIAL_FORMATS = ("official", "mmaction2", "backbone", "torchvision")
IMAGE_FORMATS = ("microsoft", "timm", "torchvision-image", "transformers", "transformers-backbone")


def video_container(kind: str, official: State) -> Any:
    """The official weights as the named tool would save them."""
    return {
        "official": official_container,
        "mmaction2": mmaction2_container,
        "backbone": backbone_container,
        "torchvision": torchvision_from_official,
    }[kind](official)


def image_container(kind: str, torchvision: State) -> Any:
    """torchvision's image weights as the named tool would save them."""
    timm = timm_from_torchvision_image(torchvision)
    return {
        "microsoft": microsoft_from_timm,
        "timm": lambda state: state,
        "torchvision-image": lambda _: torchvision,
        "transformers": transformers_from_timm,
        "transformers-backbone": lambda state: transformers_from_timm(state, ""),
    }[kind](timm)
