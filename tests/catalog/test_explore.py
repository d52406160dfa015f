"""The report of a catalogue: what it says, what it leaves out, and that nothing stops it."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from catalog.duplicates import find_exact
from catalog.explore.classes import count_classes
from catalog.explore.report import Round, explore
from catalog.explore.sheets import SIDE, make_thumbnails
from catalog.ingest.run import ingest
from catalog.photo_store import PHOTOS_FILE, PhotoStore
from catalog.quarantine import load_quarantine
from catalog.sources import make_source

NO_NEAR = pl.DataFrame(schema={"photo_id": pl.String, "other_id": pl.String, "distance": pl.Int32})


@pytest.fixture
def catalogue(photo_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """Three equal photos of jam and three of tea, whose source is written out; no list, no round."""
    store = tmp_path / "store"
    ingest(make_source("image_folder", root=photo_folder), store, num_workers=0, progress=False)
    photos = pl.read_parquet(store / PHOTOS_FILE)
    splits = photos.select(
        "photo_id",
        pl.col("label").replace_strict({"jam": 0, "tea": 1}, return_dtype=pl.Int32).alias("class"),
        pl.lit(None, dtype=pl.String).alias("coarse"),
        pl.Series("split", ["train", "train", "train", "train", "train", "test"]),
    )
    return {
        "title": "tiny",
        "store": PhotoStore(store),
        "photos": photos,
        "quarantine": load_quarantine(store),
        "splits": splits,
        "class_names": ["jam", "tea"],
        "coarse_names": [None, None],
        "exact": find_exact(photos).clear(),
        "near": NO_NEAR,
        "lists": {},
        "rounds": [],
        "truth": None,
    }


@pytest.fixture
def round_a(catalogue: dict[str, Any]) -> Round:
    """All five training photos before; the round drops the jam with the losses 7.25 and 0.2."""
    before = (
        catalogue["splits"].filter(pl.col("split") == "train").select("photo_id", "class", why=pl.lit("full"))
    )
    evidence = before.select("photo_id", "class").with_columns(
        mean_loss=pl.Series([0.1, 0.2, 7.25, 0.3, None], dtype=pl.Float32),
        mean_margin=pl.Series([3.0, 2.0, -4.5, 1.0, None], dtype=pl.Float32),
        other_class=pl.Series([1, 1, 1, 0, None], dtype=pl.Int32),
    )
    return Round(
        name="low_loss",
        before=before,
        after=before.filter(pl.Series([1, 0, 0, 1, 1]) == 1),
        evidence=evidence,
    )


def words(report: Path) -> str:
    """The page's text, without tags and images, white space as single blanks."""
    body = report.read_text(encoding="utf-8").split("</style>")[1]
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def plots(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "plots").iterdir())


def test_what_a_catalogue_lacks_is_said_and_not_plotted(catalogue, tmp_path):
    text = words(explore(tmp_path / "out", **catalogue))
    assert "Ingest refused no photo" in text
    assert "No photo has the same bytes as another" in text
    assert "No list was given" in text
    assert "No refinement round yet" in text
    assert plots(tmp_path / "out") == ["class_frequency.png", "photo_sizes.png", "photos_per_class.png"]


def test_the_summary_counts_splits_and_sizes(catalogue, tmp_path):
    text = words(explore(tmp_path / "out", **catalogue))
    assert "train 5 83.3 % 0 2" in text
    assert "test 1 16.7 % 0 1" in text
    assert "24 x 16 6 100.0 %" in text


def test_refused_photos_are_counted_by_reason_with_the_words_of_the_first(catalogue, tmp_path):
    rows = [("a", "corrupt", "Copy it again."), ("b", "empty", "Send it."), ("c", "corrupt", "Other words.")]
    catalogue["quarantine"] = pl.DataFrame(rows, schema=["photo_id", "reason", "message"], orient="row")
    text = words(explore(tmp_path / "out", **catalogue))
    assert "corrupt 2 a Copy it again. empty 1 b Send it." in text


