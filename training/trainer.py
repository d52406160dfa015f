"""The training loop: batch, objective, step, loss log; validation and checkpoint after each epoch.

It knows neither which objective runs nor where photos come from, and it can start at any step: every number
of a step depends on the state and on (seed, step) alone. Several processes run it side by side; what one
decides from (finished epochs, losses, stop signals) is the same in all.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

import torch
from torch import nn
from tqdm import tqdm

from recognition.preprocessing import Preprocessing, normalize
from training.checkpoint import Checkpoints
from training.config import PhaseConfig
from training.environment import Environment
from training.job_inputs import PhotoList
from training.learner import Learner
from training.loader import LoadedPhotos, TrainingPhotos, make_training_loader
from training.not_finite import REPORT, report_not_finite
from training.objectives.objective import Batch
from training.parts import set_training_mode
from training.progress import Curve, EpochMetrics, Progress, StepMetrics
from training.samplers import EpochSampler, make_companions
from training.schedules import Schedule, make_schedule
from training.seeding import seed_for, seed_generators
from training.signals import Preempted, StopSignals
from training.speed import Speed
from training.step import Pending, StepRecord, learn
from training.validation import NotAllSeen, SeenPhotos, record_losses, validate

__all__ = ["EpochMetrics", "Trainer", "TrainingError"]

STEPS_BETWEEN_READS = 16
"""How long losses stay on a GPU, or with their process: reading them waits for the device and the others."""

OnHistory = Callable[[Sequence[EpochMetrics]], None]
OnStep = Callable[[StepMetrics], None]


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the photos and says what to do."""


