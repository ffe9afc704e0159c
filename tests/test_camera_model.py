"""The camera-motion weights that ship, on clips of the generator with a seed of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from camera_motion.evaluate import held_out_set
from camera_motion.footage import LabeledClips
from camera_motion.labels import LABELS
from camera_motion.metrics import SYMMETRIES, shuffled, single_frames
from camera_motion.model import predict
from camera_motion.video_files import VARIANTS, write_variants
from video_swin_transformer import Predictor
from video_swin_transformer.registry import DEFAULT_MODEL
from video_swin_transformer.weights import load_model

_SEED = 700_000
_CLIPS_A_LABEL = 2  # as files


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return load_model(DEFAULT_MODEL).eval()


@pytest.fixture(scope="module")
def held_out() -> LabeledClips:
    return held_out_set(_SEED, num_seeds=16)


@pytest.fixture(scope="module")
def chosen(network: torch.nn.Module, held_out: LabeledClips) -> np.ndarray:
    return predict(network, held_out.clips).argmax(-1).numpy()


def test_most_clips_over_new_images_are_named_right(chosen, held_out: LabeledClips) -> None:
    right = chosen == held_out.labels
    # A floor against damage, for 320 clips of 16 draws of images; the card has the measurement.
    assert right.mean() >= 0.9
    for place, name in enumerate(LABELS):
        assert right[held_out.labels == place].mean() >= 0.7, name


@pytest.mark.parametrize(
    "name",
    [
        "mirrored",
        "transposed",
        "reversed",
    ],
)
def test_symmetries_of_a_clip_change_its_label_as_they_should(
    network: torch.nn.Module, held_out: LabeledClips, chosen, name: str
) -> None:
    change, mapping = SYMMETRIES[name]
    again = predict(network, np.ascontiguousarray(change(held_out.clips))).argmax(-1).numpy()
    assert (again == np.array(mapping)[chosen]).mean() >= 0.95


def test_one_frame_says_nothing_and_order_matters(
    network: torch.nn.Module, held_out: LabeledClips
) -> None:
    one = predict(network, single_frames(held_out.clips)).argmax(-1).numpy()
    assert (one == held_out.labels).mean() <= 0.15
    mixed = shuffled(held_out.clips, np.random.default_rng(0))
    assert (predict(network, mixed).argmax(-1).numpy() == held_out.labels).mean() <= 0.5


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The label of each clip in each kind of file."""
    folder, predictor = tmp_path_factory.mktemp("variants"), Predictor.load()
    labels: dict[str, list[str]] = {name: [] for name in VARIANTS}
    for seed in range(_SEED, _SEED + _CLIPS_A_LABEL):
        for label in range(len(LABELS)):
            for name, path in write_variants(folder, label, seed).items():
                labels[name].append(predictor.classify(path).top(1)[0][0])
    return labels


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "as it is"])
def test_a_clip_keeps_its_label_in_another_file(answers: dict[str, list[str]], name: str) -> None:
    pairs = list(zip(answers["as it is"], answers[name], strict=True))
    assert sum(one == other for one, other in pairs) >= 0.95 * len(pairs)
