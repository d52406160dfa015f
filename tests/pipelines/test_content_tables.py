"""What stages write and commands print of the photos' content."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from aisle.show_lists import diff_lists
from catalog.content import CONTENT
from catalog.lists import save_list
from catalog.splits import save_splits
from pipelines.evaluate import save_predictions
from recognition.feature_bank import FeatureBank
from tests.catalog.evidence_tables import make_rows, with_content

ROOT = Path(__file__).parents[2]


@pytest.fixture
def splits() -> pl.DataFrame:
    rows = make_rows(("a", 0, ""), ("b", 1, ""), ("c", 1, "")).drop("why")
    return rows.with_columns(coarse=pl.lit(None, dtype=pl.String), split=pl.lit("train"))


def test_predictions_say_which_photos_they_are_of(splits: pl.DataFrame, tmp_path: Path) -> None:
    bank = FeatureBank(
        features=np.zeros((2, 3), dtype=np.float32),
        photo_ids=["c", "a"],
        classes=np.array([1, 0]),
        bundle_dir=tmp_path,
    )
    classes, probabilities = torch.tensor([[1, 0], [0, 1]]), torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    path = tmp_path / "predictions.parquet"
    save_predictions(path, bank, splits=splits, classes=classes, probabilities=probabilities)
    found = pl.read_parquet(path)
    assert found.columns == ["photo_id", "label", "classes", "probabilities", *CONTENT]
    assert found["photo_id"].to_list() == ["c", "a"]
    assert found.select(*CONTENT).equals(with_content(found).select(*CONTENT))
    with pytest.raises(ValueError, match=r"in predictions\.parquet, received 1 of 2 .* first 'c'"):
        save_predictions(path, bank, splits=splits[:2], classes=classes, probabilities=probabilities)


def test_a_difference_names_photos_that_changed_under_their_names(
    splits: pl.DataFrame, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    folder = tmp_path / "data/splits/synthetic"
    truth = splits.select("photo_id", "class")
    save_splits(splits, folder, truth=truth, class_names=["jam", "tea"], coarse_of={})
    before = splits.select("photo_id", "class", pl.lit("full").alias("why"), *CONTENT)
    save_list(before, tmp_path / "data/lists/synthetic/before.parquet")
    after = pl.concat([before[:2], with_content(before[2:], shot=1)])
    save_list(after, tmp_path / "data/lists/synthetic/after.parquet")
    out = tmp_path / "changes.parquet"
    said = diff_lists(tmp_path, before="before", after="after", num_shown=5, out=out)
    assert "2 the same" in said
    assert "1 names with another photo than before\n  ! c  tea" in said
    assert pl.read_parquet(out).select("change", "photo_id").rows() == [("content", "c")]
