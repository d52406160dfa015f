"""What a phase and a training job may say: one file for each thing there is a choice of."""

from training.config.augmentation import AugmentationConfig
from training.config.job import JobConfig, load_job, save_job
from training.config.phase import PhaseConfig

__all__ = ["AugmentationConfig", "JobConfig", "PhaseConfig", "load_job", "save_job"]
