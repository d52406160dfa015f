from __future__ import annotations

import imagehash
import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw

from catalog.duplicates import (
    DuplicatesConfig,
    contradictions,
    find_exact,
    find_near,
    is_near_any,
    load_duplicates,
    save_duplicates,
    tie_copies,
)


def _photos(rows):
    """Photos of (photo_id, sha256, perceptual_hash)."""
    schema = {"photo_id": pl.String, "sha256": pl.String, "perceptual_hash": pl.UInt64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _hashes(values):
    """Photos of different bytes with these hashes, named by their places."""
    return _photos([(f"{place:05d}", f"sha {place}", value) for place, value in enumerate(values)])


def _pairs(frame):
    return {(int(one), int(two)): distance for one, two, distance in frame.iter_rows()}


def test_exact_copies_are_groups_numbered_by_their_smallest_id():
    photos = _photos(
        [("d", "2", None), ("c", "1", None), ("b", "2", None), ("x", "3", None), ("e", "1", None)]
    )
    assert find_exact(photos).rows() == [(0, "b"), (0, "d"), (1, "c"), (1, "e")]
    assert find_exact(photos).schema == {"group": pl.Int64, "photo_id": pl.String}


def test_near_copies_differ_in_a_few_bits():
    photos = _hashes([0b0, 0b11, 0b1111, 1 << 63, None])
    near = find_near(photos, max_distance=2)
    assert near.rows() == [("00000", "00001", 2), ("00000", "00003", 1), ("00001", "00002", 2)]
    assert near.schema == {"photo_id": pl.String, "other_id": pl.String, "distance": pl.Int32}


@pytest.mark.parametrize("max_distance", range(9))
def test_the_search_finds_exactly_what_comparing_all_pairs_finds(max_distance):
    random = np.random.default_rng(max_distance)
    centers = random.integers(0, 2**64, 40, dtype=np.uint64)
    values = [int(value) for value in centers]
    for value in list(values):
        for flips in range(1, 11):
            bits = random.choice(64, flips, replace=False)
            values.append(value ^ sum(1 << int(bit) for bit in bits))
    expected = {
        (one, two): distance
        for one in range(len(values))
        for two in range(one + 1, len(values))
        if (distance := (values[one] ^ values[two]).bit_count()) <= max_distance
    }
    assert _pairs(find_near(_hashes(values), max_distance=max_distance)) == expected


def test_photos_of_one_hash_are_a_star_and_near_hashes_one_pair():
    near = find_near(_hashes([7, 7, 7, 7, 5, 5]), max_distance=1)
    assert _pairs(near) == {(0, 1): 0, (0, 2): 0, (0, 3): 0, (4, 5): 0, (0, 4): 1}


def test_ten_thousand_blank_photos_are_no_more_pairs_than_photos():
    near = find_near(_hashes([0] * 10_000 + [1]), max_distance=2)
    assert len(near) == 10_000


def test_exact_copies_are_not_repeated_as_near_ones():
    photos = _photos([("a", "1", 7), ("b", "1", 7), ("c", "2", 7), ("d", "1", 7)])
    assert find_near(photos, max_distance=0).rows() == [("a", "c", 0)]


def test_more_pairs_than_memory_is_for_are_refused():
    with pytest.raises(
        ValueError, match=r"at most 5 pairs of near copies among 10 photos.*lower max_distance"
    ):
        find_near(_hashes([1 << bit for bit in range(10)]), max_distance=2, max_pairs=5)


def test_a_photo_saved_again_and_smaller_is_near_and_another_is_not():
    random = np.random.default_rng(0)
    hashes = []
    for _ in range(4):
        photo = Image.new("RGB", (320, 240), "white")
        for _ in range(25):
            x, y, size = random.integers(0, 300), random.integers(0, 220), random.integers(20, 120)
            color = tuple(int(value) for value in random.integers(0, 255, 3))
            ImageDraw.Draw(photo).rectangle((x, y, x + size, y + size), fill=color)
        hashes += [int(str(imagehash.phash(image)), 16) for image in (photo, photo.resize((160, 120)))]
    near = find_near(_hashes(hashes), max_distance=DuplicatesConfig().max_distance)
    assert set(_pairs(near)) == {(0, 1), (2, 3), (4, 5), (6, 7)}


def test_ties_follow_through_exact_and_near_copies():
    exact = pl.DataFrame({"group": [0, 0, 1, 1], "photo_id": ["b", "c", "x", "y"]})
    near = pl.DataFrame({"photo_id": ["a", "c"], "other_id": ["b", "d"], "distance": [2, 0]})
    assert tie_copies(exact, near).rows() == [(0, "a"), (0, "b"), (0, "c"), (0, "d"), (1, "x"), (1, "y")]
    assert tie_copies(exact).rows() == [(0, "b"), (0, "c"), (1, "x"), (1, "y")]
    assert tie_copies(exact.clear(), near.clear()).is_empty()


def test_contradictions_are_all_labelled_photos_of_a_group_with_two_labels():
    exact = pl.DataFrame({"group": [0, 0, 0, 1, 1], "photo_id": ["a", "b", "c", "x", "y"]})
    near = pl.DataFrame({"photo_id": ["x"], "other_id": ["z"], "distance": [2]})
    labels = pl.DataFrame({"photo_id": ["a", "b", "c", "x", "y", "z"], "class": [1, 2, None, 3, 3, 4]})
    assert contradictions(exact, None, labels).rows() == [("a", 1, 0), ("b", 2, 0)]
    assert contradictions(exact, near, labels).rows() == [
        ("a", 1, 0),
        ("b", 2, 0),
        ("x", 3, 1),
        ("y", 3, 1),
        ("z", 4, 1),
    ]


def test_tables_survive_their_files(tmp_path):
    photos = _photos([("a", "1", 7), ("b", "1", 7), ("c", "2", 6)])
    exact, near = find_exact(photos), find_near(photos, max_distance=2)
    save_duplicates(tmp_path / "out", exact=exact, near=near)
    loaded = load_duplicates(tmp_path / "out")
    assert loaded[0].equals(exact)
    assert loaded[1].equals(near)
    with pytest.raises(FileNotFoundError, match=r"exact\.parquet .*run the stage that finds copies"):
        load_duplicates(tmp_path)


def test_no_photos_have_no_copies():
    empty = _photos([])
    assert find_exact(empty).is_empty()
    assert find_near(empty, max_distance=4).is_empty()


@pytest.mark.parametrize("max_distance", [-1, 9])
def test_a_distance_that_is_not_near_is_refused(max_distance):
    with pytest.raises(ValueError, match=r"in 0\.\.8"):
        DuplicatesConfig(max_distance=max_distance)


def test_hashes_near_any_of_others_are_found_as_by_comparing_all_with_all() -> None:
    rng = np.random.default_rng(3)
    others = rng.integers(0, 2**64, 300, dtype=np.uint64)
    flips = [0, 1, 0b11, 0b101 << 40, 0b111, (1 << 63) | 1, 0b1111 << 20]
    values = np.concatenate(
        [others[: len(flips)] ^ np.array(flips, dtype=np.uint64), rng.integers(0, 2**64, 50, dtype=np.uint64)]
    )
    values = np.concatenate([values, values[:3]])  # twice the same hash is two photos
    for distance in (0, 2, 4):
        expected = (np.bitwise_count(values[:, None] ^ others[None]) <= distance).any(axis=1)
        assert is_near_any(values, others, max_distance=distance).tolist() == expected.tolist()
    assert not is_near_any(values, others[:0], max_distance=2).any()
    assert is_near_any(values[:0], others, max_distance=2).tolist() == []
