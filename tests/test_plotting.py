"""Pictures: titles and units, and colors that anyone can read and distinguish on both themes."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from video_swin_transformer.errors import UnknownNameError
from video_swin_transformer.plotting import (
    THEMES,
    FrameBox,
    Segment,
    captioned,
    confusion_chart,
    curve_chart,
    dimmed_outside,
    encode_mp4,
    figure_png,
    figure_svg,
    frames_html,
    overlay_heat,
    reliability_chart,
    sheet_chart,
    timeline_chart,
)
from video_swin_transformer.plotting.theme import rgb
from video_swin_transformer.video import VideoReader

pytest.importorskip("matplotlib")

# Machado, Oliveira and Fernandes, IEEE TVCG 2009: severity 1.0, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(color: str | None) -> np.ndarray:
    assert color is not None
    values = np.array(rgb(color), np.float64) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(first: str | None, second: str | None) -> float:
    """Contrast ratio of WCAG 2."""
    light, dark = sorted(
        (float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (first, second)), reverse=True
    )
    return (light + 0.05) / (dark + 0.05)


def charts(theme: str) -> dict:
    rng = np.random.default_rng(0)
    segments = [Segment(0, 2, "walk", 0.9), Segment(1, 3, "walk", 0.4), Segment(2, 5, "run", 1.0)]
    options: dict[str, Any] = {"title": "Title", "theme": theme}
    return {
        "confusion": confusion_chart(rng.integers(0, 9, (4, 4)), list("abcd"), **options),
        "reliability": reliability_chart([3, 0, 5], [0.2, 0.0, 0.9], **options),
        "curve": curve_chart(
            [0, 1, 2],
            {"one": [1, 2, 1], "two": [0, -1, 3]},
            xlabel="time (s)",
            ylabel="evidence (logits)",
            **options,
        ),
        "timeline": timeline_chart(segments, 5.0, **options),
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_chart_has_a_title_labels_and_the_colors_of_its_theme(theme):
    look = THEMES[theme]
    for name, chart in charts(theme).items():
        (axes,) = chart.axes
        assert chart.get_suptitle() == "Title", name
        assert axes.get_xlabel(), name
        assert axes.get_ylabel() or axes.get_yticklabels(), name
        assert look.background is not None
        background = np.array(rgb(look.background), np.float64) / 255
        assert chart.get_facecolor()[:3] == pytest.approx(background)
        assert figure_png(chart).startswith(b"\x89PNG")
    assert "time (s)" in figure_svg(charts(theme)["timeline"], "Title")


def test_a_chart_for_pages_has_no_background_and_no_title():
    svg = figure_svg(charts("page")["reliability"], "Reliability")
    assert svg == figure_svg(charts("page")["reliability"], "Reliability"), "the same bytes"
    assert "confidence" in svg and ">Title<" not in svg


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_series_stand_out_from_the_background(theme):
    look = THEMES[theme]
    assert contrast(look.foreground, look.background) >= 7
    for color in look.series[:4]:
        assert contrast(color, look.background) >= 2.5, color


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_series_can_be_distinguished_with_any_color_vision(theme, deficiency):
    color_module = pytest.importorskip("skimage.color")
    matrix = np.array(DEFICIENCIES[deficiency])
    seen = {}
    for color in THEMES[theme].series:
        values = np.clip(matrix @ linear(color), 0, 1)
        encoded = np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)
        seen[color] = color_module.rgb2lab(encoded)
    for first, second in itertools.combinations(seen, 2):
        difference = color_module.deltaE_ciede2000(seen[first], seen[second])
        assert difference > 8, (first, second, deficiency)


def test_heat_gets_brighter_with_its_value_and_cold_places_show_the_frame():
    frame = np.full((1, 4, 64, 3), 120, np.uint8)
    heat = np.tile(np.linspace(-1, 1, 64), (1, 4, 1))
    drawn = overlay_heat(frame, heat)[0, 0].astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (drawn[:31] == drawn[0]).all() and drawn[0] == pytest.approx(78, abs=1)
    assert drawn[-1] == drawn.max() and (np.diff(drawn[44:]) >= -0.5).all()
    seen = np.zeros((4, 64), bool)
    assert (overlay_heat(frame, heat, seen) == 36).all(), "what was not seen is dark"


def test_a_crop_is_bright_and_the_rest_dark():
    image = np.full((20, 30, 3), 200, np.uint8)
    found = dimmed_outside(image, FrameBox(4.0, 6.0, 10.0, 12.0))
    assert (found[4:14, 6:18] == 200).all()
    assert (found == 200).sum() == 3 * 10 * 12 and (found[0] == 60).all()


def test_long_captions_fit_above_an_image():
    image = np.zeros((40, 160, 3), np.uint8)
    found = captioned(image, ["a very long caption that does not fit at all", "b"], "dark")
    banner = found[:-40]
    assert found.shape[1] == 160 and (found[-40:] == 0).all()
    edge = banner[:, -4:].reshape(-1, 3)
    assert (edge == edge[0]).all(), "nothing reaches the edge"


def test_videos_of_odd_sizes_are_h264_and_always_the_same_bytes(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 33, 47, 3), np.uint8)
    data = encode_mp4(frames, Fraction(15, 2))
    assert data == encode_mp4(frames, Fraction(15, 2))
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with VideoReader(path) as video:
        assert (video.num_frames, video.height, video.width) == (5, 34, 48)
        assert video.times_seconds is not None
        np.testing.assert_allclose(np.diff(video.times_seconds), 2 / 15, atol=1e-4)
    assert b"avc1" in data


def test_html_escapes_what_it_is_given():
    frame = np.zeros((8, 8, 3), np.uint8)
    page = frames_html([frame], ["<b>"], "<script>", [("<i>", 0.5)])
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "&lt;i&gt;" in page and "50.0%" in page


def test_sheets_have_a_caption_per_image_and_wrong_themes_are_named():
    images = [np.zeros((8, 12, 3), np.uint8)] * 5
    chart = sheet_chart(images, list("abcde"), title="Sheet", columns=3)
    assert [axes.get_title() for axes in chart.axes] == [*"abcde", ""]
    with pytest.raises(UnknownNameError, match=r"Unknown theme 'drak'\. Did you mean 'dark'"):
        sheet_chart(images, list("abcde"), title="Sheet", theme="drak")