def test_lists_stand_beside_the_training_split(catalogue, round_a, tmp_path):
    catalogue["lists"] = {"refined": round_a.after}
    text = words(explore(tmp_path / "out", **catalogue))
    assert "(split train) 100.0 % 5 2 2 2 3" in text
    assert "refined 60.0 % 3 2 1 1 2" in text
    assert "list_frequency.png" in plots(tmp_path / "out")


def test_copies_are_grouped_and_those_across_splits_or_with_two_labels_are_shown(catalogue, tmp_path):
    catalogue["exact"] = find_exact(catalogue["photos"])
    one, _, last = catalogue["exact"]["photo_id"].head(3)
    changed = pl.col("photo_id") == one
    catalogue["splits"] = catalogue["splits"].with_columns(
        pl.when(changed).then(1).otherwise("class").cast(pl.Int32).alias("class")
    )
    report = explore(tmp_path / "out", **catalogue)
    # jam: three photos, one of them now called tea; tea: three photos in train, train and test
    assert "same bytes 2 6 1 1" in words(report)
    assert "train and test 1 1" in words(report)
    assert words(report).index("Contradicting labels") < words(report).index("Further copies across splits")
    assert f'alt="photo {last}"' in report.read_text(encoding="utf-8")


def test_a_near_copy_joins_its_exact_group(catalogue, tmp_path):
    catalogue["exact"] = find_exact(catalogue["photos"])
    jam, tea = sorted(("jam/0.jpg", "tea/0.jpg"))
    catalogue["near"] = pl.DataFrame([(jam, tea, 2)], schema=NO_NEAR.schema, orient="row")
    text = words(explore(tmp_path / "out", **catalogue))
    assert "same bytes 2 6 0 1 same bytes or look alike 1 6 1 1" in text
    assert "6 photos, distance up to 2" in text


def test_a_round_shows_the_dropped_beside_the_kept(catalogue, round_a, tmp_path):
    text = words(explore(tmp_path / "out", **catalogue | {"rounds": [round_a]}))
    assert "Of 5 photos the round dropped 2 and kept 3. No true labels are known" in text
    assert "jam class 0, 2 of 3 dropped" in text
    dropped = "loss 7.25 margin -4.50 saw: tea loss 0.20 margin +2.00 runner-up: tea"
    assert f"Dropped: highest loss first {dropped} Kept: lowest loss first loss 0.10 margin +3.00" in text
    assert {"low_loss_losses.png", "low_loss_suspicious.png"} < set(plots(tmp_path / "out"))


def test_known_truth_gives_precision_and_recall_of_a_round(catalogue, round_a, tmp_path):
    truth = round_a.before.select("photo_id", pl.Series("class", [1, 0, 1, 1, 0], dtype=pl.Int32))
    text = words(explore(tmp_path / "out", **catalogue | {"rounds": [round_a], "truth": truth}))
    assert "5 photos, 3 of them labelled wrongly. 50.0 % of the dropped" in text
    assert "33.3 % of the wrong were dropped (recall)" in text
    assert "saw: tea truth: tea" in text


def test_a_round_without_losses_or_without_drops_says_so(catalogue, round_a, tmp_path):
    other = round_a.evidence.with_columns(mean_loss=pl.lit(None, dtype=pl.Float32))
    idle = Round(name="idle", before=round_a.before, after=round_a.before, evidence=other)
    text = words(explore(tmp_path / "out", **catalogue | {"rounds": [idle]}))
    assert "Of 5 photos the round dropped 0 and kept 5." in text
    assert "The evidence holds no loss" in text
    assert not [name for name in plots(tmp_path / "out") if name.startswith("idle")]


def test_names_that_could_be_html_arrive_as_text(catalogue, round_a, tmp_path):
    catalogue["class_names"] = ["<script>alert('jam')</script> & $x$", "红茶"]
    report = explore(tmp_path / "out", **catalogue | {"rounds": [round_a], "title": "<b>tiny</b>"})
    page = report.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page
    assert "红茶" in page


