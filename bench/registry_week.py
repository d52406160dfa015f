"""A shop's week in the registry, on real photos: promotions, refusals, new SKUs, a rollback and its audit.

    python -m bench.registry_week             # some 12 minutes on 2 cores
    python -m bench.registry_week --folder F  # keeps checkout and photos there to look at

Groceries' photos become folders of classes (links), of which three are kept back. In a copy of this checkout,
with the commands that a person types: a first champion, a better one, a worse challenger, another seed under
`gates.require_significant`, a challenger with the three new SKUs and one removed, `aisle rollback`, `audit
verify` and `aisle doctor`. Prints what each command said and a table; exit code 1 where one did not end as it
should.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.real_photos import DATASETS
from bench.rows import environment
from bench.study_runs import copy_checkout
from bench.warm_python import warm_python

GROCERIES = DATASETS / "grocery-store" / "dataset"
SPLITS = ("train", "val", "test")
NEW = ("Mango", "Kiwi", "Lemon")
REMOVED = "Passion-Fruit"
PIXELS = 64
REFUSED = 3
"""Exit code of `aisle promote` and `aisle gate` where a gate fails."""


@dataclass(frozen=True)
class Step:
    """A command, what it should end with, and what it said."""

    what: str
    command: str
    expected: int
    code: int
    said: str
    seconds: float


def link_photos(shop: Path, *, without: tuple[str, ...]) -> None:
    """Make shop/<split>/<class>/<photo>, links to groceries' photos, but for some classes."""
    for split in SPLITS:
        for line in (GROCERIES / f"{split}.txt").read_text(encoding="utf-8").splitlines():
            photo = GROCERIES / line.split(",")[0]
            folder = shop / split / photo.parent.name
            if folder.name not in without:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / photo.name).symlink_to(photo.resolve())


def choose(shop: Path, *, epochs: int, seed: int = 0) -> str:
    """The command that composes params.yaml for one training."""
    sizes = f"recipe.defaults.input_size={PIXELS} recipe.defaults.resize={PIXELS}"
    return (
        f"aisle use recipe=plain data=image_folder size=small data.root={shop} data.split.method=given "
        f"{sizes} recipe.defaults.num_threads=1 recipe.defaults.epochs={epochs} seed={seed}"
    )


class Week:
    """The checkout in which the commands run, and what they said."""

    def __init__(self, checkout: Path, *, python: Path) -> None:
        self._checkout = checkout
        self._python = python
        self.steps: list[Step] = []

    def run(self, what: str, command: str, *, expected: int = 0, shown: bool = True) -> Step:
        """Run a command, and keep what it said."""
        started = time.monotonic()
        done = subprocess.run(
            command.split(),
            cwd=self._checkout,
            env=environment(self._python) | {"OMP_NUM_THREADS": "2", "COLUMNS": "160"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        seconds = time.monotonic() - started
        step = Step(what, command, expected, done.returncode, done.stdout + done.stderr, seconds)
        self.steps.append(step)
        if shown or step.code != expected:
            print(f"\n$ {command}    # {what}; {seconds:.0f} s, exit code {step.code}")
            print(step.said.rstrip() if shown else step.said[-3000:], flush=True)
        return step

    def train(self, what: str, command: str) -> None:
        """Compose and run one experiment; a fault there ends the week."""
        for each in (command, "dvc repro"):
            step = self.run(what, each, shown=False)
            if step.code:
                sys.exit(f"registry_week: `{each}` failed with exit code {step.code}")


def live(week: Week, shop: Path) -> None:
    """The week's commands, in their order."""
    link_photos(shop, without=NEW)
    week.train("a first model, one epoch", choose(shop, epochs=1))
    week.run("the first champion", "aisle promote")
    week.train("a better one, four epochs", choose(shop, epochs=4))
    week.run("a better challenger", "aisle promote")
    week.run("nothing is wrong", "aisle doctor")
    week.train("a worse one, one epoch of another seed", choose(shop, epochs=1, seed=1))
    week.run("a worse challenger is refused with numbers", "aisle promote", expected=REFUSED)
    week.train("another seed at the champion's settings", choose(shop, epochs=4, seed=2))
    choice = choose(shop, epochs=4, seed=2)
    week.run("", f"{choice} gates.require_significant=true gates.max_regression=0.2", shown=False)
    week.run("chance is refused where significance is required", "aisle gate", expected=REFUSED)

    link_classes(shop)
    week.train("three SKUs more, one less", choose(shop, epochs=5))
    week.run("one class was removed, the new ones err often", "aisle promote", expected=REFUSED)
    week.run("", f"{choose(shop, epochs=5)} gates.max_new_class_error=0.75", shown=False)
    week.run("both are accepted", "aisle promote --accept-removed 1")
    week.run("back to the champion before", "aisle rollback --reason registers-cannot-scan-them-yet")
    week.run("", "aisle versions")
    week.run("who, when, why", "aisle audit")
    week.run("nobody has changed the history", "aisle audit verify")
    week.run("nothing is wrong", "aisle doctor")


def link_classes(shop: Path) -> None:
    """Three SKUs come into the shop, one goes."""
    for split in SPLITS:
        for link in (shop / split / REMOVED).glob("*"):
            link.unlink()
        (shop / split / REMOVED).rmdir()
    known = tuple(path.name for path in (shop / "train").iterdir())
    link_photos(shop, without=(REMOVED, *known))


def show(steps: list[Step]) -> None:
    """Print the table."""
    table = Table(box=SIMPLE_HEAD)
    for heading in ("what", "command"):
        table.add_column(heading)
    for heading in ("seconds", "exit code", "expected"):
        table.add_column(heading, justify="right")
    for step in steps:
        short = step.command if len(step.command) < 50 else f"{step.command[:46]} ..."
        table.add_row(step.what, short, f"{step.seconds:.0f}", str(step.code), str(step.expected))
    Console(width=160).print(table, highlight=False, markup=False)


def main() -> None:
    """Live the week and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="an empty folder; default: a temporary one")
    options = parser.parse_args()
    if not GROCERIES.is_dir():
        sys.exit(
            f"registry_week: no photos in {GROCERIES}: set AISLE_DATASETS to the folder of the data sets"
        )
    with tempfile.TemporaryDirectory(prefix="aisle-week-") as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        (folder / "checkout").mkdir(parents=True)
        copy_checkout(folder / "checkout")
        with warm_python(folder / "python") as python:
            week = Week(folder / "checkout", python=python)
            live(week, folder / "shop")
    show(week.steps)
    sys.exit(any(step.code != step.expected for step in week.steps))


if __name__ == "__main__":
    main()
