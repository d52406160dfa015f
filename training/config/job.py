"""What a job folder's job.json says, read and written without pydantic."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from imaging.atomic_write import write_text
from imaging.storage import StoragePolicy
from training.config.checks import require
from training.config.phase import PhaseConfig
from training.config.reader import read_dataclass

NUM_SEEDS = 2**32
"""How many seeds a run can have; a phase's seed_offset counts in steps of so many."""


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """Everything a job folder's job.json says."""

    name: str
    """The phase's name, which its bundle carries."""

    seed: int
    """The run's seed, from 0 to 2^32 - 1; the phase adds its seed_offset above that."""

    phase: PhaseConfig
    """The phase to train."""

    class_names: tuple[str, ...]
    """The SKU of each class index that the list uses."""

    coarse_names: tuple[str | None, ...] = ()
    """The coarse class of each class, null where a class has none; () where the data have none."""

    fingerprint: str
    """Hash of the phase's params, inputs and seed: a checkpoint is resumed only when it carries the same."""

    storage: StoragePolicy = field(default_factory=StoragePolicy)
    """How the store's photos were re-encoded, so that the bundle lets serving do the same."""

    def __post_init__(self) -> None:
        """Refuse a seed out of range, a job without classes or the coarse ones that its phase learns, and one
        whose store keeps photos smaller than the phase looks at them."""
        require(
            0 <= self.seed < NUM_SEEDS,
            key="seed",
            expected="a whole number from 0 to 2^32 - 1",
            received=self.seed,
        )
        require(len(self.class_names) > 0, key="class_names", expected="at least one class", received=[])
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


def load_job(path: Path) -> JobConfig:
    """Read a job.json; ValueError names the first key that is unknown, missing or of the wrong type."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"Expected a job folder with a job.json, found none at {path}. See python -m training --help."
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    return read_dataclass(JobConfig, values=values, where=str(path))


def save_job(path: Path, *, job: JobConfig) -> None:
    """Write a job.json that `load_job` reads back to an equal JobConfig."""
    text = json.dumps(asdict(job), indent=2, ensure_ascii=False)
    write_text(path, text + "\n")
