"""The runs of bench.study: each recipe and seed is the real pipeline in its own copy of this checkout.

DVC runs one stage at a time in a checkout, so runs side by side need one each. They share a DVC cache, and
the photo store, the duplicates and the code's digests are made once, in the checkout `base`, which the others
are clones of: a study uses the code that it began with.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SHARED_STAGES = ("code", "ingest", "duplicates")
"""What no recipe and no seed changes."""
GOODBYE_SECONDS = 60
"""How long what a run has started may outlive it."""


class RunError(RuntimeError):
    """A run failed; the message names its log and says how it ended."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One start of a run; a run that was stopped and went on has several."""

    code: int | None = None
    """Exit code; None as long as it runs, or where this bench was killed before it could say."""
    wall: float = 0.0
    cpu: float = 0.0
    """Seconds of this attempt, and of its processes on all cores."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished run says."""

    recipe: str
    seed: int
    num_photos: int
    num_members: int
    errors: dict[str, float]
    """The ensemble's errors by their names in metrics.json."""
    wall: float
    cpu: float
    """Seconds of all attempts."""
    is_timed: bool
    """False where an attempt was killed, so that its time is missing."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Where the runs lie and what they have in common."""

    folder: Path
    data: str
    size: str
    datasets: Path
    """AISLE_DATASETS of the runs."""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)

    def prepare(self) -> None:
        """Make the checkout `base` with what all runs share, as far as it is not there.

        ValueError where the folder holds a study of other data or another size.
        """
        self._check_same()
        base = self.folder / "base"
        if not base.exists():
            fresh = self.folder / "base.new"
            shutil.rmtree(fresh, ignore_errors=True)
            copy_checkout(fresh)
            cache = str((self.folder / "cache").resolve())
            self._call(fresh, "dvc", "config", "--local", "cache.dir", cache)
            self._call(fresh, "dvc", "config", "--local", "cache.type", "reflink,hardlink,copy")
            self._use(fresh, recipe="plain", seed=0)
            fresh.rename(base)
        self._call(base, "dvc", "repro", "duplicates")

    def finish(self, recipe: str, *, seed: int) -> Result:
        """Run, or go on with, one run; RunError where it fails."""
        name = f"{recipe}-{seed}"
        checkout = self.folder / name
        if not checkout.exists():
            self._clone(checkout, recipe=recipe, seed=seed)
        attempts = self._attempts(name)
        self._save_attempts(name, [*attempts, Attempt()])
        attempt = self._repro(checkout)
        self._save_attempts(name, [*attempts, attempt])
        result = self.result(recipe, seed=seed)
        if result is None:
            last = "\n  ".join(
                self._log(name).read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
            )
            raise RunError(f"{name} ended with exit code {attempt.code}, {self._log(name)} with:\n  {last}")
        return result

    def result(self, recipe: str, *, seed: int) -> Result | None:
        """Return what a run has said, None where it is not finished."""
        name = f"{recipe}-{seed}"
        attempts = self._attempts(name)
        path = self.folder / name / "data/evaluations" / recipe / "metrics.json"
        if not any(attempt.code == 0 for attempt in attempts) or not path.exists():
            return None
        metrics = json.loads(path.read_text(encoding="utf-8"))
        return Result(
            recipe=recipe,
            seed=seed,
            num_photos=metrics["num_photos"],
            num_members=len(metrics["members"]),
            errors=metrics["ensemble"],
            wall=sum(attempt.wall for attempt in attempts),
            cpu=sum(attempt.cpu for attempt in attempts),
            is_timed=all(attempt.code is not None for attempt in attempts),
        )

    def stop(self) -> None:
        """Interrupt what is running, and let nothing start; a phase goes on from its last epoch."""
        self.stopping.set()
        for process in list(self.running.values()):
            _interrupt(process)

    def _check_same(self) -> None:
        about = {"data": self.data, "size": self.size}
        path = self.folder / "study.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps(about) + "\n", encoding="utf-8")
        known = json.loads(path.read_text(encoding="utf-8"))
        if known != about:
            raise ValueError(
                f"Expected a study of {about} in {self.folder}, found one of {known}: give another --folder."
            )

    def _clone(self, checkout: Path, *, recipe: str, seed: int) -> None:
        base, fresh = self.folder / "base", checkout.with_name(f"{checkout.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        self._call(self.folder, "git", "clone", "--quiet", "base", fresh.name)
        for name in ("dvc.lock", ".dvc/config.local"):
            shutil.copy2(base / name, fresh / name)
        self._use(fresh, recipe=recipe, seed=seed)
        self._call(fresh, "dvc", "checkout", "--quiet", *SHARED_STAGES)
        fresh.rename(checkout)

    def _use(self, checkout: Path, *, recipe: str, seed: int) -> None:
        choices = (f"recipe={recipe}", f"data={self.data}", f"size={self.size}", f"seed={seed}")
        self._call(checkout, sys.executable, "-m", "aisle", "use", *choices)

    def _repro(self, checkout: Path) -> Attempt:
        """Run the pipeline up to the errors, in a process group of its own, and measure it."""
        started = time.monotonic()
        with self._log(checkout.name).open("ab") as log:
            process = subprocess.Popen(
                ["dvc", "repro", "evaluate"],
                cwd=checkout,
                env=self._environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.running[checkout.name] = process
            if self.stopping.is_set():
                _interrupt(process)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            del self.running[checkout.name]
        _wait_for_group(process.pid)
        wall = time.monotonic() - started
        return Attempt(code=process.returncode, wall=wall, cpu=usage.ru_utime + usage.ru_stime)

    def _call(self, folder: Path, *command: str) -> None:
        """Run a short command; RunError with what it printed where it fails."""
        done = subprocess.run(
            command, cwd=folder, env=self._environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RunError(f"`{' '.join(command)}` failed in {folder}:\n{done.stdout}{done.stderr}")

    def _environment(self) -> dict[str, str]:
        """This process's, without its choices of tracking; one thread a process, since runs share cores."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AISLE_", "MLFLOW_", "DVC_"))}
        return kept | {
            "AISLE_DATASETS": str(self.datasets.resolve()),
            "OMP_NUM_THREADS": "1",
            "DVC_NO_ANALYTICS": "true",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _attempts(self, name: str) -> list[Attempt]:
        path = self.folder / f"{name}.json"
        if not path.exists() or not (self.folder / name).exists():
            return []
        saved: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return [Attempt(**values) for values in saved]

    def _save_attempts(self, name: str, attempts: list[Attempt]) -> None:
        half_written = self.folder / f"{name}.json.new"
        text = json.dumps([asdict(attempt) for attempt in attempts], indent=1)
        half_written.write_text(text + "\n", encoding="utf-8")
        half_written.rename(self.folder / f"{name}.json")


def copy_checkout(folder: Path) -> None:
    """Copy what git knows or would know of this checkout into a folder, as a repository with one commit."""
    git = ("git", "-c", "user.name=study", "-c", "user.email=study@localhost")
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "start")):
        subprocess.run([*git, *command], cwd=folder, check=True)


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """End a run as Ctrl-C does: DVC then waits for its stage, frees its locks, and its times are complete."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)


def _wait_for_group(group: int) -> None:
    """Wait until no process of the group is left, so that nothing writes into the checkout any more."""
    deadline = time.monotonic() + GOODBYE_SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
