import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from pipelines.stage import TRACEBACK, errors_in_words


def _sentence(error: Exception, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended, errors_in_words("stage x"):
        raise error
    assert ended.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a/bundle"),
            "runs/a/bundle could not be written",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "free space there"),
        (
            PermissionError(errno.EACCES, "Permission denied", "params.yaml"),
            "'params.yaml': correct its permissions",
        ),
        (OSError(errno.EROFS, "Read-only file system", "mlflow.db"), "where the project can be written"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TRACEBACK, raising=False)
    said = _sentence(error, capsys)
    assert said.startswith("stage x: ")
    assert words in said
    assert "Traceback" not in said


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError), errors_in_words("stage x"):
        raise KeyError("a")


def test_a_full_disk_under_the_messages_ends_the_command_all_the_same(tmp_path: Path) -> None:
    code = "from pipelines.stage import errors_in_words\nwith errors_in_words('x'): raise ValueError('no')"
    environment = {name: value for name, value in os.environ.items() if name != TRACEBACK}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stderr=full, env=environment, check=False)
    assert done.returncode == 1
