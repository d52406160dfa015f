"""Lists of every rule out of one `dvc repro`, on photos of a table, and what the commands say of them.

The table has what tables have: senders, copies with other labels, photos without one, later more photos.
"""

import csv
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest

from catalog.sources.synthetic import SyntheticConfig, draw_photo
from tests.project import ROOT, Project, copy_checkout

pytestmark = pytest.mark.e2e

CONFIG = SyntheticConfig(num_skus=4, skus_per_brand=2, photos_head=20, photos_tail=20, width=48, height=60)
NUM_PER_SKU = 24
THRESHOLDS = ("max_loss", "quantile", "aum", "confident")
MEMBERS = ("agreement", "pseudo")
SET_OPERATIONS = ("union", "intersect", "subtract")
RULES = ("low_loss", "median", *THRESHOLDS, *MEMBERS, "contradictions", *SET_OPERATIONS)


def write_photos(folder: Path, *, first: int, last: int) -> None:
    """Photos first..last-1 of each SKU, and the table of all so far; every sixth has no label."""
    for sku in range(CONFIG.num_skus):
        for number in range(first, last):
            (folder / f"{sku}-{number:02}.jpg").write_bytes(draw_photo(CONFIG, sku=sku, seed=number))
    shutil.copy(folder / "0-01.jpg", folder / "1-copy.jpg")  # the same photo as another SKU
    rows = [
        (path.name, "" if number % 6 == 5 else f"sku {path.name[0]}", f"sender {number % 12}")
        for number, path in enumerate(sorted(folder.glob("*.jpg")))
    ]
    with (folder / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "sender"), *rows])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> Project:
    folder = tmp_path_factory.mktemp("rules")
    project = copy_checkout(folder / "aisle", python_folder=python_folder)
    shutil.copy(ROOT / "tests/every_rule.yaml", project.folder / "conf/recipe/every_rule.yaml")
    (folder / "photos").mkdir()
    write_photos(folder / "photos", first=0, last=NUM_PER_SKU)
    project.aisle(
        "use", "recipe=every_rule", "data=table", f"data.root={folder / 'photos'}",
        "data.options.group_column=sender", "data.split.min_train_per_class=6",
        "data.split.noise.kind=symmetric", "data.split.noise.share=0.2",
    )  # fmt: skip
    project.run("dvc", "repro", "explore")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "lists")
    return project


def read_list(project: Project, name: str) -> pl.DataFrame:
    return pl.read_parquet(project.folder / f"data/lists/table/{name}.parquet")


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_makes_a_list_whose_rows_say_why(project: Project, rule: str) -> None:
    rows = read_list(project, rule)
    kept_by = (
        "low_loss" if rule == "median" else "fold" if rule in ("union", "intersect", "subtract") else rule
    )
    assert len(rows) > 0
    assert rows["photo_id"].n_unique() == len(rows)
    assert rows["why"].str.contains(rf"{kept_by}|full|contradictions").all()
    assert rows["why"].str.contains(r"\d|train").all()


def test_set_operations_count_up(project: Project) -> None:
    sizes = {
        name: len(read_list(project, name)) for name in ("full", "seen_0", "held_0", "union", "subtract")
    }
    assert sizes["union"] == sizes["full"] == sizes["seen_0"] + sizes["held_0"]
    assert sizes["subtract"] == sizes["seen_0"]


def test_a_sender_stays_in_one_split_and_a_copy_beside_its_original(project: Project) -> None:
    splits = pl.read_parquet(project.folder / "data/splits/table/splits.parquet")
    photos = pl.read_parquet(project.folder / "data/photos/table/photos.parquet")
    labelled = splits.filter(pl.col("class").is_not_null()).join(photos, on="photo_id")
    assert labelled.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
    copies = pl.read_parquet(project.folder / "data/duplicates/table/exact.parquet")
    assert sorted(copies["photo_id"]) == ["0-01.jpg", "1-copy.jpg"]


def test_pseudo_adds_photos_that_no_label_was_given(project: Project) -> None:
    added = read_list(project, "pseudo").join(read_list(project, "full"), on="photo_id", how="anti")
    assert len(added) == len(read_list(project, "unlabelled")) > 0
    assert added["class"].null_count() == 0


def test_the_commands_say_what_a_list_holds_and_what_changed(project: Project) -> None:
    assert "classes: 4 of 4 that train has" in project.aisle("lists", "show", "balanced")
    said = project.aisle("lists", "diff", "HEAD:full", "quantile", "--show", "1")
    dropped = len(read_list(project, "full")) - len(read_list(project, "quantile"))
    assert f"0 came\n{dropped} went" in said
    assert "precision" in project.aisle("lists", "score", "quantile")
    said = project.aisle("lists", "diff", "nowhere:full", "full", code=1)
    assert "unknown Git revision 'nowhere'" in said
    assert "photos with exact copies of another label" in project.aisle("photos", "copies")
    assert "every shard is as ingest wrote it" in project.aisle("photos", "check")


def test_the_report_shows_each_round_that_judged_photos_by_a_number(project: Project) -> None:
    page = (project.folder / "data/exploration/every_rule/report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("low_loss", "quantile", "aum", "confident"))
    assert (project.folder / "data/exploration/every_rule/plots/confident_suspicious.png").exists()
    shown = project.run("dvc", "plots", "show")
    assert "index.html" in shown


def test_new_photos_add_a_shard_and_move_no_old_photo(project: Project) -> None:
    """Comes last: it makes the source larger."""
    store, photos = project.folder / "data/photos/table", project.folder.parent / "photos"
    before = pl.read_parquet(project.folder / "data/splits/table/splits.parquet")
    old = {path.name: path.stat().st_ino for path in store.glob("shard-*.arrow")}
    write_photos(photos, first=NUM_PER_SKU, last=NUM_PER_SKU + 3)
    said = project.run("dvc", "repro", "split")
    assert "12 new, 97 kept" in said
    assert {path.name: path.stat().st_ino for path in store.glob("shard-*.arrow")}.items() > old.items()
    after = pl.read_parquet(project.folder / "data/splits/table/splits.parquet")
    assert len(after) == len(before) + 12
    truncate(next(iter(store.glob("shard-*.arrow"))))
    assert "shard-" in project.aisle("photos", "check", code=1)


def truncate(path: Path) -> None:
    """Cut a file's end off, whatever link DVC made of it."""
    content = path.read_bytes()
    subprocess.run(["rm", "-f", str(path)], check=True)
    path.write_bytes(content[:-100])
