"""How a stage starts and fails: one sentence for what a person can mend, a traceback for what is a bug."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# House errors are written for the person who runs a stage; a RuntimeError of torch, say, is not.
ROOMS = ("imaging", "catalog", "recognition", "training", "tracking", "pipelines", "service")
TRACEBACK = "AISLE_TRACEBACK"


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
        if os.environ.get(TRACEBACK) or not (
            of_the_house or isinstance(error, ValueError | FileNotFoundError)
        ):
            raise
        code = getattr(error, "exit_code", 1)
        hint = f"\n({TRACEBACK}=1 shows where this was raised)" if code == 1 else ""
        print(f"{where}: {error}{hint}", file=sys.stderr)
        sys.exit(code)


def stage_arguments() -> list[str]:
    """The command line's arguments, or the name behind the @ of DVC's stage: `train@plain` is about plain.

    DVC puts a command together as text for a shell, so dvc.yaml writes no name into one.
    """
    address = os.environ.get("DVC_STAGE", "").rpartition("dvc.yaml:")[-1]  # with its file from a sub-folder
    _, _, name = address.partition("@")
    return sys.argv[1:] or ([name] if name else [])


def run_stage(main: Callable[..., None]) -> None:
    """Run a stage's main with the stage's arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.INFO)
    arguments = stage_arguments()
    name = " ".join([f"stage {Path(sys.argv[0]).stem}", *arguments])
    with errors_in_words(name):
        main(*arguments)
