"""What a job may say, read with and without pydantic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from training.config import JobConfig, LossConfig, OptimizerConfig, PhaseConfig, load_job, save_job

PHASE = {"list": "full.parquet", "backbone": "resnet18"}
JOB: dict[str, Any] = {"name": "a", "seed": 1, "fingerprint": "f", "class_names": ["x", "y"], "phase": PHASE}


def write(path: Path, values: object) -> Path:
    path.write_text(json.dumps(values))
    return path


def test_a_saved_job_reads_back_equal(tmp_path: Path) -> None:
    phase = PhaseConfig(list="a", backbone="b", optimizer=OptimizerConfig(name="ranger", betas=(0.9, 0.99)))
    job = JobConfig(name="é", seed=3, phase=phase, class_names=("x", "y"), fingerprint="f")
    save_job(tmp_path / "job.json", job=job)
    assert load_job(tmp_path / "job.json") == job


def test_keys_left_out_take_their_defaults(tmp_path: Path) -> None:
    job = load_job(write(tmp_path / "job.json", JOB))
    assert job.phase == PhaseConfig(list="full.parquet", backbone="resnet18")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sed": 1}, "unknown key 'sed'; did you mean 'seed'?"),
        ({"phase": {**PHASE, "optimizer": {"learning": 1}}}, "unknown key 'phase.optimizer.learning'"),
        ({"phase": {"list": "a"}}, "missing key 'phase.backbone'"),
        ({"seed": "one"}, "key 'seed': expected a value of type int, received 'one'"),
        ({"seed": True}, "key 'seed': expected a value of type int, received True"),
        ({"phase": {**PHASE, "precision": "half"}}, "expected one of auto, float32, bfloat16"),
        ({"phase": {**PHASE, "optimizer": {"betas": [0.9]}}}, "expected a list of 2 values"),
        ({"class_names": ["x", 3]}, "key 'class_names[1]': expected a value of type str"),
        ({"phase": {**PHASE, "epochs": 0}}, "epochs: expected 1 or more, received 0"),
        ({"phase": {**PHASE, "input_size": 300}}, "resize: expected input_size (300) or more"),
    ],
)
def test_a_wrong_key_is_named_with_the_file(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "job.json", {**JOB, **change})
    with pytest.raises(ValueError, match=r"job\.json") as error:
        load_job(path)
    assert words in str(error.value)


def test_a_folder_without_a_job_and_a_broken_job_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found none at .*job\.json"):
        load_job(tmp_path / "job.json")
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_job(tmp_path / "job.json")


def test_pydantic_reads_the_same_classes_as_strictly() -> None:
    adapter = TypeAdapter(PhaseConfig)
    loss = {"smoothing": 0.2}
    assert adapter.validate_python({**PHASE, "loss": loss}).loss == LossConfig(smoothing=0.2)
    with pytest.raises(ValidationError, match="smothing"):
        adapter.validate_python({**PHASE, "loss": {"smothing": 0.2}})
    with pytest.raises(ValidationError, match=r"loss\.smoothing: expected 0 <= smoothing < 1"):
        adapter.validate_python({**PHASE, "loss": {"smoothing": 1.0}})


def test_every_field_of_a_phase_has_help_text() -> None:
    schema = TypeAdapter(PhaseConfig).json_schema()
    tables = [schema, *schema["$defs"].values()]
    without = [
        key for table in tables for key, field in table["properties"].items() if "description" not in field
    ]
    assert without == []


def test_an_augmentation_that_would_be_ignored_is_refused() -> None:
    with pytest.raises(ValidationError, match="use name = crop"):
        TypeAdapter(PhaseConfig).validate_python({**PHASE, "augmentation": {"name": "flip", "erasing": 0.5}})
