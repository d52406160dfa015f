"""What is lost or doubled when ingest is killed, a shard is damaged, or the disk is full? Real photos.

    python -m bench.damage

ingests the grocery and clothing photos ($AISLE_DATASETS, or ../shared/datasets) once undisturbed, and once
killed (SIGKILL) at 20 random moments and resumed each time. Then it damages copies of the store, shows the
sentence that each damage produces, mends it by another ingest, and compares every photo with the undisturbed
store. The full disk is a tmpfs of half the store's size where this user may mount one (`unshare -Urm`), else
a limit on a file's size: the table says which. Exit code 1 where a photo is lost, doubled or another one.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from catalog.photo_store import DamagedShardError, PhotoStore, load_store_info

SHARD_BYTES = 4 * 1024 * 1024
SHARD = "shard-00001.arrow"
AFTER_START = 1.5  # seconds: room for workers to start and for a few shards
INGEST = """
import json, sys
from pathlib import Path
from bench.real_photos import RealPhotos, find_photos
from catalog.ingest.run import ingest
from pipelines.stage import errors_in_words
if __name__ == "__main__":
    with errors_in_words("ingest"):
        source = RealPhotos(find_photos(), int(sys.argv[2]))
        store = Path(sys.argv[1])
        stamps = store.with_name(store.name + "-stamps")
        report = ingest(source, store, stamps_dir=stamps, num_workers=2, shard_bytes=int(sys.argv[3]))
        print(json.dumps({"new": report.num_new, "kept": report.num_kept}))
