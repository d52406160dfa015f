"""How long does it take to say how a version was made, and which of 200 versions learnt from a photo?

    python -m bench.lineage                                      200 versions of 2,500,000 photos
    python -m bench.lineage --versions 20 --photos 50000         the same small

Versions are rows of a real SQLite store, made through MLflow's client with the tags of a registration; what
is stored with each lies in its run's folder. A few different trained-on tables are drawn, and the versions
share them by hard links, since 200 of them would take 25 GB. Each question is asked in this process, as often
as --repeats says, with warm files, and once as a command with all its imports. Exit code 1 where the middle
time in this process is above 2 s.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import yaml
from rich.console import Console
from rich.table import Table

from contracts.evaluation import EVALUATED_ON, TRAINED_ON
from pipelines.params import PARAMS_FILE, load_params
from tests.tracking.tiny_bundle import draw_photo
from tracking.lineage.lines import make_tree
from tracking.lineage.photos import SoughtPhoto, find_photo
from tracking.lineage.record import LINEAGE_FILE, MadeList, Record, record_of
from tracking.lineage.tree import load_lineage
from tracking.registry.versions import CHALLENGER, CHAMPION, get_version, model_name
from tracking.store import Store

ROOT = Path(__file__).parent.parent
DATA = "bench"
NUM_TABLES = 6
NUM_EVALUATED = 275_000
LIMIT_SECONDS = 2.0
SEEDS = {"all": 1, "one": 2, "none": 3}
"""Photos to ask for, by how many versions learnt from them."""


def draw_tables(folder: Path, *, num_photos: int) -> list[Path]:
    """Trained-on tables that lack different photos; all have the photo of `all`, the first that of `one`."""
    rng = np.random.default_rng(0)
    digests = rng.integers(0, 256, (num_photos, 32), dtype=np.uint8)
    digests[0] = np.frombuffer(_digest("all"), dtype=np.uint8)
    content = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), num_photos, [None, pa.py_buffer(digests)])
    rows = pl.select(
        photo_id=pl.format("train/{}/{}.jpg", pl.int_range(num_photos) % 50_030, pl.int_range(num_photos)),
        source_sha256=pl.Series(content.cast(pa.large_binary())),
        perceptual_hash=pl.Series(rng.integers(0, 2**63, num_photos).astype(np.uint64)),
        lists=pl.when(pl.int_range(num_photos) % 3 == 0)
        .then(pl.lit(["full", "low_loss"], dtype=pl.List(pl.String)))
        .otherwise(pl.lit(["full"], dtype=pl.List(pl.String))),
    )
    paths = []
    for number in range(NUM_TABLES):
        kept = rows.filter(pl.int_range(num_photos) % 97 != number + 1)
        if number == 0:
            own = rows[1:2].with_columns(photo_id=pl.lit("one.jpg"), source_sha256=pl.lit(_digest("one")))
            kept = pl.concat([kept, own])
        paths.append(folder / f"trained_on_{number}.parquet")
        TRAINED_ON.write(paths[-1], kept)
    return paths


def _digest(who: str) -> bytes:
    return hashlib.sha256(draw_photo(SEEDS[who])).digest()


def draw_evaluated(folder: Path) -> Path:
    """Photos that all versions were validated and evaluated on."""
    digests = np.random.default_rng(1).bytes(32 * NUM_EVALUATED)
    rows = pl.DataFrame(
        {
            "photo_id": [f"val/{number}.jpg" for number in range(NUM_EVALUATED)],
            "source_sha256": [digests[32 * row : 32 * row + 32] for row in range(NUM_EVALUATED)],
            "perceptual_hash": pl.Series(range(NUM_EVALUATED), dtype=pl.UInt64),
            "split": ["val" if number % 2 else "test" for number in range(NUM_EVALUATED)],
            "use": ["validation" if number % 2 else "evaluation" for number in range(NUM_EVALUATED)],
        }
    )
    path = folder / "evaluated_on.parquet"
    EVALUATED_ON.write(path, rows)
    return path


def make_record() -> Record:
    """The record of this checkout's params.yaml, with configurations and counts, as a registration has it."""
    params = load_params(ROOT)
    said = record_of(yaml.safe_load((ROOT / PARAMS_FILE).read_text()), lock={})
    phases = {
        name: phase.model_copy(
            update={"config": params.recipe.configs[name].model_dump(mode="json"), "fingerprint": 64 * "a"}
        )
        for name, phase in said.phases.items()
    }

    def counted(made: MadeList) -> MadeList:
        reasons = {f"{made.rule}: rank # of #": 1_500_900}
        return made.model_copy(update={"num_photos": 1_500_900, "num_classes": 50_030, "reasons": reasons})

    lists = {name: counted(made) for name, made in said.lists.items()}
    return said.model_copy(update={"data": DATA, "phases": phases, "lists": lists})


