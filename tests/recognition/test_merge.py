from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from recognition.feature_bank import FeatureBank
from recognition.heads import LinearHead
from recognition.merge import merge_top_k, predict_bank, ranked_top_k

MERGES = ("logits", "probabilities", "vote")


def logs(*probabilities: float) -> torch.Tensor:
    """Logits [1, K] whose softmax is these probabilities."""
    return torch.tensor([probabilities], dtype=torch.float64).log().float()


def naive(members: list[np.ndarray], merge: str, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The definition, in float64, one photo at a time, sorted by Python."""
    softmaxes = [np.exp(m - m.max(1, keepdims=True)) for m in members]
    softmaxes = [s / s.sum(1, keepdims=True) for s in softmaxes]
    mean_logits, mean = np.mean(members, axis=0), np.mean(softmaxes, axis=0)
    classes, probabilities = [], []
    for row in range(len(mean)):
        shown, keys = mean[row], [(-p,) for p in mean[row]]
        if merge == "logits":
            z = np.exp(mean_logits[row] - mean_logits[row].max())
            shown, keys = z / z.sum(), [(-z,) for z in mean_logits[row]]
        if merge == "vote":
            votes = [int(m[row].argmax()) for m in members]
            keys = [(-votes.count(c), -mean[row][c]) for c in range(len(mean[row]))]
        order = sorted(range(len(keys)), key=lambda c: (*keys[c], c))[:k]
        classes.append(order)
        probabilities.append(shown[order])
    return np.array(classes), np.array(probabilities)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("num_members", [1, 2, 5])
def test_merge_equals_the_definition_in_float64(merge: str, num_members: int) -> None:
    generator = np.random.default_rng(num_members)
    members = [generator.normal(scale=3, size=(40, 30)).astype(np.float32) for _ in range(num_members)]
    classes, probabilities = merge_top_k([torch.from_numpy(m) for m in members], merge=merge, k=5)
    expected_classes, expected = naive([m.astype(np.float64) for m in members], merge, 5)
    np.testing.assert_array_equal(classes.numpy(), expected_classes)
    np.testing.assert_allclose(probabilities.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("merge", MERGES)
def test_merge_equals_the_definition_where_many_scores_are_equal(merge: str) -> None:
    levels = np.random.default_rng(0).integers(0, 3, size=(200, 9)).astype(np.float32)
    classes, _ = merge_top_k([torch.from_numpy(levels)] * 2, merge=merge, k=5)
    np.testing.assert_array_equal(classes.numpy(), naive([levels.astype(np.float64)] * 2, merge, 5)[0])


def test_merges_of_three_members_by_hand() -> None:
    members = [logs(0.5, 0.4, 0.1), logs(0.5, 0.4, 0.1), logs(0.01, 0.9, 0.09)]
    classes, probabilities = merge_top_k(members, merge="probabilities", k=2)
    assert classes.tolist() == [[1, 0]]
    torch.testing.assert_close(probabilities, torch.tensor([[1.7 / 3, 1.01 / 3]]))
    classes, probabilities = merge_top_k(members, merge="vote", k=2)
    assert classes.tolist() == [[0, 1]]  # two votes against one
    torch.testing.assert_close(probabilities, torch.tensor([[1.01 / 3, 1.7 / 3]]))
    geometric = [math.prod(p) ** (1 / 3) for p in ((0.5, 0.5, 0.01), (0.4, 0.4, 0.9), (0.1, 0.1, 0.09))]
    classes, probabilities = merge_top_k(members, merge="logits", k=1)
    assert classes.tolist() == [[1]]
    torch.testing.assert_close(probabilities, torch.tensor([[geometric[1] / sum(geometric)]]))


def test_tied_votes_go_to_the_larger_summed_probability() -> None:
    members = [logs(0.6, 0.3, 0.1), logs(0.3, 0.35, 0.35 - 1e-3)]
    assert merge_top_k(members, merge="vote", k=3)[0].tolist() == [[0, 1, 2]]
    members = [logs(0.4, 0.35, 0.25), logs(0.1, 0.8, 0.1)]
    assert merge_top_k(members, merge="vote", k=3)[0].tolist() == [[1, 0, 2]]


def test_tied_votes_of_equal_probability_go_to_the_lower_class() -> None:
    members = [logs(0.125, 0.25, 0.5, 0.125), logs(0.125, 0.5, 0.25, 0.125)]
    assert merge_top_k(members, merge="vote", k=4)[0].tolist() == [[1, 2, 0, 3]]


def test_voted_class_outside_the_most_probable_k_still_wins() -> None:
    doubtful = logs(0.22, 0.2, 0.2, 0.19, 0.19)
    members = [doubtful, doubtful, logs(0.001, 0.4, 0.3, 0.298, 0.001)]
    assert merge_top_k(members, merge="probabilities", k=1)[0].tolist() == [[1]]
    assert merge_top_k(members, merge="vote", k=1)[0].tolist() == [[0]]


@pytest.mark.parametrize("merge", MERGES)
def test_equal_scores_put_the_lower_class_first(merge: str) -> None:
    classes, probabilities = merge_top_k([torch.zeros(2, 100)], merge=merge, k=4)
    assert classes.tolist() == [[0, 1, 2, 3]] * 2
    torch.testing.assert_close(probabilities, torch.full((2, 4), 0.01))


def test_ties_at_the_edge_of_the_best_k_put_the_lower_class_first() -> None:
    scores = torch.tensor([[1.0, 5.0, 3.0, 3.0, 9.0, 3.0], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]])
    values, classes = ranked_top_k(scores, k=3)
    assert classes.tolist() == [[4, 1, 2], [5, 4, 3]]
    assert values.tolist() == [[9.0, 5.0, 3.0], [5.0, 4.0, 3.0]]


@pytest.mark.parametrize("merge", MERGES)
def test_huge_logits_neither_overflow_nor_vanish(merge: str) -> None:
    _, probabilities = merge_top_k([torch.tensor([[3e4, 3e4, -3e4]])], merge=merge, k=3)
    torch.testing.assert_close(probabilities, torch.tensor([[0.5, 0.5, 0.0]]))


def test_merging_leaves_the_logits_as_they_were() -> None:
    logits = torch.tensor([[1.0, 2.0]])
    merge_top_k([logits, logits], merge="probabilities", k=1)
    assert logits.tolist() == [[1.0, 2.0]]


def test_k_above_the_number_of_classes_gives_all_of_them() -> None:
    assert merge_top_k([torch.zeros(1, 3)], merge="logits", k=5)[0].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"logits": [torch.zeros(1, 3)], "merge": "median", "k": 1}, "received 'median'"),
        ({"logits": [], "merge": "logits", "k": 1}, "at least one member"),
        ({"logits": [torch.zeros(1, 3), torch.zeros(1, 4)], "merge": "logits", "k": 1}, "one shape"),
        ({"logits": [torch.zeros(1, 3)], "merge": "logits", "k": 0}, "k >= 1"),
    ],
)
def test_wrong_merges_are_refused(arguments, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        merge_top_k(**arguments)


def make_head(num_features: int, num_classes: int, *, normalize_features: bool = False) -> LinearHead:
    generator = torch.Generator().manual_seed(num_features)
    weight = torch.randn(num_classes, num_features, generator=generator)
    bias = torch.randn(num_classes, generator=generator)
    return LinearHead(weight, bias, normalize_features=normalize_features)


def make_bank(num_features: int, *, seed: int, photo_ids: list[str] | None = None) -> FeatureBank:
    features = np.random.default_rng(seed).normal(size=(11, num_features)).astype(np.float32)
    return FeatureBank(
        features=features,
        photo_ids=photo_ids or [str(row) for row in range(11)],
        classes=np.zeros(11, np.int64),
        bundle_dir=Path("features/recipe/member/bundle"),
    )


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("row_chunk", [4, 11, 100])
def test_bank_prediction_equals_merging_the_heads_outputs(merge: str, row_chunk: int) -> None:
    banks = [make_bank(width, seed=width) for width in (6, 9, 4)]  # widths differ between backbones
    heads = [make_head(6, 20), make_head(9, 20, normalize_features=True), make_head(4, 20)]
    logits = [head(torch.from_numpy(bank.features)) for head, bank in zip(heads, banks, strict=True)]
    expected_classes, expected = merge_top_k(logits, merge=merge, k=5)
    classes, probabilities = predict_bank(banks, heads, merge=merge, k=5, row_chunk=row_chunk)
    assert classes.tolist() == expected_classes.tolist()
    torch.testing.assert_close(probabilities, expected)


def test_banks_of_other_photos_are_refused() -> None:
    banks = [make_bank(6, seed=0), make_bank(6, seed=1, photo_ids=[str(row) for row in range(1, 12)])]
    with pytest.raises(ValueError, match="holds other photos than the first bank"):
        predict_bank(banks, [make_head(6, 3), make_head(6, 3)], merge="logits", k=1)


def test_head_that_does_not_fit_its_bank_is_refused() -> None:
    with pytest.raises(ValueError, match="6 features and 3 classes, received 5 and 3"):
        predict_bank([make_bank(6, seed=0)], [make_head(5, 3)], merge="logits", k=1)
