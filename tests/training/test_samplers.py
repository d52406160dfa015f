"""Batches as a function of (seed, epoch, step), and classes as often as the sampler says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from training.class_draws import ClassDraws
from training.config import PhaseConfig
from training.config.objectives import BbnConfig, LioConfig
from training.config.samplers import SamplerConfig
from training.samplers import Companions, Draw, EpochSampler, make_companions, num_steps_per_epoch

ALONE = Companions("none", 0)
LABELS = np.repeat([0, 1, 3], [16, 4, 1])
"""21 photos; class 2 has none."""


def sampler(
    labels: Sequence[int] | np.ndarray = LABELS, *, name: Any = "instance", **changes: Any
) -> EpochSampler:
    options = {
        "config": SamplerConfig(name=name, power=changes.pop("power", 1.0)),
        "companions": ALONE,
        "batch_size": 6,
        "epochs": 3,
        "seed": 5,
    }
    return EpochSampler(np.asarray(labels), **(options | changes))


def class_counts(draws: Iterable[Draw]) -> list[int]:
    return np.bincount([LABELS[draw.position] for draw in draws], minlength=4).tolist()


def epochs_of(batches: Iterable[list[Draw]]) -> list[list[Draw]]:
    epochs: dict[int, list[Draw]] = {}
    for batch in batches:
        for draw in batch:
            epochs.setdefault(draw.epoch, []).append(draw)
    return [epochs[number] for number in sorted(epochs)]


def test_instance_sampling_brings_every_photo_once_an_epoch() -> None:
    for draws in epochs_of(sampler()):
        assert sorted(draw.position for draw in draws) == list(range(21))
        assert [draw.place for draw in draws] == list(range(21))


def test_no_batch_is_nearly_empty() -> None:
    assert num_steps_per_epoch(65, batch_size=16) == 5
    assert [len(batch) for batch in sampler()] == [6, 5, 5, 5] * 3
    assert [sampler().num_anchors_in(step) for step in range(5)] == [6, 5, 5, 5, 6]
    assert len(sampler(parts=2, first_step=3)) == len(list(sampler(parts=2, first_step=3))) == 18


def test_class_sampling_draws_every_class_a_third_of_the_time() -> None:
    for draws in epochs_of(sampler(name="class")):
        assert class_counts(draws) == [7, 7, 0, 7]
        times = Counter(draw.position for draw in draws)
        assert {times[p] for p in range(16)} == {0, 1}  # 7 of 16, none twice
        assert sorted(times[p] for p in range(16, 20)) == [1, 2, 2, 2]  # 7 of 4: one whole pass and 3 more
        assert times[20] == 7


def test_square_root_sampling_draws_classes_by_the_root_of_their_size() -> None:
    for draws in epochs_of(sampler(name="square_root")):
        assert class_counts(draws) == [12, 6, 0, 3]  # 21 x (4, 2, 1) / 7


def test_power_sampling_reads_its_power() -> None:
    for draws in epochs_of(sampler(name="power", power=-0.5)):
        assert class_counts(draws) == [3, 6, 0, 12]


def test_progressive_sampling_goes_from_instance_to_class() -> None:
    counts = [class_counts(draws) for draws in epochs_of(sampler(name="progressive"))]
    assert (counts[0], counts[2]) == ([16, 4, 0, 1], [7, 7, 0, 7])
    assert counts[1] in ([11, 6, 0, 4], [12, 5, 0, 4], [11, 5, 0, 5], [12, 6, 0, 3])  # 11.5, 5.5, 4
    assert class_counts(next(iter(epochs_of(sampler(name="progressive", epochs=1))))) == [16, 4, 0, 1]


def test_counts_are_within_one_of_their_expectation_and_right_on_average() -> None:
    sizes = np.array([1, 2, 3, 50, 7, 9, 400])
    draws = ClassDraws(np.repeat(np.arange(7), sizes))
    expected = draws.expected(power=0.3)
    labels = np.repeat(np.arange(7), sizes)
    counts = np.array([np.bincount(labels[draws.order(expected, seed=s)], minlength=7) for s in range(400)])
    assert expected.sum() == pytest.approx(472)
    assert (counts.sum(axis=1) == 472).all()
    assert (np.abs(counts - expected) < 1).all()
    assert np.abs(counts.mean(axis=0) - expected).max() < 0.1


def test_all_photos_of_a_class_are_drawn_alike() -> None:
    draws = ClassDraws(LABELS)
    times = np.zeros(21)
    for seed in range(2000):
        times += np.bincount(draws.order(draws.expected(power=0), seed=seed), minlength=21)
    assert np.abs(times / 2000 - np.repeat([7 / 16, 7 / 4, 7], [16, 4, 1])).max() < 0.06  # 5 deviations


def test_the_order_changes_with_the_epoch_and_the_seed_and_with_nothing_else() -> None:
    first, second, _ = ([draw.position for draw in draws] for draws in epochs_of(sampler(name="class")))
    assert first != second
    assert list(sampler(name="class")) == list(sampler(name="class"))
    assert list(sampler(name="class")) != list(sampler(name="class", seed=6))


@pytest.mark.parametrize("companions", [ALONE, Companions("positives", 2), Companions("reversed", 1)])
def test_starting_at_any_step_gives_the_rest_of_the_same_draws(companions: Companions) -> None:
    options = {"name": "progressive", "companions": companions, "parts": 2}
    whole = list(sampler(**options))
    assert len(whole) == 24
    for step in range(13):
        assert list(sampler(**options, first_step=step)) == whole[2 * step :]


@pytest.mark.parametrize("companions", [ALONE, Companions("positives", 2), Companions("reversed", 1)])
def test_processes_and_parts_share_the_batch_of_one_process(companions: Companions) -> None:
    whole = list(sampler(name="class", companions=companions))
    shared = [
        list(sampler(name="class", companions=companions, num_processes=2, process_index=index, parts=2))
        for index in range(2)
    ]
    for step, batch in enumerate(whole):
        parts = [shared[process][2 * step + part] for process in range(2) for part in range(2)]
        rows = [np.reshape(np.array(part), (1 + companions.count, -1, 3)) for part in parts]
        assert np.concatenate(rows, axis=1).reshape(-1, 3).tolist() == [list(draw) for draw in batch]
        sizes = [row.shape[1] for row in rows]
        assert max(sizes) - min(sizes) <= 1


def test_a_place_is_drawn_once_in_an_epoch() -> None:
    for draws in epochs_of(sampler(companions=Companions("positives", 2))):
        assert sorted(draw.place for draw in draws) == list(range(63))


def test_positives_are_other_photos_of_the_class_without_repetition_where_it_has_enough() -> None:
    for batch in sampler(companions=Companions("positives", 4), epochs=20):
        for anchor, *others in np.reshape([draw.position for draw in batch], (5, -1)).T.tolist():
            assert {LABELS[other] for other in others} == {LABELS[anchor]}
            if anchor < 16:
                assert len({anchor, *others}) == 5
            elif anchor < 20:
                assert anchor not in others  # 3 others for 4 places
            else:
                assert others == [20] * 4


def test_every_other_photo_of_the_class_is_a_positive_equally_often() -> None:
    draws = ClassDraws(LABELS)
    anchors = np.array([3, 17])
    drawn = np.array([draws.positives(anchors, count=2, seed=seed) for seed in range(3000)])
    of_3, of_17 = (np.bincount(drawn[:, :, i].ravel(), minlength=21) / 3000 for i in (0, 1))
    assert np.abs(np.delete(of_3, 3)[:15] - 2 / 15).max() < 0.03
    assert np.abs(of_17[[16, 18, 19]] - 2 / 3).max() < 0.04


def test_reversed_companions_are_drawn_by_one_over_the_size_of_their_class() -> None:
    for draws in epochs_of(sampler(companions=Companions("reversed", 1))):
        assert class_counts(draw for draw in draws if draw.place < 21) == [16, 4, 0, 1]
        assert class_counts(draw for draw in draws if draw.place >= 21) == [
            1,
            4,
            0,
            16,
        ]  # 21 / (1, 4, 16) x 16/21


def test_objectives_choose_their_companions() -> None:
    phase = {"backbone": "resnet10t"}
    assert make_companions(PhaseConfig(**phase)) == ALONE
    assert make_companions(PhaseConfig(**phase, sampler=SamplerConfig(positives=2))) == Companions(
        "positives", 2
    )
    assert make_companions(PhaseConfig(**phase, objective=LioConfig(positives=5))) == Companions(
        "positives", 5
    )
    assert make_companions(PhaseConfig(**phase, objective=BbnConfig())) == Companions("reversed", 1)


def test_more_parts_than_photos_in_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4 processes x 2 parts.*batches of 5.*Lower accumulation"):
        sampler(num_processes=4, parts=2)