def test_the_page_needs_no_other_file_and_has_words_for_every_picture(catalogue, round_a, tmp_path):
    page = explore(tmp_path / "out", **catalogue | {"rounds": [round_a]}).read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', page)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) == 7  # four plots; two photos dropped and one kept
    assert all(re.search(r'alt="[^"]+"', image) for image in images)


def test_equal_catalogues_give_equal_bytes(catalogue, round_a, tmp_path):
    catalogue |= {
        "rounds": [round_a],
        "lists": {"full": round_a.before},
        "exact": find_exact(catalogue["photos"]),
    }
    folders = [explore(tmp_path / name, **catalogue).parent for name in ("one", "two")]
    files = [{p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.*")} for folder in folders]
    assert len(files[0]) == 8
    assert files[0] == files[1]


def test_a_damaged_photo_is_a_grey_tile_and_stops_nothing(catalogue, round_a, tmp_path):
    shard = next(catalogue["store"].path.glob("shard-*.arrow"))
    data = bytearray(shard.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 30] ^= 1  # inside the first JPEG
    shard.write_bytes(data)
    catalogue["store"] = PhotoStore(catalogue["store"].path)
    thumbnail = make_thumbnails(catalogue["store"], ["jam/0.jpg"])["jam/0.jpg"]
    assert Image.open(BytesIO(thumbnail)).size == (SIDE, SIDE)
    red, green, blue = Image.open(BytesIO(thumbnail)).getpixel((SIDE // 2, 5))
    assert max(red, green, blue) - min(red, green, blue) < 30
    assert explore(tmp_path / "out", **catalogue | {"rounds": [round_a]}).exists()


def test_thumbnails_are_small_whatever_the_photo(tmp_path, write_photo):
    write_photo(tmp_path / "raw" / "wide" / "0.png", size=(500, 50), format="PNG")
    source = make_source("image_folder", root=tmp_path / "raw")
    ingest(source, tmp_path / "store", num_workers=0, progress=False)
    thumbnail = make_thumbnails(PhotoStore(tmp_path / "store"), ["wide/0.png"])["wide/0.png"]
    assert Image.open(BytesIO(thumbnail)).size == (120, 12)
    assert len(thumbnail) < 5000


def test_one_class_with_one_photo_is_enough(catalogue, tmp_path):
    for name in ("photos", "splits"):
        catalogue[name] = catalogue[name].head(1)
    text = words(explore(tmp_path / "out", **catalogue | {"class_names": ["jam"], "coarse_names": [None]}))
    assert "All 1 classes class index train jam 0 1" in text


def test_a_catalogue_without_labels_has_no_class_sizes(catalogue, tmp_path):
    catalogue["splits"] = catalogue["splits"].with_columns(pl.lit(None, dtype=pl.Int32).alias("class"))
    text = words(explore(tmp_path / "out", **catalogue | {"class_names": [], "coarse_names": []}))
    assert "No photo has a label" in text
    assert plots(tmp_path / "out") == ["photo_sizes.png"]


def test_many_classes_do_not_make_a_large_page(catalogue, tmp_path):
    names = [f"class {number}" for number in range(50_030)]
    report = explore(tmp_path / "out", **catalogue | {"class_names": names, "coarse_names": [None] * 50_030})
    assert report.stat().st_size < 1_000_000


def test_classes_of_another_list_are_refused():
    rows = pl.DataFrame({"photo_id": ["a"], "class": [2]}, schema_overrides={"class": pl.Int32})
    with pytest.raises(ValueError, match=r"Expected classes of 0\.\.1, received 2\.\.2"):
        count_classes(rows, num_classes=2)


@pytest.mark.parametrize("name", ["../low", "a/b", ""])
def test_a_round_that_cannot_name_a_file_is_refused(catalogue, round_a, tmp_path, name):
    unfit = Round(name=name, before=round_a.before, after=round_a.after, evidence=round_a.evidence)
    with pytest.raises(ValueError, match="rename the refinement"):
        explore(tmp_path / "out", **catalogue | {"rounds": [unfit]})
    assert not (tmp_path / "out").exists()
