"""What a job folder's job.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from imaging.atomic_write import write_text
from imaging.config import Config, require
from imaging.config_errors import describe_errors
from imaging.storage import StoragePolicy
from training.config.phase import PhaseConfig

NUM_SEEDS = 2**32
"""How many seeds a run can have; a phase's seed_offset counts in steps of so many."""


class JobConfig(Config):
    """Everything a job folder's job.json says."""

    name: str
    """The phase's name, which its bundle carries."""

    seed: int = Field(ge=0, lt=NUM_SEEDS)
    """The run's seed, from 0 to 2^32 - 1; the phase adds its seed_offset above that."""

    phase: PhaseConfig
    """The phase to train."""

    class_names: tuple[str, ...] = Field(min_length=1)
    """The SKU of each class index that the list uses."""

    coarse_names: tuple[str | None, ...] = ()
    """The coarse class of each class, null where a class has none; () where the data have none."""

    fingerprint: str
    """Hash of the phase's params, inputs and seed: a checkpoint is resumed only when it carries the same."""

    needs_init: bool = False
    """Whether init/ must be there: a job folder that lost it would start from random weights instead."""

    storage: StoragePolicy = StoragePolicy()
    """How the store's photos were re-encoded, so that the bundle lets serving do the same."""

    @model_validator(mode="after")
    def _classes_and_sizes_fit_the_phase(self) -> Self:
        require(
            len(self.coarse_names) in (0, len(self.class_names)),
            key="coarse_names",
            expected=f"one for each of {len(self.class_names)} classes, or none",
            received=len(self.coarse_names),
        )
        require(
            self.phase.coarse_weight == 0 or len(set(self.coarse_names) - {None}) > 1,
            key="phase.coarse_weight",
            expected="0 where the data have fewer than two coarse classes",
            received=self.phase.coarse_weight,
        )
        require(
            self.phase.resize <= self.storage.max_side,
            key="phase.resize",
            expected=f"at most storage.max_side ({self.storage.max_side}): photos that the store has shrunk "
            "would be enlarged again. Ingest with a larger max_side, or resize to less",
            received=self.phase.resize,
        )
        return self


def load_job(path: Path) -> JobConfig:
    """Read a job.json; ValueError names every key that is unknown, missing or wrong."""
    try:
        return JobConfig.model_validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        raise ValueError(
            f"Expected a job folder with a job.json, found none at {path}. See python -m training --help."
        ) from None
    except ValidationError as error:
        raise ValueError(f"{path}: {' '.join(describe_errors(error, kind=JobConfig))}") from error


def save_job(path: Path, *, job: JobConfig) -> None:
    """Write a job.json that `load_job` reads back to an equal JobConfig."""
    text = json.dumps(job.model_dump(mode="json"), indent=2, ensure_ascii=False)
    write_text(path, text + "\n")
