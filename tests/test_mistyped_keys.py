"""A mistyped key is refused with the key that was meant, wherever a configuration is written."""

import copy
import json
from functools import cache, reduce
from pathlib import Path
from typing import Any

import pytest

from aisle.composition import compose
from pipelines.params import ParamsError, check_params
from training.config import load_job

ROOT = Path(__file__).parents[1]
JOB = {
    "name": "a", "seed": 1, "fingerprint": "f", "class_names": ["x", "y"],
    "phase": {"list": "a", "backbone": "b", "optimizer": {"name": "sgd", "momentun": 0.9}},
}  # fmt: skip


@cache
def composed() -> dict[str, Any]:
    return compose(ROOT, overrides=["recipe=loss_guided", "data=table"])


@pytest.mark.parametrize(
    ("place", "typed", "meant"),
    [
        ((), "evalution", "evaluation"),
        (("recipe", "phases", "record"), "batchsize", "batch_size"),
        (("recipe", "phases", "record", "optimizer"), "weigth_decay", "weight_decay"),
        (("data", "options"), "path_colum", "path_column"),
        (("gates",), "max_regresion", "max_regression"),
        (("recipe", "lists", "full"), "splits", "split"),
        (("recipe", "refinements", "low_loss"), "frist_rank", "first_rank"),
    ],
    ids=lambda value: ".".join(value) or "top" if isinstance(value, tuple) else value,
)
def test_params_refuse_a_mistyped_key_with_the_one_that_was_meant(
    place: tuple[str, ...], typed: str, meant: str
) -> None:
    params = copy.deepcopy(composed())
    reduce(dict.__getitem__, place, params)[typed] = 1
    with pytest.raises(ParamsError) as error:
        check_params(params, where="params.yaml")
    assert f"{'.'.join((*place, typed))}: no such key; did you mean {meant!r}?" in str(error.value)


def test_a_job_refuses_a_mistyped_key_with_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(JOB), encoding="utf-8")
    with pytest.raises(ValueError, match=r"job\.json: phase\.optimizer\.momentun: .*did you mean 'momentum'"):
        load_job(tmp_path / "job.json")
