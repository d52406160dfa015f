"""From a phase's words to its objective: the only place that knows all of them."""

from __future__ import annotations

from recognition.backbones import Model
from training.classification import Classification
from training.config import PhaseConfig
from training.config.objectives import (
    BbnConfig,
    DclConfig,
    DistillationConfig,
    LioConfig,
    MixConfig,
    PlainConfig,
)
from training.objectives.bbn import BbnObjective
from training.objectives.dcl import DclObjective
from training.objectives.distillation import DistillationObjective
from training.objectives.lio import LioObjective
from training.objectives.mix import MixObjective
from training.objectives.objective import Objective
from training.objectives.plain import PlainObjective
from training.teacher import Teacher


def make_objective(
    phase: PhaseConfig, *, model: Model, classification: Classification, teacher: Teacher | None, seed: int
) -> Objective:
    """Build the phase's objective, its own heads drawn from the seed and on the CPU.

    ValueError where distillation has no teacher, or the model gives no sizes that fit the objective.
    """
    match phase.objective:
        case PlainConfig():
            return PlainObjective(classification)
        case MixConfig() as config:
            return MixObjective(config, classification)
        case DclConfig() as config:
            return DclObjective(
                config,
                classification,
                input_size=phase.input_size,
                num_features=model.head.in_features,
                num_map_channels=model.num_map_channels,
                seed=seed,
            )
        case LioConfig() as config:
            return LioObjective(config, classification, num_map_channels=model.num_map_channels, seed=seed)
        case DistillationConfig() as config:
            if teacher is None:
                raise ValueError(
                    "Expected a teacher beside objective distillation, received none. "
                    "Put its bundle into the job folder as teacher/."
                )
            return DistillationObjective(config, classification, teacher)
        case BbnConfig():
            return BbnObjective(classification)
