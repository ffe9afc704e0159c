"""The camera generator's signs, measured in its clips: a wrong sign would ship a wrong model."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch

from camera_motion import labels as lb
from camera_motion.generator import NUM_FRAMES, SIDE, ClipGenerator
from camera_motion.images import Canvas, photographs
from camera_motion.labels import LABELS
from camera_motion.motion_filters import drifting_waves, start_with_movement
from camera_motion.paths import CameraPath, make_path
from camera_motion.render import View, render_background
from camera_motion.textures import dead_leaves
from video_swin_transformer.model import VideoSwinTransformer
from video_swin_transformer.registry import DEFAULT_MODEL, find_card
from video_swin_transformer.windows import relative_position_index

TIMES = np.arange(NUM_FRAMES, dtype=np.float64)
MOVING = [name for name in LABELS if name not in ("static", "shake")]


def still_camera() -> CameraPath:
    zeros = np.zeros(NUM_FRAMES)
    return CameraPath(np.zeros((NUM_FRAMES, 2)), zeros, zeros, np.zeros(2))


def clean_clip(name: str, seed: int, difficulty: float = 0.0) -> np.ndarray:
    """A clip with nothing but its camera path over a richly textured image."""
    rng = np.random.default_rng(seed)
    canvas = Canvas.of(dead_leaves(np.random.default_rng(seed + 1000)))
    path = make_path(LABELS.index(name), TIMES, difficulty, rng)
    return render_background(canvas, path, View(np.array([192.0, 192.0]), 1.0), SIDE)


def content_motion(clip: np.ndarray) -> tuple[float, float, float, float]:
    """How the content moves from the first frame to the last, added up over neighbors.

    Returns right (px), down (px), growth (log), clockwise turn (radians, y points down).
    """
    total = np.zeros(4)
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in np.ascontiguousarray(clip)]
    middle = np.array([(SIDE - 1) / 2, (SIDE - 1) / 2])
    for before, after in itertools.pairwise(gray):
        corners = cv2.goodFeaturesToTrack(before, 150, 0.01, 4)
        if corners is None:
            continue
        moved, found, _ = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]
            before,
            after,
            corners,
            None,  # no first guess
        )
        kept = found.ravel() == 1
        if kept.sum() < 4:
            continue
        matrix, _ = cv2.estimateAffinePartial2D(
            corners[kept] - middle, moved[kept] - middle, ransacReprojThreshold=1.0
        )
        growth = np.log(np.hypot(matrix[0, 0], matrix[1, 0]))
        turn = np.arctan2(matrix[1, 0], matrix[0, 0])
        total += (matrix[0, 2], matrix[1, 2], growth, turn)
    across, down, growth, turn = total.tolist()
    return across, down, growth, turn


def named_motion(clip: np.ndarray) -> str:
    """The moving label that a clip's measured content motion deserves."""
    right, down, growth, turn = content_motion(clip)
    strengths = {
        "pan_left": right,
        "pan_right": -right,
        "tilt_up": down,
        "tilt_down": -down,
        "zoom_in": 0.38 * growth * SIDE,
        "zoom_out": -0.38 * growth * SIDE,
        "roll_ccw": 0.38 * turn * SIDE,
        "roll_cw": -0.38 * turn * SIDE,
    }
    return max(strengths, key=lambda name: strengths[name])


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_content_moves_as_the_label_says(name: str, seed: int) -> None:
    assert named_motion(clean_clip(name, seed)) == name


@pytest.mark.parametrize("name", MOVING)
def test_small_movements_beside_the_main_one_do_not_win(name: str) -> None:
    named = [named_motion(clean_clip(name, seed, difficulty=1.0)) for seed in range(10, 16)]
    assert named.count(name) >= 5, named


