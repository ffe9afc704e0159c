"""Figures: scikit-learn as the oracle, and examples small enough to work out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from video_swin_transformer import ConfigError
from video_swin_transformer.evaluation.intervals import bootstrap, wilson
from video_swin_transformer.evaluation.metrics import (
    AveragePrecision,
    calibration,
    confusion_matrix,
    label_ranks,
    mean_class_accuracy,
    predicted_classes,
)
from video_swin_transformer.postprocess import average_views


@pytest.fixture(scope="module")
def example():
    """Scores with ties, labels of 7 classes of which one never occurs."""
    generator = np.random.default_rng(3)
    scores = np.round(generator.dirichlet(np.ones(7), 400), 2)
    labels = generator.choice([0, 1, 2, 3, 4, 6], 400)
    return scores, labels


def test_top_k_is_scikit_learns(example):
    scores, labels = example
    generator = np.random.default_rng(0)
    untied = scores + generator.random(scores.shape) * 1e-6  # theirs breaks ties otherwise
    ranks = label_ranks(untied, labels)
    for k in (1, 2, 5):
        expected = oracle.top_k_accuracy_score(labels, untied, k=k, labels=range(7))
        assert (ranks < k).mean() == expected


def test_ties_go_by_class_number():
    scores = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    assert label_ranks(scores, np.array([0, 1])).tolist() == [0, 1]
    assert predicted_classes(scores).tolist() == [0, 0]


def test_confusion_and_mean_class_accuracy(example):
    scores, labels = example
    predicted = predicted_classes(scores)
    confusion = confusion_matrix(predicted, labels, 7)
    np.testing.assert_array_equal(confusion, oracle.confusion_matrix(labels, predicted))
    assert confusion[:, 5].sum() > 0  # predicted, but absent
    recalls = oracle.recall_score(labels, predicted, labels=[0, 1, 2, 3, 4, 6], average=None)
    assert mean_class_accuracy(confusion) == pytest.approx(recalls.mean(), abs=1e-12)
    official = oracle.recall_score(labels, predicted, average="macro", zero_division=0)
    assert mean_class_accuracy(confusion, "official") == pytest.approx(official, abs=1e-12)


def test_a_predicted_but_absent_class_by_hand():
    """Two clips of class 0, one taken for class 2, which has no clip; class 1 is all right."""
    confusion = confusion_matrix(np.array([0, 2, 1]), np.array([0, 0, 1]), 4)
    assert mean_class_accuracy(confusion) == (0.5 + 1) / 2
    assert mean_class_accuracy(confusion, "official") == (0.5 + 1 + 0) / 3
    with pytest.raises(ConfigError, match="present, official"):
        mean_class_accuracy(confusion, "mean")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 9))
def test_average_precision_is_scikit_learns(seed, num_clips, num_levels):
    """With ties (few levels of score), for any weights."""
    generator = np.random.default_rng(seed)
    scores = generator.integers(num_levels, size=(num_clips, 4)) / num_levels
    truth = generator.random((num_clips, 4)) < 0.4
    weights = generator.integers(0, 4, num_clips)
    precision = AveragePrecision(scores, truth)
    for found, used in ((precision.by_class(), None), (precision.by_class(weights), weights)):
        for label in range(4):
            positives = truth[:, label] if used is None else truth[:, label] & (used > 0)
            if not positives.any():
                assert math.isnan(found[label])
                continue
            expected = oracle.average_precision_score(
                truth[:, label], scores[:, label], sample_weight=used
            )
            assert found[label] == pytest.approx(expected, abs=1e-9)


def test_map_leaves_out_classes_without_a_positive():
    truth = np.array([[1, 0, 0], [0, 1, 0]], bool)
    scores = np.array([[0.9, 0.8, 0.1], [0.1, 0.2, 0.9]])
    assert AveragePrecision(scores, truth).mean() == (1 + 0.5) / 2


def test_scores_of_a_clip():
    logits = np.array([[2.0, 0.0, -1.0], [0.0, 4.0, 1.0]])
    each = np.exp(logits.astype(float))
    each /= each.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(average_views(logits, "prob", False)[0], each.mean(axis=0))
    mean = np.exp([1.0, 2.0, 0.0])
    np.testing.assert_allclose(average_views(logits, "score", False)[0], mean / mean.sum())
    np.testing.assert_allclose(
        average_views(logits, "score", True)[0], 1 / (1 + np.exp([-1.0, -2.0, 0.0]))
    )
    huge = np.array([[1e4, -1e4]], np.float32)
    assert average_views(huge, "prob", True)[0].tolist() == [1, 0]


def test_calibration_by_hand():
    confidence = np.array([0.95, 0.92, 0.55, 1.0])
    found = calibration(confidence, np.array([True, False, True, True]), num_bins=10)
    assert found.counts == (0, 0, 0, 0, 0, 1, 0, 0, 0, 3)
    assert found.accuracy[9] == pytest.approx(2 / 3) and found.confidence[5] == 0.55
    assert found.error == pytest.approx((0.45 * 1 + abs(2 - 2.87)) / 4)


def test_calibration_of_a_calibrated_guess_is_small():
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.2, 1, 20_000)
    assert calibration(confidence, generator.random(20_000) < confidence).error < 0.02


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (15, 148, 0.0624, 0.1605)],
)  # the last one is Newcombe's (1998) example, method 3
def test_wilson(right, total, low, high):
    found = wilson(right, total)
    assert found.value == right / total
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert math.isnan(wilson(0, 0).value)


def test_bootstrap_is_repeatable_and_of_the_right_width():
    values = np.random.default_rng(1).normal(5, 2, 900)

    def mean(counts):
        return float(np.average(values, weights=counts))

    found = bootstrap(mean, 900, 900)
    assert found == bootstrap(mean, 900, 900)
    assert found.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / 30
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
