"""Accuracy by class, confusions and calibration against loops over images; McNemar's test against scipy."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from support.predictions import random_predictions

from convnn.analysis.class_order import CLASS_ORDERS
from convnn.analysis.classification import (
    BINS,
    calibration_bins,
    calibration_error,
    class_results,
    compare_predictions,
    confusion_matrix,
    confusions,
    mcnemar,
    most_confused,
    sorted_results,
    unpaired_reason,
    worst_images,
)
from convnn.analysis.classification_report import ClassificationReport
from convnn.analysis.statistics import proportion_interval
from convnn.terminal.classification_view import image_lines, matrix_lines

IMAGES, CLASSES = 400, 7


@pytest.fixture(scope="module")
def predictions():
    return random_predictions(IMAGES, CLASSES)


@pytest.fixture(scope="module")
def pairs(predictions):
    return list(zip(predictions.labels.tolist(), predictions.answers.tolist(), strict=True))


def test_classes_and_confusions_are_counts_of_images(predictions, pairs):
    results, counts = class_results(predictions), Counter(pairs)
    assert 0.3 < predictions.is_correct.mean() < 0.95
    for number, result in enumerate(results):
        assert result.images == sum(label == number for label, _ in pairs)
        assert result.correct == counts[number, number]
        assert result.interval == proportion_interval(result.correct / result.images, result.images)
        others = {answer: count for (label, answer), count in counts.items() if label == number != answer}
        assert result.confusion.images == max(others.values()) == others[result.confusion.answer]
    listed = confusions(predictions)
    assert {(pair.label, pair.answer): pair.images for pair in listed} == {
        pair: count for pair, count in counts.items() if pair[0] != pair[1]
    }
    assert [pair.images for pair in listed] == sorted((pair.images for pair in listed), reverse=True)


def test_a_part_of_the_confusion_matrix_counts_all_other_answers(predictions, pairs):
    classes = most_confused(confusions(predictions), 3)
    matrix = confusion_matrix(predictions, classes)
    for row, label in enumerate(classes):
        answers = Counter(answer for number, answer in pairs if number == label)
        assert matrix[row].tolist() == [
            *(answers[number] for number in classes),
            sum(count for number, count in answers.items() if number not in classes),
        ]
    first = confusions(predictions)[0]
    assert {first.label, first.answer} <= set(classes)


def test_the_calibration_error_is_that_of_a_loop_over_images(predictions):
    error = 0.0
    for index in range(BINS):
        group = [
            (confidence, correct)
            for confidence, correct in zip(predictions.confidences, predictions.is_correct, strict=True)
            if index / BINS < confidence <= (index + 1) / BINS
        ]
        if group:
            confidence, accuracy = (sum(values) / len(group) for values in zip(*group, strict=True))
            error += len(group) / IMAGES * abs(confidence - accuracy)
    bins = calibration_bins(predictions)
    assert calibration_error(bins) == pytest.approx(error, rel=1e-12)
    assert sum(group.images for group in bins) == IMAGES


def test_the_worst_images_are_wrong_and_least_probable(predictions):
    worst = worst_images(predictions, 5)
    wrong = [number for number in range(IMAGES) if not predictions.is_correct[number]]
    least = sorted(float(predictions.label_probabilities[number]) for number in wrong)[:5]
    assert set(worst) <= set(wrong)
    assert [float(predictions.label_probabilities[number]) for number in worst] == least


def test_orders_of_classes(predictions):
    results = class_results(predictions)
    by_order = {order: sorted_results(results, order) for order in CLASS_ORDERS}
    assert by_order["class"] == results
    assert by_order["accuracy"][0].accuracy == min(result.accuracy for result in results)
    assert by_order["images"][0].images == max(result.images for result in results)
    assert by_order["errors"][0].images - by_order["errors"][0].correct == max(r.images - r.correct for r in results)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (3, 9), (10, 10), (120, 80), (4000, 4300)])
def test_mcnemars_test_is_the_exact_one(first, second):
    from scipy.stats import binomtest

    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_two_models_are_compared_image_by_image(predictions):
    second = random_predictions(IMAGES, CLASSES, seed=1)
    comparison = compare_predictions(predictions, second)
    both = list(zip(predictions.is_correct.tolist(), second.is_correct.tolist(), strict=True))
    assert comparison.total.first_alone == both.count((True, False))
    assert comparison.total.second_alone == both.count((False, True))
    assert comparison.total.difference == pytest.approx(
        100 * (second.is_correct.mean() - predictions.is_correct.mean())
    )
    assert sum(result.images for result in comparison.by_class.values()) == IMAGES
    assert all(comparison.adjusted_p[number] >= result.p_value for number, result in comparison.by_class.items())


def test_models_on_other_images_are_not_compared(predictions):
    shuffled = random_predictions(IMAGES, CLASSES, label_seed=1)
    for other_predictions, words in (
        (replace(predictions, digest="b2"), "not the same"),
        (replace(predictions, digest=None), "no digest"),
        (replace(predictions, split="val"), "val images"),
        (random_predictions(IMAGES, 5), "not the same"),
        (shuffled, "order"),
    ):
        assert words in unpaired_reason(predictions, other_predictions)
        with pytest.raises(ValueError, match=words):
            compare_predictions(predictions, other_predictions)


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
@pytest.mark.parametrize("width", [76, 200, 8])
def test_a_matrix_stays_within_its_cells(classes, width):
    names = [f"class\x1b[2J漢 {number}" for number in range(classes)]
    report = ClassificationReport(random_predictions(2000, classes), names)
    lines = matrix_lines(report, "errors", width, lambda tone: "")
    assert all(line.cell_len <= width and line.plain.isprintable() for line in lines)
    if width == 8:
        return
    is_part = classes >= 100
    assert (f"most confused of {classes:,} classes: a row" in lines[0].plain) == is_part
    titles = lines[1].plain.split()
    assert (titles[-1] == "rest") == is_part and len(titles) == len(lines) - 2 + is_part


def test_images_stay_within_the_width_and_their_captions_are_whole():
    images = [np.zeros((8, 40, 3), np.uint8)] * 3
    captions = ["test image 3: " + "漢字" * 20, "a\x1b[2J " + "x" * 60, "cat, taken for dog"]
    lines = image_lines(images, captions, 80, letters=True)
    assert all(line.cell_len <= 80 and line.plain.isprintable() for line in lines)
    text = "".join(line.plain for line in lines)
    assert (text.count("漢"), text.count("x")) == (20, 61)
