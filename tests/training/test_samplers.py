"""Batches as a function of (seed, epoch, step)."""

from __future__ import annotations

from training.samplers import EpochSampler, num_steps_per_epoch


def batches(**changes: int) -> list[list[tuple[int, int]]]:
    options = {"num_photos": 65, "batch_size": 16, "epochs": 3, "seed": 5} | changes
    return list(EpochSampler(options.pop("num_photos"), **options))


def test_every_photo_comes_once_an_epoch() -> None:
    drawn = [draw for batch in batches() for draw in batch]
    assert sorted(drawn) == [(epoch, position) for epoch in range(3) for position in range(65)]


def test_no_batch_is_nearly_empty() -> None:
    assert num_steps_per_epoch(65, batch_size=16) == 5
    assert [len(batch) for batch in batches()] == [13] * 15
    assert [len(batch) for batch in batches(num_photos=17, epochs=1)] == [9, 8]


def test_the_order_changes_with_the_epoch_and_the_seed() -> None:
    first, second = ([p for batch in batches()[e * 5 : e * 5 + 5] for _, p in batch] for e in (0, 1))
    assert first != second
    assert batches() == batches()
    assert batches() != batches(seed=6)


def test_starting_at_any_step_gives_the_rest_of_the_same_batches() -> None:
    whole = batches()
    for step in (0, 3, 5, 7, 15):
        assert batches(first_step=step) == whole[step:]
    assert len(EpochSampler(65, batch_size=16, epochs=3, seed=5, first_step=7)) == 8
