"""Files as other projects load them, and the settings with which their times are right.

    actionformer   NAME.npy (T, C), actionformer.yaml, annotations.json
                   row k is at (k * feat_stride + 0.5 * num_frames) / fps seconds
    opentad        NAME.npy (T, C), opentad.py
                   row k is at (k * snippet_stride + offset_frames) / fps seconds
    tencrop        NAME.npy (T, 10, C), as for UCF-Crime
    crop-files     NAME__0.npy, NAME__1.npy, ... (T, C) each, as for XD-Violence

Each video also gets NAME.json, from which `load_features` reads the true times.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError, UnknownNameError
from ..files import read_text_file, write_atomic
from .options import FeatureOptions
from .storage import npy_bytes, write_sidecar
from .table import FeatureTable

LAYOUTS = ("actionformer", "opentad", "tencrop", "crop-files")
_WITH_FORMULA = ("actionformer", "opentad")  # rows must be evenly spaced at a constant rate


@dataclass(frozen=True)
class LayoutSettings:
    """What a consumer must know about the rows of a folder.

    Attributes:
        feat_stride: Frames between rows.
        num_frames: Frames that a row covers, which is window * stride.
        num_channels: Channels of a row.
    """

    feat_stride: int
    num_frames: int
    num_channels: int


def check_layout(layout: str, options: FeatureOptions) -> None:
    """Checks that features with these options can be written in a layout.

    Raises:
        UnknownNameError: There is no such layout.
        ConfigError: The options do not suit it.
    """
    if layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    if options.pooling != "vector":
        raise ConfigError(
            f"pooling is {options.pooling!r}, but the layout {layout} holds one vector per row; "
            "use pooling 'vector'."
        )
    for name in ("hop_seconds", "num_windows", "segments"):
        if layout in _WITH_FORMULA and getattr(options, name) is not None:
            raise ConfigError(
                f"{name} is given, but the layout {layout} needs evenly spaced rows; use "
                "hop_frames."
            )
    if layout in _WITH_FORMULA and not options.average_crops:
        raise ConfigError(
            f"average_crops is False, but the layout {layout} holds one vector per row; average "
            "the crops, or use the layout tencrop or crop-files."
        )
    if layout == "tencrop" and options.num_crops != 10:
        raise ConfigError(
            f"num_crops is {options.num_crops!r}, but must be 10 for the layout tencrop."
        )
    if layout in ("tencrop", "crop-files") and options.average_crops:
        raise ConfigError(
            f"average_crops is True, but the layout {layout} holds the crops apart; pass "
            "average_crops=False."
        )


def layout_settings(layout: str, table: FeatureTable) -> LayoutSettings:
    """Returns what a consumer must know about the rows of one video.

    Raises:
        ConfigError: The formula of the layout would give wrong times.
    """
    (video,) = table.videos
    channels = table.values.shape[-1]
    if layout in _WITH_FORMULA:
        if video.fps is None:
            raise ConfigError(
                f"{video.name!r} has no frame rate, which the layout {layout} needs; pass fps."
            )
        if video.is_variable_rate and table.settings.fps is None:
            raise ConfigError(
                f"{video.name!r} has a variable frame rate, with which the times of the layout "
                f"{layout} would be wrong; pass fps to resample it to a constant rate, such as "
                f"{round(video.fps)}."
            )
    return LayoutSettings(video.hop, video.span, channels)


def write_layout_files(
    layout: str, table: FeatureTable, folder: Path, name: str
) -> tuple[Path, LayoutSettings]:
    """Writes the features of one video.

    Args:
        layout: One of `LAYOUTS`.
        table: The features, with the options that `check_layout` accepts.
        folder: Created if it does not exist.
        name: The video, by which consumers find the files.

    Returns:
        The .json file, which is written last, and what a consumer must know.

    Raises:
        ConfigError: The formula of the layout would give wrong times.
    """
    settings = layout_settings(layout, table)
    values = table.values  # (T, C) or (T, crops, C)
    if layout == "crop-files":
        arrays = {f"{name}__{crop}.npy": values[:, crop] for crop in range(values.shape[1])}
    else:
        arrays = {f"{name}.npy": values}
    path = folder / f"{name}.json"
    (video,) = table.videos
    facts = {
        "name": layout,
        "feat_stride": settings.feat_stride,
        "num_frames": settings.num_frames,
        "fps": video.fps,
    }
    write_sidecar(table, path, {file: npy_bytes(array) for file, array in arrays.items()}, facts)
    return path, settings


def check_layout_config(layout: str, folder: Path) -> None:
    """Checks that the settings of a layout replace only those of an earlier run.

    Args:
        layout: One of `LAYOUTS`.
        folder: The folder of the features.

    Raises:
        DataError: A file of that name exists that this module did not write.
    """
    for name in _CONFIG_FILES[layout]:
        path = folder / name
        if path.exists() and not _is_own_config(path):
            raise DataError(
                f"{str(path)!r} exists and was not written by this command, so it was not "
                f"replaced; the layout {layout!r} writes a file of this name: choose another "
                "folder."
            )


def _is_own_config(path: Path) -> bool:
    try:
        text = read_text_file(path)
        if path.suffix in (".yaml", ".py"):
            return text.startswith(_CONFIG_HEADINGS)
        data = json.loads(text)
        if path.name == "crops.json":
            return set(data) == {"num_channels", "videos"}
        return all(one["annotations"] == [] for one in data["database"].values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def write_layout_config(
    layout: str, folder: Path, tables: Iterable[tuple[str, dict[str, Any]]]
) -> list[Path]:
    """Writes the settings of the consumer beside the features.

    Args:
        layout: One of `LAYOUTS`.
        folder: The folder of the features.
        tables: For each video its name and the content of its .json file.

    Returns:
        The files written.

    Raises:
        ConfigError: Two videos need different settings.
    """
    videos = sorted(tables, key=lambda item: item[0])
    if not videos:
        return []
    name, document = videos[0]
    for other, other_document in videos[1:]:
        for key in ("feat_stride", "num_frames"):
            if layout in _WITH_FORMULA and document["layout"][key] != other_document["layout"][key]:
                raise ConfigError(
                    f"{key} is {document['layout'][key]} for {name!r} and "
                    f"{other_document['layout'][key]} for {other!r}, but {layout} has one value "
                    "for all videos; pass stride and hop_frames, or fps."
                )
    files = _CONFIGS[layout](folder, videos)
    for path, text in files.items():
        write_atomic(path, text.encode())
    return list(files)


_Videos = list[tuple[str, dict[str, Any]]]


def _actionformer(folder: Path, videos: _Videos) -> dict[Path, str]:
    facts = videos[0][1]["layout"]
    fps = videos[0][1]["settings"]["fps"]
    channels = _num_channels(folder, videos)
    config = (
        "# For ActionFormer: row k is at (k * feat_stride + 0.5 * num_frames) / fps seconds.\n"
        "dataset:\n"
        f"  json_file: {json.dumps(str(folder / 'annotations.json'))}\n"
        f"  feat_folder: {json.dumps(str(folder))}\n"
        "  file_prefix: ''\n"
        "  file_ext: .npy\n"
        f"  input_dim: {channels}\n"
        f"  feat_stride: {facts['feat_stride']}\n"
        f"  num_frames: {facts['num_frames']}\n"
        # Without a default, ActionFormer takes the rate of each video from the annotations.
        f"  default_fps: {'null' if fps is None else fps}\n"
    )
    database = {
        name: {
            "subset": "test",
            "duration": document["videos"][0]["duration_seconds"],
            "fps": document["layout"]["fps"],
            "annotations": [],
        }
        for name, document in videos
    }
    annotations = json.dumps({"version": "", "database": database}, indent=1, ensure_ascii=False)
    return {
        folder / "actionformer.yaml": config,
        folder / "annotations.json": annotations + "\n",
    }


def _opentad(folder: Path, videos: _Videos) -> dict[Path, str]:
    facts = videos[0][1]["layout"]
    text = (
        "# For OpenTAD: row k is at (k * feature_stride * sample_stride + offset_frames) / fps "
        "seconds.\n"
        f"data_path = {str(folder)!r}\n"
        f"feature_stride = {facts['feat_stride']}\n"
        "sample_stride = 1\n"
        f"offset_frames = {facts['num_frames'] // 2}\n"
        f"in_channels = {_num_channels(folder, videos)}\n"
    )
    rates = {document["layout"]["fps"] for _, document in videos}
    if len(rates) == 1:
        text += f"fps = {rates.pop()}\n"
    else:
        text += "# The videos differ in frame rate: take `fps` from the annotation file.\n"
    return {folder / "opentad.py": text}


def _crops(folder: Path, videos: _Videos) -> dict[Path, str]:
    facts = {name: document["layout"] for name, document in videos}
    text = json.dumps({"num_channels": _num_channels(folder, videos), "videos": facts}, indent=1)
    return {folder / "crops.json": text + "\n"}


def _num_channels(folder: Path, videos: _Videos) -> int:
    import numpy as np

    first = next(iter(videos[0][1]["files"]))
    return int(np.load(folder / first, mmap_mode="r").shape[-1])


_CONFIG_HEADINGS = ("# For ActionFormer: ", "# For OpenTAD: ")
_CONFIG_FILES = {
    "actionformer": ("actionformer.yaml", "annotations.json"),
    "opentad": ("opentad.py",),
    "tencrop": ("crops.json",),
    "crop-files": ("crops.json",),
}
_CONFIGS = {
    "actionformer": _actionformer,
    "opentad": _opentad,
    "tencrop": _crops,
    "crop-files": _crops,
}
