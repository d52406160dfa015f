"""What the stage `register` counts of a recipe's files, and what it leaves out where they are not here."""

from pathlib import Path

import polars as pl
import pytest
import yaml

from aisle.composition import compose
from catalog.lists import save_list
from catalog.splits import SPLITS_FILE
from contracts.evaluation import EVALUATED_ON
from contracts.splits import SPLITS
from imaging.atomic_write import write_text
from pipelines.lineage import describe_lineage, save_evaluated_on
from pipelines.params import Params
from tests.catalog.evidence_tables import make_rows, with_content
from tests.tracking.tiny_bundle import make_bundle
from tracking.lineage.origin import Lineage
from tracking.lineage.record import Record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A recipe whose splits are here and nothing else; the last photo is unlabelled."""
    monkeypatch.chdir(tmp_path)
    rows = [("a0", 0, "train"), ("a1", 0, "train"), ("b0", 1, "train"), ("b1", 1, "val"), ("b2", 1, "test")]
    table = pl.DataFrame([*rows, ("c0", None, "test")], schema=["photo_id", "class", "split"], orient="row")
    splits = with_content(table).with_columns(pl.col("class").cast(pl.Int32), coarse=pl.lit(None, pl.String))
    Path("data/splits/synthetic").mkdir(parents=True)
    SPLITS.write(Path("data/splits/synthetic", SPLITS_FILE), splits)
    values = compose(ROOT, overrides=["recipe=loss_guided", "data=synthetic", "size=tiny"])
    write_text(Path("params.yaml"), yaml.safe_dump(values))
    return Params.model_validate(values)


def describe(params: Params) -> Record:
    lineage = Lineage(commit="c0ffee", clean=True, code="abc", inputs={"data/photos/synthetic": "md5"})
    bundle = Path("bundle")
    if not bundle.exists():
        make_bundle(bundle, seeds=(1,))
    return describe_lineage(params, lineage=lineage, lock_path=Path("dvc.lock"), bundle=bundle)


def test_photos_that_are_validated_and_evaluated_on_are_written_with_their_use(params: Params) -> None:
    save_evaluated_on(params, Path("evaluated_on.parquet"))
    rows = pl.DataFrame(EVALUATED_ON.read(Path("evaluated_on.parquet"))).sort("photo_id")
    assert rows.select("photo_id", "split", "use").rows() == [
        ("b1", "val", "validation"),
        ("b2", "test", "evaluation"),
    ]
    nothing = params.model_copy(
        update={"evaluation": params.evaluation.replace(split=None, validation_split=None)}
    )
    save_evaluated_on(nothing, Path("nothing.parquet"))
    assert EVALUATED_ON.read(Path("nothing.parquet")).num_rows == 0


def test_lists_are_counted_against_what_they_were_made_from(params: Params) -> None:
    folder = Path("data/lists/synthetic")
    save_list(make_rows(("a0", 0, "full"), ("a1", 0, "full"), ("b0", 1, "full")), folder / "full.parquet")
    low = make_rows(("a0", 0, "low_loss: rank 1 of 2"), ("b0", 1, "low_loss: rank 1 of 1"))
    save_list(low, folder / "low_loss.parquet")
    lists = describe(params).lists
    counts = {name: (made.num_photos, made.num_before, made.num_classes) for name, made in lists.items()}
    assert counts == {"full": (3, 3, 2), "low_loss": (2, 3, 2), "low_loss_2": (None, 3, None)}
    assert lists["low_loss"].reasons == {"low_loss: rank # of #": 2}


def test_a_persons_list_without_reasons_is_counted(params: Params) -> None:
    Path("data/lists/synthetic").mkdir(parents=True)
    rows = make_rows(("a0", 0, "mine")).select("photo_id", "class")
    rows.write_parquet("data/lists/synthetic/full.parquet")
    assert describe(params).lists["full"].reasons == {"no reason given": 1}


def test_what_is_not_on_this_machine_is_left_out(params: Params) -> None:
    record = describe(params)
    assert record.photos.num_photos is None
    assert record.source.seen is None
    assert record.phases["record"].fingerprint is None
    assert record.phases["record"].config is not None
    assert record.weights["pretrained"].provenance == ()
    assert record.inputs == {"data/photos/synthetic": "md5"}
    assert [(part.split, part.photos, part.labelled) for part in record.splits or ()] == [
        ("train", 3, 3),
        ("test", 2, 1),
        ("val", 1, 1),
    ]
    assert record.environment is not None
    assert "torch" in record.environment.packages
