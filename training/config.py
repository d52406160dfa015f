"""What a phase and a training job may say, with every default beside its reason.

These are plain dataclasses so that a bare GPU node reads a job without pydantic; `__pydantic_config__` lets
the pipeline check the very same classes through pydantic, and the text under each field becomes help there.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from imaging.storage import StoragePolicy
from training.config_reader import read_dataclass

_STRICT: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}


def _require(holds: bool, *, key: str, expected: str, received: object) -> None:
    if not holds:
        raise ValueError(f"{key}: expected {expected}, received {received!r}.")


def _require_range(value: float, *, key: str, low: float, high: float) -> None:
    _require(low <= value <= high, key=key, expected=f"a number from {low:g} to {high:g}", received=value)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What the optimiser lowers. The loss log always records plain cross entropy, whatever stands here."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: Literal["cross_entropy"] = "cross_entropy"
    """Which loss; cross_entropy is the mean over the batch of -log p of the label."""

    smoothing: float = 0.0
    """Label smoothing: the probability taken from the label and spread by smoothing_convention. 0 is none."""

    smoothing_convention: Literal["others", "uniform"] = "others"
    """others: spread as eps/(K-1) on the other classes (report B); uniform: eps/K on all (torch)."""

    def __post_init__(self) -> None:
        """Refuse a smoothing that leaves the label nothing."""
        _require(
            0 <= self.smoothing < 1,
            key="loss.smoothing",
            expected="0 <= smoothing < 1",
            received=self.smoothing,
        )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How a gradient becomes a step."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: Literal["sgd", "ranger"] = "sgd"
    """sgd: with Nesterov's momentum; ranger: RAdam in Lookahead (k = 6, alpha = 0.5) as in report B."""

    lr: float = 0.01
    """Learning rate at its highest, before the schedule lowers it."""

    weight_decay: float = 1e-4
    """L2 penalty on weight matrices and kernels; biases and normalisation weights are left out."""

    momentum: float = 0.9
    """Momentum of sgd, 0 is none; ranger does not read it."""

    betas: tuple[float, float] = (0.95, 0.999)
    """Averaging of the gradient and of its square in ranger; sgd does not read it."""

    eps: float = 1e-5
    """Added to ranger's denominator; sgd does not read it."""

    def __post_init__(self) -> None:
        """Refuse rates that cannot train."""
        _require(self.lr > 0, key="optimizer.lr", expected="a number above 0", received=self.lr)
        _require_range(self.weight_decay, key="optimizer.weight_decay", low=0, high=1)
        _require_range(self.momentum, key="optimizer.momentum", low=0, high=0.9999)
        _require(self.eps > 0, key="optimizer.eps", expected="a number above 0", received=self.eps)
        for beta in self.betas:
            _require_range(beta, key="optimizer.betas", low=0, high=0.99999)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate changes, batch by batch."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: Literal["cosine", "constant"] = "cosine"
    """cosine: fall along half a cosine to final_lr_share; constant: stay at lr after the warm-up."""

    warmup_epochs: float = 0
    """Epochs (fractions allowed) in which the rate climbs from 1/1000 of lr to lr."""

    final_lr_share: float = 0.1
    """Where cosine ends, as a share of lr: report B goes from 1e-4 to 1e-5."""

    def __post_init__(self) -> None:
        """Refuse a rate that would end above its start."""
        _require_range(self.final_lr_share, key="schedule.final_lr_share", low=0, high=1)
        _require(
            self.warmup_epochs >= 0,
            key="schedule.warmup_epochs",
            expected="0 or more",
            received=self.warmup_epochs,
        )


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """What happens to a training photo at random, drawn from (seed, epoch, photo) alone."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: Literal["none", "flip", "crop"] = "flip"
    """none: the photo as in serving; flip: mirrored half of the time; crop: random resized crop and flip."""

    scale: tuple[float, float] = (0.35, 1.0)
    """Smallest and largest share of the photo's area that crop keeps."""

    ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    """Narrowest and widest shape (width / height) that crop cuts."""

    auto_augment: str | None = None
    """A timm policy such as `rand-m7-mstd0.5` or `original` (AutoAugment), after the crop; null is none."""

    color_jitter: float = 0.0
    """Strength of random brightness, contrast and saturation after the crop; 0 is none, 0.4 is usual."""

    erasing: float = 0.0
    """Share of the photos of which crop paints a random rectangle in the mean colour (Cutout's successor)."""

    def __post_init__(self) -> None:
        """Refuse ranges that are upside down and options that the chosen augmentation would ignore."""
        for key in ("scale", "ratio"):
            low, high = getattr(self, key)
            _require(
                0 < low <= high, key=f"augmentation.{key}", expected="0 < low <= high", received=(low, high)
            )
        _require_range(self.scale[1], key="augmentation.scale", low=0, high=1)
        _require_range(self.erasing, key="augmentation.erasing", low=0, high=1)
        _require(
            self.color_jitter >= 0,
            key="augmentation.color_jitter",
            expected="0 or more",
            received=self.color_jitter,
        )
        if self.name != "crop":
            for key in ("auto_augment", "color_jitter", "erasing"):
                _require(
                    not getattr(self, key),
                    key=f"augmentation.{key}",
                    expected=f"nothing beside name = {self.name} (use name = crop)",
                    received=getattr(self, key),
                )


@dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """One training run: list, initial weights, model, loss, optimiser, schedule and augmentation."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    list: str
    """The list to train on: a Parquet file of photo_id, class, why, relative to the repository."""

    backbone: str
    """Any timm model name, for example resnet18 or resnest50d."""

    init_path: str = "conf/nothing.yaml"
    """Another phase's bundle or a .safetensors file to start from; conf/nothing.yaml where none is needed."""

    initial_weights: Literal["random", "imagenet", "phase", "file"] = "imagenet"
    """random; imagenet: timm's (from init_path where it is a file); phase, file: what init_path holds."""

    missing_weights: Literal["stop", "random"] = "stop"
    """What to do when ImageNet weights cannot be had: stop, or go on with random weights."""

    input_size: int = 224
    """Side of the square that the model sees, in pixels."""

    resize: int = 256
    """Side, in pixels, to which a photo is scaled before its centre is cropped to input_size."""

    whole_photo: bool = True
    """true: squash the whole photo to resize x resize (reports A and B); false: shorter side to resize."""

    epochs: int = 10
    """How often every photo of the list is seen."""

    batch_size: int = 64
    """Photos a step at most; an epoch's batches differ by one photo, so none is nearly empty."""

    loss: LossConfig = field(default_factory=LossConfig)
    """What is lowered."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How it is lowered."""

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """How the learning rate changes."""

    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """What happens to a training photo at random; none for a phase whose loss log makes a list."""

    loss_log: Literal["train"] = "train"
    """train: record each photo's loss as it is trained on, before the step. Costs nothing measurable."""

    seed_offset: int = 0
    """Added to the run's seed, so that members of one recipe differ."""

    drop_rate: float = 0.0
    """Share of the pooled features set to zero at random in training."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the device multiplies it fast (AMX, AVX512-bf16, a GPU), else float32."""

    num_workers: int = 0
    """Processes that read and decode photos beside the training process; never changes a batch."""

    num_threads: int = 0
    """Threads of the training process on a CPU; 0 is torch's own choice. Another number, other last bits."""

    checkpoint_steps: int = 1000
    """Write a checkpoint every so many steps besides the one after each epoch; 0 is only after each epoch."""

    def __post_init__(self) -> None:
        """Refuse counts and sizes that cannot train."""
        for key in ("epochs", "batch_size", "input_size", "resize"):
            _require(getattr(self, key) >= 1, key=key, expected="1 or more", received=getattr(self, key))
        for key in ("num_workers", "num_threads", "checkpoint_steps", "seed_offset"):
            _require(getattr(self, key) >= 0, key=key, expected="0 or more", received=getattr(self, key))
        _require_range(self.drop_rate, key="drop_rate", low=0, high=0.99)
        _require(
            self.resize >= self.input_size,
            key="resize",
            expected=f"input_size ({self.input_size}) or more",
            received=self.resize,
        )
        _require(
            self.schedule.warmup_epochs < self.epochs,
            key="schedule.warmup_epochs",
            expected=f"fewer than epochs ({self.epochs})",
            received=self.schedule.warmup_epochs,
        )


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """Everything a job folder's job.json says."""

    name: str
    """The phase's name, which its bundle carries."""

    seed: int
    """The run's seed; the phase adds its seed_offset."""

    phase: PhaseConfig
    """The phase to train."""

    class_names: tuple[str, ...]
    """The SKU of each class index that the list uses."""

    fingerprint: str
    """Hash of the phase's params, inputs and seed: a checkpoint is resumed only when it carries the same."""

    storage: StoragePolicy = field(default_factory=StoragePolicy)
    """How the store's photos were re-encoded, so that the bundle lets serving do the same."""

    def __post_init__(self) -> None:
        """Refuse a job without classes."""
        _require(len(self.class_names) > 0, key="class_names", expected="at least one class", received=[])


def load_job(path: Path) -> JobConfig:
    """Read a job.json; ValueError names the first key that is unknown, missing or of the wrong type."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"Expected a job folder with a job.json, found none at {path}. See python -m training --help."
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    return read_dataclass(JobConfig, values=values, where=str(path))


def save_job(path: Path, *, job: JobConfig) -> None:
    """Write a job.json that `load_job` reads back to an equal JobConfig."""
    text = json.dumps(asdict(job), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
