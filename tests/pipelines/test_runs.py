"""A stage's run in MLflow, on a real store."""

import json
from pathlib import Path

import mlflow
import pytest

from aisle.composition import compose
from pipelines.params import Params
from pipelines.runs import stage_run
from tests.tracking.conftest import new_store, root  # noqa: F401  fixtures
from tracking.lineage.origin import Lineage

PARAMS = compose(Path(__file__).parents[2], overrides=["recipe=plain", "data=synthetic", "size=tiny"])


def test_runs_of_one_stage_share_a_lineage_and_name_only_their_own_inputs(
    root: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(root)
    params, digests = Params.model_validate(PARAMS), {"data/a": "a" * 32, "data/b": "b" * 32}
    lineage = Lineage(commit="", clean=False, code="c" * 64, inputs=digests)
    for name in ("a", "b"):
        settings, deps = {"model": name}, {f"features {name}": f"data/{name}"}
        with stage_run(params, name=name, kind="test", settings=settings, deps=deps, lineage=lineage) as run:
            run.log_metrics({"error": 0.5})
    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("aisle-synthetic")
    assert experiment is not None
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {"plain, seed 0, tiny", "plain/a", "plain/b"}
    parent = found["plain, seed 0, tiny"]
    for name in ("a", "b"):
        tags, (used,) = found[f"plain/{name}"].data.tags, found[f"plain/{name}"].inputs.dataset_inputs
        assert json.loads(tags["aisle.inputs"]) == {f"data/{name}": name * 32}
        assert (used.dataset.name, used.dataset.digest) == (f"features {name}", name * 32)
        assert (tags["aisle.kind"], tags["aisle.size"], tags["aisle.code_digest"]) == (
            "test",
            "tiny",
            "c" * 64,
        )
        assert tags["mlflow.parentRunId"] == parent.info.run_id
