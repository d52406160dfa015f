"""Rules that read several models' answers: agreement and pseudo."""

from __future__ import annotations

import polars as pl
import pytest

from catalog.refinement import Agreement, Pseudo, refine
from tests.catalog.evidence_tables import PATHS, make_base, make_predictions, make_rows, told

FIRST = make_predictions([("a0", 0, 0.9, 1, 0.1), ("a1", 0, 0.3, 1, 0.6), ("b0", 1, 0.2, 0, 0.7)])
SECOND = make_predictions([("a0", 0, 0.8, 1, 0.1), ("a1", 0, 0.5, 1, 0.5), ("b0", 1, 0.4, 0, 0.6)])
THIRD = make_predictions([("b0", 1, None, None, None), ("a0", 0, 0.4, 2, 0.5)])
MEMBERS = {"first": FIRST, "second": SECOND, "third": THIRD}
BASE = make_base(FIRST)


def _agreed(members, **options):
    config = Agreement(**PATHS, members=tuple(members), **options)
    evidence = {name: MEMBERS[name] for name in members}
    return refine(config, base=BASE, evidence=evidence, num_classes=3)


def test_photos_whose_label_all_members_predict_stay():
    rows = _agreed(["first", "second"], min_per_class=0)
    assert told(rows) == [("a0", 0, "agreement: 2 of 2 members")]


@pytest.mark.parametrize(
    ("members", "minimum", "expected"),
    [(["first", "second"], 1, ["a0", "a1"]), (["first", "second", "third"], 2, ["a0"])],
)
def test_fewer_members_may_be_enough(members, minimum, expected):
    rows = _agreed(members, min_members=minimum, min_per_class=0)
    assert rows["photo_id"].to_list() == expected


def test_a_class_keeps_the_photo_with_the_most_probable_label():
    rows = _agreed(["first", "second"])
    assert told(rows)[1] == ("b0", 1, "agreement: among the best 1 of its class")


def test_a_photo_that_no_member_was_asked_about_is_refused():
    base = pl.concat([BASE, make_rows(("c0", 2, "full"))])
    config = Agreement(**PATHS, members=("first",))
    with pytest.raises(ValueError, match="none for 1 of 4, first 'c0'"):
        refine(config, base=base, evidence={"first": FIRST}, num_classes=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"members": ()}, "members, each once"),
        ({"members": ("a", "a")}, "members, each once"),
        ({"members": ("a", "b"), "min_members": 3}, r"min_members in 1\.\.2"),
    ],
)
def test_members_without_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Agreement(**PATHS, **options)


LEFT = make_predictions(
    [
        ("u0", None, None, 2, 0.99),
        ("u1", None, None, 1, 0.97),
        ("u2", None, None, 1, 0.99),
        ("u3", None, None, 1, 0.98),
        ("a0", 0, 0.1, 1, 0.99),
    ]
)
RIGHT = make_predictions(
    [
        ("u3", None, None, 1, 0.96),
        ("u2", None, None, 0, 0.99),
        ("u1", None, None, 1, 0.94),
        ("u0", None, None, 2, 0.90),
    ]
)


def _added(base=None, **options):
    config = Pseudo(**PATHS, members=("left", "right"), **options)
    return refine(config, base=base, evidence={"left": LEFT, "right": RIGHT}, num_classes=3)


def test_unlabelled_photos_get_the_class_that_all_members_are_sure_of():
    # means: u0 0.945, u1 0.955, u3 0.97; u2 is disputed, a0 has a label
    assert told(_added()) == [
        ("u1", 1, "pseudo: p 0.9550 > 0.95, 2 members agree"),
        ("u3", 1, "pseudo: p 0.9700 > 0.95, 2 members agree"),
    ]
    assert _added(min_probability=0.9)["photo_id"].to_list() == ["u0", "u1", "u3"]


def test_a_class_gets_its_most_probable_photos_at_most():
    assert _added(min_probability=0.9, per_class=1)["photo_id"].to_list() == ["u0", "u3"]


def test_the_base_list_comes_first_and_keeps_its_labels():
    rows = _added(make_rows(("a0", 0, "full"), ("u3", 2, "full")))
    assert rows["photo_id"].to_list() == ["a0", "u3", "u1"]
    assert rows["class"].to_list() == [0, 2, 1]


def test_predictions_of_labelled_photos_alone_give_no_pseudo_labels():
    config = Pseudo(**PATHS, members=("first",))
    with pytest.raises(ValueError, match="predictions of unlabelled photos"):
        refine(config, base=BASE, evidence={"first": FIRST}, num_classes=3)
