"""Evidence read from its files and put beside a list; every wrong kind of path says what it is."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from pydantic import TypeAdapter, ValidationError

from catalog.duplicates import save_duplicates
from catalog.lists import save_list
from catalog.refinement import (
    Agreement,
    Aum,
    Confident,
    Contradictions,
    LowLoss,
    MaxLoss,
    RefinementRule,
    Union,
    load_evidence,
    refine,
)
from contracts.evidence import LOSS_LOG, OUT_OF_FOLD
from contracts.lists import LIST
from contracts.splits import SPLITS
from tests.catalog.evidence_tables import SCHEMA, make_base, make_log, make_rows, told, with_content


def _save(path: Path, *photos: str) -> Path:
    """A whole evidence file about photos of class 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {name: [0] * len(photos) for name in SCHEMA} | {"photo_id": list(photos)}
    OUT_OF_FOLD.write(path, with_content(pl.DataFrame(values | {"source_sha256": None}, schema=SCHEMA)))
    return path


def _load(tmp_path: Path, rule=LowLoss, *, evidence="x.parquet", **options):
    return load_evidence(rule(base="b", evidence=evidence, **options), root=tmp_path)


@pytest.mark.parametrize(
    ("rule", "columns"),
    [
        (MaxLoss, ["mean_loss"]),
        (Aum, ["mean_margin"]),
        (Confident, ["mean_label_probability", "mean_other_probability", "other_class"]),
    ],
)
def test_a_rule_reads_the_columns_it_needs(tmp_path, rule, columns):
    _save(tmp_path / "x.parquet", "a0")
    assert _load(tmp_path, rule).columns == ["photo_id", "class", *columns, "source_sha256"]


def test_held_out_folds_are_put_together(tmp_path):
    _save(tmp_path / "predictions" / "fold_0.parquet", "a0", "a2")
    _save(tmp_path / "predictions" / "fold_1.parquet", "a1")
    table = _load(tmp_path, Confident, evidence="predictions", members=("fold_1", "fold_0"))
    assert table["photo_id"].to_list() == ["a1", "a0", "a2"]


def test_a_photo_in_two_folds_is_refused(tmp_path):
    for name in ("fold_0", "fold_1"):
        _save(tmp_path / f"{name}.parquet", "a0")
    with pytest.raises(ValueError, match="received 2 rows of photos in several, first 'a0'"):
        _load(tmp_path, evidence=".", members=("fold_0", "fold_1"))


def test_members_are_read_by_name(tmp_path):
    _save(tmp_path / "one.parquet", "a0")
    tables = _load(tmp_path, Agreement, evidence=".", members=("one",))
    assert list(tables) == ["one"]
    assert tables["one"].schema == SCHEMA


def test_duplicates_and_lists_are_read_by_the_rules_that_want_them(tmp_path):
    exact = pl.DataFrame({"group": [0, 0], "photo_id": ["a", "b"]})
    near = pl.DataFrame(schema={"photo_id": pl.String, "other_id": pl.String, "distance": pl.Int32})
    save_duplicates(tmp_path, exact=exact, near=near)
    save_list(make_rows(("a", 0, "full")), tmp_path / "x.parquet")
    assert _load(tmp_path, Contradictions, evidence=".")["exact"].equals(exact)
    assert told(_load(tmp_path, Union)) == [("a", 0, "full")]


@pytest.mark.parametrize(("kind", "words"), [(LIST, "received a list"), (SPLITS, "received a splits table")])
def test_a_table_of_another_kind_is_named(tmp_path, kind, words):
    kind.write(tmp_path / "x.parquet", kind.schema.empty_table())
    with pytest.raises(ValueError, match=rf"a loss log or an out-of-fold predictions table, {words}"):
        _load(tmp_path, Aum)


@pytest.mark.parametrize("columns", [["a"], ["photo_id", "class", "mean_loss"]])
def test_a_table_without_a_version_is_named_by_its_columns(tmp_path, columns):
    pl.DataFrame({name: ["0"] for name in columns}).write_parquet(tmp_path / "x.parquet")
    words = re.escape(f"received a table with columns {columns} and no format version: run its phase again")
    with pytest.raises(ValueError, match=words):
        _load(tmp_path, Aum)


def test_members_are_out_of_fold_predictions_and_no_loss_logs(tmp_path):
    LOSS_LOG.write(tmp_path / "one.parquet", LOSS_LOG.schema.empty_table())
    with pytest.raises(ValueError, match="an out-of-fold predictions table, received a loss log: predict"):
        _load(tmp_path, Agreement, evidence=".", members=("one",))


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "x.parquet").write_text("photo_id,class\n")
    with pytest.raises(ValueError, match=r"as Parquet, received .*x\.parquet"):
        _load(tmp_path)


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        (LowLoss, {"evidence": "."}, r"received the folder .* of \['fold'\]"),
        (LowLoss, {"evidence": "fold.parquet", "members": ("fold",)}, "received the file"),
        (
            Agreement,
            {"evidence": "fold.parquet", "members": ("fold",)},
            "Expected a folder of out-of-fold predictions",
        ),
        (Union, {"evidence": "."}, "Expected a list, received the folder"),
    ],
)
def test_a_folder_for_a_file_and_a_file_for_a_folder_are_refused(tmp_path, rule, options, words):
    _save(tmp_path / "fold.parquet", "a0")
    with pytest.raises(ValueError, match=words):
        _load(tmp_path, rule, **options)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (LowLoss, {}),
        (Agreement, {"evidence": ".", "members": ("y",)}),
        (Contradictions, {"evidence": "."}),
        (Union, {}),
    ],
)
def test_missing_evidence_says_what_to_run(tmp_path, rule, options):
    with pytest.raises(FileNotFoundError, match="run the stage"):
        _load(tmp_path, rule, **options)


LOG = make_log({0: [0.1, 0.2], 1: [0.3]})


def _refine(base: pl.DataFrame, *, num_classes: int = 2):
    return refine(LowLoss(base="b", evidence="e"), base=base, evidence=LOG, num_classes=num_classes)


@pytest.mark.parametrize(
    ("base", "num_classes", "words"),
    [
        (
            make_rows(("a0", 0, ""), ("z", 1, "")),
            2,
            r"received none for 1 of 2 photos, first 'z' \(class 1\)",
        ),
        (make_rows(("a0", 1, "")), 2, r"received another label for 1 of 1 photos, first 'a0' \(class 1\)"),
        (make_base(LOG), 1, r"classes of 0\.\.0, received another for 1 of 3 photos, first 'b0'"),
    ],
)
def test_evidence_about_other_photos_or_labels_is_refused(base, num_classes, words):
    with pytest.raises(ValueError, match=words):
        _refine(base, num_classes=num_classes)


def test_the_rule_of_params_yaml_is_told_by_its_name_and_knows_its_own_keys_only():
    rules = TypeAdapter(RefinementRule)
    paths = {"base": "b", "evidence": "e"}
    assert rules.validate_python({"rule": "aum", "min_margin": 1.0, **paths}) == Aum(min_margin=1.0, **paths)
    with pytest.raises(ValidationError, match="min_margin"):
        rules.validate_python({"rule": "max_loss", "min_margin": 1.0, **paths})


def test_every_key_of_every_rule_is_explained():
    for definition in TypeAdapter(RefinementRule).json_schema()["$defs"].values():
        for name, key in definition["properties"].items():
            assert "description" in key, (definition["title"], name)
