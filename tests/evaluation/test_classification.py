"""Scores of classes, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from jaxformer.evaluation import classification
from jaxformer.evaluation.naive_bayes import NaiveBayes, words


def random_case(seed: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.choice(classes, 400, p=random.dirichlet(np.ones(classes)))
    logits = random.normal(size=(400, classes)) + 1.5 * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities, random.choice([0.0, 1.0, 2.0], 400)


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_scores_are_those_of_scikit_learn(classes):
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is in the extra `test`")
    for seed in range(3):
        labels, probabilities, weights = random_case(seed, classes)
        found = probabilities.argmax(axis=1)
        every = list(range(classes))
        confusion = classification.confusion_matrix(labels, found, classes, weights)
        np.testing.assert_allclose(
            confusion, sklearn.confusion_matrix(labels, found, labels=every, sample_weight=weights)
        )
        scores = classification.class_scores(confusion)
        expected = sklearn.precision_recall_fscore_support(
            labels, found, labels=every, sample_weight=weights, zero_division=0.0
        )
        for ours, theirs in zip((scores.precision, scores.recall, scores.f1, scores.support), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)
        assert classification.accuracy(confusion) == pytest.approx(
            sklearn.accuracy_score(labels, found, sample_weight=weights)
        )
        assert classification.matthews_correlation(confusion) == pytest.approx(
            sklearn.matthews_corrcoef(labels, found, sample_weight=weights)
        )
        assert classification.negative_log_likelihood(probabilities, labels, weights) == pytest.approx(
            sklearn.log_loss(labels, probabilities, labels=every, sample_weight=weights)
        )
        if classes == 2:
            brier = sklearn.brier_score_loss(labels, probabilities[:, 1], sample_weight=weights)
            assert classification.brier_score(probabilities, labels, weights) == pytest.approx(2 * brier)


def test_a_confusion_matrix_by_hand():
    confusion = classification.confusion_matrix(np.array([0, 0, 1, 1, -100]), np.array([0, 1, 1, 1, 0]), 2,
                                                np.array([1, 1, 1, 2, 0]))  # fmt: skip
    assert confusion.tolist() == [[1, 1], [0, 3]]
    assert classification.accuracy(confusion) == 0.8
    scores = classification.class_scores(confusion)
    assert scores.precision.tolist() == [1.0, 0.75]
    assert scores.recall.tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match="labels must be classes from 0 to 1, got 2 to 2"):
        classification.confusion_matrix(np.array([2]), np.array([0]), 2)


def test_the_likelihood_of_what_was_thought_impossible_is_finite():
    believed = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    assert classification.negative_log_likelihood(believed[:1], np.array([1])) == pytest.approx(-np.log(0.75))
    assert 40 < classification.negative_log_likelihood(believed, np.array([1, 1])) < 50


def test_what_never_occurs_has_no_score_and_one_class_no_correlation():
    confusion = classification.confusion_matrix(np.array([0, 0]), np.array([0, 0]), 3)
    assert classification.class_scores(confusion).f1.tolist() == [1.0, 0.0, 0.0]
    assert classification.matthews_correlation(confusion) == 0.0
    assert np.isnan(classification.accuracy(np.zeros((2, 2))))


def test_calibration_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.95, 0.05], [0.4, 0.6]])
    curve = classification.reliability(probabilities, np.array([0, 0, 0, 1]), bins=10)
    # Confidences 0.9, 0.9 (half of them right), 0.95 (right) and 0.6 (right).
    np.testing.assert_allclose(curve.weight, [0, 0, 0, 0, 0, 1, 0, 0, 2, 1])
    np.testing.assert_allclose(curve.accuracy[[5, 8, 9]], [1.0, 0.5, 1.0])
    assert curve.error == pytest.approx((0.4 + 2 * 0.4 + 0.05) / 4)


def test_a_model_that_knows_what_it_knows_is_calibrated():
    random = np.random.default_rng(0)
    share = random.uniform(size=200_000)
    labels = (random.uniform(size=share.size) < share).astype(int)
    probabilities = np.stack([1 - share, share], axis=1)
    assert classification.reliability(probabilities, labels).error < 0.01
    assert classification.reliability(np.round(probabilities), labels).error > 0.2


def test_all_scores_under_their_names():
    labels, probabilities, _ = random_case(0, 3)
    found = classification.classification_scores(probabilities, labels, ["a", "b", "c"])
    assert tuple(found) == classification.score_names(["a", "b", "c"])
    assert 0.3 < found["accuracy"] < 1.0


def test_what_has_no_weight_may_be_anything():
    labels, probabilities, weights = random_case(0, 3)
    cleared = probabilities.copy()
    cleared[weights == 0] = np.nan
    found, expected = (
        classification.classification_scores(one, labels, ["a", "b", "c"], weights) for one in (cleared, probabilities)
    )
    assert found == pytest.approx(expected, rel=1e-12)


def test_naive_bayes_is_that_of_scikit_learn():
    text = pytest.importorskip("sklearn.feature_extraction.text", reason="scikit-learn is in the extra `test`")
    from sklearn.naive_bayes import MultinomialNB

    random = np.random.default_rng(0)
    vocabulary = [f"w{i}" for i in range(30)]
    texts = [" ".join(random.choice(vocabulary, 8)) for _ in range(60)]
    labels = random.integers(0, 3, 60)
    unseen = [" ".join(random.choice([*vocabulary, "new"], 8)) for _ in range(20)]
    counter = text.CountVectorizer(tokenizer=words, token_pattern=None, lowercase=False)
    theirs = MultinomialNB().fit(counter.fit_transform(texts), labels)
    ours = NaiveBayes(texts, labels.tolist(), 3)
    odds = ours.log_odds(unseen)
    expected = theirs.predict_joint_log_proba(counter.transform(unseen))
    np.testing.assert_allclose(odds, expected, rtol=1e-9)
    np.testing.assert_array_equal(ours.classify(unseen), theirs.predict(counter.transform(unseen)))


def test_naive_bayes_by_hand():
    bayes = NaiveBayes(["good good", "bad"], [1, 0], 2)
    # Words seen: good, bad; smoothed: P(good | 1) = 3/4, P(good | 0) = 1/3.
    np.testing.assert_allclose(np.exp(bayes.log_odds(["Good!"]))[0], [0.5 / 3, 0.5 * 0.75])
    assert words("It's GOOD!") == ["it", "'", "s", "good", "!"]
