"""`aisle doctor` on a healthy project, with one planted fault each, and after --fix."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, text

import aisle
from tests.servers import mlflow_server
from tests.tracking.light_registry import NAME, add_version, alias, report
from tracking.doctor.examine import Examination, examine
from tracking.history.events import NewEvent
from tracking.history.history import History
from tracking.history.tables import EVENTS, VERSION_TABLE
from tracking.project_store import sqlite_uri
from tracking.promotion import promote, rollback
from tracking.registry.registration import Registered
from tracking.registry.versions import CHAMPION, EVIDENCE_TAG, get_version, model_of
from tracking.runs.run_log import start_run
from tracking.store import Store

Register = Callable[..., Registered]
FILES = ("missing artifact", "altered artifact")


@pytest.fixture
def store(root: Path, history: History) -> Store:
    """Two light versions, the first of them champion, on each of the databases that keep the history."""
    (root / "conf").mkdir()
    (root / "conf" / "config.yaml").touch()
    store = history.store
    promoted = add_version(store)
    promote(store, data="tiny", gate_result=report(promoted, None), by="anna")
    add_version(store)
    return store


def _look(store: Store, *, fix: bool = False) -> Examination:
    """All but the files, which light versions lack."""
    found = examine(Store(store.root, store.uri), fix=fix)
    found.findings = [finding for finding in found.findings if finding.kind not in FILES]
    return found


def _kinds(found: Examination) -> list[str]:
    return [finding.kind for finding in found.findings]


def _check_fixed(store: Store, kind: str, *, says: str) -> None:
    """One finding of this kind; fixed by --fix, and nothing left afterwards."""
    found = _look(store)
    assert _kinds(found) == [kind]
    assert says in found.findings[0].sentence
    assert "aisle" in found.findings[0].run
    mended = _look(store, fix=True)
    assert [finding.kind for finding in mended.fixed] == [kind]
    assert _kinds(mended) == []
    assert _kinds(_look(store)) == []
    assert History.at(store).verify(NAME) == []


def _begin(store: Store, *, action: str, version: str, previous: str | None, process: int) -> None:
    details = {"host": socket.gethostname(), "process": process}
    intent = {"kind": "intent", "action": action, "alias": CHAMPION, "by": "anna", "details": details}
    history = History.at(store)
    history.append(NewEvent(model=NAME, version=version, previous_version=previous, **intent))  # type: ignore[arg-type]


def _dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_healthy_registry_is_clean(store: Store) -> None:
    rollback_to = alias(store)
    promote(store, data="tiny", gate_result=report("2", rollback_to), by="anna")
    rollback(store, data="tiny", by="bert")
    found = _look(store)
    assert _kinds(found) == []
    assert found.fixed == []
    assert alias(store) == rollback_to


def test_an_intent_whose_alias_was_moved_is_completed(store: Store) -> None:
    _begin(store, action="promote", version="2", previous="1", process=_dead_process())
    store.client.set_registered_model_alias(NAME, CHAMPION, "2")
    _check_fixed(store, "open operation", says="it was done")
    last = History.at(store).events(NAME)[-1]
    assert (last.outcome, last.version, alias(store)) == ("completed", "2", "2")


def test_an_intent_whose_alias_was_not_moved_is_reverted(store: Store) -> None:
    _begin(store, action="promote", version="2", previous="1", process=_dead_process())
    _check_fixed(store, "open operation", says="it was not done")
    last = History.at(store).events(NAME)[-1]
    assert (last.outcome, alias(store)) == ("reverted", "1")


def test_an_intent_whose_alias_is_elsewhere_is_reverted_and_the_move_recorded(store: Store) -> None:
    third = add_version(store)
    _begin(store, action="promote", version="2", previous="1", process=_dead_process())
    store.client.set_registered_model_alias(NAME, CHAMPION, third)
    mended = _look(store, fix=True)
    assert [finding.kind for finding in mended.fixed] == ["open operation", "outside move"]
    assert _kinds(mended) == []
    assert alias(store) == third


def test_an_operation_of_a_living_process_is_left_alone(store: Store) -> None:
    _begin(store, action="promote", version="2", previous="1", process=os.getpid())
    assert _kinds(_look(store, fix=True)) == []
    assert History.at(store).events(NAME)[-1].kind == "intent"


def test_an_alias_moved_in_mlflow_is_recorded(store: Store) -> None:
    store.client.set_registered_model_alias(NAME, CHAMPION, "2")
    _check_fixed(store, "outside move", says="is on version 2, but its history ends with version 1")
    last = History.at(store).events(NAME)[-1]
    assert (last.kind, last.version, last.previous_version) == ("outside", "2", "1")


def test_a_champion_that_was_deleted_in_mlflow_is_named(store: Store) -> None:
    store.client.delete_model_version(NAME, "1")  # MLflow takes the alias along, without a word
    assert alias(store) is None
    _check_fixed(
        store, "version gone", says="version 1 of product-recognizer-tiny, the champion by the history"
    )


def test_an_alias_on_nothing_is_taken_away(store: Store) -> None:
    engine = create_engine(store.uri)
    with engine.begin() as connection:
        connection.execute(text("UPDATE registered_model_aliases SET version = 9 WHERE alias = 'champion'"))
    found = _look(store)
    assert [(finding.kind, "version 9" in finding.sentence) for finding in found.findings] == [
        ("version gone", True)
    ]
    mended = _look(store, fix=True)
    assert [finding.kind for finding in mended.fixed] == ["version gone", "outside move"]
    assert _kinds(mended) == []


def test_a_broken_chain_is_named_and_never_fixed(store: Store) -> None:
    history = History.at(store)
    with history.engine.begin() as connection:
        connection.execute(EVENTS.update().where(EVENTS.c.sequence == 2).values(by="mallory"))
    found = _look(store, fix=True)
    assert _kinds(found) == ["broken chain"]
    assert "row 2" in found.findings[0].sentence
    assert "backup" in found.findings[0].run
    with history.engine.begin() as connection:
        connection.execute(EVENTS.update().where(EVENTS.c.sequence == 2).values(at="no time"))
    assert set(_kinds(_look(store, fix=True))) == {"broken chain"}


def test_a_history_of_a_newer_aisle_is_named(store: Store) -> None:
    with History.at(store).engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '999'"))
    found = _look(store, fix=True)
    assert _kinds(found) == ["schema"]
    assert "a newer Aisle" in found.findings[0].sentence


@pytest.mark.parametrize(
    ("revision", "says"), [("nothing", "a newer or damaged MLflow"), ("451aebb31d03", "an older MLflow")]
)
def test_an_mlflow_of_another_schema_is_named(root: Path, revision: str, says: str) -> None:
    engine = create_engine(Store.at(root).uri)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})
    found = examine(Store.at(root), fix=True)
    assert _kinds(found) == ["schema"]
    assert says in found.findings[0].sentence


def test_a_healthy_project_without_a_promotion_makes_no_history(root: Path) -> None:
    with start_run(Store.at(root), experiment="aisle-tiny", name="r", fingerprint="f", params={}, tags={}):
        pass
    assert _kinds(examine(Store.at(root))) == []
    assert not (root / "aisle.db").exists()


def test_waiting_events_are_sent_and_an_orphaned_run_is_closed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.at(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with start_run(Store.at(root), experiment="aisle-tiny", name="r", fingerprint="f1", params={}, tags={}):
        pass
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    experiment = store.get_or_create_experiment("aisle-tiny")
    orphan = store.client.create_run(experiment, tags={"aisle.fingerprint": "f2"}, run_name="plain/a")
    found = examine(store)
    assert _kinds(found) == ["waiting events", "orphaned run"]
    assert "run plain/a" in found.findings[1].sentence
    mended = examine(store, fix=True)
    assert len(mended.fixed) == 2
    assert _kinds(mended) == []
    assert store.client.get_run(orphan.info.run_id).info.status == "KILLED"
    assert not list(store.spools.iterdir())


def test_runs_of_others_are_orphaned_only_after_a_week_of_silence(root: Path) -> None:
    """As on a server, where the tag says which machine records a run."""
    local = Store.at(root)
    shared = Store(root.parent / "elsewhere", local.uri)
    shared.root.mkdir(exist_ok=True)
    experiment = local.get_or_create_experiment("aisle-tiny")
    old = int((time.time() - 8 * 86400) * 1000)
    tags = {"aisle.spool": "other:/work/f.jsonl"}
    client = local.client
    silent = client.create_run(experiment, start_time=old, tags={**tags, "aisle.fingerprint": "f1"})
    talking = client.create_run(experiment, start_time=old, tags={**tags, "aisle.fingerprint": "f2"})
    client.create_run(experiment, tags={**tags, "aisle.fingerprint": "f3"})
    client.log_metric(talking.info.run_id, "train/loss", 1.0)
    found = examine(shared)
    assert _kinds(found) == ["orphaned run"]
    assert silent.info.run_id in found.findings[0].sentence
    assert "other:/work/f.jsonl" in found.findings[0].sentence


def test_a_run_that_is_being_recorded_is_no_orphan(root: Path) -> None:
    store = Store.at(root)
    with start_run(store, experiment="aisle-tiny", name="r", fingerprint="f1", params={}, tags={}) as run:
        assert run.run_id
        assert _kinds(examine(store, fix=True)) == []
    assert store.client.get_run(run.run_id).info.status == "FINISHED"


def test_a_moved_checkout_is_named(root: Path, register: Register) -> None:
    register()
    new = root.with_name(f"{root.name} moved")
    root.rename(new)
    found = examine(Store.at(new))
    assert "moved checkout" in _kinds(found)
    assert str(root) in found.findings[0].sentence
    assert "missing artifact" not in _kinds(found)
    assert _kinds(examine(Store.at(new), fix=True)) == []


def test_files_that_are_missing_or_altered_are_named(root: Path, register: Register) -> None:
    (root / "conf").mkdir()
    (root / "conf" / "config.yaml").touch()
    store = Store.at(root)
    first = register(seeds=(1,)).version
    promote(store, data="tiny", gate_result=report(first.version, None), by="anna")
    assert _kinds(examine(store)) == []
    model = model_of(store, first).local
    assert model is not None
    (weights,) = model.rglob("weights.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert _kinds(examine(store, fix=True)) == ["altered artifact"]
    weights.unlink()
    assert _kinds(examine(store)) == ["missing artifact"]
    weights.write_bytes(content)
    evidence = Path(store.client.get_run(first.run_id).info.artifact_uri.removeprefix("file://"))
    evidence = evidence / first.tags[EVIDENCE_TAG]
    predictions = (evidence / "predictions.parquet").read_bytes()
    (evidence / "predictions.parquet").write_bytes(predictions + b"\0")
    assert _kinds(examine(store)) == ["altered artifact"]
    (evidence / "predictions.parquet").write_bytes(predictions)
    (evidence / "dvc.lock").unlink()
    (finding,) = examine(store).findings
    assert (finding.kind, "lacks dvc.lock" in finding.sentence) == ("missing artifact", True)
    assert "aisle register" in finding.run


@pytest.mark.e2e
def test_files_that_a_server_has_lost_are_named(
    root: Path,
    register: Register,
    new_store: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path_factory.mktemp("server")
    backend = sqlite_uri(Path(shutil.copyfile(new_store, folder / "server.db")))
    with mlflow_server(folder, backend=backend) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        store = Store.at(root)
        first = register(seeds=(1,)).version
        found = examine(store)
        assert _kinds(found) == []
        assert "The history was not looked at" in found.notes[0]  # nothing is promoted from here
        monkeypatch.setenv("AISLE_DATABASE_URL", "sqlite:///team.db")
        promote(store, data="tiny", gate_result=report(first.version, None), by="anna")
        assert _kinds(examine(store)) == []
        (weights,) = folder.rglob("artifacts/**/weights.safetensors")
        os.truncate(weights, 100)
        assert _kinds(examine(store)) == ["altered artifact"]
        weights.unlink()
        assert _kinds(examine(store)) == ["missing artifact"]
        next(folder.rglob("trained_on.parquet")).unlink()
        assert _kinds(examine(store)) == ["missing artifact", "missing artifact"]


def test_versions_without_an_alias_are_looked_at_only_where_asked(root: Path, register: Register) -> None:
    store = Store.at(root)
    first = register(seeds=(1,)).version
    register(seeds=(2,))
    model = model_of(store, get_version(store, data="tiny", which=first.version)).local
    assert model is not None
    (model / "MLmodel").unlink()
    found = examine(store)
    assert _kinds(found) == []
    assert found.notes == ["The files of 1 versions without an alias were not looked at: --all"]
    told: list[tuple[int, int]] = []
    found = examine(store, every_version=True, on_version=lambda *numbers: told.append(numbers))
    assert _kinds(found) == ["missing artifact"]
    assert told == [(1, 2), (2, 2)]


def test_a_store_that_is_down_is_a_finding(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("AISLE_DATABASE_URL", "postgresql://aisle@127.0.0.1:9/x")
    found = examine(Store.at(root))
    assert {"unreachable", "schema"} >= set(_kinds(found)) > set()
    assert "cannot be read" in found.findings[0].sentence


def test_the_command_says_what_to_run_and_ends_with_1(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "conf").mkdir()
    (root / "conf" / "config.yaml").touch()
    monkeypatch.chdir(root)
    run = CliRunner().invoke
    done = run(aisle.main, ["doctor"])
    assert (done.exit_code, done.stdout) == (0, "Nothing is wrong.\n")
    store = Store.at(root)
    experiment = store.get_or_create_experiment("aisle-tiny")
    store.client.create_run(experiment, tags={"aisle.fingerprint": "f2"}, run_name="plain/a")
    done = run(aisle.main, ["doctor"])
    assert done.exit_code == 1
    assert done.stdout.startswith("orphaned run: run plain/a (")
    assert "`aisle doctor --fix` closes it" in done.stdout
    done = run(aisle.main, ["doctor", "--json"])
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["kind"], finding["fixable"], done.exit_code) == ("orphaned run", True, 1)
    done = run(aisle.main, ["doctor", "--fix"])
    assert done.exit_code == 0
    assert done.stdout.endswith("Nothing else is wrong.\n")
