"""Every row of docs/recipes.md composes, and along its graph the weights that a phase starts from fit it."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import torch

from aisle.composition import compose
from bench.rows import read_rows
from pipelines.params import Params
from recognition.backbones import _check_tensors, _split_state, make_model

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "conf/experiment"
ROWS = read_rows((ROOT / "docs/recipes.md").read_text(encoding="utf-8"))


def compose_row(setting: str, *, size: str = "paper") -> Params:
    return Params.model_validate(
        compose(ROOT, overrides=["data=aliproducts", f"size={size}", *shlex.split(setting)])
    )


@cache
def state_of(backbone: str) -> dict[str, torch.Tensor]:
    """What a phase's bundle holds, by name and shape: on the meta device a network costs no memory."""
    with torch.device("meta"):
        return make_model(backbone, num_classes=3, initial_weights="random").state_dict()


@cache
def check_fit(source: str, backbone: str) -> None:
    """ValueError unless weights of `source` load into `backbone` by the rule of load_weights_file."""
    received, _ = _split_state(state_of(source))
    wanted, _ = _split_state(state_of(backbone))
    _check_tensors(received, wanted, Path(source))


def check_graph(params: Params) -> None:
    made = {**params.recipe.weights, **params.recipe.configs}
    for name, phase in params.recipe.phases.items():
        check_fit(made[phase.init].backbone, made[name].backbone)
        state_of(made[phase.teacher].backbone)


def test_the_table_has_the_rows_of_all_four_reports() -> None:
    assert len(ROWS) > 60
    for recipe in ("bsce", "loss_guided", "winner", "rebalanced"):
        assert any(row.setting == f"recipe={recipe}" for row in ROWS)


def test_the_table_names_every_experiment_and_no_other() -> None:
    files = {path.relative_to(EXPERIMENTS).with_suffix("").as_posix() for path in EXPERIMENTS.rglob("*.yaml")}
    named = {row.setting.removeprefix("experiment=") for row in ROWS if row.setting.startswith("experiment=")}
    assert named == files


@pytest.mark.parametrize("setting", [pytest.param(row.setting, id=row.name) for row in ROWS])
def test_the_setting_of_a_row_can_run_and_its_weights_fit(setting: str) -> None:
    check_graph(compose_row(setting))


def test_the_check_finds_weights_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="resnest101e does not fit the backbone"):
        check_fit("resnest101e", "resnet50")


@pytest.mark.parametrize(
    ("recipe", "weights", "phases"),
    [
        ("loss_guided", "pretrained", 11),
        ("winner", "pretrained_resnet50", 5),  # on everything, balanced, DCL, accuracy loss, LIO
        ("winner", "pretrained_b3", 3),
        ("rebalanced", "pretrained", 2),
        ("out_of_fold", "pretrained", 5),
    ],
)
@pytest.mark.parametrize("size", ["paper", "tiny"])
def test_one_override_changes_the_backbone_of_all_that_follows(
    recipe: str, weights: str, phases: int, size: str
) -> None:
    params = compose_row(f"recipe={recipe} recipe.weights.{weights}.backbone=convnext_nano", size=size)
    changed = [name for name, phase in params.recipe.configs.items() if phase.backbone == "convnext_nano"]
    assert len(changed) == phases
    check_graph(params)


def test_report_b_starts_with_its_main_entries_backbone() -> None:
    phases = compose_row("recipe=loss_guided").recipe.configs
    assert {phase.backbone for phase in phases.values()} == {"resnest101e"}


def test_the_losses_of_report_a_are_compared_on_photos_of_one_size() -> None:
    losses = [row.setting for row in ROWS if re.fullmatch("PNASNet, (CE|BCE|SCE|BSCE)", row.name)]
    assert len(losses) == 4
    for setting in losses:
        recipe = compose_row(setting).recipe
        assert (recipe.ensemble.views, recipe.members) == (("center_384",), ("pnasnet",))


def test_report_d_has_the_rates_of_its_code_epoch_by_epoch() -> None:
    first, second = compose_row("recipe=rebalanced").recipe.configs.values()
    assert (first.optimizer.lr, first.schedule.milestones, first.epochs) == (0.5, (10, 20, 30), 40)
    shares = dict(second.schedule.shares)
    assert [second.optimizer.lr, second.optimizer.lr * shares[10]] == pytest.approx([5e-4, 1e-4])
    for phase in (first, second):
        assert phase.augmentation.scale == (0.08, 1.0)
        assert not phase.whole_photo
        plain_l2 = (
            phase.optimizer.nesterov,
            phase.optimizer.exempt_norm_and_bias,
            phase.optimizer.weight_decay,
        )
        assert plain_l2 == (False, False, 1e-4)


def test_report_b_runs_ranger_as_its_team_did() -> None:
    for phase in compose_row("recipe=loss_guided").recipe.configs.values():
        ranger = phase.optimizer
        assert (ranger.name, ranger.weight_decay) == ("ranger", 0.0)
        assert (ranger.betas, ranger.eps) == ((0.95, 0.999), 1e-5)
        assert (ranger.lookahead_steps, ranger.lookahead_alpha, ranger.centralize_gradients) == (6, 0.5, True)
