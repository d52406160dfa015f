"""The training loop: batch, objective, loss log, step, schedule; validation and checkpoint after each epoch.

It knows neither which objective runs nor where photos come from, and it can start at any step: every number
of a step depends on the state and on (seed, step) alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from recognition.preprocessing import Preprocessing, normalize
from training.checkpoint import Checkpoints, Learner
from training.config import PhaseConfig
from training.environment import Environment
from training.job_inputs import PhotoList
from training.loader import LoadedPhotos, TrainingPhotos, make_training_loader
from training.loss_log import measure
from training.objectives.objective import Batch, Objective
from training.samplers import EpochSampler, num_steps_per_epoch
from training.schedules import make_schedule
from training.seeding import seed_for, seed_generators
from training.validation import Validation

NAMED_PHOTOS = 10


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the photos and says what to do."""


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of one finished epoch, by their names in metrics.jsonl."""

    epoch: int
    """Counted from 1."""

    step: int
    """Steps since the phase began."""

    values: dict[str, float]
    """For example train/loss, train/top1_error, train/lr, val/mean_top1_error."""

    def to_dict(self) -> dict[str, float]:
        """Return one line of metrics.jsonl."""
        return {"epoch": self.epoch, "step": self.step, **self.values}


@dataclass
class Progress:
    """How far the phase is; plain values that a checkpoint keeps as JSON."""

    step: int = 0
    loss_sum: float = 0.0
    num_wrong: int = 0
    num_photos: int = 0
    history: list[EpochMetrics] = field(default_factory=list)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Progress:
        """Read what `asdict` made."""
        return cls(**{**values, "history": [EpochMetrics(**line) for line in values["history"]]})


@dataclass(frozen=True)
class Trainer:
    """Everything one phase needs; `fit` runs it from its newest checkpoint, or from the start, to its end."""

    phase: PhaseConfig
    seed: int
    training_list: PhotoList
    photos: TrainingPhotos
    preprocessing: Preprocessing
    learner: Learner
    objective: Objective
    validation: Validation
    checkpoints: Checkpoints
    environment: Environment

    def fit(self, *, on_history: Callable[[Sequence[EpochMetrics]], None]) -> list[EpochMetrics]:
        """Train and return one entry an epoch; `on_history` receives them all after a resume and each epoch.

        TrainingError where the loss is not finite or a photo does not decode.
        """
        progress = self._restore()
        if progress.history:
            on_history(progress.history)
        schedule = make_schedule(
            self.learner.optimizer,
            config=self.phase.schedule,
            lr=self.phase.optimizer.lr,
            steps_per_epoch=self.steps_per_epoch,
            epochs=self.phase.epochs,
        )
        total = self.steps_per_epoch * self.phase.epochs
        with tqdm(total=total, initial=progress.step, unit="step", file=sys.stderr, disable=None) as bar:
            for loaded in self._batches(first_step=progress.step):
                schedule.step_update(progress.step)
                self._step(self._to_device(loaded), progress)
                bar.update()
                epoch_ends = progress.step % self.steps_per_epoch == 0
                if epoch_ends:
                    self._end_epoch(progress)
                    on_history(progress.history)
                    bar.write(_line(progress.history[-1], self.phase.epochs), file=sys.stderr)
                if epoch_ends or self._checkpoint_is_due(progress.step):
                    self.checkpoints.save(self.learner, step=progress.step, progress=asdict(progress))
        return progress.history

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return num_steps_per_epoch(len(self.training_list.rows), batch_size=self.phase.batch_size)

    def _restore(self) -> Progress:
        restored = self.checkpoints.restore(self.learner)
        if restored is None:
            return Progress()
        step, values = restored
        print(f"Resumed after step {step} from {self.checkpoints.folder}.", file=sys.stderr)
        return Progress.from_dict(values)

    def _batches(self, *, first_step: int) -> Iterator[LoadedPhotos]:
        sampler = EpochSampler(
            len(self.training_list.rows),
            batch_size=self.phase.batch_size,
            epochs=self.phase.epochs,
            seed=self.seed,
            first_step=first_step,
        )
        on_gpu = self.environment.device.type == "cuda"
        return iter(
            make_training_loader(
                self.photos, sampler=sampler, num_workers=self.phase.num_workers, pin_memory=on_gpu
            )
        )

    def _to_device(self, loaded: LoadedPhotos) -> Batch:
        if loaded.failure is not None:
            photo_id = self.training_list.photo_ids[loaded.failure.position]
            raise TrainingError(
                f"Photo {str(photo_id)!r} of list {self.phase.list} cannot be read: {loaded.failure.message}"
            )
        device = self.environment.device
        pixels = normalize(loaded.photos.to(device, non_blocking=True), self.preprocessing)
        labels = torch.from_numpy(self.training_list.labels[loaded.positions.numpy()])
        return Batch(
            photos=pixels.contiguous(memory_format=torch.channels_last),
            labels=labels.to(device, non_blocking=True),
            positions=loaded.positions,
        )

    def _step(self, batch: Batch, progress: Progress) -> None:
        """Learn from one batch, recording its losses first."""
        learner = self.learner
        seed_generators(seed_for("step", self.seed, progress.step))
        learner.model.train()
        with self.environment.autocast():
            output = self.objective(learner.model, batch)
        loss = output["loss"].item()
        if not loss - loss == 0:
            raise TrainingError(self._not_finite(loss, batch, progress))
        statistics = measure(output["logits"], batch.labels).cpu()
        learner.loss_log.record(statistics, positions=batch.positions)
        self.environment.accelerator.backward(output["loss"])
        learner.optimizer.step()
        learner.optimizer.zero_grad()
        progress.step += 1
        progress.loss_sum += loss * len(batch.labels)
        progress.num_wrong += int((statistics[1] <= 0).sum())
        progress.num_photos += len(batch.labels)

    def _end_epoch(self, progress: Progress) -> None:
        """Validate, and move the epoch's sums into the history."""
        values = {
            "train/loss": progress.loss_sum / progress.num_photos,
            "train/top1_error": progress.num_wrong / progress.num_photos,
            "train/lr": self.learner.optimizer.param_groups[0]["lr"],
        }
        values |= self.validation.measure(self.learner.model, environment=self.environment)
        progress.history.append(EpochMetrics(len(progress.history) + 1, progress.step, values))
        progress.loss_sum, progress.num_wrong, progress.num_photos = 0.0, 0, 0

    def _checkpoint_is_due(self, step: int) -> bool:
        return self.phase.checkpoint_steps > 0 and step % self.phase.checkpoint_steps == 0

    def _not_finite(self, loss: float, batch: Batch, progress: Progress) -> str:
        positions = batch.positions.tolist()
        named = ", ".join(str(self.training_list.photo_ids[p]) for p in positions[:NAMED_PHOTOS])
        more = f" and {len(positions) - NAMED_PHOTOS} more" if len(positions) > NAMED_PHOTOS else ""
        epoch = progress.step // self.steps_per_epoch + 1
        return (
            f"The loss became {loss} in epoch {epoch}, step {progress.step + 1}, on the photos {named}{more} "
            f"of list {self.phase.list}. Lower optimizer.lr ({self.phase.optimizer.lr:g}), lengthen "
            "schedule.warmup_epochs or set precision to float32; the last checkpoint is kept."
        )


def _line(metrics: EpochMetrics, epochs: int) -> str:
    values = "  ".join(f"{name} {value:.4g}" for name, value in metrics.values.items())
    return f"epoch {metrics.epoch}/{epochs}  {values}"