def test_one_step_of_every_path_by_hand() -> None:
    """Without any measuring: the pixel under the camera follows from the path alone."""
    columns = np.tile(np.arange(300, dtype=np.float32)[None, :, None], (300, 1, 3))
    ramp = (columns * 0.8).astype(np.uint8)
    zeros = np.zeros(NUM_FRAMES)
    right = np.stack([np.linspace(-0.3, 0.3, NUM_FRAMES), zeros], axis=1)
    view = View(np.array([150.0, 150.0]), 1.0)
    clip = render_background(
        Canvas.of(ramp), CameraPath(right, zeros, zeros, np.zeros(2)), view, SIDE
    )
    # The camera goes right by 0.6 of 112 pixels, and the ramp grows by 0.8 a pixel.
    middle = clip[:, 56, 56, 0].astype(float)
    assert middle[-1] - middle[0] == pytest.approx(0.6 * SIDE * 0.8, abs=2)
    closer = CameraPath(np.zeros((8, 2)), np.linspace(0.3, -0.3, 8), zeros, np.zeros(2))
    zoomed = render_background(Canvas.of(ramp), closer, view, SIDE).astype(float)
    spread = zoomed[:, 56, 100, 0] - zoomed[:, 56, 12, 0]
    assert spread[0] / spread[-1] == pytest.approx(np.exp(0.6), rel=0.03)
    # Camera clockwise: what was at its right-hand edge's height now lies lower in the image.
    rows = np.ascontiguousarray(ramp.transpose(1, 0, 2))
    turning = CameraPath(np.zeros((8, 2)), zeros, np.linspace(0, 0.5, 8), np.zeros(2))
    turned = render_background(Canvas.of(rows), turning, view, SIDE).astype(float)
    assert turned[-1, 56, 100, 0] > turned[0, 56, 100, 0] + 10


def test_the_focus_of_a_zoom_stays_in_place() -> None:
    ramp = (np.tile(np.arange(300)[None, :, None], (300, 1, 3)) * 0.8).astype(np.uint8)
    zeros = np.zeros(NUM_FRAMES)
    path = CameraPath(np.zeros((8, 2)), np.linspace(0.3, -0.3, 8), zeros, np.array([0.2, 0.0]))
    clip = render_background(Canvas.of(ramp), path, View(np.array([150.0, 150.0]), 1.0), SIDE)
    column = round((SIDE - 1) / 2 + 0.2 * SIDE)
    assert np.ptp(clip[:, 56, column, 0].astype(int)) <= 1
    assert np.ptp(clip[:, 56, 8, 0].astype(int)) > 20


@pytest.mark.parametrize("symmetry", [lb.mirror, lb.reverse, lb.transpose])
@pytest.mark.parametrize("name", MOVING)
def test_symmetries_change_clip_and_label_together(symmetry, name: str) -> None:
    clip, label = symmetry(clean_clip(name, seed=7), LABELS.index(name))
    assert named_motion(clip) == LABELS[label]


def test_symmetries_are_their_own_opposites() -> None:
    for mapping in (lb.MIRRORED, lb.REVERSED, lb.TRANSPOSED):
        assert [mapping[mapping[label]] for label in range(10)] == list(range(10))
        assert LABELS[mapping[0]] == "static" and LABELS[mapping[9]] == "shake"
    assert LABELS[lb.MIRRORED[LABELS.index("pan_left")]] == "pan_right"
    assert LABELS[lb.TRANSPOSED[LABELS.index("tilt_up")]] == "pan_left"


def test_a_static_camera_moves_less_than_half_a_pixel_between_frames() -> None:
    for seed in range(30):
        path = make_path(0, TIMES, 1.0, np.random.default_rng(seed))
        steps = np.abs(np.diff(path.shift, axis=0)) * SIDE
        assert steps.mean() < 0.5
        assert np.abs(path.shift[-1] - path.shift[0]).max() * SIDE < 2.5


def test_a_shake_turns_back_at_the_sampled_frames() -> None:
    for seed in range(60):
        path = make_path(9, TIMES, 1.0, np.random.default_rng(seed))
        steps = np.diff(path.shift, axis=0)
        length = np.linalg.norm(steps, axis=1).sum()
        assert length * SIDE > 8
        assert np.linalg.norm(path.shift[-1] - path.shift[0]) < 0.36 * length
        assert ((steps[1:] * steps[:-1]).sum(1) < 0).sum() >= 2


@pytest.mark.parametrize("name", ["pan_left", "tilt_down"])
def test_a_trembling_pan_gets_on(name: str) -> None:
    """What is walked to and fro stays small beside the way: a pan must not look like a shake."""
    axis, sign = (0, -1) if name == "pan_left" else (1, 1)
    for seed in range(60):
        path = make_path(LABELS.index(name), TIMES, 1.0, np.random.default_rng(seed))
        steps = sign * np.diff(path.shift[:, axis])
        assert steps.sum() > 0.04
        assert -steps[steps < 0].sum() < 0.4 * steps.sum()


