"""A phase's words become objects: every factory of training is called here, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import nn

from recognition.backbones import Model, make_model
from recognition.bundle import load_member_config, load_weights_from
from recognition.preprocessing import Preprocessing, make_preprocessing
from recognition.timm_body import check_input_size, trains_channels_last
from training.augmentation import make_augmentation
from training.checkpoint import Checkpoints
from training.classification import make_classification
from training.config import JobConfig
from training.config.heads import LwsConfig, TauNormalizedConfig
from training.config.job import NUM_SEEDS
from training.config.objectives import BbnConfig, DistillationConfig
from training.environment import Environment
from training.heads import CosineHead, make_head
from training.job_inputs import JobInputs, PhotoList
from training.learner import Learner
from training.loader import TrainingPhotos
from training.loss_log import LossLog
from training.objectives.factory import make_objective
from training.objectives.objective import Objective
from training.optimizers import make_optimizer
from training.parts import freeze_parts
from training.seeding import seed_for
from training.step import Step
from training.teacher import Teacher, load_teacher
from training.trainer import Trainer
from training.validation import SeenPhotos


@dataclass(frozen=True)
class Composer:
    """One phase on one process."""

    job_dir: Path
    inputs: JobInputs
    environment: Environment

    @property
    def job(self) -> JobConfig:
        """What job.json says."""
        return self.inputs.job

    @property
    def seed(self) -> int:
        """The run's seed, with the phase's offset above it: no member is another seed's."""
        return self.job.seed + (self.job.phase.seed_offset * NUM_SEEDS)

    def make_trainer(self) -> Trainer:
        """Build everything a phase needs, its first weights included.

        ValueError says which key or file does not fit, WeightsError which weights are missing.
        """
        phase, inputs = self.job.phase, self.inputs
        preprocessing = make_preprocessing(
            phase.backbone,
            input_size=phase.input_size,
            resize=phase.resize,
            whole_photo=phase.whole_photo,
            storage=self.job.storage,
        )
        photos = TrainingPhotos(
            inputs.store,
            rows=inputs.training.rows,
            augmentation=make_augmentation(phase.augmentation, preprocessing=preprocessing),
            seed=self.seed,
        )
        learner = self._make_learner(preprocessing)
        step: nn.Module = Step(learner.model, learner.objective)
        if learner.optimizer is not None:
            step = self.environment.wrap(step, sync_batch_norm=phase.sync_batch_norm)
        identity = {"fingerprint": self.job.fingerprint, "inputs": inputs.digest()}
        return Trainer(
            job_dir=self.job_dir,
            phase=phase,
            seed=self.seed,
            training_list=inputs.training,
            photos=photos,
            preprocessing=preprocessing,
            learner=learner,
            step=step,
            listed=self._seen(inputs.training, preprocessing),
            watched=self._seen(inputs.validation, preprocessing),
            checkpoints=Checkpoints(
                self.job_dir / "checkpoint", identity={**identity, **self.environment.identity()}
            ),
            environment=self.environment,
        )

    def _make_learner(self, preprocessing: Preprocessing) -> Learner:
        phase, device = self.job.phase, self.environment.device
        model = self._make_model()
        objective = self._make_objective(model, preprocessing)
        if trains_channels_last(model.backbone, device):
            model.to(memory_format=torch.channels_last)
        else:
            model.is_contiguous = True
        model.to(device)
        objective.to(device)
        freeze_parts(model, objective, freeze=phase.freeze)
        optimizer = None
        if phase.epochs > 0:
            optimizer = make_optimizer(
                model, objective, config=phase.optimizer, lr_multipliers=phase.lr_multipliers
            )
        return Learner(
            model=model,
            objective=objective,
            optimizer=optimizer,
            ema=None if phase.ema_decay is None else ModelEmaV3(model, decay=phase.ema_decay),
            loss_log=LossLog(len(self.inputs.training.rows)),
        )

    def _make_model(self) -> Model:
        """Build the model with its first weights and the phase's head."""
        phase, first = self.job.phase, self.inputs.initial_weights
        model = make_model(
            phase.backbone,
            num_classes=len(self.job.class_names),
            initial_weights="random" if first.pretrained is None else "pretrained",
            weights_path=first.pretrained,
            input_size=phase.input_size,
            drop_rate=phase.drop_rate,
            seed=seed_for("weights", self.seed),
        )
        check_input_size(model.backbone, backbone=phase.backbone, input_size=phase.input_size)
        head_taken = False
        if first.trained is not None:
            same_classes = load_member_config(first.trained).class_names == self.job.class_names
            take_head = same_classes and not phase.reset_head
            head_taken = load_weights_from(model, first.trained, take_head=take_head).head_taken
        if isinstance(phase.head, LwsConfig | TauNormalizedConfig) and not head_taken:
            raise ValueError(
                f"head.name: expected initial weights with a head for these {len(self.job.class_names)} "
                f"classes beside {phase.head.name}, which re-scales a trained one; received "
                "init/ without."
            )
        model.head = make_head(phase.head, head=model.head, branches=isinstance(phase.objective, BbnConfig))
        if isinstance(model.head, CosineHead):  # which says itself whether features get length 1
            model.normalize_features = False
        return model

    def _make_objective(self, model: Model, preprocessing: Preprocessing) -> Objective:
        phase, num_classes = self.job.phase, len(self.job.class_names)
        counts = np.bincount(self.inputs.training.labels, minlength=num_classes)
        classification = make_classification(
            phase,
            class_counts=torch.from_numpy(counts),
            coarse_names=self.job.coarse_names,
            num_features=model.head.in_features,
            seed=seed_for("classification", self.seed),
        )
        return make_objective(
            phase,
            model=model,
            classification=classification,
            teacher=self._load_teacher(preprocessing),
            seed=seed_for("objective", self.seed),
        )

    def _load_teacher(self, preprocessing: Preprocessing) -> Teacher | None:
        if not isinstance(self.job.phase.objective, DistillationConfig):
            return None
        return load_teacher(
            self.job_dir / "teacher",
            device=self.environment.device,
            dtype=self.environment.dtype,
            student=preprocessing,
            class_names=self.job.class_names,
        )

    def _seen(self, photos: PhotoList, preprocessing: Preprocessing) -> SeenPhotos:
        phase = self.job.phase
        num_shares = phase.num_processes * phase.accumulation  # what a training step has in memory at once
        return SeenPhotos(
            self.inputs.store,
            rows=photos.rows,
            labels=photos.labels,
            preprocessing=preprocessing,
            batch_size=phase.batch_size // num_shares,
            num_workers=phase.num_workers,
            environment=self.environment,
        )
