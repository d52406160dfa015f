"""The review of the data: what stops, what is only said, and that names are counted, not poured out."""

from __future__ import annotations

import unicodedata

import polars as pl
import pytest

from catalog.review import (
    ReviewConfig,
    ReviewError,
    check_source,
    describe_review,
    load_review,
    make_review,
    print_form,
    refuse_stops,
    save_review,
)
from catalog.splits import SplitConfig, make_splits
from contracts.photos import REJECTED
from tests.catalog.evidence_tables import with_content

NO_REFUSALS = pl.DataFrame(schema=pl.Schema(REJECTED.schema))


def photos(*rows: tuple[str | None, str | None]) -> pl.DataFrame:
    """A store's table of photos of (label, the source's split)."""
    none = pl.Series([None] * len(rows), dtype=pl.String)
    table = pl.DataFrame(
        {
            "photo_id": [f"{number}.jpg" for number in range(len(rows))],
            "label": pl.Series([label for label, _ in rows], dtype=pl.String),
            "split": pl.Series([split for _, split in rows], dtype=pl.String),
            "true_label": none,
            "coarse_label": none,
            "group": none,
            "sha256": [f"{number:064x}" for number in range(len(rows))],
        }
    )
    return with_content(table)


def refused(**reasons: int) -> pl.DataFrame:
    rows = [(f"{reason}{n}", reason, "why") for reason, count in reasons.items() for n in range(count)]
    return pl.DataFrame(rows, schema=NO_REFUSALS.schema, orient="row")


def review(
    table,
    *,
    names=("a", "b"),
    split=None,
    config=None,
    quarantine=NO_REFUSALS,
    evaluation="test",
    validation="val",
    watched_by=(),
):
    split, names = split or SplitConfig(), list(names)
    made = None
    if not check_source(table, quarantine, split=split, config=config or ReviewConfig()):
        made = make_splits(table, class_names=names, coarse_of={}, config=split, seed=0)
    return make_review(
        table,
        quarantine,
        made,
        class_names=names,
        split=split,
        config=config or ReviewConfig(),
        evaluation_split=evaluation,
        validation_split=validation,
        watched_by=watched_by,
    )


def said(found) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {warned.what: (warned.count, warned.names) for warned in found.warnings}


GIVEN = [(label, split) for label in "ab" for split in ("train", "train", "val", "test")]


def test_auto_keeps_the_sources_splits_and_deals_where_it_has_none() -> None:
    assert review(photos(*GIVEN)).method == "given"
    assert review(photos(*[("a", None)] * 60)).method == "stratified"
    table = photos(*GIVEN)
    splits = make_splits(table, class_names=["a", "b"], coarse_of={}, config=SplitConfig(), seed=0)
    assert splits["split"].to_list() == table["split"].to_list()


def test_splits_that_a_command_would_ignore_stop_until_they_are_given_up_by_name() -> None:
    (stop,) = review(photos(*GIVEN), split=SplitConfig(method="stratified")).stops
    assert "2 in test, 4 in train, 2 in val" in stop
    assert "data.split.method=auto" in stop
    table = photos(*GIVEN * 10)
    given_up = review(table, split=SplitConfig(method="stratified", ignore_given=True, test_share=0.3))
    assert (given_up.stops, given_up.method) == ((), "stratified")


def test_splits_of_some_photos_alone_stop_until_it_is_said_where_the_others_go() -> None:
    table = photos(*GIVEN, ("a", None), ("b", None), (None, None))
    (stop,) = review(table).stops
    assert "2 in none ('8.jpg', '9.jpg')" in stop
    for place in ("train", "unused"):
        config = SplitConfig(unassigned=place)
        splits = make_splits(table, class_names=["a", "b"], coarse_of={}, config=config, seed=0)
        assert splits["split"].to_list()[8:] == [place, place, "test"]
        assert review(table, split=config).stops == ()


def test_train_and_test_alone_leave_the_test_as_it_is_and_val_comes_out_of_train() -> None:
    table = photos(*[(label, split) for label in "ab" for split in ["train"] * 40 + ["test"] * 10])
    config = SplitConfig(val_share=0.25)
    found = review(table, split=config)
    splits = make_splits(table, class_names=["a", "b"], coarse_of={}, config=config, seed=0)["split"]
    assert (splits == "test").to_list() == (table["split"] == "test").to_list()
    assert 8 <= (splits == "val").sum() <= 32
    what = "photos of train dealt to val: the source has no val (25% of train)"
    assert said(found)[what] == ((splits == "val").sum(), ())
    assert found.stops == ()


def test_train_and_val_alone_stop_with_what_evaluates_on_val() -> None:
    rows = [("a", "train")] * 4 + [("a", "val")] * 2
    (stop,) = review(photos(*rows), names=["a"]).stops
    assert "data.evaluation_split=val data.validation_split=holdout data.split.holdout_share=0.1" in stop
    assert "(labelled: train 4, val 2)" in stop
    unlabelled = review(photos(*rows, (None, "test")), names=["a"]).stops
    assert unlabelled == (stop,)


