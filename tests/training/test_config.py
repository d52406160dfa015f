"""What a phase and a job may say, and in which sentence the rest is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from imaging.config import Config
from imaging.config_errors import describe_errors
from imaging.storage import StoragePolicy
from training.config import JobConfig, PhaseConfig, load_job, save_job
from training.config.heads import HeadConfig, LinearConfig, LwsConfig
from training.config.losses import CrossEntropyConfig, LossConfig, SymmetricConfig
from training.config.objectives import DclConfig, ObjectiveConfig
from training.config.optimizers import OptimizerConfig, RangerConfig, SgdConfig
from training.config.schedules import ManualConfig, ScheduleConfig

PHASE = {"backbone": "resnet18"}
JOB: dict[str, Any] = {"name": "a", "seed": 1, "fingerprint": "f", "class_names": ["x", "y"], "phase": PHASE}

UNIONS = {
    "loss": LossConfig,
    "head": HeadConfig,
    "objective": ObjectiveConfig,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
}
NEEDED = {
    "multi_step": {"milestones": [1, 2.5]},
    "manual": {"shares": [[1, 0.1]]},
    "lws": {},
}
"""Keys that a choice cannot do without."""


def read(change: dict[str, Any]) -> PhaseConfig:
    """Read a phase as params.yaml is read."""
    return PhaseConfig.model_validate({**PHASE, **change})


def read_strictly(change: dict[str, Any]) -> PhaseConfig:
    """Read a phase as job.json is read."""
    return PhaseConfig.model_validate_json(json.dumps({**PHASE, **change}), strict=True)


def refusals(change: dict[str, Any]) -> list[str]:
    """What is said of a phase that must be refused, in params.yaml and in job.json."""
    said = []
    for reader in (read, read_strictly):
        with pytest.raises(ValidationError) as error:
            reader(change)
        said.append("\n".join(describe_errors(error.value, kind=PhaseConfig)))
    return said


def write(path: Path, values: object) -> Path:
    path.write_text(json.dumps(values))
    return path


def test_a_saved_job_reads_back_equal(tmp_path: Path) -> None:
    phase = PhaseConfig(
        backbone="b",
        optimizer=RangerConfig(betas=(0.9, 0.99)),
        schedule=ManualConfig(shares=((1, 0.1), (2, 0.01))),
        loss=SymmetricConfig(class_weights="inverse"),
        objective=DclConfig(grid=5),
        head=LwsConfig(),
        freeze=("backbone",),
        lr_multipliers={"head": 10.0},
        clip_norm=1.0,
    )
    names, coarse = ("x", "y", "z"), ("u", None, "v")
    job = JobConfig(name="é", seed=3, phase=phase, class_names=names, coarse_names=coarse, fingerprint="f")
    save_job(tmp_path / "job.json", job=job)
    assert load_job(tmp_path / "job.json") == job


def test_keys_left_out_take_their_defaults(tmp_path: Path) -> None:
    job = load_job(write(tmp_path / "job.json", JOB))
    assert job.phase == PhaseConfig(backbone="resnet18")
    assert (job.phase.loss, job.phase.head, job.phase.optimizer.lr) == (
        CrossEntropyConfig(),
        LinearConfig(),
        SgdConfig().lr,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sed": 1}, "sed: no such key; did you mean 'seed'?"),
        (
            {"phase": {**PHASE, "optimizer": {"name": "sgd", "learning": 1}}},
            "phase.optimizer.learning: no such key; the keys there are lr, weight_decay,",
        ),
        ({"phase": {}}, "phase.backbone: this key is missing"),
        ({"seed": "one"}, "seed: expected a valid integer, received 'one'"),
        ({"seed": True}, "seed: expected a valid integer, received True"),
        ({"seed": -1}, "seed: expected a number from 0 to below 4294967296, received -1"),
        ({"seed": 2**32}, "seed: expected a number from 0 to below 4294967296"),
        (
            {"phase": {**PHASE, "precision": "half"}},
            "phase.precision: expected 'auto', 'float32' or 'bfloat16', received 'half'",
        ),
        (
            {"phase": {**PHASE, "optimizer": {"name": "adam", "betas": [0.9]}}},
            "phase.optimizer.betas: expected a list of 2 values",
        ),
        (
            {"phase": {**PHASE, "optimizer": {"lr": 1.0}}},
            "phase.optimizer.name: expected one of 'sgd', 'adam', 'adamw', 'ranger', received 'no such key'",
        ),
        ({"class_names": ["x", 3]}, "class_names[1]: expected a valid string, received 3"),
        ({"class_names": []}, "class_names: expected 1 or more entries, received []"),
        ({"coarse_names": ["u"]}, "coarse_names: expected one for each of 2 classes, or none, received 1"),
        ({"phase": {**PHASE, "coarse_weight": 1.0}}, "phase.coarse_weight: expected 0 where the data have"),
        ({"phase": {**PHASE, "epochs": 0}}, "epochs: expected 1 or more"),
        ({"phase": {**PHASE, "input_size": 300}}, "resize: expected input_size (300) or more"),
    ],
)
def test_a_wrong_key_is_named_with_the_file(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "job.json", {**JOB, **change})
    with pytest.raises(ValueError, match=r"job\.json") as error:
        load_job(path)
    assert words in str(error.value)


def test_a_job_whose_store_keeps_less_than_the_phase_looks_at_is_refused() -> None:
    phase = PhaseConfig(backbone="b", input_size=448, resize=512)
    words = {"name": "a", "seed": 1, "phase": phase, "class_names": ("x", "y"), "fingerprint": "f"}
    assert JobConfig(**words).storage.max_side == 512
    with pytest.raises(ValueError, match=r"phase\.resize: expected at most storage\.max_side \(511\)"):
        JobConfig(**words, storage=StoragePolicy(max_side=511))


def test_coarse_classes_that_are_all_one_teach_nothing() -> None:
    phase = PhaseConfig(backbone="b", coarse_weight=0.5)
    with pytest.raises(ValueError, match="fewer than two coarse classes"):
        JobConfig(
            name="a", seed=1, phase=phase, class_names=("x", "y"), coarse_names=("u", None), fingerprint="f"
        )


def test_a_folder_without_a_job_and_a_broken_job_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found none at .*job\.json"):
        load_job(tmp_path / "job.json")
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_job(tmp_path / "job.json")


def name_of(kind: type[Config]) -> str:
    """The name by which a configuration is chosen."""
    return str(kind.model_fields["name"].default)


CHOICES = [(key, kind) for key, union in UNIONS.items() for kind in get_args(get_args(union)[0])]


@pytest.mark.parametrize(("key", "kind"), CHOICES, ids=[f"{key}-{name_of(kind)}" for key, kind in CHOICES])
def test_every_choice_is_made_by_its_name_in_params_and_in_a_job(key: str, kind: type[Config]) -> None:
    name = name_of(kind)
    change = {"loss_log": "eval", key: {"name": name, **NEEDED.get(name, {})}}
    phase = read(change)
    assert type(getattr(phase, key)) is kind
    assert phase == read_strictly(change)
    assert read_strictly(phase.model_dump(mode="json")) == phase
    assert pickle.loads(pickle.dumps(phase)) == phase


@pytest.mark.parametrize("key", UNIONS)
@pytest.mark.parametrize("value", [{}, {"name": "nonesuch"}, {"name": 3}, "plain", None, []])
def test_a_choice_without_a_known_name_is_refused_with_its_key(key: str, value: object) -> None:
    for message in refusals({key: value}):
        assert key in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimizer": {"name": "sgd", "betas": [0.9, 0.9]}}, "betas"),
        ({"optimizer": {"name": "adam", "betas": [0.9, 0.9, 0.9]}}, "betas"),
        ({"loss": {"name": "focal", "smoothing": 0.1}}, "smoothing"),
        ({"loss": {"name": "cross_entropy", "class_weights": "invers"}}, "class_weights"),
        ({"schedule": {"name": "manual", "shares": [[1]]}}, "shares"),
        ({"schedule": {"name": "multi_step", "milestones": 3}}, "milestones"),
        ({"sampler": {"name": "random"}}, "sampler"),
        ({"freeze": "backbone"}, "freeze"),
        ({"freeze": [1]}, "freeze"),
        ({"lr_multipliers": [1.0]}, "lr_multipliers"),
        ({"lr_multipliers": {"head": "fast"}}, "lr_multipliers.head"),
        ({"clip_norm": "none"}, "clip_norm"),
        ({"keep_weights": "first"}, "keep_weights"),
    ],
)
def test_keys_and_types_that_a_choice_does_not_have_are_refused(change: dict[str, Any], words: str) -> None:
    for message in refusals(change):
        assert words in message


RULES: list[tuple[dict[str, Any], str]] = [
    *(({key: 0}, f"{key}: expected 1 or more") for key in ("batch_size", "input_size", "resize")),
    *(({key: 0}, f"{key}: expected 1 or more") for key in ("accumulation", "num_processes")),
    *(({key: -1}, f"{key}: expected 0 or more") for key in ("num_workers", "num_threads", "seed_offset")),
    *(({key: -1}, f"{key}: expected 0 or more") for key in ("checkpoint_steps", "early_stop_epochs")),
    ({"drop_rate": 1.0}, "drop_rate: expected a number from 0 to 0.99"),
    ({"coarse_weight": -0.1}, "coarse_weight: expected 0 or more"),
    ({"resize": 100}, "resize: expected input_size (224) or more"),
    ({"clip_norm": 0.0}, "clip_norm: expected a number above 0"),
    ({"ema_decay": 1.0}, "ema_decay: expected a number from 0 to"),
    (
        {"lr_multipliers": {"head": 0.0}},
        "lr_multipliers.head: expected a number above 0 (what shall not learn",
    ),
    (
        {"sampled_classes": 0.0, "loss_log": "none"},
        "sampled_classes: expected a number above 0 and at most 1",
    ),
    (
        {"sampled_classes": 1.1, "loss_log": "none"},
        "sampled_classes: expected a number above 0 and at most 1",
    ),
    ({"num_processes": 4, "accumulation": 17}, "accumulation: expected a photo of batch_size (64) for each"),
    ({"epochs": 0}, "epochs: expected 1 or more"),
    ({"head": {"name": "nearest_mean"}, "epochs": -1}, "epochs: expected 0 or more"),
    (
        {"epochs": 2, "schedule": {"name": "cosine", "warmup_epochs": 2}},
        "schedule.warmup_epochs: expected fewer than epochs (2)",
    ),
    *(
        ({"head": {"name": name}, "reset_head": True}, "head.name: expected a trained head to start from")
        for name in ("lws", "tau_normalized", "nearest_mean")
    ),
    ({"objective": {"name": "mix"}}, "loss_log: expected eval or none: objective mix"),
    ({"sampled_classes": 0.1}, "loss_log: expected eval or none: sampled_classes"),
    *(
        ({"loss": {"name": "accuracy", "reading": "precision"}, key: 2}, "loss.reading: expected probability")
        for key in ("accumulation", "num_processes")
    ),
    ({"objective": {"name": "bbn"}, "head": {"name": "normalized"}}, "head.name: expected linear beside"),
    (
        {"objective": {"name": "bbn"}, "sampled_classes": 0.5, "loss_log": "none"},
        "head.name: expected linear beside objective bbn",
    ),
    (
        {"objective": {"name": "bbn"}, "sampler": {"name": "class", "positives": 1}},
        "sampler.positives: expected 0",
    ),
]


@pytest.mark.parametrize(("change", "words"), RULES, ids=[words.split(":")[0] for _, words in RULES])
def test_a_phase_refuses_what_cannot_train(change: dict[str, Any], words: str) -> None:
    for message in refusals(change):
        assert words in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimizer": {"name": "sgd", "lr": 0.0}}, "optimizer.lr: expected a number above 0"),
        ({"optimizer": {"name": "adamw", "weight_decay": -1.0}}, "optimizer.weight_decay: expected"),
        ({"optimizer": {"name": "sgd", "momentum": 1.0}}, "optimizer.momentum: expected a number from 0"),
        (
            {"optimizer": {"name": "adam", "betas": [0.9, 1.0]}},
            "optimizer.betas[1]: expected a number from 0 to 0.99999",
        ),
        ({"optimizer": {"name": "ranger", "eps": 0.0}}, "optimizer.eps: expected a number above 0"),
        ({"optimizer": {"name": "ranger", "lookahead_steps": 0}}, "optimizer.lookahead_steps: expected 1"),
        ({"optimizer": {"name": "ranger", "lookahead_alpha": 0.0}}, "optimizer.lookahead_alpha: expected"),
        ({"schedule": {"name": "constant", "warmup_epochs": -1}}, "schedule.warmup_epochs: expected 0"),
        ({"schedule": {"name": "cosine", "final_lr_share": 2}}, "schedule.final_lr_share: expected"),
        ({"schedule": {"name": "multi_step"}}, "schedule.milestones: expected at least one epoch"),
        ({"schedule": {"name": "multi_step", "milestones": [2, 1]}}, "schedule.milestones: expected"),
        ({"schedule": {"name": "plateau", "factor": 1.0}}, "schedule.factor: expected a number from"),
        ({"schedule": {"name": "plateau", "patience": -1}}, "schedule.patience: expected 0 or more"),
        ({"schedule": {"name": "manual"}}, "schedule.shares: expected at least one pair"),
        (
            {"schedule": {"name": "manual", "shares": [[1, 0.0]]}},
            "schedule.shares[0][1]: expected a number above 0",
        ),
        (
            {"loss": {"name": "cross_entropy", "smoothing": 1.0}},
            "loss.smoothing: expected a number from 0 to below 1",
        ),
        ({"loss": {"name": "symmetric_cross_entropy", "log_zero": 0.0}}, "loss.log_zero: expected"),
        ({"loss": {"name": "bi_tempered", "t2": 0.9}}, "loss.t2: expected a number from 1 to 10"),
        ({"head": {"name": "arcface", "margin": 2.0}}, "head.margin: expected a number from 0 to 1.5"),
        ({"objective": {"name": "mix", "mixup_alpha": 0.0}}, "objective.mixup_alpha: expected"),
        ({"objective": {"name": "lio", "positives": 0}}, "objective.positives: expected 1 or more"),
        ({"sampler": {"name": "power", "power": 2.0}}, "sampler.power: expected a number from -1 to 1"),
        ({"augmentation": {"name": "flip", "erasing": 0.5}}, "use name = crop"),
        ({"augmentation": {"name": "resized_crop", "rotation": 15.0}}, "use name = crop"),
        ({"augmentation": {"name": "crop", "scale": [0.9, 0.5]}}, "augmentation.scale: expected 0 < low"),
    ],
)
def test_each_choice_refuses_values_without_sense(change: dict[str, Any], words: str) -> None:
    for message in refusals(change):
        assert words in message


@pytest.mark.parametrize(
    "change",
    [
        {"head": {"name": "tau_normalized"}, "epochs": 0},
        {"head": {"name": "lws"}},
        {"objective": {"name": "distillation"}},
        {"objective": {"name": "mix"}, "loss_log": "eval"},
        {"sampled_classes": 0.1, "loss_log": "none"},
        {"objective": {"name": "bbn"}},
        {"num_processes": 4, "accumulation": 16},
        {"epochs": 1, "schedule": {"name": "cosine", "warmup_epochs": 0.5}},
    ],
)
def test_what_can_train_is_read_alike_in_params_and_in_a_job(change: dict[str, Any]) -> None:
    assert read(change) == read_strictly(change)


def test_a_number_that_yaml_takes_for_text_is_a_number_in_the_job() -> None:
    phase = read({"optimizer": {"name": "sgd", "lr": "1e-4"}})
    assert read_strictly(phase.model_dump(mode="json")).optimizer == SgdConfig(lr=1e-4)
    assert "optimizer.lr" in refusals({"optimizer": {"name": "sgd", "lr": "fast"}})[1]


def test_a_configuration_never_changes_and_its_copy_is_checked() -> None:
    phase = read({"epochs": 3})
    with pytest.raises(ValidationError, match="frozen"):
        phase.epochs = 4  # type: ignore[misc]
    assert (phase.replace(epochs=4).epochs, phase.epochs) == (4, 3)
    with pytest.raises(ValidationError, match="epochs: expected 1 or more"):
        phase.replace(epochs=0)


def test_every_field_of_a_phase_has_help_text() -> None:
    schema = TypeAdapter(PhaseConfig).json_schema()
    tables = [schema, *schema["$defs"].values()]
    without = [
        key for table in tables for key, field in table["properties"].items() if "description" not in field
    ]
    assert set(without) <= {"name"}  # a choice's name is explained by its class
