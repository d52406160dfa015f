"""Set operations over lists, and copies that contradict each other."""

from __future__ import annotations

import polars as pl
import pytest

from catalog.refinement import Contradictions, Intersect, Subtract, Union, refine
from tests.catalog.evidence_tables import PATHS, make_rows, told

LEFT = make_rows(("a0", 0, "full: x"), ("a1", 0, "full: y"), ("b0", 1, "full: z"))
RIGHT = make_rows(("b0", 1, "aum: m"), ("a1", 0, "aum: n"), ("c0", 2, "aum: o"))
OTHER_CLASS = make_rows(("a1", 1, "aum: n"))


def _refine(config, other=RIGHT, *, base=LEFT):
    return refine(config, base=base, evidence=other, num_classes=3)


def test_a_union_has_the_photos_of_both_and_the_reasons_of_both():
    assert told(_refine(Union(**PATHS))) == [
        ("a0", 0, "full: x"),
        ("a1", 0, "full: y; aum: n"),
        ("b0", 1, "full: z; aum: m"),
        ("c0", 2, "aum: o"),
    ]


def test_a_photo_with_two_classes_stops_a_union():
    with pytest.raises(ValueError, match=r"received two for 1, first 'a1' \(0 and 1\)"):
        _refine(Union(**PATHS), OTHER_CLASS)


def test_or_the_base_lists_class_wins():
    rows = _refine(Union(**PATHS, conflict="base"), OTHER_CLASS)
    assert told(rows) == told(LEFT)


def test_a_union_with_an_empty_base_is_the_other_list():
    assert _refine(Union(**PATHS), base=None).equals(RIGHT)


def test_an_intersection_has_the_photos_that_both_give_one_class():
    rows = _refine(Intersect(**PATHS))
    assert told(rows) == [("a1", 0, "full: y; aum: n"), ("b0", 1, "full: z; aum: m")]
    both = make_rows(("a1", 1, "aum: n"), ("b0", 1, "aum: m"))
    assert _refine(Intersect(**PATHS), both)["photo_id"].to_list() == ["b0"]


def test_unlabelled_photos_can_be_intersected():
    rows = _refine(
        Intersect(**PATHS), make_rows(("u", None, "p")), base=make_rows(("u", None, "q"), ("v", None, "q"))
    )
    assert told(rows) == [("u", None, "q; p")]


def test_a_difference_names_the_list_that_was_taken_away():
    rows = _refine(Subtract(base="full.parquet", evidence="data/lists/grocery/wrong.parquet"))
    assert told(rows) == [("a0", 0, "full: x; not in wrong")]


EXACT = pl.DataFrame({"group": [0, 0, 0, 1, 1], "photo_id": ["a0", "a1", "b0", "b1", "b2"]})
NEAR = pl.DataFrame(
    {"photo_id": ["c0"], "other_id": ["b1"], "distance": [2]}, schema_overrides={"distance": pl.Int32}
)
BASE = make_rows(
    *((name, "abc".index(name[0]), "full") for name in ("a0", "a1", "a2", "b0", "b1", "b2", "c0"))
)


def _without_contradictions(**options):
    tables = {"exact": EXACT, "near": NEAR}
    return refine(Contradictions(**PATHS, **options), base=BASE, evidence=tables, num_classes=3)


def test_copies_with_different_labels_are_all_dropped():
    rows = _without_contradictions()
    assert rows["photo_id"].to_list() == ["a2", "b1", "b2", "c0"]
    assert rows["why"].unique().to_list() == ["full; not in contradictions"]


def test_near_copies_count_only_when_asked_for():
    assert _without_contradictions(near=True)["photo_id"].to_list() == ["a2"]


def test_the_label_of_most_copies_may_stay():
    rows = _without_contradictions(near=True, keep_majority=True)
    assert rows["photo_id"].to_list() == ["a0", "a1", "a2", "b1", "b2"]
    assert rows["why"].to_list()[0] == "full; label of most copies"


def test_a_filter_needs_a_base_list_and_the_right_kind_of_evidence():
    with pytest.raises(ValueError, match="Expected a base list for the rule 'subtract'"):
        _refine(Subtract(**PATHS), base=None)
    with pytest.raises(ValueError, match="Expected tables by name for 'contradictions'"):
        _refine(Contradictions(**PATHS))
    with pytest.raises(ValueError, match=r"Expected one table for 'union', received \['exact'\]"):
        _refine(Union(**PATHS), {"exact": EXACT})
