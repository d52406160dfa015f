"""What is read of MLflow's tables in SQL is what its client says."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tracking.light_registry import NAME, add_version
from tracking.project import TrackingError
from tracking.registry import listing
from tracking.registry.listing import list_versions, load_model
from tracking.store import Store

READ = """
import sys
from pathlib import Path
from tracking.registry.listing import list_versions
from tracking.store import Store
assert len(list_versions(Store.at(Path(sys.argv[1])), data="tiny")) == 1
assert not {"mlflow", "torch", "polars"} & set(sys.modules), sorted(sys.modules)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def store(root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "postgresql":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("postgres_database"))
    return Store.at(root)


def test_tables_and_client_say_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_model(store, name=NAME) == listing._ask_for_model(store, name=NAME)
    for number in range(3):
        add_version(store, tags={"aisle.recipe": f"it's 100% {number}"})
    store.client.set_registered_model_alias(NAME, "champion", "1")
    store.client.set_registered_model_tag(NAME, "shop", "12")
    store.client.delete_model_version(NAME, "2")
    add_version(store, data="other")
    model, versions = load_model(store, name=NAME), list_versions(store, data="tiny")
    assert model == listing._ask_for_model(store, name=NAME)
    assert dict(model.aliases) == {"challenger": "3", "champion": "1"}
    assert [(each.version, each.aliases) for each in versions] == [
        ("3", ("challenger",)),
        ("1", ("champion",)),
    ]
    monkeypatch.setattr(listing, "_PAGE", 1)  # so that there is a second page
    by_client = sorted(listing._ask_for_versions(store, name=NAME), key=lambda each: -int(each.version))
    assert [(each.version, each.tags, each.created_at, each.run_id) for each in by_client] == [
        (each.version, each.tags, each.created_at, each.run_id) for each in versions
    ]


def test_a_list_of_versions_does_not_wait_for_the_import_of_mlflow(root: Path) -> None:
    add_version(Store.at(root))
    done = subprocess.run(
        [sys.executable, "-c", READ, str(root)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_tables_of_another_mlflow_are_left_to_the_client(root: Path) -> None:
    add_version(Store.at(root))
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("ALTER TABLE registered_model_tags RENAME TO away")
        database.execute("CREATE VIEW registered_model_tags AS SELECT key, value, name FROM away")
    with pytest.raises(TrackingError, match="cannot look up the aliases"):
        load_model(Store.at(root), name=NAME)  # not our SQL's error, but that of MLflow


def test_a_project_without_a_store_stays_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with listing._database(Store.at(tmp_path)) as connection:
        assert connection is None
    assert not (tmp_path / "mlflow.db").exists()
