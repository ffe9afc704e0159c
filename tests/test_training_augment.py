"""Augmentation and loss against torchvision, OpenCV, Pillow and PyTorch, and by hand."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import RandomErasing, RandomResizedCrop

from video_swin_transformer.config import IMAGENET_MEAN, IMAGENET_STD
from video_swin_transformer.preprocess import normalization_table
from video_swin_transformer.training.config import AugmentConfig
from video_swin_transformer.training.losses import (
    build_targets,
    clip_losses,
    scaled_class_weights,
)
from video_swin_transformer.training.randaugment import OPERATIONS, operation, randaugment
from video_swin_transformer.training.transforms import (
    Box,
    ClipTransform,
    Mix,
    Normalizer,
    crop_and_resize,
    erase,
    frame_indices,
    mix,
    random_crop,
    random_erase_box,
    random_mix,
)

SCALE, RATIO = [0.08, 1.0], [0.75, 4 / 3]


def quantiles(boxes: np.ndarray) -> np.ndarray:
    return np.quantile(boxes, [0.1, 0.3, 0.5, 0.7, 0.9], axis=0)


def test_random_crops_have_the_distribution_of_torchvision():
    height, width, count = 256, 341, 6000
    generator = np.random.default_rng(0)
    ours = np.array([random_crop(height, width, SCALE, RATIO, generator) for _ in range(count)])
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, SCALE, RATIO) for _ in range(count)]
    )  # top, left, height, width, as ours
    assert np.abs(quantiles(ours) - quantiles(theirs)).max() < 9  # of 256 pixels
    assert (ours[:, 0] + ours[:, 2] <= height).all() and (ours[:, 1] + ours[:, 3] <= width).all()
    assert (ours[:, 0] + ours[:, 2] == height).any() and (ours[:, 0] == 0).any()


def test_a_crop_that_never_fits_is_the_centered_square():
    generator = np.random.default_rng(0)
    assert random_crop(40, 400, [1.0, 1.0], [1.0, 1.0], generator) == Box(0, 180, 40, 40)


def test_crop_and_resize_match_opencv():
    frames = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), np.uint8)
    out = crop_and_resize(frames, Box(5, 7, 40, 30), 32, "bilinear")
    expected = cv2.resize(frames[1, 5:45, 7:37], (32, 32), interpolation=cv2.INTER_LINEAR)
    assert (out[1] == expected).all() and out.shape == (3, 32, 32, 3)


def test_erased_boxes_have_the_distribution_of_torchvision():
    generator = np.random.default_rng(1)
    ours = np.array([random_erase_box(224, 224, generator) for _ in range(6000)])
    torch.manual_seed(0)
    image = torch.empty(3, 224, 224)
    theirs = np.array(
        [
            RandomErasing.get_params(image, (0.02, 1 / 3), (0.3, 1 / 0.3), [0.0])[:4]
            for _ in range(6000)
        ]
    )
    assert np.abs(quantiles(ours) - quantiles(theirs)).max() < 7
    assert (ours[:, 2] > 0).all()


def test_augmentation_is_the_same_in_all_frames_and_follows_from_the_generator():
    config = AugmentConfig(randaugment_ops=4, erase=1.0, mixup=0.5, cutmix=0.5)
    transform = pickle.loads(pickle.dumps(ClipTransform(config, 32, "bilinear")))
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    clip = np.repeat(frame[None], 4, axis=0)[None]
    results = [transform(clip, np.random.default_rng(seed)) for seed in range(30)]
    for seed, result in enumerate(results):
        assert (result.pixels == result.pixels[0]).all()
        again = transform(clip, np.random.default_rng(seed))
        assert (again.pixels == result.pixels).all()
        assert (again.erased, again.mix) == (result.erased, result.mix)
    assert len({r.pixels.tobytes() for r in results}) == 30


def test_a_flip_is_horizontal():
    clip = np.random.default_rng(0).integers(0, 256, (1, 2, 32, 32, 3), np.uint8)
    kept, flipped = (
        ClipTransform(AugmentConfig(scale=[1.0, 1.0], ratio=[1.0, 1.0], flip=flip), 32, "bilinear")(
            clip, np.random.default_rng(0)
        ).pixels
        for flip in (0.0, 1.0)
    )
    assert (kept == clip[0]).all() and (flipped == clip[0, :, :, ::-1]).all()


def test_frame_orders():
    generator = np.random.default_rng(0)
    numbers = np.arange(8)
    assert (numbers[frame_indices(8, "natural", generator)] == numbers).all()
    assert (numbers[frame_indices(8, "single_frame", generator)] == 4).all()
    shuffled = numbers[frame_indices(8, "shuffled", generator)]
    assert sorted(shuffled) == list(numbers) and (shuffled != numbers).any()


# --- RandAugment ----------------------------------------------------------------------------------


@pytest.fixture
def image():
    noise = np.random.default_rng(0).integers(0, 200, (12, 12, 3))
    return np.kron(noise, np.ones((8, 8, 1))).astype(np.uint8)


def applied(name: str, image: np.ndarray, magnitude: int = 7, seed: int = 0) -> np.ndarray:
    height, width = image.shape[:2]
    step = operation(name, magnitude, height, width, np.random.default_rng(seed))
    return np.asarray(step(Image.fromarray(image)))


def test_pixel_operations_match_their_definitions(image):
    assert (applied("identity", image) == image).all()
    assert (applied("invert", image) == 255 - image).all()
    assert (applied("posterize", image) == (image & 0b11111110)).all()  # 7 bits
    solarized = np.where(image >= 197, 255 - image, image)
    assert (applied("solarize", image) == solarized).all()
    brighter, darker = (np.asarray(ImageEnhance.Brightness(Image.fromarray(image)).enhance(f)) for f in (1.21, 0.79))  # fmt: skip  # noqa: E501
    found = [applied("brightness", image, seed=seed) for seed in range(8)]
    assert all((f == brighter).all() or (f == darker).all() for f in found)
    assert any((f == brighter).all() for f in found) and any((f == darker).all() for f in found)
    expected = np.asarray(ImageOps.equalize(Image.fromarray(image)))
    assert (applied("equalize", image) == expected).all()


def test_geometric_operations_move_by_the_right_amount(image):
    pixels = round(0.33 * 7 / 30 * 96)  # 7
    for seed in range(6):
        moved = applied("translate_x", image, seed=seed)
        right, left = moved[:, pixels + 1 :], moved[:, : -pixels - 1]
        is_left = (left == image[:, pixels:-1]).mean() > 0.9
        is_right = (right == image[:, 1:-pixels]).mean() > 0.9
        assert is_left != is_right
        filled = moved[:, -pixels + 1 :] if is_left else moved[:, : pixels - 1]
        assert (filled == 128).all()
    square = (applied("cutout", np.zeros((224, 224, 3), np.uint8), seed=3) == 128).all(axis=2)
    rows, columns = np.flatnonzero(square.any(axis=1)), np.flatnonzero(square.any(axis=0))
    assert len(rows) in (32, 33) and len(columns) in (32, 33)  # 14.6% of 224
    turned = applied("rotate", image)
    expected = {np.asarray(Image.fromarray(image).rotate(a, fillcolor=(128,) * 3)).tobytes() for a in (7.0, -7.0)}  # fmt: skip  # noqa: E501
    assert turned.tobytes() in expected


def test_operations_are_different_ones_in_random_order(image, monkeypatch):
    from video_swin_transformer.training import randaugment as module

    assert len(OPERATIONS) == len(set(OPERATIONS)) == 18
    seen: list[list[str]] = []
    real = module.operation

    def spy(name, *rest):
        seen[-1].append(name)
        return real(name, *rest)

    monkeypatch.setattr(module, "operation", spy)
    for seed in range(200):
        seen.append([])
        out = randaugment(image[None], 4, 7, np.random.default_rng(seed))
        assert out.shape == (1, 96, 96, 3)
    assert all(len(set(names)) == 4 for names in seen)
    counts = {name: sum(name in names for names in seen) for name in OPERATIONS}
    assert min(counts.values()) > 20 and max(counts.values()) < 75  # 44 expected
    assert {names[0] for names in seen} == set(OPERATIONS)


# --- batches and losses ---------------------------------------------------------------------------


def test_normalization_equals_that_of_inference():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16, 1).expand(1, 2, 16, 16, 3)
    out = Normalizer(IMAGENET_MEAN, IMAGENET_STD, torch.device("cpu"))(pixels)
    table = torch.from_numpy(normalization_table(IMAGENET_MEAN, IMAGENET_STD))
    assert out.shape == (1, 3, 2, 16, 16) and out.is_contiguous()
    assert (out[0, :, 1].flatten(1) - table).abs().max() <= 1e-6


def test_grayscale_matches_opencv():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 1, 8, 8, 3), np.uint8)
    out = Normalizer([0.0], [1.0], torch.device("cpu"))(torch.from_numpy(pixels))
    expected = cv2.cvtColor(pixels[0, 0], cv2.COLOR_RGB2GRAY)
    assert np.abs(out[0, 0, 0].numpy() - expected).max() <= 1  # OpenCV computes in integers


def test_the_erased_box_is_gray_in_all_frames():
    clips = torch.ones(2, 3, 4, 8, 8)
    erase(clips, torch.tensor([[0, 0, 0, 0], [2, 3, 4, 5]]))
    assert clips[0].all() and clips[1].sum() == 3 * 4 * (64 - 20)
    assert not clips[1, :, :, 2:6, 3:8].any()


def test_label_smoothing_matches_pytorch():
    labels, logits = torch.tensor([2, 0]), torch.randn(2, 5)
    targets = build_targets(labels[:, None], 5, 0.1)
    assert targets[0].tolist() == pytest.approx([0.02, 0.02, 0.92, 0.02, 0.02])
    expected = torch.nn.functional.cross_entropy(
        logits, labels, label_smoothing=0.1, reduction="none"
    )
    assert torch.allclose(clip_losses(logits, targets), expected, atol=1e-6)


def test_mixing_by_hand():
    clips = torch.stack([torch.zeros(3, 2, 4, 4), torch.ones(3, 2, 4, 4)])
    targets = torch.eye(2)
    mixed, blended = mix(clips, targets, [Mix(0.75), Mix(0.875, Box(0, 0, 1, 2))])
    assert (mixed[0] == 0.25).all() and blended[0].tolist() == [0.75, 0.25]
    assert mixed[1].sum() == 3 * 2 * 14 and not mixed[1, :, :, 0, :2].any()
    assert blended[1].tolist() == [0.125, 0.875]
    single, target = mix(clips[1:], targets[1:], [Mix(0.3)])
    assert torch.allclose(single, clips[1:]) and torch.allclose(target, targets[1:])


def test_the_weight_of_cutmix_is_the_fraction_of_pixels():
    generator = np.random.default_rng(0)
    mixes = [random_mix(32, 0.4, 1.0, generator) for _ in range(300)]
    boxes = [m for m in mixes if m.box.height and m.box.width]
    assert 90 < len(boxes) < 200
    for weight, box in boxes:
        assert weight == 1 - box.height * box.width / 32**2
        assert 0 <= box.top <= box.top + box.height <= 32
        assert 0 <= box.left <= box.left + box.width <= 32
    assert random_mix(32, 0.0, 0.0, generator) == Mix()


def test_class_weights_keep_the_mean_loss():
    assert scaled_class_weights([3, 1], None) is None
    weights = scaled_class_weights([3, 1], "balanced")
    assert weights == pytest.approx([2 / 3, 2.0])
    assert 3 * weights[0] + 1 * weights[1] == pytest.approx(4)
    assert scaled_class_weights([1, 1], [1.0, 3.0]) == pytest.approx([0.5, 1.5])
