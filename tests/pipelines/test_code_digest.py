"""Which edits of the code make a stage run again."""

import shutil
from pathlib import Path

import pytest

from pipelines.code import ROOMS, STAGES, digest_stage

ROOT = Path(__file__).parents[2]
LOSS = "training/losses/cross_entropy.py"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_changed_docstring_or_comment_changes_no_digest(house: Path) -> None:
    before = digest_stage(house, "train")
    edit(house / LOSS, '"""', '"""Said otherwise. ')
    (house / LOSS).open("a").write("\n# a comment\n")
    assert digest_stage(house, "train") == before


def test_a_changed_loss_changes_the_digest_of_train_and_of_no_other_stage(house: Path) -> None:
    before = {stage: digest_stage(house, stage) for stage in STAGES}
    (house / LOSS).open("a").write("\nEPSILON = 0.5\n")
    changed = [stage for stage in STAGES if digest_stage(house, stage) != before[stage]]
    assert changed == ["train"]


def test_a_changed_default_of_a_phase_changes_the_digest_of_train(house: Path) -> None:
    before = digest_stage(house, "train")
    edit(
        house / "training/config/optimizers.py",
        "momentum: float = Field(default=0.9,",
        "momentum: float = Field(default=0.95,",
    )
    assert digest_stage(house, "train") != before


def test_a_change_of_tracking_retrains_nothing(house: Path) -> None:
    before = digest_stage(house, "train")
    for path in (house / "tracking").glob("*.py"):
        path.open("a").write("\nCHANGED = True\n")
    assert digest_stage(house, "train") == before


def test_the_digest_reaches_what_training_imports_of_other_rooms() -> None:
    reached = digest_stage(ROOT, "train")
    assert {"training.trainer", "recognition.preprocessing", "imaging.decode", "catalog.photo_store"} <= set(
        reached
    )


def test_a_contract_of_a_table_re_runs_the_stages_that_know_it_and_what_it_tells_people_none(
    house: Path,
) -> None:
    before = {stage: digest_stage(house, stage) for stage in STAGES}
    edit(house / "contracts/duplicates.py", 'meaning="The other photo."', 'meaning="Another one."')
    assert {stage: digest_stage(house, stage) for stage in STAGES} == before
    edit(house / "contracts/duplicates.py", "version=1", "version=2")
    changed = {stage for stage in STAGES if digest_stage(house, stage) != before[stage]}
    assert changed == {"duplicates", "split", "refine", "explore"}
