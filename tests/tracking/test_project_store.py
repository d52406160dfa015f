import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from recognition.bundle import digest
from tests.tracking.conftest import find_run
from tracking.project_store import prepare, sqlite_uri
from tracking.registry.registration import Registered
from tracking.registry.versions import download, get_version, load_candidate
from tracking.runs.run_log import start_run, sync
from tracking.store import Store, first_line, send_errors

Register = Callable[..., Registered]
FOLDERS = ["100%", "a%41b", "what? x=1", "#1", "é ü", "a+b&c", "it's", 'a "b"; c']
FIRST_USER = """
import sys, time; from pathlib import Path
from tracking.runs.run_log import start_run; from tracking.store import Store
import mlflow.store.tracking.sqlalchemy_store
name = sys.argv[1]
for folder in map(Path, sys.argv[2:]):
    (folder / f"ready-{name}").touch()
    deadline = time.monotonic() + 120
    while len(list(folder.glob("ready-*"))) < 2:
        assert time.monotonic() < deadline, "the other process has ended"
        time.sleep(0.002)
    with start_run(Store.at(folder), experiment="e", name=name, fingerprint=name, params={}, tags={}) as run:
        assert run.run_id, folder
"""


@pytest.mark.parametrize("name", FOLDERS)
def test_a_checkout_may_lie_under_any_name(tmp_path: Path, name: str, new_store: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copyfile(new_store, folder / "mlflow.db")
    (folder / "table.csv").write_text("a\n")
    with start_run(Store.at(folder), experiment="e", name="r", fingerprint="f1", params={}, tags={}) as run:
        run.log_artifact(folder / "table.csv")
    assert find_run(Store.at(folder), fingerprint="f1") == run.run_id
    assert [path.name for path in tmp_path.rglob("mlflow.db")] == ["mlflow.db"]
    assert [path.parent.parent.parent.parent for path in tmp_path.rglob("artifacts/table.csv")] == [
        folder / "mlartifacts"
    ]


@pytest.mark.parametrize("moved", ["moved", "mo'ved % #?"])
def test_a_moved_checkout_finds_its_versions_and_writes_where_it_is_now(
    root: Path, register: Register, moved: str, caplog: pytest.LogCaptureFixture
) -> None:
    version = register().version
    new = root.with_name(f"{root.name} {moved}")
    root.rename(new)
    assert digest(download(Store.at(new), version=version)) == version.bundle_digest
    assert load_candidate(Store.at(new), version=version).predictions.is_relative_to(new)
    client = Store.at(new).client
    run = client.create_run(client.get_run(version.run_id).info.experiment_id)
    client.log_text(run.info.run_id, "later", "later.txt")
    assert list(new.glob("mlartifacts/**/later.txt"))
    assert not root.exists()
    said = [record.getMessage() for record in caplog.records if record.name == "aisle.tracking"]
    assert len(said) == 1
    assert f"was at {root} before" in said[0]


def test_a_copied_checkout_leaves_the_first_one_alone(root: Path, register: Register) -> None:
    version = register().version
    copy = Path(shutil.copytree(root, root.with_name(f"{root.name}-copy")))
    assert download(Store.at(copy), version=version).is_relative_to(copy)
    assert download(Store.at(root), version=version).is_relative_to(root)
    assert find_run(Store.at(copy), fingerprint="ensemble-(1,)") == version.run_id


def test_a_location_that_a_person_chose_stays(root: Path) -> None:
    client = Store.at(root).client
    client.create_experiment("own", artifact_location="file:///srv/mlartifacts/other")
    prepare(root)
    assert client.get_experiment_by_name("own").artifact_location == "file:///srv/mlartifacts/other"


def test_a_spooled_artifact_is_sent_after_a_move(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (root / "table.csv").write_text("a\n")
    with start_run(Store.at(root), experiment="e", name="r", fingerprint="f1", params={}, tags={}) as run:
        run.log_artifact(root / "table.csv")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    new = root.with_name(f"{root.name}-moved")
    root.rename(new)
    assert sync(Store.at(new)).num_left == 0
    assert list(new.glob("mlartifacts/**/table.csv"))


@pytest.mark.e2e
def test_first_users_of_a_store_at_the_same_moment_both_record(tmp_path: Path) -> None:
    folders = [tmp_path / str(attempt) for attempt in range(10)]
    for folder in folders:
        folder.mkdir()
    users = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_USER, name, *map(str, folders)], stderr=subprocess.PIPE, text=True
        )
        for name in ("first", "second")
    ]
    for user in users:
        _, said = user.communicate(timeout=400)
        assert user.returncode == 0, said
    assert all(
        find_run(Store.at(folder), fingerprint=name) for folder in folders for name in ("first", "second")
    )


def test_a_first_user_that_was_killed_leaves_no_half_made_store(tmp_path: Path) -> None:
    (tmp_path / ".aisle" / "new-store").mkdir(parents=True)
    with sqlite3.connect(tmp_path / ".aisle" / "new-store" / "mlflow.db") as half:
        half.execute("CREATE TABLE experiments (a)")
    (tmp_path / "mlflow.db").touch()  # what `sqlite3` or an editor leaves
    prepare(tmp_path)
    assert Store.at(tmp_path).client.search_experiments()


def test_a_store_that_is_broken_says_what_to_do(root: Path) -> None:
    with sqlite3.connect(root / "mlflow.db") as store:
        store.execute("UPDATE alembic_version SET version_num = 'nothing'")
    with (
        pytest.raises(RuntimeError, match=r"where mlflow.db is damaged, restore it .* `aisle register`"),
        Store.at(root).explain_failure(doing="look"),
    ):
        Store.at(root).client.search_experiments()
    (root / "mlflow.db").write_bytes(b"no database" * 1000)
    with pytest.raises(send_errors()):
        Store.at(root).client.search_experiments()


def test_the_uri_of_the_store_may_be_spelled_by_hand(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert Store.at(root).client.search_experiments()
    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///mlflow.db"
    assert sqlite_uri(root / "a?b").endswith("/a%3Fb")


def test_two_stores_of_one_process_stay_apart(
    root: Path, new_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copyfile(new_store, other / "mlflow.db")
    here, there = Store.at(root), Store.at(other)
    for store in (here, there, here):
        assert store.client.search_experiments()
        assert mlflow.get_tracking_uri() == store.uri
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_version_says_who_registered_it_and_from_which_commit(root: Path, register: Register) -> None:
    version = get_version(Store.at(root), data="tiny", which=register().version.version)
    assert version.origin.startswith("version 1, registered by ")
    assert version.origin.endswith(" from commit c0ffee")


def test_an_error_that_is_passed_on_names_no_password() -> None:
    error = RuntimeError("Failed: postgresql+psycopg://shop:s3cret@db:5432/mlflow is unreachable")
    assert first_line(error) == "Failed: postgresql+psycopg://shop:***@db:5432/mlflow is unreachable"
