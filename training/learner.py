"""Everything that changes while a phase trains, in one place: what a checkpoint has to hold."""

from __future__ import annotations

from dataclasses import dataclass

from timm.utils import ModelEmaV3
from torch.optim import Optimizer

from recognition.backbones import Model
from training.loss_log import LossLog
from training.objectives.objective import Objective


@dataclass(frozen=True)
class Learner:
    """The model, what teaches it, and what is remembered of it."""

    model: Model
    objective: Objective
    optimizer: Optimizer | None
    """None where nothing is trained: a phase of 0 epochs."""
    ema: ModelEmaV3 | None
    """Moving average of the model's weights and buffers."""
    loss_log: LossLog

    @property
    def kept(self) -> Model:
        """The weights that are validated and that the bundle gets: the average, where there is one."""
        if self.ema is None:
            return self.model
        averaged: Model = self.ema.module
        return averaged
