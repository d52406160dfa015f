"""Stage `source`: what makes ingest run again, and what does not."""

import json
import logging
import os
from pathlib import Path

import pytest
import yaml

from pipelines import source

PARAMS = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos at `shop`, in which the stage runs."""
    for name in ("jam/1.jpg", "tea/2.jpg"):
        (tmp_path / "shop" / name).parent.mkdir(parents=True)
        (tmp_path / "shop" / name).write_bytes(b"photo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def look(root: str | None = "shop", *, watch: str = "shop", name: str = "mine") -> dict[str, object]:
    """Run the stage with these parameters and read what it wrote."""
    params = yaml.safe_load(PARAMS.replace("data/lists/synthetic/", f"data/lists/{name}/"))
    params["data"] |= {"name": name, "layout": "image_folder", "root": root, "watch": watch}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    source.main()
    content: dict[str, object] = json.loads(Path(f"data/sources/{name}.json").read_text(encoding="utf-8"))
    return content


def test_a_folder_is_known_by_what_lies_in_it(project: Path) -> None:
    before = look()
    assert (before["num_files"], before["num_bytes"]) == (2, 10)
    assert look() == before
    os.utime(project / "shop/jam/1.jpg", ns=(1, 1))  # shot again under its old name
    assert look()["digest"] != before["digest"]


def test_a_file_is_known_by_its_content(project: Path) -> None:
    (project / "shop/t.csv").write_text("path,label\n")
    before = look(watch="shop/t.csv")
    os.utime(project / "shop/t.csv", ns=(1, 1))
    assert look(watch="shop/t.csv") == before
    (project / "shop/t.csv").write_text("path,sku\n")
    assert look(watch="shop/t.csv")["sha256"] != before["sha256"]


def test_where_nothing_is_watched_another_root_is_still_seen(project: Path) -> None:
    nothing = "conf/nothing.yaml"
    known = look("s3://shop/photos", watch=nothing)
    assert known == {"layout": "image_folder", "root": "s3://shop/photos", "watch": nothing}
    assert look("s3://other/photos", watch=nothing) != known


def test_two_data_sets_of_one_layout_have_a_file_each(project: Path) -> None:
    mine = look()
    (project / "shop").rename(project / "theirs")
    look("theirs", watch="theirs", name="theirs")
    assert json.loads(Path("data/sources/mine.json").read_text(encoding="utf-8")) == mine


def test_a_source_that_is_unavailable_here_keeps_what_was_written(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = look()
    (project / "shop").rename(project / "elsewhere")
    with caplog.at_level(logging.WARNING):
        assert look() == before
    assert "unavailable here, the photo store stays as it is. (Expected a file or folder" in caplog.text
    with pytest.raises(FileNotFoundError, match="to watch at shpo, found none"):
        look("shpo", watch="shpo")
