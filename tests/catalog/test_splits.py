from __future__ import annotations

import polars as pl
import pytest

from catalog.content import CONTENT
from catalog.noise import NoiseConfig
from catalog.splits import (
    SplitConfig,
    load_class_names,
    load_splits,
    load_truth,
    make_splits,
    make_truth,
    save_splits,
)
from catalog.tail import TailConfig

NAMES = ["tea", "jam", "soup"]
STRATIFIED = SplitConfig(method="stratified", val_share=0.2, test_share=0.2)


def _split(photos, *, config=STRATIFIED, seed=0):
    return make_splits(photos, class_names=NAMES, coarse_of={}, config=config, seed=seed)


def test_stratified_divides_every_class_by_about_its_shares(photo_table):
    splits = _split(photo_table)
    jam = splits.filter(pl.col("class") == 1)["split"].value_counts(normalize=True)
    shares = dict(jam.iter_rows())
    assert shares["test"] == pytest.approx(0.2, abs=0.07)
    assert shares["val"] == pytest.approx(0.2, abs=0.07)


def test_rows_keep_the_stores_order_and_labels_become_indexes(photo_table):
    splits = _split(photo_table)
    assert splits["photo_id"].to_list() == photo_table["photo_id"].to_list()
    assert splits.schema == {
        "photo_id": pl.String,
        "class": pl.Int32,
        "coarse": pl.String,
        "split": pl.String,
        **CONTENT,
    }
    assert splits.select(*CONTENT).equals(photo_table.select(*CONTENT))
    assert splits["class"].to_list() == [1] * 300 + [0] * 60 + [2] + [None] * 2


@pytest.mark.parametrize("seed", range(8))
def test_a_class_with_one_photo_stays_in_train(photo_table, seed):
    config = SplitConfig(method="stratified", val_share=0.45, test_share=0.45, holdout_share=0.9)
    splits = _split(photo_table, config=config, seed=seed)
    assert splits.filter(pl.col("class") == 2)["split"].to_list() == ["train"]


def test_a_class_keeps_its_minimum_in_train(photo_table):
    config = SplitConfig(
        method="stratified", val_share=0.5, test_share=0.49, min_train_per_class=40, holdout_share=0.9
    )
    splits = _split(photo_table, config=config).filter(pl.col("class") == 0)
    assert splits["split"].to_list().count("train") == 40


def test_unlabelled_photos_are_never_learnt_from(photo_table):
    splits = _split(photo_table)
    assert splits.filter(pl.col("class").is_null())["split"].to_list() == ["test", "test"]


def test_adding_photos_moves_no_old_one(photo_table):
    later = photo_table.with_columns(photo_id="later/" + pl.col("photo_id"), sha256="f" + pl.col("sha256"))
    large = photo_table.filter(pl.col("label") != "soup")
    before, after = _split(large), _split(pl.concat([later, large]))
    joined = before.join(after, on="photo_id", suffix="_after")
    assert len(joined) == 360
    assert joined["split"].to_list() == joined["split_after"].to_list()


def test_another_seed_divides_otherwise(photo_table):
    assert _split(photo_table)["split"].to_list() != _split(photo_table, seed=1)["split"].to_list()


def test_given_splits_are_kept_and_holdout_comes_out_of_train(photo_table):
    given = photo_table.with_columns(
        split=pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("val")).otherwise(pl.lit("train"))
    )
    splits = _split(given, config=SplitConfig(holdout_share=0.25))
    moved = splits["split"] == "holdout"
    assert given["split"].filter(moved).unique().to_list() == ["train"]
    assert splits["split"].filter(~moved).to_list() == given["split"].filter(~moved).to_list()
    assert moved.sum() == pytest.approx(0.25 * (given["split"] == "train").sum(), rel=0.35)


def test_given_without_splits_says_which_methods_exist(photo_table):
    with pytest.raises(ValueError, match=r"361 of 363 photos have none.*given, stratified"):
        _split(photo_table, config=SplitConfig(method="given"))