def test_an_evaluation_split_that_chance_left_empty_stops_and_none_at_all_does_not() -> None:
    table = photos(*[("a", None)] * 3)
    config = SplitConfig(min_train_per_class=3)
    (stop,) = review(table, names=["a"], split=config).stops
    assert stop.startswith("Expected labelled photos in the evaluation split 'test', received none")
    assert review(table, names=["a"], split=config, evaluation=None).stops == ()


def test_an_empty_validation_split_warns_and_stops_where_a_phase_goes_by_it() -> None:
    table = photos(("a", "train"), ("a", "test"))
    config = SplitConfig(method="given")
    assert said(review(table, names=["a"], split=config)) == {
        "photos in val, so no epoch is validated": (0, ())
    }
    (stop,) = review(table, names=["a"], split=config, watched_by=["plain"]).stops
    assert "'plain'" in stop


@pytest.mark.parametrize(("count", "stops"), [(1, 0), (2, 1)])
def test_more_than_a_tenth_refused_stops_until_it_is_allowed(count: int, stops: int) -> None:
    table, quarantine = photos(*GIVEN, ("a", "train")), refused(unreadable=count, dropped_label=50)
    assert len(review(table, quarantine=quarantine).stops) == stops
    allowed = review(table, quarantine=quarantine, config=ReviewConfig(max_refused_share=0.2))
    assert allowed.stops == ()
    assert said(allowed)["refused: dropped_label"][0] == 50


def test_the_share_that_a_stop_names_allows_it() -> None:
    table, quarantine = photos(*GIVEN), refused(unreadable=5)
    (stop,) = review(table, quarantine=quarantine).stops
    assert "5 of 13 (38%: 5 unreadable)" in stop
    share = float(stop.rsplit("=", 1)[1].rstrip("."))
    config = ReviewConfig(max_refused_share=share)
    assert review(table, quarantine=quarantine, config=config).stops == ()


def test_classes_are_counted_where_they_are_missing() -> None:
    table = photos(("a", "train"), ("a", "test"), ("b", "train"), ("b", "train"), ("c", "test"), ("c", "val"))
    found = said(review(table, names=["a", "b", "c", "__MACOSX", "d"]))
    assert found == {
        "classes missing in train": (1, ("c",)),
        "classes missing in test, the evaluation split": (1, ("b",)),
        "classes without a photo": (2, ("__MACOSX", "d")),
    }
    one = said(review(photos(("a", "train"), ("a", "test"), ("a", "val"), ("b", "train"))))
    assert one["classes with one photo"] == (1, ("b",))


@pytest.mark.parametrize(
    "other",
    [
        unicodedata.normalize("NFD", "Café au lait"), "café AU LAIT", " Café  au lait ", "Café\tau\nlait",
        "Café\u00a0au\u2003lait", "Ca\u200bfé au\u00ad lait\ufeff", "Caf\u00e9 \u0430u l\u0430it",
    ],
)  # fmt: skip
def test_names_that_print_alike_are_found(other: str) -> None:
    assert other != "Café au lait"
    assert print_form(other) == print_form("Café au lait")


@pytest.mark.parametrize(
    ("one", "other"), [("100 m2", "100 m3"), ("a b", "ab"), ("Cafe", "Café"), ("茶", "菜")]
)
def test_names_that_differ_are_left_alone(one: str, other: str) -> None:
    assert print_form(one) != print_form(other)


def test_alike_names_are_shown_so_that_they_can_be_told_apart() -> None:
    names = ["caf\u00e9", "cafe\u0301", "tea"]
    table = photos(*[(name, split) for name in names for split in ("train", "val", "test")])
    found = review(table, names=names)
    assert said(found)["class names that print alike"] == (1, ("'caf\\xe9' = 'cafe\\u0301'",))
    assert "'caf\\xe9' = 'cafe\\u0301'" in describe_review(found, data="shop", config=ReviewConfig())


def test_fifty_thousand_empty_classes_are_one_line(tmp_path) -> None:
    names = [f"sku{number:05}" for number in range(50_000)]
    table = photos(*[("sku00000", split) for split in ("train", "val", "test")])
    found = review(table, names=names)
    text = describe_review(found, data="shop", config=ReviewConfig())
    assert len(text) < 1000
    assert "49,999  'sku00001', 'sku00002', 'sku00003', 'sku00004', 'sku00005' and 49,994 more" in text
    save_review(found, tmp_path / "review.json")
    assert load_review(tmp_path / "review.json") == found


def test_a_stop_is_an_error_with_a_sentence_for_each_reason() -> None:
    found = review(photos(*GIVEN), split=SplitConfig(method="stratified"), quarantine=refused(no_row=9))
    with pytest.raises(
        ReviewError, match=r"Nothing is trained on shop as it is:\n  - Expected.*\n  - Expected"
    ):
        refuse_stops(found, data="shop")
    refuse_stops(review(photos(*GIVEN)), data="shop")
