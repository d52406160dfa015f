"""Phases that start from a registered version, on a real registry."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from aisle.composition import compose
from catalog.content import CONTENT
from catalog.lists import save_list
from contracts.evaluation import TRAINED_ON
from contracts.splits import SPLITS
from pipelines.params import Params
from pipelines.register import save_trained_on
from pipelines.registered import find_registered, registered_sources
from recognition.bundle import bundle_kind, load_member_config
from tests.catalog.evidence_tables import make_rows
from tests.tracking.conftest import new_store, register, root  # noqa: F401  fixtures
from tracking.registry.registration import Registered
from tracking.registry.versions import MissingAlias, load_candidate
from tracking.store import Store

ROOT = Path(__file__).parents[2]
VERSION = "product-recognizer-tiny/1"

Register = Callable[..., Registered]


def params_of(version: str) -> Params:
    entry = ["recipe.weights.pretrained.source=registry", f"+recipe.weights.pretrained.version={version}"]
    return Params.model_validate(compose(ROOT, overrides=["recipe=plain", "data=synthetic", *entry]))


def test_a_named_member_of_a_version_is_found(root: Path, register: Register) -> None:  # noqa: F811
    register(seeds=(1, 2))
    found = find_registered(Store.at(root), named=f"{VERSION}/member_2")
    assert load_member_config(found.fetch(one_member=True)).name == "member_2"


def test_an_ensemble_may_teach_but_a_phase_starts_from_one_member(
    root: Path,  # noqa: F811
    register: Register,  # noqa: F811
) -> None:
    register(seeds=(1, 2))
    found = find_registered(Store.at(root), named=VERSION)
    assert bundle_kind(found.fetch(one_member=False)) == "ensemble"
    with pytest.raises(ValueError, match="member_1, member_2"):
        found.fetch(one_member=True)


@pytest.mark.parametrize("named", ["product-recognizer-tiny/champion", "tiny/1", "product-recognizer-tiny/"])
def test_a_name_that_may_move_or_is_none_is_refused_in_words(root: Path, named: str) -> None:  # noqa: F811
    with pytest.raises(ValueError, match=r"such as product-recognizer-grocery/3"):
        find_registered(Store.at(root), named=named)


def test_an_unknown_version_says_what_there_is(root: Path, register: Register) -> None:  # noqa: F811
    register()
    with pytest.raises(MissingAlias, match="7"):
        find_registered(Store.at(root), named="product-recognizer-tiny/7")


def test_a_phase_without_registered_sources_asks_no_server(tmp_path: Path) -> None:
    plain = Params.model_validate(compose(ROOT, overrides=["recipe=plain"]))
    assert registered_sources(Store.at(tmp_path), recipe=plain.recipe) == []


def test_what_the_version_was_trained_on_counts_as_trained_on(
    root: Path,  # noqa: F811
    register: Register,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(trained_on=("p1", "p2"))
    monkeypatch.chdir(root)
    listed = root / "data/lists/synthetic/full.parquet"
    listed.parent.mkdir(parents=True)
    save_list(make_rows(("p2", 0, "full"), ("p7", 1, "full")), listed)
    save_trained_on(params_of(f"{VERSION}/member_1"), root / "trained_on.parquet", store=Store.at(root))
    written = pl.read_parquet(root / "trained_on.parquet")
    assert dict(written.sort("photo_id").select("photo_id", "lists").iter_rows()) == {
        "p1": [f"{VERSION}:full"],
        "p2": ["full", f"{VERSION}:full"],
        "p7": ["full"],
    }
    assert written.equals(written.sort("source_sha256"))


def test_lists_of_a_version_that_a_version_started_from_keep_their_names(
    root: Path,  # noqa: F811
    register: Register,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(seeds=(0,), trained_on=("p1",))
    version = register(trained_on=("p2", "p1")).version
    stored = load_candidate(Store.at(root), version=version).trained_on
    inherited = pl.Series([["full", f"{VERSION}:full"], ["full"]], dtype=pl.List(pl.String))
    TRAINED_ON.write(stored, pl.read_parquet(stored).sort("photo_id").with_columns(lists=inherited))
    monkeypatch.chdir(root)
    save_list(make_rows(("p7", 1, "full")), root / "data/lists/synthetic/full.parquet")
    second = f"{VERSION[:-1]}2"
    save_trained_on(params_of(f"{second}/member_1"), root / "trained_on.parquet", store=Store.at(root))
    assert dict(pl.read_parquet(root / "trained_on.parquet").select("photo_id", "lists").iter_rows()) == {
        "p1": [f"{VERSION}:full", f"{second}:full"],
        "p2": [f"{second}:full"],
        "p7": ["full"],
    }


def test_trained_on_has_one_row_a_content_and_keeps_names_where_a_version_knew_no_more(
    root: Path,  # noqa: F811
    register: Register,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = register(trained_on=("p1", "p2")).version
    stored = load_candidate(Store.at(root), version=version).trained_on
    pl.read_parquet(stored).select("photo_id").write_parquet(stored)  # as before photos carried their content
    monkeypatch.chdir(root)
    listed = make_rows(("p2", 0, "full"), ("p7", 1, "full"))
    copied = pl.concat([listed, listed[1:].with_columns(photo_id=pl.lit("copy of p7"))])
    save_list(copied, root / "data/lists/synthetic/full.parquet")
    save_trained_on(params_of(f"{VERSION}/member_1"), root / "trained_on.parquet", store=Store.at(root))
    seen = pl.read_parquet(root / "trained_on.parquet")
    known = [
        ("copy of p7", listed["source_sha256"][1], listed["perceptual_hash"][1], ["full"]),
        ("p2", listed["source_sha256"][0], listed["perceptual_hash"][0], ["full"]),
    ]
    named = [(name, None, None, [VERSION]) for name in ("p1", "p2")]
    assert seen.rows() == [*sorted(known, key=lambda row: row[1]), *named]


def test_a_persons_list_of_names_means_the_photos_of_the_splits(
    root: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(root)
    listed = make_rows(("p2", 0, "full"), ("p7", 1, "full"))
    (root / "data/splits/synthetic").mkdir(parents=True)
    splits = listed.drop("why").with_columns(coarse=pl.lit(None, dtype=pl.String), split=pl.lit("train"))
    SPLITS.write(root / "data/splits/synthetic/splits.parquet", splits)
    (root / "data/lists/synthetic").mkdir(parents=True)
    listed.select("photo_id", "class").head(1).write_parquet(root / "data/lists/synthetic/full.parquet")
    params = Params.model_validate(compose(ROOT, overrides=["recipe=plain", "data=synthetic"]))
    save_trained_on(params, root / "trained_on.parquet", store=Store.at(root))
    expected = listed.head(1).select("photo_id", *CONTENT).with_columns(lists=pl.Series([["full"]]))
    assert pl.read_parquet(root / "trained_on.parquet").equals(expected)
