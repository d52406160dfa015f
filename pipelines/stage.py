"""How a stage starts and fails: one sentence for what a person can mend, a traceback for what is a bug."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imaging.atomic_write import DiskFullError, is_disk_full

# House errors are written for the person who runs a stage; a RuntimeError of torch, say, is not.
ROOMS = ("imaging", "contracts", "catalog", "recognition", "training", "tracking", "pipelines", "service")
TRACEBACK = "AISLE_TRACEBACK"
_ADVICE = {
    errno.EACCES: "correct its permissions or owner, then run the same command again",
    errno.EPERM: "correct its permissions or owner, then run the same command again",
    errno.EROFS: "run this where the project can be written, or mount that file system writable",
    errno.EIO: "the disk does not answer as it should; check it before you run the same command again",
    errno.EMFILE: "raise the limit of open files (ulimit -n), then run the same command again",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a file lies where a folder is expected; move it away",
    errno.EISDIR: "a folder lies where a file is expected; name a file, or move the folder away",
}


@contextmanager
def errors_in_words(where: str) -> Iterator[None]:
    """End the process with the error's own sentence and exit code (1 if it has none).

    AISLE_TRACEBACK=1 shows where it was raised.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        sys.exit(f"{where}: {interrupt or 'interrupted'}")
    except Exception as error:
        of_the_house = type(error).__module__.split(".", maxsplit=1)[0] in ROOMS
        full = is_disk_full(error)
        if os.environ.get(TRACEBACK) or not (of_the_house or full or isinstance(error, ValueError | OSError)):
            raise
        code = getattr(error, "exit_code", 1)
        sentence = _describe_full_disk(error) if full else _describe(error)
        hint = f"\n({TRACEBACK}=1 shows where this was raised)" if code == 1 else ""
        with suppress(OSError):  # stderr may be a file on the full disk
            print(f"{where}: {sentence}{hint}", file=sys.stderr)
        sys.exit(code)


def stage_arguments() -> list[str]:
    """The command line's arguments, or the name behind the @ of DVC's stage: `train@plain` is about plain.

    DVC puts a command together as text for a shell, so dvc.yaml writes no name into one.
    """
    address = os.environ.get("DVC_STAGE", "").rpartition("dvc.yaml:")[-1]  # with its file from a sub-folder
    _, _, name = address.partition("@")
    return sys.argv[1:] or ([name] if name else [])


def _describe_full_disk(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DiskFullError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return str(cause)
    named = getattr(error, "filename", None)
    return (
        f"the disk is full{f': {named} could not be written' if named else ''} ({error}). What was finished "
        "before is safe: free space there, then run the same command again"
    )


def _describe(error: Exception) -> str:
    """The error's own sentence; of one that the operating system names, with what to do."""
    advice = _ADVICE.get(getattr(error, "errno", None) or 0)
    return f"{error}: {advice}" if advice and isinstance(error, OSError) else str(error)


def run_stage(main: Callable[..., None]) -> None:
    """Run a stage's main with the stage's arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.INFO)
    arguments = stage_arguments()
    name = " ".join([f"stage {Path(sys.argv[0]).stem}", *arguments])
    with errors_in_words(name):
        main(*arguments)
