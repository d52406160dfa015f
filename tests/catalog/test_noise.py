from __future__ import annotations

import polars as pl
import pytest

from catalog.noise import NoiseConfig, count_confusions, inject_noise

COARSE = ["drinks", "drinks", "drinks", "food", None]
CLASSES = [number % 5 for number in range(1000)]


@pytest.fixture
def splits():
    """1,000 photos of train, 200 of each of 5 classes, 50 unlabelled ones, and 100 of val."""
    classes = CLASSES + [None] * 50 + [0] * 100
    return pl.DataFrame(
        {
            "photo_id": [f"{number:04d}.jpg" for number in range(1150)],
            "class": pl.Series(classes, dtype=pl.Int32),
            "coarse": [None if number is None else COARSE[number] for number in classes],
            "split": ["train"] * 1050 + ["val"] * 100,
        }
    )


def _inject(splits, *, kind="symmetric", share=0.4, seed=0, confusion=None):
    config = NoiseConfig(kind=kind, share=share)
    return inject_noise(
        splits, config=config, num_classes=5, coarse_of_class=COARSE, confusion=confusion, seed=seed
    )


def _changes(splits, noisy):
    """Counts of (class before, class after) where they differ."""
    pairs = splits.select("photo_id", before="class").with_columns(after=noisy["class"])
    changed = pairs.filter(pl.col("before").ne_missing(pl.col("after")))
    return {(before, after): n for before, after, n in changed.group_by("before", "after").len().iter_rows()}


@pytest.mark.parametrize(("share", "count"), [(0.4, 400), (0.0125, 12), (0.0, 0), (1.0, 1000)])
def test_exactly_the_share_of_trains_labels_becomes_wrong(splits, share, count):
    noisy = _inject(splits, share=share)
    assert sum(_changes(splits, noisy).values()) == count
    assert noisy[1000:].equals(splits[1000:])
    assert noisy.schema == splits.schema


def test_the_table_handed_in_stays_as_it_was(splits):
    before = splits.clone()
    _inject(splits)
    assert splits["class"].to_list() == CLASSES + [None] * 50 + [0] * 100
    assert splits.equals(before)


def test_a_wrong_label_brings_its_coarse_class(splits):
    noisy = _inject(splits)[:1000]
    assert noisy["coarse"].to_list() == [COARSE[number] for number in noisy["class"]]


def test_symmetric_reaches_every_other_class_equally(splits):
    counts = _changes(splits, _inject(splits, share=1.0))
    assert len(counts) == 20
    assert all(25 < count < 80 for count in counts.values())  # 50 each, standard deviation 6


def test_within_coarse_stays_in_the_coarse_class_and_leaves_lonely_classes_alone(splits):
    counts = _changes(splits, _inject(splits, kind="within_coarse", share=0.6))
    assert set(counts) == {(i, j) for i in range(3) for j in range(3) if i != j}
    assert sum(counts.values()) == 600


def test_classes_without_a_coarse_class_have_no_other_to_become(splits):
    noisy = inject_noise(
        splits,
        config=NoiseConfig(kind="within_coarse", share=0.2),
        num_classes=5,
        coarse_of_class=["drinks", None, "drinks", None, None],
        seed=0,
    )
    assert set(_changes(splits, noisy)) == {(0, 2), (2, 0)}


def test_confusion_follows_the_counts(splits):
    confusion = pl.DataFrame(
        {"class": [0, 0, 0, 3], "predicted": [1, 2, 0, 4], "count": [3, 1, 99, 1]},
        schema_overrides={"class": pl.Int32, "predicted": pl.Int32},
    )
    counts = _changes(splits, _inject(splits, kind="confusion", share=0.4, confusion=confusion))
    assert set(counts) == {(0, 1), (0, 2), (3, 4)}
    assert counts[3, 4] == 200
    assert counts[0, 1] == pytest.approx(150, abs=20)


def test_a_larger_share_holds_a_smaller_ones_wrong_labels(splits):
    small, large = _inject(splits, share=0.1), _inject(splits, share=0.3)
    wrong = small["class"].ne_missing(splits["class"])
    assert wrong.sum() == 100
    assert large["class"].filter(wrong).to_list() == small["class"].filter(wrong).to_list()


def test_another_seed_makes_other_labels_wrong_and_order_does_not_matter(splits):
    assert not _inject(splits, seed=1).equals(_inject(splits))
    assert _inject(splits.reverse()).reverse().equals(_inject(splits))


def test_more_noise_than_a_kind_can_make_says_how_much_it_can(splits):
    with pytest.raises(
        ValueError, match=r"700 wrong labels .*only 600 photos.*'within_coarse'.*lower the share"
    ):
        _inject(splits, kind="within_coarse", share=0.7)


def test_confusion_needs_a_table_of_the_same_classes(splits):
    with pytest.raises(ValueError, match="set confusion_path"):
        _inject(splits, kind="confusion")
    other = pl.DataFrame({"class": [0], "predicted": [9], "count": [1]})
    with pytest.raises(ValueError, match=r"classes 0\.\.4, received class 0 taken for 9 \(1 such rows\)"):
        _inject(splits, kind="confusion", confusion=other)


def test_confusions_are_counted_from_predictions_that_were_wrong():
    predictions = pl.DataFrame(
        {
            "class": [0, 0, 0, 1, None, 1],
            "other_class": [1, 1, 1, 2, 2, 0],
            "mean_margin": [-1.0, -0.1, 2.0, -3.0, None, None],
        },
        schema_overrides={"class": pl.Int32, "other_class": pl.Int32},
    )
    assert count_confusions(predictions).rows() == [(0, 1, 2), (1, 2, 1)]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "asymmetric", "share": 0.1}, r"kind\s+Input should be 'none', .*'asymmetric'"),
        (
            {"kind": "symmetric", "share": 1.5},
            r"share\s+Input should be less than or equal to 1 .*=1\.5",
        ),
        ({"share": 0.2}, "kind of noise for the share 0.2"),
    ],
)
def test_a_noise_that_cannot_be_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        NoiseConfig(**config)


def test_coarse_classes_of_other_data_are_refused(splits):
    with pytest.raises(ValueError, match="each of 6 classes, received 5"):
        inject_noise(
            splits,
            config=NoiseConfig(kind="symmetric", share=0.1),
            num_classes=6,
            coarse_of_class=COARSE,
            seed=0,
        )