def make_store(root: Path, *, num_versions: int, num_photos: int) -> Store:
    """A store whose versions share the tables; only the first one has the first table."""
    (root / "conf").mkdir()
    for name in ("dvc.yaml", "conf/config.yaml"):
        (root / name).touch()
    tables = draw_tables(root, num_photos=num_photos)
    evaluated, record = draw_evaluated(root), make_record().model_dump_json(indent=1)
    store = Store.at(root)
    experiment, name = store.get_or_create_experiment(f"aisle-{DATA}"), model_name(DATA)
    store.client.create_registered_model(name)
    for number in range(1, num_versions + 1):
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        tags = {
            "aisle.bundle_digest": digest,
            "aisle.predictions_digest": digest,
            "aisle.evidence": f"version/{digest[:12]}",
            "aisle.recipe": "loss_guided",
            "aisle.data": DATA,
            "aisle.members": json.dumps({"refined_2a": 64 * "a"}),
            "aisle.inputs": json.dumps({f"data/lists/{DATA}/{part}.parquet": 32 * "b" for part in range(5)}),
        }
        run = store.client.create_run(experiment, tags=tags, run_name="loss_guided/ensemble")
        folder = Path(run.info.artifact_uri.removeprefix("file://"), tags["aisle.evidence"])
        folder.mkdir(parents=True)
        table = tables[0] if number == 1 else tables[1 + number % (NUM_TABLES - 1)]
        os.link(table, folder / "trained_on.parquet")
        os.link(evaluated, folder / "evaluated_on.parquet")
        (folder / "params.yaml").write_text((ROOT / PARAMS_FILE).read_text())
        (folder / LINEAGE_FILE).write_text(record)
        store.client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id, tags=tags)
    store.client.set_registered_model_alias(name, CHAMPION, "1")
    store.client.set_registered_model_alias(name, CHALLENGER, str(num_versions))
    return store


def seconds(ask: Callable[[], Any], *, repeats: int) -> tuple[float, float]:
    """The middle times by the clock and of the processor, of some repeats after one that warms up."""
    ask()
    times = []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        ask()
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return statistics.median(clock for clock, _ in times), statistics.median(used for _, used in times)


def command_seconds(root: Path, *arguments: str) -> float:
    """The time of a command, imports included."""
    command = [sys.executable, "-m", "aisle", "lineage", *arguments, "--data", DATA]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("AISLE_", "MLFLOW_"))
    }
    environment["PYTHONPATH"] = str(ROOT)
    start = time.perf_counter()
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, timeout=300)
    return time.perf_counter() - start


def main() -> None:
    """Draw, ask, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--versions", type=int, default=200)
    parser.add_argument("--photos", type=int, default=2_500_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        start = time.perf_counter()
        store = make_store(root, num_versions=options.versions, num_photos=options.photos)
        size = sum(path.stat().st_size for path in root.glob("*.parquet"))
        print(
            f"{options.versions} versions of {options.photos:,} photos, drawn in "
            f"{time.perf_counter() - start:.0f} s: they share {NUM_TABLES} trained-on tables by hard links "
            f"({size / 1e9:.1f} GB on the disk)",
            flush=True,
        )
        shown = Table("question", "answer", "seconds", "of the processor", "as a command")
        times = []

        def row(question: str, answer: str, ask: Callable[[], Any], *arguments: str) -> None:
            clock, used = seconds(ask, repeats=options.repeats)
            times.append(clock)
            command = command_seconds(root, *arguments)
            shown.add_row(question, answer, *(f"{value:.2f}" for value in (clock, used, command)))

        def show() -> str:
            return make_tree(load_lineage(store, version=get_version(store, data=DATA, which=CHAMPION))).title

        row("lineage VERSION", "its tree", show, CHAMPION)
        for who, expected in (("all", options.versions), ("one", 1), ("none", 0)):
            photo = SoughtPhoto(name="asked.jpg", source_sha256=_digest(who))
            (root / "asked.jpg").write_bytes(draw_photo(SEEDS[who]))

            def ask(photo: SoughtPhoto = photo) -> int:
                return sum(use.learnt for use in find_photo(store, photo).uses)

            found = ask()
            assert found == expected, f"expected {expected} versions, found {found}"
            row("lineage --photo", f"learnt by {found}", ask, "--photo", "asked.jpg")
        Console().print(shown)
    worst = max(times)
    print(f"slowest {worst:.2f} s, expected at most {LIMIT_SECONDS:.0f} s")
    sys.exit(worst > LIMIT_SECONDS)


if __name__ == "__main__":
    main()
