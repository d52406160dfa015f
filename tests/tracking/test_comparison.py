"""Recipes over seeds: worked numbers, and what cannot be said."""

from pathlib import Path

import pytest

from tracking.project import TrackingError
from tracking.runs.comparison import Group, compare, paired_difference
from tracking.runs.pipeline_run import PipelineRun
from tracking.runs.records import RunRecord, _read_with_client, read_runs
from tracking.runs.results import make_table
from tracking.runs.run_log import add_to_pipeline
from tracking.store import Store

ERRORS = {"plain": (0.30, 0.34, 0.32), "guided": (0.25, 0.27, 0.29)}


def evaluate(root: Path, recipe: str, *, seed: int, error: float, lr: str = "0.1") -> None:
    pipeline = PipelineRun(
        experiment="aisle-tiny",
        name=f"{recipe}, seed {seed}, tiny",
        fingerprint=f"{recipe}-{seed}-{lr}",
        params={"evaluation.split": "test", "lr": lr},
        tags={
            "aisle.kind": "pipeline",
            "aisle.model": "ensemble",
            "aisle.recipe": recipe,
            "aisle.size": "tiny",
            "aisle.seed": str(seed),
        },
    )
    with add_to_pipeline(Store.at(root), pipeline, what="evaluation", closes=True) as run:
        run.log_metrics({"test/mean_top1_error": error, "num_photos": 1200})


@pytest.fixture
def evaluated(root: Path) -> Path:
    for recipe, errors in ERRORS.items():
        for seed, error in enumerate(errors):
            evaluate(root, recipe, seed=seed, error=error)
    return root


def test_the_interval_of_paired_differences_is_students() -> None:
    plain, guided = (
        Group(name=name, values=dict(enumerate(errors)), runs={}, num_older=0)
        for name, errors in ERRORS.items()
    )
    found = paired_difference(guided, plain)
    # Differences -.05, -.07, -.03: mean -.05, standard deviation .02, t(2, .975) = 4.302653.
    assert found.mean == pytest.approx(-0.05)
    assert (found.low, found.high) == pytest.approx((-0.05 - 0.049683, -0.05 + 0.049683), abs=1e-6)
    assert found.seeds == (0, 1, 2)


def test_only_common_seeds_count_and_of_one_nothing_is_said() -> None:
    plain = Group(name="plain", values={0: 0.3, 1: 0.4}, runs={}, num_older=0)
    other = Group(name="other", values={1: 0.1, 2: 0.2}, runs={}, num_older=0)
    found = paired_difference(other, plain)
    assert found.mean == pytest.approx(-0.3)
    assert (found.seeds, found.low, found.high) == ((1,), None, None)


def test_recipes_are_compared_over_their_seeds(evaluated: Path) -> None:
    said = compare(Store.at(evaluated), data="tiny", size="tiny", named=["plain", "guided"]).to_text()
    lines = [line.split() for line in said.splitlines()]
    assert ["plain", "3", "32.00", "2.00", "30.00", "34.00"] in lines
    assert ["guided", "3", "27.00", "2.00", "25.00", "29.00"] in lines
    assert "guided - plain: -5.00, 95 % interval -9.97 to -0.03 over 3 paired seeds: more than chance" in said


def test_one_run_against_another_says_that_nothing_can_be_said(evaluated: Path) -> None:
    names = ["plain, seed 0, tiny", "guided, seed 0, tiny"]
    found = compare(Store.at(evaluated), data="tiny", size="tiny", named=names)
    assert "-5.00 with one seed in common; of one seed nothing can be said about chance" in found.to_text()
    assert found.to_json()["groups"][0]["deviation"] is None


def test_the_newest_of_two_pipelines_of_a_seed_counts_and_the_other_is_told_of(evaluated: Path) -> None:
    evaluate(evaluated, "plain", seed=0, error=0.10, lr="0.2")
    found = compare(Store.at(evaluated), data="tiny", size="tiny", named=[])
    plain = next(group for group in found.groups if group.name == "plain")
    assert plain.values == {0: 0.10, 1: 0.34, 2: 0.32}
    assert "plain: 1 older pipeline" in found.to_text()


def test_a_name_or_metric_that_is_not_there_says_what_is(evaluated: Path) -> None:
    store = Store.at(evaluated)
    with pytest.raises(TrackingError, match=r"'plane' is no recipe .* finished are guided \(tiny\), plain"):
        compare(store, data="tiny", size="tiny", named=["plane"])
    with pytest.raises(
        TrackingError, match=r"expected the metric top9 in run .* which has num_photos, test/mean"
    ):
        compare(store, data="tiny", size="tiny", named=["plain"], metric="top9")


def test_the_database_says_what_mlflows_client_says(evaluated: Path) -> None:
    def plain(records: list[RunRecord]) -> list[tuple[object, ...]]:
        return sorted(
            (run.run_id, run.name, run.status, dict(run.tags), dict(run.params), dict(run.metrics))
            for run in records
        )

    store = Store.at(evaluated)
    fast = read_runs(store, experiment="aisle-tiny", kinds=["pipeline"])
    assert len(fast) == 6
    assert plain(fast) == plain(_read_with_client(store, experiment="aisle-tiny", kinds=["pipeline"]))
    store.client.delete_run(fast[0].run_id)
    assert len(read_runs(store, experiment="aisle-tiny", kinds=["pipeline"])) == 5


def test_results_show_each_seed(evaluated: Path) -> None:
    rows = [line.split() for line in make_table(Store.at(evaluated), data="tiny").splitlines()]
    assert ["guided", "tiny", "2", "ensemble", "1,200", "29.00", *"-----"] in rows


def test_a_project_without_a_store_has_no_results_and_gets_none(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    assert "Nothing was evaluated on tiny yet" in make_table(Store.at(tmp_path), data="tiny")
    assert not (tmp_path / "mlflow.db").exists()