def test_an_unknown_label_is_named(photo_table):
    with pytest.raises(ValueError, match="1 others on 1 photos, first 'soup'"):
        make_splits(photo_table, class_names=["tea", "jam"], coarse_of={}, config=STRATIFIED, seed=0)


def test_true_labels_never_enter_the_splits(photo_table):
    secret = photo_table.with_columns(true_label=pl.lit("tea"))
    assert _split(secret).equals(_split(photo_table))


def test_splits_and_class_names_survive_their_files(photo_table, tmp_path):
    splits = _split(photo_table)
    truth = make_truth(photo_table.with_columns(true_label="label"), class_names=NAMES, config=STRATIFIED)
    save_splits(splits, tmp_path / "out", truth=truth, class_names=NAMES, coarse_of={"tea": "drinks"})
    assert load_splits(tmp_path / "out").equals(splits)
    assert load_truth(tmp_path / "out").equals(truth)
    assert load_class_names(tmp_path / "out") == (NAMES, ["drinks", None, None])


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"val_share": 0.5, "test_share": 0.5}, r"val_share \+ test_share < 1, received 0\.5 and 0\.5"),
        ({"holdout_share": -0.1}, r"holdout_share\s+Input should be greater than or equal to 0"),
    ],
)
def test_shares_that_leave_no_train_are_refused(shares, words):
    with pytest.raises(ValueError, match=words):
        SplitConfig(**shares)


def test_an_unknown_method_or_verdict_is_refused():
    with pytest.raises(ValueError, match=r"method\s+Input should be 'auto', 'given' .*'random'"):
        SplitConfig(method="random")
    with pytest.raises(ValueError, match=r"near_across\s+Input should be 'error', .*input_value='stop'"):
        SplitConfig(near_across="stop")


def test_the_truth_is_the_sources_and_without_noise_nothing_else(photo_table):
    known = photo_table.with_columns(true_label=pl.when(pl.int_range(pl.len()) < 2).then(pl.lit("soup")))
    truth = make_truth(known, class_names=NAMES, config=STRATIFIED)
    assert truth.rows() == [("0000.jpg", 2), ("0001.jpg", 2)]
    assert make_truth(photo_table, class_names=NAMES, config=STRATIFIED).is_empty()


def test_with_noise_the_truth_is_the_label_before_where_the_source_knows_none(photo_table):
    config = SplitConfig(method="stratified", noise=NoiseConfig(kind="symmetric", share=0.5))
    known = photo_table.with_columns(true_label=pl.when(pl.int_range(pl.len()) < 1).then(pl.lit("soup")))
    truth = make_truth(known, class_names=NAMES, config=config)
    assert truth["class"].to_list() == [2] + [1] * 299 + [0] * 60 + [2]
    train = _split(known, config=config).filter(pl.col("split") == "train")
    wrong = train.join(truth, on="photo_id").filter(pl.col("class") != pl.col("class_right"))
    assert abs(len(wrong) - round(0.5 * len(train))) <= 1  # the first photo was wrong before


def test_noise_and_tail_leave_every_split_that_measures_as_it_is(photo_table):
    plain = SplitConfig(method="stratified", val_share=0.2, test_share=0.2, holdout_share=0.2)
    study = SplitConfig(
        method="stratified",
        val_share=0.2,
        test_share=0.2,
        holdout_share=0.2,
        tail=TailConfig(imbalance=10, photos_head=80),
        noise=NoiseConfig(kind="symmetric", share=0.4),
    )
    before, after = _split(photo_table, config=plain), _split(photo_table, config=study)
    measures = before["split"] != "train"
    assert after.filter(measures).equals(before.filter(measures))
    train = after.filter(pl.col("split") == "train")
    assert (
        train["class"] != train.join(before, on="photo_id", maintain_order="left")["class_right"]
    ).sum() == (round(0.4 * len(train)))
    assert set(after.filter(~measures)["split"]) == {"train", "unused"}
