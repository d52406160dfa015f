from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from catalog.chance import draw, hash_ids, order_within, to_uniform

IDS = pl.Series([f"train/{number:05d}.jpg" for number in range(20_000)])


def _uniform(*, seed=0, purpose="split"):
    return to_uniform(draw(hash_ids(IDS), seed=seed, purpose=purpose))


def test_draws_stay_the_same_forever():
    assert hash_ids(pl.Series(["", "tea/1.jpg", "thé.jpg"])).tolist() == [
        3244421341483603138,  # XXH3's published value for no input
        3133535086417611260,
        2563252362683435546,
    ]
    assert draw(hash_ids(pl.Series(["tea/1.jpg", "tea/2.jpg"])), seed=3, purpose="list").tolist() == [
        8823444354476589082,
        4476170404140175360,
    ]


def test_draws_are_uniform():
    counts, _ = np.histogram(_uniform(), bins=20, range=(0, 1))
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 43.8  # 1 in 1,000 for 19 degrees of freedom
    assert 0 <= _uniform().min() < _uniform().max() < 1


@pytest.mark.parametrize("other", [{"seed": 1}, {"purpose": "holdout"}])
def test_another_seed_or_purpose_draws_independently(other):
    first, second = _uniform(), _uniform(**other)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert (second[first < 0.1] < 0.1).mean() == pytest.approx(0.1, abs=0.025)


def test_a_draw_does_not_depend_on_the_other_photos():
    alone = draw(hash_ids(IDS[7:8]), seed=0, purpose="split")
    assert alone[0] == draw(hash_ids(IDS), seed=0, purpose="split")[7]


def test_order_within_ranks_each_class_by_key():
    classes = np.array([2, 0, 2, 0, 2])
    keys = np.array([30, 9, 10, 8, 20], dtype=np.uint64) << np.uint64(50)
    assert order_within(classes, keys, IDS[:5]).tolist() == [2, 1, 0, 0, 1]


def test_order_within_breaks_ties_by_the_whole_key_then_by_photo_id():
    classes = np.full(4, 50_029)
    keys = np.array([2, 1, 2, 1], dtype=np.uint64)  # the packed integer has no room for these low bits
    ids = pl.Series(["a", "d", "b", "c"])
    assert order_within(classes, keys, ids).tolist() == [2, 1, 3, 0]


def test_order_within_of_one_class_uses_every_bit_of_the_key():
    keys = np.array([2**64 - 1, 0, 2**63], dtype=np.uint64)
    assert order_within(np.zeros(3, dtype=np.int32), keys, IDS[:3]).tolist() == [2, 0, 1]


def test_order_within_takes_no_photos_and_refuses_a_class_below_0():
    empty = np.zeros(0, dtype=np.int64)
    assert order_within(empty, empty.astype(np.uint64), IDS[:0]).tolist() == []
    with pytest.raises(ValueError, match="at least 0 to rank within, received -1"):
        order_within(np.array([-1]), np.array([1], dtype=np.uint64), IDS[:1])
