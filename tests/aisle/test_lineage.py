"""`aisle lineage` on a real registry: what a person types, and what is printed or refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

import aisle
from catalog.ingest.preparation import prepare_photo
from contracts.evaluation import TRAINED_ON
from tests.tracking.conftest import new_store, register, root  # noqa: F401  fixtures
from tests.tracking.tiny_bundle import draw_photo
from tracking.registry.registration import Registered
from tracking.registry.versions import evidence_of
from tracking.store import Store

Register = Callable[..., Registered]


@pytest.fixture
def project(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A project without params.yaml in which the command is called; photos lie in its folder `sent`."""
    (root / "conf").mkdir()
    (root / "conf/config.yaml").touch()
    (root / "sent").mkdir()
    monkeypatch.chdir(root)
    return root


def run(*arguments: str, code: int = 0) -> str:
    done: Result = CliRunner().invoke(aisle.main, ["lineage", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def learn_from(project: Path, registered: Registered, photo: bytes) -> None:
    """Let a version have learnt from the photo through the lists full and low_loss."""
    prepared = prepare_photo("milk/1.jpg", photo)
    rows = pl.DataFrame(
        {
            "photo_id": ["milk/1.jpg"],
            "source_sha256": [prepared.source_sha256],
            "perceptual_hash": pl.Series([prepared.perceptual_hash], dtype=pl.UInt64),
            "lists": [["full", "low_loss"]],
        }
    )
    folder = evidence_of(Store.at(project), registered.version).local
    assert folder is not None
    TRAINED_ON.write(folder / "trained_on.parquet", rows)


def test_a_version_is_shown_by_number_alias_and_full_name_and_else_the_challenger(
    project: Path,
    register: Register,  # noqa: F811
) -> None:
    register()
    (project / "params.yaml").unlink()
    first = "product-recognizer-tiny version 1 (challenger): recipe plain on tiny"
    for arguments in (["--data", "tiny"], ["1", "--data", "tiny"], ["challenger", "--data", "tiny"]):
        assert run(*arguments).startswith(first)
    said = run("product-recognizer-tiny/1")
    assert said.startswith(first)
    assert "member member_1" in said
    shown = json.loads(run("1", "--data", "tiny", "--json"))
    assert (shown["model"], shown["record"]["ensemble"]["members"]) == (
        "product-recognizer-tiny",
        ["member_1"],
    )
    assert "page.html: product-recognizer-tiny version 1" in run("--data", "tiny", "--html", "page.html")
    assert (project / "page.html").read_text().startswith("<!doctype html>")


def test_who_learnt_from_a_photo_is_told_by_its_bytes(project: Path, register: Register) -> None:  # noqa: F811
    register(seeds=(1,))
    learn_from(project, register(seeds=(2,)), draw_photo(1))
    (project / "params.yaml").unlink()
    (project / "sent/mine.jpg").write_bytes(draw_photo(1))
    said = run("--photo", "sent/mine.jpg")
    assert f"mine.jpg: SHA-256 {hashlib.sha256(draw_photo(1)).hexdigest()}" in said
    assert "1 of 2 registered versions learnt from it." in said
    assert "product-recognizer-tiny version 2 (challenger): lists full, low_loss, as milk/1.jpg" in said
    shown = json.loads(run("--photo", "sent/mine.jpg", "--json"))
    assert [each["version"] for each in shown["versions"] if each["learnt"]] == ["2"]
    assert shown["versions"][1]["lists"] == ["full", "low_loss"]
    (project / "sent/small.png").write_bytes(draw_photo(1, size=(128, 96), kind="PNG"))
    assert "0 of 2 registered versions learnt from it." in run("--photo", "sent/small.png")
    assert "version 2 (challenger): milk/1.jpg (" in run("--photo", "sent/small.png", "--near", "16")


WRONG: list[tuple[list[str], int, str]] = [
    (["7", "--data", "tiny"], 1, "product-recognizer-tiny has no version 7; it has 1"),
    (["champion", "--data", "tiny"], 1, "has no champion yet"),
    (["none", "--data", "tiny"], 1, "has no version with the alias none"),
    (["--data", "shelf"], 1, "no version of product-recognizer-shelf is registered"),
    ([], 1, "Expected --data, or a params.yaml that names the data"),
    (["--photo", "sent/none.jpg"], 2, "File 'sent/none.jpg' does not exist"),
    (["--photo", "sent"], 2, "is a directory"),
    (["--photo", "sent/letter.jpg"], 1, "Expected a photo in"),
    (["--photo", "sent/empty.jpg"], 1, "No version knows these bytes"),
    (["--photo", "sent/photo.jpg", "--data", "shelf"], 1, "found none of data shelf"),
    (["--photo", "sent/photo.jpg", "1"], 2, "VERSION does not go with --photo"),
    (["--photo", "sent/photo.jpg", "--html", "x"], 2, "--html does not go with --photo"),
    (["1", "--near"], 2, "--near goes with --photo"),
    (["1", "--json", "--html", "x"], 2, "Give --json or --html, not both"),
    (["--photo", "sent/photo.jpg", "--near", "40"], 2, "40 is not in the range"),
]


def test_wrong_input_is_a_sentence(project: Path, register: Register) -> None:  # noqa: F811
    register()
    (project / "params.yaml").unlink()
    (project / "sent/letter.jpg").write_text("Please remove me.")
    (project / "sent/empty.jpg").touch()
    (project / "sent/photo.jpg").write_bytes(draw_photo(1))
    for arguments, code, expected in WRONG:
        assert expected in run(*arguments, code=code), arguments
