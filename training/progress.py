"""How far a phase is: plain values that a checkpoint keeps as JSON, and what follows from them alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ERROR = "val/mean_top1_error"
CURVE_POINTS = 1000
"""How many points a phase's curves have at most, however many steps it takes."""


@dataclass(frozen=True)
class StepMetrics:
    """What a curve shows between two epochs: means over the steps since the point before."""

    step: int
    """Steps since the phase began, the last one that is in the means."""

    values: dict[str, float]
    """train/step_loss, and train/lr of the last step."""

    def to_dict(self) -> dict[str, float]:
        """Return one line of steps.jsonl."""
        return {"step": self.step, **self.values}


@dataclass
class Curve:
    """Thins the steps' losses out to at most CURVE_POINTS points at fixed steps, after a resume too."""

    num_steps: int
    """Of the whole phase."""
    _losses: list[float] = field(default_factory=list, init=False)
    _rates: dict[int, float] = field(default_factory=dict, init=False)

    def note_rate(self, step: int, lr: float) -> None:
        """Keep a step's learning rate until its loss is read; step counts from 0."""
        self._rates[step] = lr

    def add(self, step: int, loss: float) -> StepMetrics | None:
        """Take a step's loss; return a point where one is due."""
        self._losses.append(loss)
        lr = self._rates.pop(step)
        if (step + 1) % -(-self.num_steps // CURVE_POINTS):
            return None
        mean = sum(self._losses) / len(self._losses)
        self._losses.clear()
        return StepMetrics(step + 1, {"train/step_loss": mean, "train/lr": lr})


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of one finished epoch, by their names in metrics.jsonl."""

    epoch: int
    """Counted from 1; 0 for a phase without epochs."""

    step: int
    """Steps since the phase began."""

    values: dict[str, float]
    """For example train/loss, train/top1_error, train/lr, val/mean_top1_error."""

    def to_dict(self) -> dict[str, float]:
        """Return one line of metrics.jsonl."""
        return {"epoch": self.epoch, "step": self.step, **self.values}


@dataclass
class Progress:
    """Steps done, the sums of the epoch that is under way, and the epochs that are finished."""

    step: int = 0
    loss_sum: float = 0.0
    num_photos: int = 0
    num_wrong: int = 0
    num_judged: int = 0
    """Photos that had logits: their own number, since an objective may give none, or some for companions."""
    lr: float = 0.0
    """Learning rate of the last step, before parts' multipliers."""
    history: list[EpochMetrics] = field(default_factory=list)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Progress:
        """Read what `asdict` made."""
        return cls(**{**values, "history": [EpochMetrics(**line) for line in values["history"]]})

    @property
    def errors(self) -> list[float]:
        """Mean top-1 error on validation after each finished epoch; [] without validation photos."""
        return [metrics.values[ERROR] for metrics in self.history if ERROR in metrics.values]

    @property
    def is_best(self) -> bool:
        """Whether the last finished epoch has a lower error than each before."""
        return len(self.errors) > 0 and self.errors.index(min(self.errors)) == len(self.errors) - 1

    def has_stopped(self, *, early_stop_epochs: int) -> bool:
        """Whether so many epochs went by without a lower error; never for 0."""
        waited = len(self.errors) - 1 - self.errors.index(min(self.errors)) if self.errors else 0
        return 0 < early_stop_epochs <= waited

    def train_values(self) -> dict[str, float]:
        """Return the epoch's mean loss, its error where there were logits, and the last learning rate."""
        values = {"train/loss": self.loss_sum / self.num_photos}
        if self.num_judged:
            values["train/top1_error"] = self.num_wrong / self.num_judged
        return {**values, "train/lr": self.lr}

    def finish_epoch(self, values: dict[str, float]) -> None:
        """Move on to the next epoch."""
        self.history.append(EpochMetrics(len(self.history) + 1, self.step, values))
        self.loss_sum, self.num_photos, self.num_wrong, self.num_judged = 0.0, 0, 0, 0
