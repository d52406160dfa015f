"""The commands about versions as a person types them, on a real registry and history."""

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import aisle
from tests.tracking.conftest import new_store, root  # noqa: F401  fixtures
from tests.tracking.light_registry import NAME, add_version, alias, alter, report
from tracking.history.history import History
from tracking.promotion import promote
from tracking.store import Store


@pytest.fixture
def project(root: Path, monkeypatch: pytest.MonkeyPatch) -> History:  # noqa: F811
    """A project with two promoted versions and a challenger; the current folder is one of its sub-folders."""
    (root / "conf").mkdir()
    (root / "conf" / "config.yaml").touch()
    (root / "params.yaml").write_text("data:\n  name: tiny\n")
    (root / "photos").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "config", "user.name", "Greta"], cwd=root, check=True)
    monkeypatch.chdir(root / "photos")
    store = Store.at(root)
    tags = {
        "aisle.recipe": "plain",
        "aisle.mean_top1_error": "0.3350",
        "aisle.git_commit": "c0ffee" * 6,
        "aisle.git_clean": "true",
        "aisle.registered_at": "2026-11-25T12:00:00+00:00",
    }
    for champion in (None, "1"):
        version = add_version(store, tags=tags)
        promote(store, data="tiny", gate_result=report(version, champion), by="anna", reason="autumn")
    add_version(store, by="Greta")
    return History.at(store)


def _aisle(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(aisle.main, arguments)
    assert done.exit_code == code, done.output
    return done


def test_versions_are_listed_newest_first(project: History) -> None:
    lines = _aisle("versions").stdout.splitlines()
    assert lines[0].split() == ["version", "aliases", "recipe", "error", "%", "commit", "by", "when"]
    assert lines[1].split()[:5] == ["3", "challenger", "-", "-", "-"]
    assert lines[2].split() == [
        "2",
        "champion",
        "plain",
        "33.50",
        "c0ffeec0ff",
        "anna",
        "2026-11-25",
        "12:00:00",
    ]
    found = json.loads(_aisle("versions", "--json").stdout)
    assert [version["version"] for version in found] == [3, 2, 1]
    assert found[1] == {
        "model": NAME,
        "version": 2,
        "aliases": ["champion"],
        "recipe": "plain",
        "mean_top1_error": 0.335,
        "commit": "c0ffee" * 6,
        "clean": True,
        "by": "anna",
        "at": "2026-11-25T12:00:00+00:00",
    }
    assert (
        "No version of product-recognizer-other is registered" in _aisle("versions", "--data", "other").output
    )


def test_versions_need_no_history(project: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AISLE_DATABASE_URL", "postgresql://shop:s3cret@127.0.0.1:9/x")
    said = _aisle("versions")
    assert "Moves outside of Aisle are not looked for: cannot open the history" in said.stderr
    assert "s3cret" not in said.output
    assert len(said.stdout.splitlines()) == 4
    assert "cannot open the history" in _aisle("audit", code=1).output


def test_rollback_says_what_it_did_and_the_audit_shows_it(project: History) -> None:
    said = _aisle("rollback", "--reason", "wrong prices").output
    assert said.startswith(f"{NAME} version 1 is the champion again (before: version 2)")
    assert alias(project.store) == "1"
    assert "is the champion already" in _aisle("rollback", "--to", "1").output
    assert "--to VERSION" in _aisle("rollback", code=1).output
    line = _aisle("audit").stdout.splitlines()[-1]
    assert "Greta  rollback, champion 2 -> 1" in line
    assert line.endswith("wrong prices")


def test_the_audit_has_one_line_an_operation(project: History) -> None:
    project.store.client.set_registered_model_alias(NAME, "champion", "1")
    done = _aisle("audit")
    assert "champion was moved to version 1 outside of Aisle" in done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(maxsplit=4)[4].split(",")[0] for line in lines[1:]] == [
        "register",
        "promote",
        "register",
        "promote",
        "register",
        "outside",
    ]
    assert lines[4].endswith("autumn; 2 gates passed")
    assert "outside, champion 2 -> 1" in lines[6]
    rows = json.loads(_aisle("audit", "--json").stdout)
    assert [row["sequence"] for row in rows] == list(range(1, 9))
    assert rows[1]["details"]["gates"]["error"]["numbers"] == {"difference": -0.25}


def test_the_audit_is_verified_with_an_exit_code(project: History) -> None:
    assert _aisle("audit", "verify").output == f"{NAME}: 7 rows, each follows on the one before\n"
    alter(project, "UPDATE aisle_events SET reason = 'spring' WHERE sequence = 3")
    said = _aisle("audit", "verify", code=1)
    assert said.stderr == f"row 3 of the history of {NAME} was altered: its hash is not that of its columns\n"


def test_an_approval_is_by_somebody_else(project: History) -> None:
    assert "Greta, who registered it; let another person" in _aisle("approve", code=1).output
    assert _aisle("approve", "--by", "Anna Berg").output.startswith("Anna Berg approved version 3 at 20")
    assert " already" in _aisle("approve", "3", "--by", "Anna Berg").output
    assert "Greta approved version 1 at" in _aisle("approve", "1", "--reason", "looked at it").output


def test_a_version_behind_an_alias_stays(project: History) -> None:
    assert (
        "which is the champion; promote or roll back" in _aisle("delete", "2", "--reason", "x", code=1).output
    )
    assert "Missing option '--reason'" in _aisle("delete", "1", code=2).output
    assert _aisle("delete", "1", "--reason", "photos withdrawn").output.startswith(
        "Greta deleted version 1 at"
    )
    assert [version["version"] for version in json.loads(_aisle("versions", "--json").stdout)] == [3, 2]


def test_force_needs_a_reason(project: History) -> None:
    assert "--force needs a reason" in _aisle("promote", "--force", " ", code=2).output


def test_a_broken_params_yaml_is_said_in_words(project: History) -> None:
    (project.store.root / "params.yaml").write_text("data: [\n")
    assert "params.yaml" in _aisle("versions", code=1).output
