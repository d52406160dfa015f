"""A project folder per test: real SQLite, real files, no setting of the person who runs the tests."""

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import tracking.runs.run_log
from contracts.evaluation import PREDICTIONS, TRAINED_ON
from tests.catalog.evidence_tables import with_content
from tests.tracking.tiny_bundle import make_bundle, make_predictions
from tracking.lineage.origin import Lineage
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
    monkeypatch.setattr(tracking.runs.run_log, "_warned", set())
    shutil.copyfile(new_store, tmp_path / "mlflow.db")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    return tmp_path


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
        seen = pl.DataFrame({"photo_id": list(trained_on)}, schema={"photo_id": pl.String})
        TRAINED_ON.write(folder / "trained_on.parquet", with_content(seen))
        return register_ensemble(
            Store.at(root),
            data="tiny",
            bundle=bundle,
            predictions=folder / "predictions.parquet",
            metrics={"test/mean_top1_error": 1 - right / 6},
            trained_on=folder / "trained_on.parquet",
            fingerprint=f"ensemble-{seeds}",
            members={f"member_{seed}": f"fingerprint-{seed}" for seed in seeds},
            lineage=Lineage(commit="c0ffee", clean=True, code="abc", inputs={"data/photos/tiny": "md5"}),
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
