"""The loss log against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from training.loss_log import LossLog, measure

LN2 = math.log(2.0)


def test_the_statistics_of_a_photo_by_hand() -> None:
    logits = torch.tensor([[LN2, 0.0, 0.0], [LN2, 0.0, 0.0]])  # p = 1/2, 1/4, 1/4
    loss, margin, label_p, other_p, other_class = measure(logits, torch.tensor([0, 1]))
    assert loss.tolist() == pytest.approx([LN2, 2 * LN2])
    assert margin.tolist() == pytest.approx([LN2, -LN2])
    assert label_p.tolist() == pytest.approx([0.5, 0.25])
    assert other_p.tolist() == pytest.approx([0.25, 0.5])
    assert other_class[1].item() == 0


def test_a_photo_that_is_nearly_certain_keeps_a_loss_above_zero() -> None:
    loss, margin, _, other_p, other_class = measure(torch.tensor([[40.0, 0.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(math.exp(-40), rel=1e-5)
    assert other_p.item() == pytest.approx(math.exp(-40), rel=1e-5)
    assert (margin.item(), other_class.item()) == (40, 1)


def test_the_statistics_equal_cross_entropy_in_float64() -> None:
    logits = 8 * torch.randn(50, 20, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(50) % 20
    expected = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none")
    assert torch.allclose(measure(logits, labels)[0].double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("num_classes", [2, 255, 256, 257, 700])
def test_the_largest_other_class_is_found_among_any_number_of_classes(num_classes: int) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(40, num_classes, generator=generator)
    labels = torch.randint(num_classes, (40,), generator=generator)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    largest, classes = others.max(dim=1)
    _, margin, _, other_p, other_class = measure(logits, labels)
    assert other_class.tolist() == classes.tolist()
    assert torch.allclose(margin, logits.gather(1, labels[:, None]).squeeze(1) - largest)
    assert torch.allclose(other_p, logits.softmax(1).gather(1, classes[:, None]).squeeze(1))


def test_of_equally_probable_other_classes_the_first_counts() -> None:
    logits = torch.zeros(3, 600)
    logits[1, [300, 599]] = 1.0
    assert measure(logits, torch.tensor([0, 5, 599]))[4].tolist() == [1, 300, 0]


def test_statistics_measured_in_pieces_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(7, 10, generator=torch.Generator().manual_seed(4))
    labels, before = torch.arange(7), logits.clone()
    whole = measure(logits, labels)
    monkeypatch.setattr("training.row_slices._CPU_ELEMENTS", 20)  # two rows at a time
    assert torch.equal(measure(logits, labels), whole)
    assert torch.equal(logits, before)
    assert measure(logits[:0], labels[:0]).shape == (5, 0)


def test_means_and_population_variance_are_over_the_times_seen() -> None:
    log = LossLog(3)
    once = torch.tensor([[1.0, 5.0], [2.0, -1.0], [0.4, 0.1], [0.3, 0.7], [2, 1]])
    again = torch.tensor([[4.0], [0.0], [0.2], [0.5], [5]])
    log.record(once, positions=torch.tensor([2, 0]))
    log.record(again, positions=torch.tensor([2]))
    ids, labels = pa.chunked_array([["a", "b", "c"]]), np.array([0, 1, 0])
    table = log.to_table(photo_ids=ids, labels=labels).to_pydict()
    assert table["photo_id"] == ["a", "b", "c"]
    assert table["class"] == [0, 1, 0]
    assert table["num_seen"] == [1, 0, 2]
    assert table["mean_loss"] == [5.0, None, 2.5]
    assert table["loss_variance"] == [0.0, None, 2.25]
    assert table["mean_margin"] == [-1.0, None, 1.0]
    assert table["mean_label_probability"] == pytest.approx([0.1, None, 0.3])
    assert table["mean_other_probability"] == pytest.approx([0.7, None, 0.4])
    assert table["other_class"] == [1, None, 5]
    assert list(table)[-1] == "other_class"


def test_a_photo_that_comes_twice_in_a_batch_counts_twice() -> None:
    log = LossLog(1)
    log.record(torch.tensor([[1.0, 3.0]] * 5), positions=torch.tensor([0, 0]))
    table = log.to_table(photo_ids=pa.chunked_array([["a"]]), labels=np.array([0])).to_pydict()
    assert (table["num_seen"], table["mean_loss"], table["loss_variance"]) == ([2], [2.0], [1.0])


def test_the_other_class_is_that_of_the_sighting_where_it_was_most_probable() -> None:
    log = LossLog(2)
    for probabilities, classes in (([0.3, 0.2], [7, 6]), ([0.2, 0.6], [8, 9]), ([0.3, 0.6], [5, 5])):
        batch = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.1, 0.1], probabilities, classes])
        log.record(batch, positions=torch.tensor([0, 1]))
    assert log.other_class.tolist() == [7, 9]  # of equal ones the first


def test_of_a_photo_that_is_twice_in_a_batch_the_more_probable_other_class_counts() -> None:
    log = LossLog(1)
    batch = torch.tensor([[1.0] * 3, [0.0] * 3, [0.1] * 3, [0.5, 0.6, 0.4], [3, 4, 2]])
    log.record(batch, positions=torch.tensor([0, 0, 0]))
    assert log.other_class.tolist() == [4]


def test_a_restored_log_goes_on_as_if_it_had_never_stopped() -> None:
    first, second = LossLog(1), LossLog(1)
    first.record(torch.tensor([[1.0], [0.0], [0.1], [0.5], [3]]), positions=torch.tensor([0]))
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    for log in (first, second):
        log.record(torch.tensor([[2.0], [0.0], [0.1], [0.4], [2]]), positions=torch.tensor([0]))
    assert (second.other_class.tolist(), second.largest_other.tolist()) == ([3], [0.5])
    assert (first.sums == second.sums).all()
