"""Who learnt from a photo, by its content, in the files of real registered versions."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from catalog.content import CONTENT
from contracts.evaluation import TRAINED_ON
from tests.tracking.tiny_bundle import make_predictions
from tracking.lineage.photos import PhotoReport, PhotoUse, SoughtPhoto, find_photo
from tracking.lineage.record import LINEAGE_FILE, Weights
from tracking.registry.listing import list_versions
from tracking.registry.registration import Registered
from tracking.registry.versions import evidence_of
from tracking.store import Store

Register = Callable[..., Registered]
MODEL = "product-recognizer-tiny"


def content_of(name: str) -> bytes:
    """As tests.catalog.evidence_tables.with_content makes it."""
    return hashlib.sha256(f"{name} 0".encode()).digest()


def sought(name: str) -> SoughtPhoto:
    content = content_of(name)
    return SoughtPhoto(
        name=f"{name}.jpg",
        source_sha256=content,
        perceptual_hash=int.from_bytes(content[:8], "big"),
    )


def files_of(root: Path, registered: Registered) -> Path:
    folder = evidence_of(Store.at(root), registered.version).local
    assert folder is not None
    return folder


def set_lists(root: Path, registered: Registered, lists: Sequence[Sequence[str] | None]) -> None:
    """Let the photos that a version was trained on, by name, have come through these lists."""
    path = files_of(root, registered) / "trained_on.parquet"
    rows = pl.DataFrame(TRAINED_ON.read(path)).sort("photo_id")
    TRAINED_ON.write(path, rows.with_columns(lists=pl.Series(lists, dtype=pl.List(pl.String))))


def ask(root: Path, name: str, *, near: int | None = None) -> PhotoReport:
    return find_photo(Store.at(root), sought(name), near=near)


def uses_of(root: Path, name: str) -> list[PhotoUse]:
    return list(ask(root, name).uses)


def test_versions_that_learnt_from_a_photo_are_told_with_their_lists_and_aliases(
    root: Path, register: Register
) -> None:
    first = register(seeds=(1,), trained_on=("a", "b"))
    set_lists(root, first, [["full", "low_loss"], ["full"]])
    Store.at(root).client.set_registered_model_alias(MODEL, "champion", "1")
    register(seeds=(2,), trained_on=("b",))
    used, not_used = uses_of(root, "a")
    assert (used.version, used.aliases, used.learnt) == ("1", ("champion",), True)
    assert (used.lists, used.lists_of_others, used.photo_ids) == (("full", "low_loss"), {}, ("a",))
    assert (not_used.version, not_used.aliases, not_used.learnt) == ("2", ("challenger",), False)
    assert [use.learnt for use in uses_of(root, "b")] == [True, True]
    assert [use.unknown for use in uses_of(root, "b")] == [(), ()]


def test_what_a_version_it_started_from_has_seen_is_told_with_that_versions_lists(
    root: Path, register: Register
) -> None:
    version = register(seeds=(1,), trained_on=("a", "b", "c"))
    other = "product-recognizer-other/3"
    set_lists(root, version, [["full", f"{other}:low", f"{other}:full"], [other], None])
    by_name = {name: uses_of(root, name)[0] for name in "abc"}
    assert (by_name["a"].lists, by_name["a"].lists_of_others) == (("full",), {other: ("low", "full")})
    assert (by_name["b"].lists, by_name["b"].lists_of_others) == ((), {other: None})
    assert by_name["c"].lists is None
    assert by_name["c"].unknown == ("through which lists it was learnt: registered before lists were kept",)


def test_a_photo_that_was_only_evaluated_on_is_told_apart(root: Path, register: Register) -> None:
    register(seeds=(1,), trained_on=("a",))
    use = uses_of(root, "p3")[0]
    assert (use.learnt, use.evaluated) == (False, ("evaluation",))
    assert uses_of(root, "a")[0].evaluated == ()


def test_a_version_from_before_says_what_it_does_not_know(root: Path, register: Register) -> None:
    version = register(seeds=(1,), trained_on=("a", "shelf"))
    folder = files_of(root, version)
    (folder / LINEAGE_FILE).unlink()
    (folder / "evaluated_on.parquet").unlink()
    rows = pl.DataFrame(TRAINED_ON.read(folder / "trained_on.parquet")).drop("lists")
    rows.write_parquet(folder / "trained_on.parquet")
    use = uses_of(root, "a")[0]
    assert (use.learnt, use.lists) == (True, None)
    assert uses_of(root, "p3")[0].evaluated == ("evaluation",)  # by its predictions
    assert [sentence.partition(":")[0] for sentence in use.unknown] == [
        "through which lists it was learnt",
        "whether it was validated on the photo",
        "whether a phase began with a model of its own that is no registered version",
    ]
    names = pl.Series(["raw/shelf/a.jpg", "raw/b.jpg"])
    pl.DataFrame({"photo_id": names}).write_parquet(folder / "trained_on.parquet")
    predictions = make_predictions(right=6).drop(*CONTENT)
    predictions.write_parquet(folder / "predictions.parquet")
    use = uses_of(root, "a")[0]
    assert (use.learnt, use.named_alike) == (False, ("raw/shelf/a.jpg",))
    assert use.unknown[0].startswith("whether the photo is one of 2 of which only names are known")
    assert "whether it was evaluated on the photo: its evaluation kept names alone" in use.unknown


def test_near_duplicates_are_told_where_asked_for_and_the_photo_itself_is_none(
    root: Path, register: Register
) -> None:
    version = register(seeds=(1,), trained_on=("a", "b", "c", "d"))
    path = files_of(root, version) / "trained_on.parquet"
    number = sought("a").perceptual_hash
    assert number is not None
    rows = pl.DataFrame(TRAINED_ON.read(path)).sort("photo_id")
    hashes = pl.Series([number, number ^ 0b101, number ^ 0b111, None], dtype=pl.UInt64)
    TRAINED_ON.write(path, rows.with_columns(perceptual_hash=hashes))
    assert ask(root, "a").uses[0].near == ()
    near = ask(root, "a", near=2).uses[0].near
    assert [(each.photo_id, each.distance, each.lists) for each in near] == [("b", 2, ("full",))]
    assert [each.photo_id for each in ask(root, "a", near=3).uses[0].near] == ["b", "c"]


def test_versions_that_are_deleted_or_whose_files_are_gone_are_named(root: Path, register: Register) -> None:
    registered = [register(seeds=(seed,), trained_on=("a",)) for seed in (1, 2, 3)]
    Store.at(root).client.delete_model_version(MODEL, "2")
    shutil.rmtree(files_of(root, registered[0]))
    report = ask(root, "a")
    assert [(use.version, use.learnt) for use in report.uses] == [("1", False), ("3", True)]
    assert "evaluation of version 1" in report.uses[0].unknown[0]
    assert "is gone from the artifact store" in report.uses[0].unknown[0]
    assert report.unknown == (
        f"what version 2 of {MODEL} learnt from: deleted from the registry, its files may still be in the "
        "artifact store",
    )
    (files_of(root, registered[2]) / "trained_on.parquet").write_bytes(b"damaged")
    assert "Expected a trained-on table as Parquet" in ask(root, "a").uses[1].unknown[0]


def test_a_model_from_elsewhere_is_named_because_nobody_knows_its_photos(
    root: Path, register: Register
) -> None:
    path = files_of(root, register(seeds=(1,))) / LINEAGE_FILE
    weights = Weights(backbone="resnet10t", source="file", path="/models/x", kind="member")
    values = json.loads(path.read_text()) | {"weights": {"start": weights.model_dump()}}
    path.write_text(json.dumps(values))
    assert uses_of(root, "a")[0].unknown == (
        "what the model in /models/x had learnt from, with which phases began as start",
    )


def test_versions_of_all_data_are_listed_with_their_aliases(root: Path, register: Register) -> None:
    for seed in (1, 2):
        register(seeds=(seed,))
    store = Store.at(root)
    store.client.create_registered_model("another-teams-model")
    store.client.create_model_version("another-teams-model", "file:///x")
    found = [(each.version, each.aliases) for each in list_versions(store)]
    assert found == [("2", ("challenger",)), ("1", ())]
    assert list_versions(store, data="tin_") == []
    assert ask(root, "a").to_json()["num_versions"] == 2
