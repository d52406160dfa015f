"""A training job is a folder, so that a phase runs on any node that has the folder and torch.

    job.json        the phase (training.config.JobConfig)       photos/       the photo store
    list.parquet    photo_id, class: what to train on           val.parquet   the same; may have no rows
    init/           a bundle to start from, or init.safetensors (or init.pth) with a backbone's weights
    teacher/        the bundle that distillation learns from

writes bundle/, loss_log.parquet, metrics.jsonl, steps.jsonl and history.csv; while it runs also checkpoint/.
photos/, init/, teacher/ and checkpoint/ may be links. Equal folders give equal bytes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.evidence import LOSS_LOG
from imaging.atomic_write import write_text
from recognition.bundle import MemberConfig, save_member
from training.composition import Composer
from training.environment import make_environment
from training.heads import finish_head
from training.job_inputs import JobInputs, load_inputs
from training.not_finite import REPORT
from training.progress import EpochMetrics, StepMetrics
from training.speed import Speed
from training.trainer import Trainer

OnEpoch = Callable[[EpochMetrics], None]
OnStep = Callable[[StepMetrics], None]
STEPS_FILE = "steps.jsonl"
"""The points of the curves, as they come; after a resume some steps are there twice, the later is as good."""


@dataclass(frozen=True)
class JobResult:
    """What a finished job leaves."""

    bundle_dir: Path
    loss_log_path: Path
    history: list[EpochMetrics]
    """One entry an epoch, those before an interruption included; a phase of 0 epochs has one of epoch 0."""
    speed: Speed | None = None
    """Of the steps of this run; None where they were taken by other processes."""


def run_job(job_dir: Path, *, on_epoch: OnEpoch | None = None, on_step: OnStep | None = None) -> JobResult:
    """Train the phase of a job folder and write its outs there; resumes where a checkpoint allows.

    on_epoch is called once for each epoch, also for those that a resumed run finds already done. on_step
    is called for each point of the curves of this run's own steps. ValueError
    says what in the folder is wrong, before training starts; TrainingError why training stopped; Preempted
    that a signal stopped it, with a checkpoint written; WeightsError which initial weights are missing. Each
    of several processes calls it (torchrun; training.launch.launch_job); the first one writes and reports.
    """
    inputs = load_inputs(job_dir)
    environment = make_environment(inputs.job.phase)
    trainer = Composer(job_dir, inputs, environment).make_trainer()
    if environment.is_main:
        (job_dir / REPORT).unlink(missing_ok=True)
    num_reported = 0

    def report_step(metrics: StepMetrics) -> None:
        if environment.is_main:
            with (job_dir / STEPS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(metrics.to_dict()) + "\n")
            if on_step is not None:
                on_step(metrics)

    trainer.on_step = report_step

    def report(history: Sequence[EpochMetrics]) -> None:
        nonlocal num_reported
        if environment.is_main:
            _write_history(job_dir, history)
            for metrics in history[num_reported:]:
                if on_epoch is not None:
                    on_epoch(metrics)
        num_reported = len(history)

    if inputs.job.phase.epochs > 0:
        trainer.fit(on_history=report)
        _finish_model(trainer)
    else:
        _finish_model(trainer)
        trainer.progress.history.append(EpochMetrics(0, 0, trainer.evaluate()))
        report(trainer.progress.history)
    result = JobResult(
        job_dir / "bundle", job_dir / "loss_log.parquet", trainer.progress.history, trainer.speed
    )
    if environment.is_main:
        _write_outs(result, inputs, trainer)
    environment.leave()
    return result


def _finish_model(trainer: Trainer) -> None:
    """Turn the weights that are kept into the bundle's model."""
    model, environment, phase = trainer.learner.kept, trainer.environment, trainer.phase
    environment.share_buffers(model)
    if phase.epochs > 0 and phase.keep_weights == "best":
        trainer.checkpoints.load_best(model)
        environment.wait()  # before one of them removes what another still reads
    with environment.autocast():
        batches = ((batch.photos, batch.labels) for batch in trainer.listed.own_batches())
        finish_head(phase.head, model=model, batches=batches, reduce=environment.sum)


def _write_outs(result: JobResult, inputs: JobInputs, trainer: Trainer) -> None:
    """Write the bundle and the loss log; only then the checkpoint may go."""
    save_member(result.bundle_dir, model=trainer.learner.kept, config=_member_config(inputs, trainer))
    listed = inputs.training
    table = trainer.learner.loss_log.to_table(photo_ids=listed.photo_ids, labels=listed.labels)
    # From the store, not the list: a refinement must know which photos were really looked at.
    table = table.append_column("source_sha256", inputs.store.source_sha256(listed.rows))
    LOSS_LOG.write(result.loss_log_path, table)
    trainer.checkpoints.remove()


def _member_config(inputs: JobInputs, trainer: Trainer) -> MemberConfig:
    job = inputs.job
    model = trainer.learner.kept
    return MemberConfig(
        name=job.name,
        backbone=job.phase.backbone,
        num_classes=len(job.class_names),
        num_features=model.head.in_features,
        class_names=job.class_names,
        preprocessing=trainer.preprocessing,
        initial_weights=inputs.initial_weights.provenance,
        fingerprint=job.fingerprint,
        normalize_features=model.normalize_features,
    )


def _write_history(job_dir: Path, history: Sequence[EpochMetrics]) -> None:
    """Write metrics.jsonl and history.csv anew: after a resume they hold no epoch twice."""
    lines = [metrics.to_dict() for metrics in history]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_text(job_dir / "metrics.jsonl", text)
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(job_dir / "history.csv", table.getvalue())
