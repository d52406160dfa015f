"""`aisle gate` on a real registry: a table for people, JSON for programs, exit code 3, and nothing moves."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import aisle
from tests.project import ROOT
from tests.tracking.conftest import new_store, register, root  # noqa: F401  fixtures
from tracking.gates.report import GateReport
from tracking.registry.registration import Registered
from tracking.registry.versions import find_champion
from tracking.store import Store

Register = Callable[..., Registered]


@pytest.fixture
def project(root: Path, register: Register, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """Version 1 gets five of six photos right, version 2 four, version 3 six; none is the champion."""
    for seed, right in ((1, 5), (2, 4), (3, 6)):
        register(seeds=(seed,), right=right)
    shutil.copytree(ROOT / "conf", root / "conf")
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert "max_calibration_regression: 0.2" in params  # the tiny bundle's probabilities mean nothing
    (root / "params.yaml").write_text(params.replace("regression: 0.2", "regression: 1.0"), encoding="utf-8")
    monkeypatch.chdir(root)
    return root


def _gate(*arguments: str) -> Result:
    return CliRunner().invoke(aisle.main, ["gate", "--data", "tiny", *arguments])


def test_a_gate_compares_any_two_versions_and_moves_nothing(project: Path) -> None:
    worse = _gate("2", "--against", "1", "--json", "--html", "out/report.html")
    assert worse.exit_code == 3, worse.output
    report = GateReport.from_json(worse.stdout)
    assert (report.model, report.challenger, report.champion) == ("product-recognizer-tiny", "2", "1")
    assert [answer.gate for answer in report.failures] == ["error"]
    assert "is 0.3333, worse than the 0.1667 of version 1 on the same 6 photos" in (
        report.answer("error").sentence
    )
    assert report.answer("error").sentence in (project / "out" / "report.html").read_text(encoding="utf-8")
    better = _gate("challenger", "--against", "1")
    assert better.exit_code == 0, better.output
    words = " ".join(better.output.replace("│", " ").split())
    assert "95 % interval" in words
    assert "It passes. Next: aisle promote" in words
    assert find_champion(Store.at(project), data="tiny") is None


def test_a_version_that_is_not_there_is_a_sentence(project: Path) -> None:
    said = _gate("9")
    assert said.exit_code == 1
    assert "has no version 9; it has 1, 2, 3" in said.output
