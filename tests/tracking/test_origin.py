import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tracking.lineage import origin
from tracking.project import find_root, find_workspace

PIPELINE = """
stages:
  make:
    cmd: mkdir -p data/out && printf one > data/out/a && printf two > data/out/b
    deps: [code, word.txt]
    outs: [data/out]
"""


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _git_repository(folder: Path) -> None:
    _run(folder, "git", "init", "-q")
    _run(folder, "git", "config", "user.email", "a@b.c")
    _run(folder, "git", "config", "user.name", "a")


def _commit(folder: Path) -> None:
    _run(folder, "git", "add", "-A")
    _run(folder, "git", "commit", "-qm", "all")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real DVC project whose one stage has run."""
    folder = tmp_path_factory.mktemp("pipeline")
    _git_repository(folder)
    dvc = [sys.executable, "-m", "dvc"]
    _run(folder, *dvc, "init", "-q")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / ".dvcignore").write_text("__pycache__/\n")
    (folder / "word.txt").write_text("a line\r\nanother\n")
    (folder / "code" / "sub").mkdir(parents=True)
    (folder / "code" / "x.py").write_text("x = 1\n")
    (folder / "code" / "sub" / "y.py").write_text("y = 2\n")
    (folder / "code" / "__pycache__").mkdir()
    (folder / "code" / "__pycache__" / "x.pyc").write_bytes(b"ignored by .dvcignore")
    _run(folder, *dvc, "repro", "-q")
    return folder


def _locked(folder: Path, kind: str, path: str) -> str:
    import yaml

    stage = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]["make"]
    return next(str(entry["md5"]) for entry in stage[kind] if entry["path"] == path)


def test_an_out_has_the_md5_of_the_lock_without_being_hashed(pipeline: Path) -> None:
    expected = _locked(pipeline, "outs", "data/out")
    assert origin.hash_inputs(pipeline, ["data/out"]) == {"data/out": expected}
    assert expected.endswith(".dir")


@pytest.mark.parametrize("path", ["word.txt", "code"])
def test_a_file_that_no_stage_made_has_the_md5_that_dvc_writes(pipeline: Path, path: str) -> None:
    assert origin.hash_inputs(pipeline, [path]) == {path: _locked(pipeline, "deps", path)}


def test_a_path_that_is_not_there_says_what_to_do(pipeline: Path) -> None:
    with pytest.raises(FileNotFoundError, match="dvc repro"):
        origin.hash_inputs(pipeline, ["data/nothing"])


def test_fingerprint_is_the_hash_of_canonical_json() -> None:
    text = '{"inputs":{"a":"1"},"params":{"epochs":2,"lr":0.1},"seed":7}'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert origin.fingerprint({"lr": 0.1, "epochs": 2}, inputs={"a": "1"}, seed=7) == expected
    assert origin.fingerprint({"epochs": 2, "lr": 0.1}, inputs={"a": "1"}, seed=7) == expected
    assert origin.fingerprint({"epochs": 2, "lr": 0.1}, inputs={"a": "2"}, seed=7) != expected


def test_params_and_lock_may_differ_from_the_commit_but_nothing_else(tmp_path: Path) -> None:
    _git_repository(tmp_path)
    for name in ("params.yaml", "dvc.lock", "dvc.yaml"):
        (tmp_path / name).write_text("{}\n")
    _commit(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    assert origin.read_lineage(tmp_path, inputs=[]).clean
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    assert not origin.read_lineage(tmp_path, inputs=[]).clean


def test_a_folder_outside_git_is_not_clean_and_says_so_in_its_tags(tmp_path: Path) -> None:
    tags = origin.read_lineage(tmp_path, inputs=[]).tags()
    assert tags["aisle.git_commit"] == "none"
    assert tags["aisle.git_clean"] == "false"
    assert "mlflow.source.git.commit" not in tags


def test_lineage_names_the_md5_of_each_input(pipeline: Path) -> None:
    found = origin.read_lineage(pipeline, inputs=["data/out", "word.txt"])
    assert json.loads(found.tags()["aisle.inputs"]) == {
        "data/out": _locked(pipeline, "outs", "data/out"),
        "word.txt": _locked(pipeline, "deps", "word.txt"),
    }


def test_code_digest_changes_with_a_content_and_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "imaging").mkdir()
    (tmp_path / "imaging" / "a.py").write_text("1")
    first = origin.code_digest(tmp_path)
    (tmp_path / "imaging" / "a.py").write_text("2")
    second = origin.code_digest(tmp_path)
    (tmp_path / "imaging" / "a.py").rename(tmp_path / "imaging" / "b.py")
    assert len({first, second, origin.code_digest(tmp_path)}) == 3


def test_an_experiment_in_a_temporary_copy_belongs_to_the_repository_around_it(tmp_path: Path) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    (copy / "data").mkdir(parents=True)
    for folder in (tmp_path, copy):
        (folder / "dvc.yaml").write_text("stages: {}\n")
        (folder / "params.yaml").touch()
    assert find_workspace(copy / "data") == copy.resolve()
    assert find_root(copy / "data") == tmp_path.resolve()
    assert find_root(tmp_path) == tmp_path.resolve()


def test_importing_lineage_loads_neither_mlflow_nor_dvc_nor_torch() -> None:
    code = "import sys, tracking.lineage.origin; print({'mlflow', 'dvc', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
