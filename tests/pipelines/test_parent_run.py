"""Which pipelines are the same one, and what MLflow shows of them."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aisle.composition import compose
from contracts.lists import LIST
from pipelines.params import Params
from pipelines.parent_run import list_inputs, name_list, phase_params, pipeline_run
from tests.catalog.evidence_tables import with_content

ROOT = Path(__file__).parents[2]


def params(*overrides: str) -> Params:
    values: Any = compose(ROOT, overrides=["recipe=loss_guided", "data=synthetic", "size=tiny", *overrides])
    return Params.model_validate(values)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "override",
    [
        "evaluation.batch_size=7",
        "recipe.defaults.num_workers=2",
        "recipe.phases.record.checkpoint_steps=5",
        "+data.options.num_skus=7",
        "seed=1",
        "recipe.phases.record.epochs=2",
        "recipe.refinements.low_loss.keep=7",
        "recipe.ensemble.merge=vote",
    ],
)
def test_a_pipeline_is_another_where_a_value_decides_something(override: str) -> None:
    decides = not any(word in override for word in ("batch_size", "num_workers", "checkpoint_steps"))
    assert (pipeline_run(params(override)).fingerprint != pipeline_run(params()).fingerprint) == decides


def test_other_photos_are_another_pipeline(project: Path) -> None:
    before = pipeline_run(params())
    lock = "stages:\n  split:\n    outs:\n    - {path: data/splits/synthetic, md5: abc.dir}\n"
    (project / "dvc.lock").write_text(lock)
    after = pipeline_run(params())
    assert (before.name, before.fingerprint != after.fingerprint) == (after.name, True)


def test_the_name_tells_recipes_and_seeds_apart_and_lines_tell_phases_apart() -> None:
    run = pipeline_run(params("seed=3", "recipe.phases.record.epochs=2"))
    assert run.name == "loss_guided, seed 3, tiny"
    assert run.params["optimizer.lr"] == "0.005"
    assert run.params["list.low_loss"] == "low_loss keep=30"
    assert run.params["phase.record"].startswith("full from converge_a epochs=2 ")
    plain = pipeline_run(params("seed=3"))
    differing = {key for key in run.params if run.params[key] != plain.params[key]}
    assert differing == {"phase.record"}


def test_a_phase_shows_what_is_not_the_librarys_and_what_people_compare_by() -> None:
    configs = params().recipe.configs
    shown = phase_params(configs["refined_a"])
    assert shown["loss.name"] == "cross_entropy"
    assert shown["loss.smoothing"] == "0.2"
    assert shown["optimizer.lr"] == "0.0015"
    assert not {"clip_norm", "ema_decay", "precision", "objective.name", "num_workers"} & set(shown)


def test_a_list_is_named_with_its_photos(project: Path) -> None:
    path = project / "data/lists/synthetic/full.parquet"
    path.parent.mkdir(parents=True)
    ids = [f"p{number}" for number in range(1204)]
    rows = pl.DataFrame(
        {"photo_id": ids, "class": pl.Series([0] * 1204, dtype=pl.Int32), "why": ["full"] * 1204}
    )
    LIST.write(path, with_content(rows))
    lock = "stages:\n  lists@full:\n    outs:\n    - {path: data/lists/synthetic/full.parquet, md5: abc}\n"
    (project / "dvc.lock").write_text(lock)
    (used,) = list_inputs(params())
    assert (used.name, used.md5, used.context) == ("full (1,204 photos)", "abc", "train")
    assert name_list("data/lists/synthetic/elsewhere.parquet") == "elsewhere"