def test_labels_of_a_batch_belong_to_its_clips() -> None:
    """Through the whole generator, symmetries included, in its easiest setting."""
    clips, labels = ClipGenerator("train", seed=8).batch(0, 40, difficulty=0.0)
    moving = [(c, LABELS[n]) for c, n in zip(clips, labels, strict=True) if LABELS[n] in MOVING]
    right = [named_motion(clip) == name for clip, name in moving]
    assert len(right) == 32
    assert sum(right) >= 0.8 * len(right)  # corner tracking fails on some textures


def test_a_numbered_clip_has_its_label_and_follows_from_both_alone() -> None:
    generator = ClipGenerator("train", seed=8)
    expected = [(LABELS.index(name), number) for number, name in enumerate(sorted(MOVING) * 4)]
    clips = [generator.numbered(label, number, difficulty=0.0) for label, number in expected]
    right = [
        named_motion(clip) == LABELS[label]
        for clip, (label, _) in zip(clips, expected, strict=True)
    ]
    assert sum(right) >= 0.8 * len(right) and len(right) == 32
    again = ClipGenerator("train", seed=8).numbered(*expected[17], difficulty=0.0)
    assert np.array_equal(again, clips[17])
    assert not np.array_equal(clips[1], clips[9]), "of one label, under other numbers"


def test_the_first_filters_answer_to_their_direction() -> None:
    waves = drifting_waves(4, 8, 8)
    assert waves.shape == (48, 4, 8, 8)
    columns = torch.arange(8.0)
    answers = []
    for drift in (1.75, -1.75):  # a wave of 7 pixels moving right, then left
        frames = torch.stack([columns - drift * t for t in range(4)]) * 2 * torch.pi / 7
        moving = torch.cos(frames)[:, None, :].expand(4, 8, 8)
        energy = (waves[:2] * moving).sum((1, 2, 3)).square().sum()  # both phases, heading right
        answers.append(energy.item())
    assert answers[0] > 10 * answers[1]


def test_the_first_heads_look_to_their_sides_and_along_time() -> None:
    network = VideoSwinTransformer(find_card(DEFAULT_MODEL).bundle)
    start_with_movement(network)
    window, heads = network.config.window_size, network.config.num_heads[-1]
    index = relative_position_index(window, 4 * 49)  # of (query, key)
    middle, right, below, next_in_time = 24, 26, 38, 24 + 49
    first, last = (
        block.attn.relative_position_bias_table for block in network.backbone.layers[1].blocks
    )
    assert first.shape == (15 * 13 * 13, heads)
    sides = first.detach()[index]
    assert sides[middle, right, :4].tolist() == pytest.approx([1.2, -1.2, 0, 0])
    assert sides[middle, below, :4].tolist() == pytest.approx([0, 0, 1.2, -1.2])
    times = last.detach()[index]
    assert times[middle, next_in_time, :2].tolist() == pytest.approx([1.5, -1.5])
    assert times[middle, right].abs().max() == 0


def test_batches_follow_from_seed_and_index_alone() -> None:
    resumed = ClipGenerator("train", seed=3).batch(5, 4)
    generator = ClipGenerator("train", seed=3)
    generator.batch(4, 4)
    clips, labels = generator.batch(5, 4)
    assert clips.shape == (4, NUM_FRAMES, SIDE, SIDE, 3) and clips.dtype == np.uint8
    assert np.array_equal(clips, resumed[0]) and np.array_equal(labels, resumed[1])
    other, _ = ClipGenerator("train", seed=4).batch(5, 4)
    assert not np.array_equal(clips, other)


def test_held_out_photographs_are_not_trained_on() -> None:
    train = {image.tobytes() for image in photographs("train")}
    test = {image.tobytes() for image in photographs("test")}
    assert train and test and not train & test


def test_a_still_camera_shows_the_same_frame_again() -> None:
    canvas = Canvas.of(dead_leaves(np.random.default_rng(0)))
    clip = render_background(canvas, still_camera(), View(np.array([150.0, 120.0]), 0.9), SIDE)
    assert (clip == clip[0]).all()
