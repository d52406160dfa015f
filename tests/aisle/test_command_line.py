"""Commands from a sub-folder, from outside of a project, and beside somebody else's dvc.yaml."""

import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import aisle
from tests.project import ROOT
from tests.tracking.tiny_bundle import draw_photo, make_bundle


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """conf/, dvc.yaml and params.yaml of this checkout, with a spool of a server that was down."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "a project"
    shutil.copytree(ROOT / "conf", folder / "conf")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / "photos" / "shelf").mkdir(parents=True)
    return folder


def _aisle(*arguments: str) -> Result:
    return CliRunner().invoke(aisle.main, arguments)


def test_a_command_in_a_sub_folder_is_that_of_the_root(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = project / ".aisle" / "spool" / "f1.jsonl"
    spool.parent.mkdir(parents=True)
    spool.touch()
    monkeypatch.chdir(project / "photos" / "shelf")
    assert _aisle("sync").output == "1 runs sent, 0 waiting\n"
    assert not spool.exists()
    monkeypatch.chdir(project / "photos")
    assert "seed=7" in _aisle("use", "recipe=plain", "seed=7").output
    assert (project / "params.yaml").read_text().count("seed: 7") == 1
    assert list((project / "photos").rglob("*")) == [project / "photos" / "shelf"]


def test_paths_that_were_typed_are_those_of_the_current_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = project / "photos" / "shelf"
    make_bundle(shelf / "tiny", seeds=(1,))
    (shelf / "one.jpg").write_bytes(draw_photo(1))
    monkeypatch.chdir(shelf)
    said = _aisle("predict", "--bundle", "tiny", "one.jpg")
    assert said.exit_code == 0, said.output
    assert "one.jpg" in said.output
    monkeypatch.chdir(shelf)
    assert _aisle("use", "data=image_folder", "data.root=tiny").exit_code == 0
    assert "root: photos/shelf/tiny\n" in (project / "params.yaml").read_text()


def test_no_line_of_help_is_cut_off_in_80_columns() -> None:
    groups = [[], *([name] for name, found in aisle.main.commands.items() if isinstance(found, click.Group))]
    for group in groups:
        said = CliRunner().invoke(aisle.main, [*group, "--help"], terminal_width=80).output
        assert "..." not in said.split("Commands:")[1], said


def test_a_dvc_yaml_in_a_data_folder_is_no_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        (project / "photos" / name).write_text("")
    monkeypatch.chdir(project / "photos" / "shelf")
    assert "seed=8" in _aisle("use", "seed=8").output
    assert (project / "photos" / "params.yaml").read_text() == ""


@pytest.mark.parametrize(
    "command",
    [
        *("sync", "results", "promote", "gate", "register", "ui", "use", "serve", "photos check"),
        *("rollback", "approve", "delete 1 --reason x", "versions", "audit", "audit verify"),
        f"predict {__file__}",
    ],
)
def test_outside_of_a_project_every_command_says_so(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "AISLE_BUNDLE", "AISLE_DATA"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dvc.yaml").touch()  # of some other pipeline
    monkeypatch.chdir(tmp_path)
    said = _aisle(*command.split())
    assert said.exit_code == 1
    assert "Expected to be in a project of Aisle, received" in said.output
    assert [path.name for path in tmp_path.iterdir()] == ["dvc.yaml"]
    assert _aisle(command.split()[0], "--help").exit_code == 0


def test_a_bundle_answers_outside_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bundle(tmp_path / "tiny", seeds=(1,))
    (tmp_path / "one.jpg").write_bytes(draw_photo(1))
    monkeypatch.chdir(tmp_path)
    said = _aisle("predict", "--bundle", "tiny", "one.jpg")
    assert said.exit_code == 0, said.output
    assert said.output.startswith("one.jpg\n")
