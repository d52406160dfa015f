"""Registry and service against `mlflow server` as it starts by default, on SQLite and on PostgreSQL."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

import aisle
from recognition.bundle import digest
from service.app import create_app
from service.settings import Settings
from tests.servers import mlflow_server, postgres
from tests.service.conftest import wait_until_ready
from tests.tracking.test_pipeline_run import PIPELINE, phase
from tests.tracking.tiny_bundle import draw_photo
from tracking.artifacts import MissingArtifactsError
from tracking.gates.check import check
from tracking.history.history import History
from tracking.history.outside import adopt_outside_moves
from tracking.lineage.photos import SoughtPhoto, find_photo
from tracking.lineage.tree import load_lineage
from tracking.project_store import sqlite_uri
from tracking.promotion import promote
from tracking.registry.registration import Registered
from tracking.registry.versions import download, get_version, load_candidate
from tracking.runs.records import read_runs
from tracking.store import Store

pytestmark = pytest.mark.e2e
Register = Callable[..., Registered]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_store: Path
) -> Iterator[tuple[str, Path, str, str]]:
    """The URI of a server, the folder of its artifacts, its database, and the database of the history."""
    folder = tmp_path_factory.mktemp("server")
    with ExitStack() as stack:
        if request.param == "sqlite":
            backend = sqlite_uri(Path(shutil.copyfile(new_store, folder / "server.db")))
            history = sqlite_uri(folder / "history.db")
        else:
            backend = history = stack.enter_context(postgres())  # tables of both in one database
        uri = stack.enter_context(mlflow_server(folder, backend=backend))
        yield uri, folder / "artifacts", backend, history


@pytest.fixture
def project(root: Path, server: tuple[str, Path, str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose store is the server; the working directory is one of its sub-folders."""
    (root / "mlflow.db").unlink()
    (root / "params.yaml").touch()
    (root / "photos").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server[0])
    monkeypatch.setenv("AISLE_DATABASE_URL", server[3])
    monkeypatch.chdir(root / "photos")
    return root


def test_a_version_is_registered_promoted_served_and_asked(project: Path, register: Register) -> None:
    version = register(seeds=(1, 2)).version
    uri = Store.at(project).client.get_model_version_download_uri(version.name, version.version)
    assert uri.startswith("mlflow-artifacts:")
    result = check(
        load_candidate(Store.at(project), version=version),
        None,
        score_missing=lambda *_: pytest.fail("all are there"),
    )
    assert promote(Store.at(project), data="tiny", gate_result=result, by="anna").moved
    history = History.at(Store.at(project))
    said = [(event.kind, event.action, event.version) for event in history.events(version.name)]
    assert said[-3:] == [
        ("note", "register", version.version),
        ("intent", "promote", version.version),
        ("result", "promote", version.version),
    ]
    assert adopt_outside_moves(history, data="tiny") == []
    assert history.verify(version.name) == []
    Path("one.jpg").write_bytes(draw_photo(1))
    said = CliRunner().invoke(aisle.main, ["predict", "--data", "tiny", "one.jpg"], catch_exceptions=False)
    assert said.output.startswith(f"product-recognizer-tiny version {version.version}")
    assert "one.jpg" in said.output
    with TestClient(create_app(Settings(data="tiny"))) as client:
        wait_until_ready(client)
        assert client.get("/model").json()["version"] == version.version
        answer = client.post("/predict", files=[("photos", ("one.jpg", draw_photo(1)))])
        assert answer.status_code == 200
    assert not (project / "mlflow.db").exists()
    assert digest(download(Store.at(project), version=version)) == version.bundle_digest


def test_lineage_and_photos_are_answered_from_files_that_are_downloaded_once(
    project: Path, register: Register
) -> None:
    version = register(seeds=(5,), trained_on=("a",)).version
    store = Store.at(project)
    assert load_lineage(store, version=version).record.ensemble.members == ("member_5",)
    copies = list(store.downloads.rglob("evidence-*/lineage.json"))
    assert len(copies) == 1
    fetched = copies[0].stat().st_mtime_ns
    photo = SoughtPhoto(name="a.jpg", source_sha256=hashlib.sha256(b"a 0").digest())
    uses = {use.version: use for use in find_photo(store, photo, data="tiny").uses}
    assert (uses[version.version].learnt, uses[version.version].lists) == (True, ("full",))
    assert copies[0].stat().st_mtime_ns == fetched
    copies[0].unlink()  # as if it had been downloaded before the version's lineage was stored
    assert load_lineage(store, version=version).record.ensemble.members == ("member_5",)
    assert copies[0].is_file()


def test_files_that_a_server_has_lost_are_named_and_uploaded_again(
    project: Path, server: tuple[str, Path, str, str], register: Register
) -> None:
    version = register(seeds=(3,)).version
    shutil.rmtree(server[1])
    with pytest.raises(
        MissingArtifactsError, match=rf"bundle of version {version.version} of .*aisle register"
    ):
        download(Store.at(project), version=version)
    again = register(seeds=(3,))
    assert (again.version.version, again.created, again.restored) == (version.version, False, True)
    assert digest(
        download(Store.at(project), version=get_version(Store.at(project), data="tiny", which="challenger"))
    ) == (version.bundle_digest)
    assert load_candidate(Store.at(project), version=again.version).predictions.is_file()
    assert not register(seeds=(3,)).restored


def test_a_server_and_its_database_tell_the_same_of_a_pipeline_and_its_version(
    project: Path, server: tuple[str, Path, str, str], register: Register
) -> None:
    phase(project, "a").end()
    version = register(seeds=(4,), pipeline=PIPELINE).version
    assert load_lineage(Store.at(project), version=version).record.inputs == {"data/photos/tiny": "md5"}
    stores = [Store.at(project), Store(project, uri=server[2])]
    told = [
        [
            (run.run_id, run.name, run.status, run.tags, run.params, run.metrics)
            for run in read_runs(store, experiment="aisle-tiny", kinds=["pipeline", "phase"])
        ]
        for store in stores
    ]
    assert told[0] == told[1]
    parent = next(run for run in told[1] if run[0] == version.run_id)
    assert (parent[1], parent[2]) == ("plain, seed 0, tiny", "FINISHED")
    assert "plain/a" in {run[1] for run in told[1]}
