"""The stage `split` on a small store: splits and review, or the review alone where it stops."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from aisle.composition import use
from aisle.show_data import show_review
from catalog.review import ReviewError
from catalog.splits import load_splits
from pipelines import duplicates, ingest, split

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout beside photos in train, val and test folders; params.yaml chooses them."""
    for place, count in (("train", 4), ("val", 2), ("test", 2)):
        for label, hue in (("jam", 0), ("tea", 90)):
            for number in range(count):
                path = tmp_path / "my photos (1)" / place / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8 + number, 8 + len(place)), (hue, 40 * number, 9 * len(place))).save(path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/conf").symlink_to(ROOT / "conf")
    monkeypatch.chdir(tmp_path / "shop")
    return tmp_path / "shop"


def choose(*typed: str) -> None:
    use(Path(), overrides=["recipe=plain", "data=image_folder", "data.root=../my photos (1)", *typed])


def store() -> None:
    ingest.main()
    duplicates.main()


def test_a_folders_own_splits_are_kept_and_reviewed(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choose("data.name=shop_a")
    with pytest.raises(FileNotFoundError, match="dvc repro split"):
        show_review(Path())
    store()
    capsys.readouterr()
    show_review(Path())
    assert "Not reviewed by the stage split yet" in capsys.readouterr().out
    split.main()
    printed = capsys.readouterr().out
    assert "Review of shop_a: 2 classes, 16 photos, 0 refused; splits as the source gives them" in printed
    show_review(Path())
    assert capsys.readouterr().out == printed
    splits = load_splits(Path("data/splits/shop_a"))
    assert splits.select("split", folder="photo_id").rows() == [
        (photo.split("/")[0], photo) for photo in splits["photo_id"]
    ]


def test_a_stop_leaves_the_review_and_no_splits(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choose("data.split.method=stratified")
    store()
    with pytest.raises(ReviewError, match=r"data\.split\.ignore_given=true"):
        split.main()
    assert [path.name for path in Path("data/splits/image_folder").iterdir()] == ["review.json"]
    with pytest.raises(ReviewError, match=r"data\.split\.ignore_given=true"):
        show_review(Path())
    stored = json.loads(Path("data/splits/image_folder/review.json").read_text(encoding="utf-8"))
    assert len(stored["stops"]) == 1
    choose("data.split.method=stratified", "data.split.ignore_given=true", "data.split.test_share=0.5")
    split.main()
    assert yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["data"]["split"]["ignore_given"]
