"""Reads a job folder and refuses, before an hour is spent, what cannot be trained on."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.photo_store import STORE_FILE, PhotoStore, load_store_info
from contracts.lists import LIST
from contracts.table import TableError
from recognition.bundle import (
    WEIGHTS_FILE,
    bundle_kind,
    find_member,
    load_member_config,
    load_weights_config,
)
from recognition.initial_weights import file_sha256
from recognition.provenance import RANDOM, Provenance
from training.config import JobConfig, PhaseConfig, load_job
from training.config.heads import HEADS_OF_TRAINED_MODELS
from training.config.phase import needs_validation

logger = logging.getLogger(__name__)

NAMED_ROWS = 5


@dataclass(frozen=True)
class PhotoList:
    """A list joined to the store."""

    photo_ids: pa.ChunkedArray
    rows: npt.NDArray[np.int64]
    """Rows of the photo store, [N]."""
    labels: npt.NDArray[np.int64]
    """Class indices, [N]."""


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """What a phase starts from: at most one of two kinds of weights, else random ones from its seed."""

    provenance: Provenance
    pretrained: Path | None = None
    """A file of a backbone's weights; the head is drawn from the phase's seed."""
    trained: Path | None = None
    """The bundle of a phase or of a registered member, whose head is taken where it fits."""


@dataclass(frozen=True)
class JobInputs:
    """What a job folder holds, checked."""

    job: JobConfig
    store: PhotoStore
    training: PhotoList
    validation: PhotoList
    initial_weights: InitialWeights

    def digest(self) -> str:
        """Return a hash of the job and its list: a checkpoint of other ones is not resumed."""
        text = json.dumps(self.job.model_dump(mode="json"), sort_keys=True)
        total = hashlib.blake2b(text.encode(), digest_size=16)
        total.update(self.training.rows.tobytes())
        total.update(self.training.labels.tobytes())
        return total.hexdigest()


def load_inputs(job_dir: Path) -> JobInputs:
    """Read job.json, photos/, list.parquet and val.parquet; ValueError names the file and the mistake."""
    job = load_job(job_dir / "job.json")
    if len(job.class_names) < 2:
        raise ValueError(
            f"{job_dir / 'job.json'}: class_names: expected at least two classes, "
            f"received {len(job.class_names)}."
        )
    store = _open_store(job_dir / "photos", job)
    training = _load_list(job_dir / "list.parquet", store=store, job=job)
    if len(training.rows) == 0:
        raise ValueError("list.parquet has no photos: nothing to train on. Loosen the rule that made it.")
    validation = _load_list(job_dir / "val.parquet", store=store, job=job)
    if len(validation.rows) == 0:
        _refuse_what_needs_validation(job.phase)
    return JobInputs(
        job=job,
        store=store,
        training=training,
        validation=validation,
        initial_weights=_find_initial_weights(job_dir, job),
    )


def _find_initial_weights(job_dir: Path, job: JobConfig) -> InitialWeights:
    """Look at init/ or init.*; ValueError where the folder has neither and the job or the phase's head needs
    it, or where init/ links to nothing.
    """
    phase, folder = job.phase, job_dir / "init"
    file = next(iter(sorted(job_dir.glob("init.*"))), None)
    if file is not None:
        # By name and content: a path would tell the machine, and other bytes would be another start.
        origin = Provenance(source=f"file {file.name}", model=phase.backbone, sha256=file_sha256(file))
        return InitialWeights(provenance=origin, pretrained=file)
    if not folder.exists():
        head = phase.head if isinstance(phase.head, HEADS_OF_TRAINED_MODELS) else None
        if folder.is_symlink() or head or job.needs_init:
            found = f"a link to {folder.readlink()}, which is not there" if folder.is_symlink() else "none"
            why = (
                "job.json says that it must be there"
                if job.needs_init
                else "without either, weights are random"
            )
            why = f"head {head.name} needs a trained model" if head else why
            raise ValueError(
                f"Expected the bundle to start from as {folder}/, found {found}. Put it there, or a weights "
                f"file as {folder}.safetensors; {why}."
            )
        logger.info("No init/ in the job folder: random initial weights from the phase's seed.")
        return InitialWeights(provenance=Provenance(source=RANDOM))
    if bundle_kind(folder) == "weights":
        config = load_weights_config(folder)
        weights = folder / WEIGHTS_FILE
        is_random = config.initial_weights.source == RANDOM
        return InitialWeights(provenance=config.initial_weights, pretrained=None if is_random else weights)
    member = find_member(folder, None)
    return InitialWeights(provenance=load_member_config(member).initial_weights, trained=member)


def _refuse_what_needs_validation(phase: PhaseConfig) -> None:
    if keys := needs_validation(phase):
        raise ValueError(
            f"val.parquet has no photos: {', '.join(keys)} goes by the error on validation. Give the "
            "splits a validation part, or change these keys."
        )


def _open_store(path: Path, job: JobConfig) -> PhotoStore:
    store = PhotoStore(path)
    if (path / STORE_FILE).exists():
        policy = load_store_info(path).policy
        if policy != job.storage:
            raise ValueError(
                f"job.json: storage: expected the photo store's own policy ({policy}), received "
                f"({job.storage}). The bundle would prepare photos otherwise than this store did."
            )
    return store


def _load_list(path: Path, *, store: PhotoStore, job: JobConfig) -> PhotoList:
    try:
        table = LIST.read(path, ["photo_id", "class", "source_sha256"])
    except (OSError, TableError) as error:
        raise ValueError(
            f"{path.name}: expected a Parquet file with photo_id and class at {path}: {error}"
        ) from error
    photo_ids, classes = table["photo_id"], table["class"]
    try:
        # A list of names alone will do.
        meant = table["source_sha256"] if "source_sha256" in table.column_names else None
        rows = store.rows_of(photo_ids, source_sha256=meant)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    num_classes = len(job.class_names)
    known = pc.and_(pc.greater_equal(classes, 0), pc.less(classes, num_classes))
    wrong = pc.invert(pc.fill_null(known, False))
    if pc.any(wrong).as_py():
        first = ", ".join(table.filter(wrong)["photo_id"][:NAMED_ROWS].to_pylist())
        raise ValueError(
            f"{path.name}: expected classes 0..{num_classes - 1} (job.json names {num_classes}), received "
            f"others for {pc.sum(wrong).as_py()} photos, first {first}. Make the list from these splits."
        )
    labels = np.asarray(classes.to_numpy(), dtype=np.int64)
    return PhotoList(photo_ids=photo_ids, rows=rows, labels=labels)
