"""What a phase may say, with every default beside its reason.

These are plain dataclasses so that a bare GPU node reads a job without pydantic; the pipeline checks the very
same classes through pydantic, and the text under each field becomes help there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from training.config.augmentation import AugmentationConfig
from training.config.checks import Strict, require, require_at_least, require_positive, require_range
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


@dataclass(frozen=True, kw_only=True)
class PhaseConfig(Strict):
    """How one training run learns: model, sampler, objective, loss, optimiser and schedule.

    What it learns from (list, initial weights, teacher) lies in the job folder.
    """

    backbone: str
    """Any timm model name, for example resnet50d or resnest50d, or iresnet101."""

    reset_head: bool = False
    """Re-initialise the head although the bundle has one that fits (classifier re-training, cRT)."""

    input_size: int = 224
    """Side of the square that the model sees, in pixels."""

    resize: int = 256
    """Side, in pixels, to which a photo is scaled before its centre is cropped to input_size."""

    whole_photo: bool = True
    """true: squash the whole photo to resize x resize (reports A and B); false: shorter side to resize."""

    epochs: int = 10
    """How often as many photos as the list has are seen; 0 only for a head that is computed, not trained."""

    batch_size: int = 64
    """Photos a step at most, over all devices; an epoch's batches differ by one photo, so none is nearly
    empty."""

    accumulation: int = 1
    """Parts in which a device takes its share of a batch, one after the other, where memory is short."""

    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """Which photos make an epoch."""

    objective: ObjectiveConfig = field(default_factory=PlainConfig)
    """What a batch is made to teach."""

    loss: LossConfig = field(default_factory=CrossEntropyConfig)
    """What is lowered."""

    coarse_weight: float = 0.0
    """Weight of the cross entropy of a second head over the coarse classes (report C's hierarchy loss), a
    mean over all photos, to which one without a coarse class adds 0; 0 is none."""

    head: HeadConfig = field(default_factory=LinearConfig)
    """How pooled features become logits."""

    sampled_classes: float = 1.0
    """Share of the classes that each step computes: the batch's own and random others (PartialFC)."""

    drop_rate: float = 0.0
    """Share of the pooled features set to zero at random in training. It is all the dropout there is: what a
    backbone brings of its own (legacy_senet154, swin's stochastic depth) is off."""

    freeze: tuple[str, ...] = ()
    """Parts that do not learn, by the beginnings of their names: backbone, backbone.layer1, head, ..."""

    optimizer: OptimizerConfig = field(default_factory=SgdConfig)
    """How it is lowered."""

    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    """Factor on the learning rate by the beginnings of parts' names: backbone, head, objective (its own
    heads), ...; the longest beginning counts."""

    schedule: ScheduleConfig = field(default_factory=CosineConfig)
    """How the learning rate changes."""

    clip_norm: float | None = None
    """Longest gradient, over all parameters; a longer one is scaled to it. null is no limit."""

    ema_decay: float | None = None
    """Share of the old weights in an exponential moving average, validated and kept; null is none."""

    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """What happens to a training photo at random; none for a phase whose loss log makes a list."""

    loss_log: Literal["train", "eval", "none"] = "train"
    """train: each photo's loss as it is trained on, before the step; eval: as in serving, by a pass over the
    list after each epoch; none: an empty log."""

    keep_weights: Literal["last", "best"] = "last"
    """Which epoch's weights the bundle gets; best is the lowest mean top-1 error on validation."""

    early_stop_epochs: int = 0
    """Stop after so many epochs without a lower mean top-1 error on validation; 0 is never."""

    seed_offset: int = 0
    """Tells members of one recipe apart; runs with neighbouring seeds share none."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the device multiplies it fast (AMX, AVX512-bf16, a GPU), else float32."""

    num_workers: int = 0
    """Processes that read and decode photos beside each training process; never changes a batch."""

    num_processes: int = 1
    """Training processes, one a GPU (torchrun starts them); they share each batch."""

    sync_batch_norm: bool = True
    """With several GPUs, batch norm over the whole batch instead of each GPU's share."""

    num_threads: int = 0
    """Threads of a training process on a CPU; 0 is torch's own choice. Another number, other last bits."""

    checkpoint_steps: int = 1000
    """Write a checkpoint every so many steps besides the one after each epoch; 0 is only after each epoch."""

    def __post_init__(self) -> None:
        """Refuse counts, sizes and combinations that cannot train."""
        for key in ("batch_size", "input_size", "resize", "accumulation", "num_processes"):
            require_at_least(getattr(self, key), key=key, low=1)
        for key in ("num_workers", "num_threads", "checkpoint_steps", "seed_offset", "early_stop_epochs"):
            require_at_least(getattr(self, key), key=key, low=0)
        require_range(self.drop_rate, key="drop_rate", low=0, high=0.99)
        require_at_least(self.coarse_weight, key="coarse_weight", low=0)
        require(
            self.resize >= self.input_size,
            key="resize",
            expected=f"input_size ({self.input_size}) or more",
            received=self.resize,
        )
        if self.clip_norm is not None:
            require_positive(self.clip_norm, key="clip_norm")
        if self.ema_decay is not None:
            require_range(self.ema_decay, key="ema_decay", low=0, high=0.999999)
        for part, factor in self.lr_multipliers.items():
            require(
                factor > 0,
                key=f"lr_multipliers.{part}",
                expected="a number above 0 (what shall not learn is named in freeze)",
                received=factor,
            )
        require(
            0 < self.sampled_classes <= 1,
            key="sampled_classes",
            expected="above 0 and at most 1",
            received=self.sampled_classes,
        )
        require(
            self.num_processes * self.accumulation <= self.batch_size,
            key="accumulation",
            expected=f"a photo of batch_size ({self.batch_size}) for each part of each process",
            received=self.accumulation,
        )
        self._check_epochs()
        self._check_start()
        self._check_combinations()

    def _check_epochs(self) -> None:
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

    def _check_start(self) -> None:
        require(
            not (self.reset_head and isinstance(self.head, HEADS_OF_TRAINED_MODELS)),
            key="head.name",
            expected=f"a trained head to start from, reset_head false, beside {self.head.name}",
            received="reset_head true",
        )

    def _check_combinations(self) -> None:
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


def needs_validation(phase: PhaseConfig) -> list[str]:
    """The keys of a phase, with their values, that go by the error on validation photos."""
    wants = {
        "keep_weights: best": phase.keep_weights == "best",
        "early_stop_epochs": phase.early_stop_epochs > 0,
        "schedule plateau": isinstance(phase.schedule, PlateauConfig),
    }
    return [key for key, wanted in wants.items() if wanted]