"""
TMPFS = (
    'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && "$@"; code=$?; cp -r "$3" "$3.saved"; exit $code'
)


class Ground:
    """A temporary folder, the undisturbed store in it, and ingests as processes that can be killed."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        (folder / "ingest_photos.py").write_text(INGEST)
        self.whole = folder / "whole"
        started = time.monotonic()
        self.ingest(self.whole)
        self.seconds = time.monotonic() - started
        self.ingest(self.whole)
        self.seconds_idle = time.monotonic() - started - self.seconds

    def command(self, store: Path) -> list[str]:
        """An ingest into a folder."""
        script = str(self.folder / "ingest_photos.py")
        return [sys.executable, script, str(store), str(self.count), str(SHARD_BYTES)]

    def start(self, command: list[str]) -> "subprocess.Popen[str]":
        """Start a command that finds the rooms."""
        places = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
        return subprocess.Popen(
            command, env=places, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ingest(self, store: Path) -> tuple[int, str]:
        """Ingest to the end: how many photos were prepared, and the warnings."""
        out, words = self.start(self.command(store)).communicate()
        if not out:
            sys.exit(f"The ingest failed: {words}")
        return int(json.loads(out)["new"]), words

    def copy(self, name: str) -> Path:
        """A copy of the undisturbed store."""
        return Path(shutil.copytree(self.whole, self.folder / name))

    def differences(self, store: Path) -> str:
        """Photos that are lost, doubled or other ones than in the undisturbed store; empty where none are."""
        tables = [pl.read_parquet(path / "photos.parquet") for path in (self.whole, store)]
        before, after = PhotoStore(self.whole), PhotoStore(store)
        ids = pl.Series(after.photo_ids, dtype=pl.String)
        lost = set(before.photo_ids.to_pylist()) - set(ids)
        both = [photo_id for photo_id in before.photo_ids.to_pylist() if photo_id not in lost]
        rows = zip(before.rows_of(both), after.rows_of(both), strict=True)
        found = {
            "lost": len(lost),
            "doubled": len(ids) - ids.n_unique(),
            "other bytes": sum(before.read(row) != after.read(same) for row, same in rows),
            "photos.parquet differs": int(not tables[0].equals(tables[1])),
        }
        return ", ".join(f"{number} {name}" for name, number in found.items() if number)


def kill_and_resume(ground: Ground, *, kills: int, seed: int) -> tuple[str, int, str]:
    """SIGKILL an ingest at random moments and run it again, each time; one that ended is checked.

    The next one then begins an empty store, until there were as many kills as asked for.
    """
    chance = random.Random(seed)
    shards: list[int] = []
    whole, found = 0, ""
    while len(shards) < kills:
        store = ground.folder / f"killed-{whole}"
        process = ground.start(ground.command(store))
        time.sleep(ground.seconds_idle + chance.uniform(0, AFTER_START))
        process.kill()
        process.communicate()
        if process.returncode == 0:
            whole, found = whole + 1, found or ground.differences(store)
        else:
            shards.append(len(list(store.glob("*.arrow"))))
    again, _ = ground.ingest(store)
    words = (
        f"killed {kills} times, {whole} stores were whole in between; shards finished at each kill: "
        f"{' '.join(map(str, shards))}"
    )
    return words, again, found or ground.differences(store)


def truncate(path: Path) -> None:
    """Cut the shard's file short."""
    os.truncate(path, path.stat().st_size // 2)


def flip_photo(path: Path) -> None:
    """Change a byte in the middle of a photo."""
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 2000] ^= 1
    path.write_bytes(data)


def flip_offset(path: Path) -> None:
    """Change where a photo begins."""
    table = pa.ipc.open_file(str(path)).read_all()
    offsets = table["photo"].chunk(0).buffers()[1].to_pybytes()
    data = bytearray(path.read_bytes())
    data[data.index(offsets[8:64]) + 1] ^= 1
    path.write_bytes(data)


def flip_footer(path: Path) -> None:
    """Change a byte of what says where the record batches are."""
    data = bytearray(path.read_bytes())
    data[-60] ^= 0xFF
    path.write_bytes(data)


def remove(path: Path) -> None:
    """Delete the shard's file."""
    path.unlink()


def damage_and_mend(ground: Ground, damage: Callable[[Path], None]) -> tuple[str, int, str]:
    """Damage a shard of a copy, read every photo of it, ingest again."""
    store = ground.copy(damage.__name__)
    damage(store / SHARD)
    words = "NOT NOTICED"
    try:
        photos = PhotoStore(store)
        for row in range(len(photos)):
            photos.read(row)
        photos.verify()
    except DamagedShardError as error:
        words = str(error)
    again, _ = ground.ingest(store)
    unnoticed = ["not noticed"] * (words == "NOT NOTICED")
    return words, again, ", ".join(filter(None, [ground.differences(store), *unnoticed]))


def fill_disk(ground: Ground) -> tuple[str, int, str]:
    """Ingest where there is room for half of the store, then, on a disk with room, go on."""
    disk, saved = ground.folder / "disk", ground.folder / "saved"
    disk.mkdir()
    half = sum(shard.num_bytes for shard in load_store_info(ground.whole).shards) // 2
    may_mount = subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode == 0
    if may_mount:
        shell = ["unshare", "-Urm", "sh", "-c", TMPFS.replace('"$3.saved"', f'"{saved}"'), "sh"]
        command = [*shell, str(half), str(disk), *ground.command(disk / "store")]
    else:
        command = ["sh", "-c", 'trap "" XFSZ; ulimit -f 2048; exec "$@"', "sh", *ground.command(saved)]
    _, words = ground.start(command).communicate()
    held = len(list(saved.glob("*.arrow")))
    left = [path.name for path in saved.glob("*.partial")]
    again, _ = ground.ingest(saved)
    kind = "tmpfs" if may_mount else "limit on a file's size"
    found = ", ".join(filter(None, [ground.differences(saved), *left]))
    return f"({kind}; {held} shards were finished) {words.strip().splitlines()[0]}", again, found


def measure(ground: Ground, *, kills: int, seed: int) -> Iterator[tuple[str, str, int, str]]:
    """Every damage: its name, the sentence it produced, photos prepared afterwards, what differs then."""
    yield f"SIGKILL at {kills} random moments", *kill_and_resume(ground, kills=kills, seed=seed)
    names = {
        truncate: "truncated shard",
        remove: "missing shard",
        flip_photo: "flipped bit in a photo",
        flip_offset: "flipped bit in an offset",
        flip_footer: "flipped byte in the footer",
    }
    for damage, name in names.items():
        yield name, *damage_and_mend(ground, damage)
    yield "full disk", *fill_disk(ground)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=11_000, help="photos")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="fixes the moments")
    parser.add_argument("--quick", action="store_true", help="a small try: 1,500 photos, 4 kills")
    options = parser.parse_args()
    count, kills = (1_500, 4) if options.quick else (options.count, options.kills)
    sound = True
    table = Table(
        "damage",
        "what it said",
        "prepared by the next ingest",
        "lost, doubled or other then",
        show_lines=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(Path(folder), count)
        shards = len(load_store_info(ground.whole).shards)
        table.title = f"{count:,} photos in {shards} shards, undisturbed in {ground.seconds:.1f} s"
        for name, words, again, found in measure(ground, kills=kills, seed=options.seed):
            sound = sound and not found
            table.add_row(name, words.replace(folder, "..."), f"{again:,}", found or "none")
    Console().print(table)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
