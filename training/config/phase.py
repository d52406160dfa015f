"""What a phase may say in params.yaml and job.json, with every default beside its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from imaging.config import Config, require
from training.config.augmentation import AugmentationConfig
from training.config.heads import HEADS_OF_TRAINED_MODELS, UNTRAINED_HEADS, HeadConfig, LinearConfig
from training.config.losses import AccuracyConfig, CrossEntropyConfig, LossConfig
from training.config.objectives import (
    BbnConfig,
    LioConfig,
    MixConfig,
    ObjectiveConfig,
    PlainConfig,
)
from training.config.optimizers import OptimizerConfig, SgdConfig
from training.config.samplers import SamplerConfig
from training.config.schedules import CosineConfig, PlateauConfig, ScheduleConfig


class PhaseConfig(Config):
    """How one training run learns: model, sampler, objective, loss, optimiser and schedule.

    What it learns from (list, initial weights, teacher) lies in the job folder.
    """

    backbone: str
    """Any timm model name, for example resnet50d or resnest50d, or iresnet101."""

    reset_head: bool = False
    """Re-initialise the head although the bundle has one that fits (classifier re-training, cRT)."""

    input_size: int = Field(default=224, ge=1)
    """Side of the square that the model sees, in pixels."""

    resize: int = Field(default=256, ge=1)
    """Side, in pixels, to which a photo is scaled before its centre is cropped to input_size."""

    whole_photo: bool = True
    """true: squash the whole photo to resize x resize (reports A and B); false: shorter side to resize."""

    epochs: int = 10
    """How often as many photos as the list has are seen; 0 only for a head that is computed, not trained."""

    batch_size: int = Field(default=64, ge=1)
    """Photos a step at most, over all devices; an epoch's batches differ by one photo, so none is nearly
    empty."""

    accumulation: int = Field(default=1, ge=1)
    """Parts in which a device takes its share of a batch, one after the other, where memory is short."""

    sampler: SamplerConfig = SamplerConfig()
    """Which photos make an epoch."""

    objective: ObjectiveConfig = PlainConfig()
    """What a batch is made to teach."""

    loss: LossConfig = CrossEntropyConfig()
    """What is lowered."""

    coarse_weight: float = Field(default=0.0, ge=0)
    """Weight of the cross entropy of a second head over the coarse classes (report C's hierarchy loss), a
    mean over all photos, to which one without a coarse class adds 0; 0 is none."""

    head: HeadConfig = LinearConfig()
    """How pooled features become logits."""

    sampled_classes: float = Field(default=1.0, gt=0, le=1)
    """Share of the classes that each step computes: the batch's own and random others (PartialFC)."""

    drop_rate: float = Field(default=0.0, ge=0, le=0.99)
    """Share of the pooled features set to zero at random in training. It is all the dropout there is: what a
    backbone brings of its own (legacy_senet154, swin's stochastic depth) is off."""

    freeze: tuple[str, ...] = ()
    """Parts that do not learn, by the beginnings of their names: backbone, backbone.layer1, head, ..."""

    optimizer: OptimizerConfig = SgdConfig()
    """How it is lowered."""

    lr_multipliers: Mapping[str, float] = Field(default_factory=dict)
    """Factor on the learning rate by the beginnings of parts' names: backbone, head, objective (its own
    heads), ...; the longest beginning counts."""

    schedule: ScheduleConfig = CosineConfig()
    """How the learning rate changes."""

    clip_norm: PositiveFloat | None = None
    """Longest gradient, over all parameters; a longer one is scaled to it. null is no limit."""

    ema_decay: float | None = Field(default=None, ge=0, le=0.999999)
    """Share of the old weights in an exponential moving average, validated and kept; null is none."""

    augmentation: AugmentationConfig = AugmentationConfig()
    """What happens to a training photo at random; none for a phase whose loss log makes a list."""

    loss_log: Literal["train", "eval", "none"] = "train"
    """train: each photo's loss as it is trained on, before the step; eval: as in serving, by a pass over the
    list after each epoch; none: an empty log."""

    keep_weights: Literal["last", "best"] = "last"
    """Which epoch's weights the bundle gets; best is the lowest mean top-1 error on validation."""

    early_stop_epochs: int = Field(default=0, ge=0)
    """Stop after so many epochs without a lower mean top-1 error on validation; 0 is never."""

    seed_offset: int = Field(default=0, ge=0)
    """Tells members of one recipe apart; runs with neighbouring seeds share none."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the device multiplies it fast (AMX, AVX512-bf16, a GPU), else float32."""

    num_workers: int = Field(default=0, ge=0)
    """Processes that read and decode photos beside each training process; never changes a batch."""

    num_processes: int = Field(default=1, ge=1)
    """Training processes, one a GPU (torchrun starts them); they share each batch."""

    sync_batch_norm: bool = True
    """With several GPUs, batch norm over the whole batch instead of each GPU's share."""

    num_threads: int = Field(default=0, ge=0)
    """Threads of a training process on a CPU; 0 is torch's own choice. Another number, other last bits."""

    checkpoint_steps: int = Field(default=1000, ge=0)
    """Write a checkpoint every so many steps besides the one after each epoch; 0 is only after each epoch."""

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        require(
            self.resize >= self.input_size,
            key="resize",
            expected=f"input_size ({self.input_size}) or more",
            received=self.resize,
        )
        for part, factor in self.lr_multipliers.items():
            require(
                factor > 0,
                key=f"lr_multipliers.{part}",
                expected="a number above 0 (what shall not learn is named in freeze)",
                received=factor,
            )
        require(
            self.num_processes * self.accumulation <= self.batch_size,
            key="accumulation",
            expected=f"a photo of batch_size ({self.batch_size}) for each part of each process",
            received=self.accumulation,
        )
        return self

    @model_validator(mode="after")
    def _epochs_fit(self) -> Self:
        untrained = isinstance(self.head, UNTRAINED_HEADS)
        low = 0 if untrained else 1
        require(
            self.epochs >= low,
            key="epochs",
            expected="0 or more" if untrained else "1 or more (0 only beside a head that is not trained)",
            received=self.epochs,
        )
        require(
            self.epochs == 0 or self.schedule.warmup_epochs < self.epochs,
            key="schedule.warmup_epochs",
            expected=f"fewer than epochs ({self.epochs})",
            received=self.schedule.warmup_epochs,
        )
        return self

    @model_validator(mode="after")
    def _start_fits(self) -> Self:
        require(
            not (self.reset_head and isinstance(self.head, HEADS_OF_TRAINED_MODELS)),
            key="head.name",
            expected=f"a trained head to start from, reset_head false, beside {self.head.name}",
            received="reset_head true",
        )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        mixes = isinstance(self.objective, MixConfig)
        for holds, words in (
            (mixes, "eval or none: objective mix shows no photo as it is"),
            (self.sampled_classes < 1, "eval or none: sampled_classes computes no photo's whole softmax"),
        ):
            require(
                not (holds and self.loss_log == "train"),
                key="loss_log",
                expected=words,
                received=self.loss_log,
            )
        require(
            not (isinstance(self.loss, AccuracyConfig) and self.loss.reading == "precision")
            or self.num_processes * self.accumulation == 1,
            key="loss.reading",
            expected="probability beside accumulation or num_processes above 1: a class's precision counts "
            "the whole batch, and parts of one do not add up to it",
            received="precision",
        )
        alone = isinstance(self.objective, BbnConfig)
        require(
            not alone or (isinstance(self.head, LinearConfig) and self.sampled_classes == 1),
            key="head.name",
            expected="linear beside objective bbn, which makes its own two of it, and sampled_classes 1",
            received=self.head.name,
        )
        brings_photos = isinstance(self.objective, BbnConfig | LioConfig)
        require(
            not (brings_photos and self.sampler.positives),
            key="sampler.positives",
            expected=f"0 beside objective {self.objective.name}, which draws photos of its own",
            received=self.sampler.positives,
        )
        return self


def needs_validation(phase: PhaseConfig) -> list[str]:
    """The keys of a phase, with their values, that go by the error on validation photos."""
    wants = {
        "keep_weights: best": phase.keep_weights == "best",
        "early_stop_epochs": phase.early_stop_epochs > 0,
        "schedule plateau": isinstance(phase.schedule, PlateauConfig),
    }
    return [key for key, wanted in wants.items() if wanted]
