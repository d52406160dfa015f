"""A project folder per test: real SQLite, real files, no setting of the person who runs the tests."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import create_engine, text

import tracking.runs.sending
from catalog.content import CONTENT
from contracts.evaluation import EVALUATED_ON, PREDICTIONS, TRAINED_ON
from tests.servers import postgres
from tests.tracking.tiny_bundle import make_bundle, make_predictions, make_trained_on
from tracking.history.database import VARIABLE as DATABASE_VARIABLE
from tracking.history.history import History
from tracking.lineage.origin import Lineage
from tracking.lineage.record import Ensemble, Origin, Record
from tracking.registry.registration import Registered, register_ensemble
from tracking.runs.pipeline_run import PipelineRun
from tracking.runs.sender import search_run
from tracking.store import Store


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty mlflow.db: making one takes MLflow half a second of migrations, copying it nothing."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        Store.at(folder).client.search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def root(tmp_path: Path, new_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking.runs.sending, "_warned", set())
    monkeypatch.delenv(DATABASE_VARIABLE, raising=False)
    shutil.copyfile(new_store, tmp_path / "mlflow.db")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    return tmp_path


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL that all tests of a process share."""
    with postgres() as uri:
        yield uri


@pytest.fixture
def postgres_database(postgres_server: str) -> str:
    """The URI of an empty database."""
    name = f"test_{uuid.uuid4().hex}"
    engine = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return postgres_server.replace("/postgres", f"/{name}")


@pytest.fixture(params=["sqlite", "postgresql"])
def history(root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> History:
    """The history of the project, on each database; commands find the same one."""
    if request.param == "postgresql":
        monkeypatch.setenv(DATABASE_VARIABLE, request.getfixturevalue("postgres_database"))
    return History.at(Store.at(root))


@pytest.fixture
def register(root: Path) -> Callable[..., Registered]:
    """Register a tiny bundle whose predictions get the first `right` of the photos p0..p5 right."""
    for name in ("params.yaml", "dvc.lock"):
        (root / name).write_text(f"# {name}\n")

    def register(
        *,
        seeds: tuple[int, ...] = (1,),
        right: int = 6,
        trained_on: tuple[str, ...] = (),
        pipeline: PipelineRun | None = None,
    ) -> Registered:
        folder = root / "made" / "-".join(map(str, seeds))
        folder.mkdir(parents=True, exist_ok=True)
        bundle = make_bundle(folder / "tiny", seeds=seeds)
        PREDICTIONS.write(folder / "predictions.parquet", make_predictions(right=right))
        TRAINED_ON.write(folder / "trained_on.parquet", make_trained_on(*trained_on))
        split = {"split": pl.lit("test"), "use": pl.lit("evaluation")}
        evaluated = make_predictions(right=right).select("photo_id", *CONTENT).with_columns(**split)
        EVALUATED_ON.write(folder / "evaluated_on.parquet", evaluated)
        return register_ensemble(
            Store.at(root),
            data="tiny",
            bundle=bundle,
            predictions=folder / "predictions.parquet",
            metrics={"test/mean_top1_error": 1 - right / 6},
            trained_on=folder / "trained_on.parquet",
            evaluated_on=folder / "evaluated_on.parquet",
            fingerprint=f"ensemble-{seeds}",
            members={f"member_{seed}": f"fingerprint-{seed}" for seed in seeds},
            lineage=Lineage(commit="c0ffee", clean=True, code="abc", inputs={"data/photos/tiny": "md5"}),
            record=Record(
                data="tiny",
                recipe="plain",
                origin=Origin(commit="c0ffee", clean=True, code_digest="abc"),
                ensemble=Ensemble(members=tuple(f"member_{seed}" for seed in seeds)),
                inputs={"data/photos/tiny": "md5"},
            ),
            params_path=root / "params.yaml",
            lock_path=root / "dvc.lock",
            pipeline=pipeline,
        )

    return register


def find_run(store: Store, *, fingerprint: str) -> str | None:
    """The id of the latest finished run with this fingerprint, None when there is none."""
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    run = search_run(store.client, experiments=experiments, fingerprint=fingerprint)
    return run.info.run_id if run is not None and run.info.status == "FINISHED" else None
