"""Does a job folder train where only torch, timm, Accelerate and what reads photos and job.json are?

    python -m bench.bare_environment

makes a new virtual environment, installs PACKAGES (and what they bring) at the versions of constraints.txt,
puts the rooms that training imports beside it, and runs `python -m training` there on a drawn job folder.
torch brings gigabytes of libraries on Linux, so this takes minutes and a package index. `--linked` links the
same distributions out of the present environment instead, which takes seconds.

Exit code 1 where the phase does not train, or where one of the pipeline's libraries is to be found there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Console
from rich.table import Table

from bench.drawn_job import make_drawn_job
from catalog.sources.synthetic import SyntheticConfig
from training.config import PhaseConfig

REPOSITORY = Path(__file__).parents[1]
ROOMS = ("imaging", "contracts", "catalog", "recognition", "training")
PACKAGES = (
    "torch", "torchvision", "timm", "accelerate", "numpy", "pyarrow", "pydantic", "pillow", "simplejpeg",
)  # fmt: skip
ABSENT = ("polars", "mlflow", "dvc", "fastapi")
PHASE = PhaseConfig(
    backbone="test_resnet",
    input_size=32,
    resize=32,
    epochs=2,
    batch_size=16,
    ema_decay=0.9,
    keep_weights="best",
    num_workers=1,
    num_threads=1,
)
PHOTOS = SyntheticConfig(num_skus=4, photos_head=8, photos_tail=4, photos_val=2, photos_test=0)


def find_closure(names: tuple[str, ...]) -> set[str]:
    """The distributions and all that they bring here."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        extras = {"", *wanted.extras}
        if extras <= found.get(name, set()):
            continue
        found[name] = found.get(name, set()) | extras
        for requirement in map(Requirement, distribution(name).requires or []):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(requirement)
    return set(found)


def link_packages(site: Path) -> None:
    """Link the files of PACKAGES' closure into a new environment's site-packages."""
    for name in sorted(find_closure(PACKAGES)):
        for file in distribution(name).files or []:
            target = site / file
            if ".." not in file.parts and file.suffix != ".pyc":
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(Path(str(file.locate())).resolve())


def install_packages(python: Path) -> None:
    """Install PACKAGES from the package index that pip is set up for."""
    constraints = REPOSITORY / "constraints.txt"
    subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES, "-c", constraints], check=True)


def make_environment(folder: Path, *, linked: bool) -> Path:
    """Make the environment and copy the rooms there; the path of its Python."""
    venv.create(folder, with_pip=not linked, symlinks=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    if linked:
        link_packages(site)
    else:
        install_packages(python)
    for room in ROOMS:
        shutil.copytree(REPOSITORY / room, site / room, ignore=shutil.ignore_patterns("__pycache__"))
    return python


def run(python: Path, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the environment's Python with nothing of this one in reach."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"HF_HUB_OFFLINE": "1"}
    return subprocess.run([python, *words], cwd=folder, env=environment, capture_output=True, text=True)


def main() -> int:
    """Make, check, train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--linked", action="store_true", help="link the packages of this environment")
    arguments = parser.parse_args()
    if sys.platform == "win32":
        raise SystemExit("Expected a POSIX system.")
    table = Table("what", "seconds", "outcome")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        python = make_environment(folder / "environment", linked=arguments.linked)
        table.add_row("environment", f"{time.perf_counter() - started:.0f}", ", ".join(PACKAGES))
        present = [
            word for word in ABSENT if run(python, "-c", f"import {word}", folder=folder).returncode == 0
        ]
        table.add_row("libraries that must be absent", "", ", ".join(present) or "absent")
        make_drawn_job(folder / "job", phase=PHASE, photos=PHOTOS)
        started = time.perf_counter()
        trained = run(python, "-m", "training", "job", folder=folder)
        outcome = (trained.stdout.strip() or trained.stderr.strip()).splitlines()[-1]
        table.add_row("python -m training", f"{time.perf_counter() - started:.0f}", outcome)
        kept = (folder / "job" / "bundle" / "weights.safetensors").exists()
    Console().print(table)
    return 0 if trained.returncode == 0 and kept and not present else 1


if __name__ == "__main__":
    raise SystemExit(main())
