"""A training job is a folder, so that a phase runs on any node that has the folder and torch.

    job.json        the phase (training.config.JobConfig)       photos/       the photo store
    list.parquet    photo_id, class: what to train on           val.parquet   the same; may have no rows
    init/           a bundle to start from, or init.safetensors (or init.pth) with weights of ours or timm's

writes bundle/, loss_log.parquet, metrics.jsonl and history.csv; while it runs also checkpoint/. photos/,
init/ and checkpoint/ may be links. Equal folders give equal bytes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recognition.backbones import Model, load_weights_from, make_model
from recognition.bundle import MemberConfig, load_member_config, save_member
from recognition.preprocessing import Preprocessing, make_preprocessing
from training.augmentation import make_augmentation
from training.checkpoint import Checkpoints, Learner
from training.config import JobConfig
from training.environment import make_environment
from training.job_inputs import JobInputs, load_inputs
from training.loader import TrainingPhotos
from training.loss_log import LossLog, save_loss_log
from training.losses.cross_entropy import make_loss
from training.objectives.plain import PlainObjective
from training.optimizers import make_optimizer
from training.seeding import seed_for
from training.trainer import EpochMetrics, Trainer
from training.validation import Validation


@dataclass(frozen=True)
class JobResult:
    """What a finished job leaves."""

    bundle_dir: Path
    loss_log_path: Path
    history: list[EpochMetrics]
    """One entry an epoch, those before an interruption included."""


def run_job(job_dir: Path, *, on_epoch: Callable[[EpochMetrics], None] | None = None) -> JobResult:
    """Train the phase of a job folder and write its outs there; resumes where a checkpoint allows.

    on_epoch is called once for each epoch, also for those that a resumed run finds already done. ValueError
    says what in the folder is wrong, before training starts; TrainingError why training stopped;
    WeightsError which initial weights are missing.
    """
    inputs = load_inputs(job_dir)
    trainer = _make_trainer(job_dir, inputs)
    num_reported = 0

    def report(history: Sequence[EpochMetrics]) -> None:
        nonlocal num_reported
        _write_history(job_dir, history)
        for metrics in history[num_reported:]:
            if on_epoch is not None:
                on_epoch(metrics)
        num_reported = len(history)

    history = trainer.fit(on_history=report)
    result = JobResult(job_dir / "bundle", job_dir / "loss_log.parquet", history)
    learner = trainer.learner
    config = _member_config(inputs.job, learner.model, trainer.preprocessing)
    save_member(result.bundle_dir, model=learner.model, config=config)
    table = learner.loss_log.to_table(photo_ids=inputs.training.photo_ids, labels=inputs.training.labels)
    save_loss_log(result.loss_log_path, table=table)
    trainer.checkpoints.remove()
    return result


def _make_trainer(job_dir: Path, inputs: JobInputs) -> Trainer:
    job, phase, seed = inputs.job, inputs.job.phase, inputs.job.seed + inputs.job.phase.seed_offset
    preprocessing = make_preprocessing(
        phase.backbone,
        input_size=phase.input_size,
        resize=phase.resize,
        whole_photo=phase.whole_photo,
        storage=job.storage,
    )
    objective = PlainObjective(loss=make_loss(phase.loss, num_classes=len(job.class_names)))
    photos = TrainingPhotos(
        inputs.store,
        rows=inputs.training.rows,
        augmentation=make_augmentation(phase.augmentation, preprocessing=preprocessing),
        seed=seed,
    )
    validation = Validation(
        inputs.store,
        rows=inputs.validation.rows,
        labels=inputs.validation.labels,
        preprocessing=preprocessing,
        batch_size=phase.batch_size,
        num_workers=phase.num_workers,
    )
    environment = make_environment(phase)
    model = environment.accelerator.prepare_model(_make_model(job_dir, job))
    identity = {"fingerprint": job.fingerprint, "inputs": inputs.digest(), **environment.identity()}
    return Trainer(
        phase=phase,
        seed=seed,
        training_list=inputs.training,
        photos=photos,
        preprocessing=preprocessing,
        learner=Learner(
            model=model,
            optimizer=make_optimizer(model, config=phase.optimizer),
            loss_log=LossLog(len(inputs.training.rows)),
        ),
        objective=objective,
        validation=validation,
        checkpoints=Checkpoints(job_dir / "checkpoint", identity=identity),
        environment=environment,
    )


def _make_model(job_dir: Path, job: JobConfig) -> Model:
    phase = job.phase
    weights_file = next(iter(sorted(job_dir.glob("init.*"))), job_dir / "init.safetensors")
    model = make_model(
        phase.backbone,
        num_classes=len(job.class_names),
        initial_weights="imagenet" if phase.initial_weights == "imagenet" else "random",
        weights_path=weights_file if phase.initial_weights == "imagenet" and weights_file.exists() else None,
        missing_weights=phase.missing_weights,
        drop_rate=phase.drop_rate,
        seed=seed_for("weights", job.seed + phase.seed_offset),
    )
    if phase.initial_weights == "phase":
        same_classes = load_member_config(job_dir / "init").class_names == job.class_names
        load_weights_from(model, job_dir / "init", take_head=same_classes)
    elif phase.initial_weights == "file":
        load_weights_from(model, weights_file)
    return model


def _member_config(job: JobConfig, model: Model, preprocessing: Preprocessing) -> MemberConfig:
    wanted = job.phase.initial_weights
    found = "random" if wanted == "imagenet" and not model.has_imagenet_weights else wanted
    return MemberConfig(
        name=job.name,
        backbone=job.phase.backbone,
        num_classes=len(job.class_names),
        num_features=model.head.in_features,
        class_names=job.class_names,
        preprocessing=preprocessing,
        initial_weights=found,
        fingerprint=job.fingerprint,
    )


def _write_history(job_dir: Path, history: Sequence[EpochMetrics]) -> None:
    """Write metrics.jsonl and history.csv anew: after a resume they hold no epoch twice."""
    lines = [metrics.to_dict() for metrics in history]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (job_dir / "metrics.jsonl").write_text(text, encoding="utf-8")
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    (job_dir / "history.csv").write_text(table.getvalue(), encoding="utf-8")