@dataclass
class Trainer:
    """Everything one phase needs; `fit` runs it from its newest checkpoint, or from the start, to its end."""

    job_dir: Path
    phase: PhaseConfig
    seed: int
    training_list: PhotoList
    photos: TrainingPhotos
    preprocessing: Preprocessing
    learner: Learner
    step: nn.Module
    """training.step.Step of the learner's model and objective, wrapped for the devices there are."""
    listed: SeenPhotos
    """The list's photos as in serving."""
    watched: SeenPhotos
    """The validation photos."""
    checkpoints: Checkpoints
    environment: Environment
    on_step: OnStep | None = None
    """Receives the points of the curves, at most 1,000 a phase."""
    progress: Progress = field(default_factory=Progress, init=False)
    speed: Speed = field(default_factory=Speed, init=False)
    stop: StopSignals = field(default_factory=StopSignals, init=False)
    _pending: Pending = field(default_factory=Pending, init=False)
    _curve: Curve = field(default_factory=lambda: Curve(1), init=False)

    def fit(self, *, on_history: OnHistory) -> None:
        """Train; `on_history` receives all finished epochs after a resume and after each epoch.

        TrainingError where the loss is not finite or a photo does not decode; Preempted after a stop signal.
        """
        self._restore()
        if self.progress.history:
            on_history(self.progress.history)
        sampler = self._make_sampler()
        self._curve = Curve(sampler.steps_per_epoch * self.phase.epochs)
        schedule, batches = self._make_schedule(sampler), self._batches(sampler)
        with self.stop, self._make_bar(sampler) as bar:
            self._settle(sampler, on_history=on_history)  # it may have stopped before validation
            self._set_training_mode()
            while not self._is_done(sampler):
                with self.speed.stepping():
                    self._learn(sampler, schedule=schedule, batches=batches)
                bar.update()
                bar.set_postfix_str(str(self.speed), refresh=False)
                self._settle(sampler, on_history=on_history)

    def _restore(self) -> None:
        restored = self.checkpoints.restore(self.learner)
        self.environment.wait()  # before one of them removes what another still reads
        if restored is None:
            return
        step, values = restored
        self.progress = Progress.from_dict(values)
        self._say(f"Resumed after step {step} from {self.checkpoints.folder}.")

    def _make_sampler(self) -> EpochSampler:
        return EpochSampler(
            self.training_list.labels,
            config=self.phase.sampler,
            companions=make_companions(self.phase),
            batch_size=self.phase.batch_size,
            epochs=self.phase.epochs,
            seed=self.seed,
            first_step=self.progress.step,
            num_processes=self.environment.num_processes,
            process_index=self.environment.process_index,
            parts=self.phase.accumulation,
        )

    def _make_schedule(self, sampler: EpochSampler) -> Schedule:
        assert self.learner.optimizer is not None
        return make_schedule(
            self.learner.optimizer,
            config=self.phase.schedule,
            lr=self.phase.optimizer.lr,
            steps_per_epoch=sampler.steps_per_epoch,
            epochs=self.phase.epochs,
        )

    def _make_bar(self, sampler: EpochSampler) -> tqdm[NoReturn]:
        return tqdm(
            total=sampler.steps_per_epoch * self.phase.epochs,
            initial=self.progress.step,
            unit="step",
            file=sys.stderr,
            disable=None if self.environment.is_main else True,
        )

    def _is_done(self, sampler: EpochSampler) -> bool:
        is_last = self.progress.step == sampler.steps_per_epoch * self.phase.epochs
        return is_last or self.progress.has_stopped(early_stop_epochs=self.phase.early_stop_epochs)

    def _batches(self, sampler: EpochSampler) -> Iterator[Batch]:
        """Yield this process's parts of each step, on the device."""
        total = sampler.steps_per_epoch * self.phase.epochs
        device = self.environment.device
        loader = make_training_loader(
            self.photos,
            sampler=sampler,
            num_workers=self.phase.num_workers,
            device=device,
        )
        for number, loaded in enumerate(loader):
            self._check(loaded)
            step = sampler.first_step + number // self.phase.accumulation
            pixels = normalize(loaded.photos.to(device, non_blocking=True), self.preprocessing)
            labels = torch.from_numpy(self.training_list.labels[loaded.positions.numpy()])
            yield Batch(
                photos=pixels.contiguous(memory_format=torch.channels_last),
                labels=labels.to(device, non_blocking=True),
                positions=loaded.positions,
                num_anchors=len(labels) // (1 + sampler.companions.count),
                step=step,
                progress=step / total,
            )

    def _check(self, loaded: LoadedPhotos) -> None:
        if loaded.failure is not None:
            photo_id = self.training_list.photo_ids[loaded.failure.position]
            raise TrainingError(
                f"Photo {str(photo_id)!r} of list.parquet cannot be read: {loaded.failure.message}"
            )

    def _learn(self, sampler: EpochSampler, *, schedule: Schedule, batches: Iterator[Batch]) -> None:
        """Take one step."""
        number, learner = self.progress.step, self.learner
        assert learner.optimizer is not None
        schedule.update(step=number, errors=self.progress.errors)
        rates = [(group["lr"], group["lr_scale"]) for group in learner.optimizer.param_groups]
        self.progress.lr = next((lr / scale for lr, scale in rates if scale > 0), 0.0)
        self._curve.note_rate(number, self.progress.lr)
        for part in range(self.phase.accumulation):
            with self.speed.waiting():
                batch = next(batches)
            seed_generators(seed_for("step", self.seed, number, self.environment.process_index, part))
            measured = learn(
                self.step,
                batch,
                num_anchors=sampler.num_anchors_in(number),
                is_last=part == self.phase.accumulation - 1,
                wants_statistics=self.phase.loss_log == "train",
                environment=self.environment,
            )
            self._pending.add(measured, step=number)
            self.speed.num_photos += len(batch.labels)
        if self.phase.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.step.parameters(), self.phase.clip_norm)
        learner.optimizer.step()
        learner.optimizer.zero_grad()
        if learner.ema is not None:
            learner.ema.update(learner.model)
        self.progress.step += 1

    def _settle(self, sampler: EpochSampler, *, on_history: OnHistory) -> None:
        """Do what is due after a step: read losses, stop, end the epoch, write a checkpoint."""
        step, num_finished = self.progress.step, len(self.progress.history)
        epoch_ends = step == (num_finished + 1) * sampler.steps_per_epoch
        is_due = self.phase.checkpoint_steps > 0 and step % self.phase.checkpoint_steps == 0
        if not (epoch_ends or (is_due and self._pending) or len(self._pending) >= self._steps_between_reads):
            return
        records = self._pending.read(self.environment)
        for record in records:
            self._take(record, sampler)
        stops = any(self.environment.gather(self.stop.received))
        if records and (stops or epoch_ends or is_due) and not self._has_finite_weights():
            raise self._not_finite("The weights became infinite or nan", records[-1], sampler)
        if stops:
            raise self._preempt()
        if epoch_ends:
            self._end_epoch()
            on_history(self.progress.history)
        elif is_due:
            self._save()

    @property
    def _steps_between_reads(self) -> int:
        is_alone = self.environment.device.type == "cpu" and self.environment.num_processes == 1
        return 1 if is_alone else STEPS_BETWEEN_READS

    def _take(self, record: StepRecord, sampler: EpochSampler) -> None:
        """Add one step to the epoch's sums and the loss log; TrainingError where its loss is not finite."""
        if not math.isfinite(record.loss):
            raise self._not_finite(f"The loss became {record.loss}", record, sampler)
        if record.statistics is not None:
            statistics, positions = torch.from_numpy(record.statistics), torch.from_numpy(record.judged)
            self.learner.loss_log.record(statistics, positions=positions)
        num_anchors = sampler.num_anchors_in(record.step)
        self.progress.loss_sum += record.loss * num_anchors
        self.progress.num_photos += num_anchors
        self.progress.num_wrong += int(record.wrong.sum())
        self.progress.num_judged += len(record.wrong)
        point = self._curve.add(record.step, record.loss)
        if point is not None and self.on_step is not None:
            self.on_step(point)

    def _has_finite_weights(self) -> bool:
        """Look at what a checkpoint would keep: the loss would show it one step too late."""
        total = nn.utils.get_total_norm(list(self.learner.model.parameters()))
        return math.isfinite(total.item())

    def _not_finite(self, what: str, record: StepRecord, sampler: EpochSampler) -> TrainingError:
        sentence = report_not_finite(
            record,
            what=what,
            epoch=record.step // sampler.steps_per_epoch + 1,
            training_list=self.training_list,
            phase=self.phase,
            path=self.job_dir / REPORT if self.environment.is_main else None,
        )
        return TrainingError(sentence)

    def _preempt(self) -> Preempted:
        """Keep what is there: after a step, or before the validation of an epoch whose steps are done."""
        self._save()
        self.environment.wait()  # all end together, with the checkpoint written
        return Preempted(self.progress.step)

    def _end_epoch(self) -> None:
        """Validate, move the epoch's sums into the history, and write a checkpoint."""
        try:
            found = self.evaluate()
        except NotAllSeen:
            raise self._preempt() from None
        self.progress.finish_epoch(self.progress.train_values() | found)
        is_kept = self.phase.keep_weights == "best" and self.progress.is_best
        self._save(is_best=is_kept)
        self._set_training_mode()
        line = "  ".join(f"{name} {value:.4g}" for name, value in self.progress.history[-1].values.items())
        self._say(f"epoch {len(self.progress.history)}/{self.phase.epochs}  {line}  {self.speed}")

    def evaluate(self) -> dict[str, float]:
        """Return the validation's metrics of the weights that are kept; then fill an eval loss log.

        NotAllSeen where a stop signal came meanwhile.
        """
        self.environment.share_buffers(self.learner.model)
        self.environment.share_buffers(self.learner.kept)
        metrics = validate(self.learner.kept, self.watched, stop=self.stop, environment=self.environment)
        if self.phase.loss_log == "eval":  # last, so that a stop leaves no sighting that would be repeated
            record_losses(
                self.learner.model,
                self.listed,
                self.learner.loss_log,
                stop=self.stop,
                environment=self.environment,
            )
        return metrics

    def _set_training_mode(self) -> None:
        set_training_mode(self.learner.model, self.learner.objective, freeze=self.phase.freeze)

    def _save(self, *, is_best: bool = False) -> None:
        if self.environment.is_main:
            self.checkpoints.save(
                self.learner,
                step=self.progress.step,
                progress=asdict(self.progress),
                best=self.learner.kept if is_best else None,
            )

    def _say(self, line: str) -> None:
        """Print a line above the progress bar."""
        if self.environment.is_main:
            tqdm.write(line, file=sys.stderr)
