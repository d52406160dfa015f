"""Does every row of docs/recipes.md run, from photos to an evaluated ensemble?

    python -m bench.rows                       # all rows, shrunken: some seconds each
    python -m bench.rows --only 'DCL|cRT'      # the rows whose name or setting matches

A row is its experiment on bench.shrunken's photos: `aisle use experiment=...` and `dvc repro evaluate`, one
after the other in one copy of this checkout under --folder, so that rows share what DVC's run cache has. A
killed run resumes where it stopped, finished rows are only read, failed ones run again; with changed code all
do. Prints row, seconds, mean top-1 error (of 18 photos: it only says that there is one) and what went wrong.
Exit code 1 where a row failed.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.shrunken import make_photos, shrink
from bench.study_runs import ROOT, copy_checkout
from bench.warm_python import warm_python

DOCUMENT = ROOT / "docs/recipes.md"


@dataclass(frozen=True)
class Row:
    """A row of docs/recipes.md that names an experiment, or a recipe as it is."""

    report: str
    name: str
    setting: str


@dataclass(frozen=True)
class Outcome:
    """What became of a row."""

    seconds: float
    error: float | None
    """The ensemble's mean top-1 error."""
    reason: str = ""
    """The first line of what went wrong."""


def read_rows(text: str) -> list[Row]:
    """The rows of the document's tables that name an experiment or a recipe, with the heading above them."""
    rows, report = [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            report = line.removeprefix("## ").split(":")[0]
        elif found := re.match(r"\| (.+?) \|.*?\| `((?:recipe|experiment)=[^`]+)`", line):
            rows.append(Row(report, found[1], found[2]))
    return rows


class Rows:
    """The rows' runs in a folder: photos, a checkout, DVC's cache, and what came out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.checkout = self.folder / "checkout"
        self.photos = self.folder / "photos"
        self._results = self.folder / "results.json"

    def prepare(self) -> None:
        """Draw the photos and copy this checkout, as far as they are not there or no longer the same."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.photos.exists():
            fresh = self.folder / "photos.new"
            shutil.rmtree(fresh, ignore_errors=True)
            make_photos(fresh)
            fresh.rename(self.photos)
        mark, wanted = self.folder / "code.txt", digest_checkout()
        if mark.exists() and mark.read_text(encoding="utf-8") == wanted and self.checkout.exists():
            return
        for old in (mark, self._results):
            old.unlink(missing_ok=True)
        shutil.rmtree(self.checkout, ignore_errors=True)
        copy_checkout(self.checkout)
        cache = [("cache.dir", f"{self.folder / 'cache'}"), ("cache.type", "reflink,hardlink,copy")]
        for key, value in cache:
            command = ["dvc", "config", "--local", key, value]
            subprocess.run(command, cwd=self.checkout, env=environment(), check=True)
        mark.write_text(wanted, encoding="utf-8")

    def finished(self) -> dict[str, Outcome]:
        """The outcomes there are, by the rows' settings."""
        if not self._results.exists():
            return {}
        saved = json.loads(self._results.read_text(encoding="utf-8"))
        return {setting: Outcome(**values) for setting, values in saved.items()}

    def run(self, row: Row, *, python: Path) -> Outcome:
        """Compose and run a row, and keep what became of it."""
        started = time.monotonic()
        arguments = [*shrink(row.setting), f"data.root={self.photos}"]
        commands = (
            [sys.executable, "-m", "aisle", "use", *arguments],
            ["dvc", "--wait-for-lock", "repro", "evaluate"],  # a run that was killed may still be ending
        )
        reason, error = "", None
        for command in commands:
            done = subprocess.run(
                command,
                cwd=self.checkout,
                env=environment(python),
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            if done.returncode:
                reason = first_complaint(done.stdout + done.stderr)
                printed = f"{row}\n{done.stdout}{done.stderr}"
                (self.folder / "failed.log").write_text(printed, encoding="utf-8")
                break
        else:
            recipe = row.setting.split("=")[1].split("/")[0]
            path = self.checkout / "data/evaluations" / recipe / "metrics.json"
            error = json.loads(path.read_text(encoding="utf-8"))["ensemble"]["mean_top1_error"]
        outcome = Outcome(round(time.monotonic() - started, 1), error, reason)
        self._save(row, outcome)
        return outcome

    def _save(self, row: Row, outcome: Outcome) -> None:
        known = self.finished() | {row.setting: outcome}
        half_written = self._results.with_suffix(".new")
        text = json.dumps({setting: asdict(values) for setting, values in known.items()}, indent=1)
        half_written.write_text(text + "\n", encoding="utf-8")
        half_written.rename(self._results)


def environment(python: Path | None = None) -> dict[str, str]:
    """This process's without its choices of tracking; one thread; the folder `python` is first on PATH."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AISLE_", "MLFLOW_", "DVC_"))}
    folders = [str(python)] if python else []
    path = os.pathsep.join([*folders, str(Path(sys.executable).parent), os.environ["PATH"]])
    return kept | {"OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "true", "PATH": path}


def digest_checkout() -> str:
    """Hash of what git knows or would know of this checkout, without documents."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    total = hashlib.sha256()
    for name in sorted(filter(None, listed.stdout.split("\0"))):
        if (ROOT / name).is_file() and not name.startswith(("docs/", "tests/")) and name != "dvc.lock":
            total.update(f"{name}\0".encode() + (ROOT / name).read_bytes())
    return total.hexdigest()


def first_complaint(printed: str) -> str:
    """The first line in which a command or stage says what is wrong, else the last line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    said = (line for line in lines if re.match(r"(stage [^:]+|aisle(\.py)? \w+|ERROR|\w*Error): ", line))
    return next(said, lines[-1] if lines else "nothing was printed")[:300]


def show(rows: list[Row], outcomes: dict[str, Outcome]) -> None:
    """Print the table."""
    table = Table(box=SIMPLE_HEAD)
    for heading in ("report", "row", "seconds", "mean top-1 error", "outcome"):
        table.add_column(heading, justify="right" if heading in ("seconds", "mean top-1 error") else "left")
    for row in rows:
        outcome = outcomes.get(row.setting)
        if outcome is None:
            cells = ("", "", "not run")
        else:
            error = "" if outcome.error is None else f"{outcome.error:.3f}"
            cells = (f"{outcome.seconds:.0f}", error, outcome.reason or "ok")
        table.add_row(row.report, row.name, *cells)
    Console(width=160).print(table, highlight=False, markup=False)


def main() -> None:
    """Run what is not finished and report what is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="regular expression that a row's name or setting has")
    parser.add_argument("--folder", type=Path, default=Path(".aisle/rows"))
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # either ends the warm python, too
        signal.signal(number, signal.default_int_handler)
    known = read_rows(DOCUMENT.read_text(encoding="utf-8"))
    rows = [row for row in known if re.search(options.only, f"{row.name} {row.setting}")]
    if not rows:
        sys.exit(f"rows: expected a pattern that one of {len(known)} rows has, received {options.only!r}")
    runs = Rows(options.folder)
    runs.prepare()
    waiting = [
        row for row in rows if (done := runs.finished().get(row.setting)) is None or done.error is None
    ]
    print(f"{len(rows) - len(waiting)} of {len(rows)} rows are finished.", flush=True)
    try:
        with warm_python(runs.folder / "python") as python:
            for number, row in enumerate(waiting, start=1):
                outcome = runs.finished().get(row.setting)  # two rows may have one setting
                if outcome is None or outcome.error is None:
                    outcome = runs.run(row, python=python)
                words = outcome.reason or f"mean top-1 error {outcome.error:.3f}"
                print(f"{number}/{len(waiting)}  {row.name}: {outcome.seconds:.0f} s, {words}", flush=True)
    except KeyboardInterrupt:
        sys.exit("rows: stopped; the same command goes on from here")
    outcomes = runs.finished()
    show(rows, outcomes)
    sys.exit(any(outcomes[row.setting].error is None for row in rows))


if __name__ == "__main__":
    main()
