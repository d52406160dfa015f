"""What stops an ingest midway: a kill, a dead worker, a full disk. It goes on after the finished shards."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from catalog.ingest.run import IngestError, ingest
from catalog.photo_store import PhotoStore
from catalog.sources import SourcePhoto, make_source
from tests.catalog.test_ingest import ListedSource, _digests

OPTIONS = {"num_skus": 8, "photos_head": 40, "photos_tail": 20, "photos_val": 1, "photos_test": 1}
SHARD = 100_000  # bytes: about fifteen shards
INGEST = f"""
import sys
from pathlib import Path
from catalog.ingest.run import ingest
from catalog.sources import make_source
if __name__ == "__main__":
    source = make_source("synthetic", options={OPTIONS})
    ingest(source, Path(sys.argv[1]), num_workers=int(sys.argv[2]), shard_bytes={SHARD})
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The store of an ingest that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    ingest(make_source("synthetic", options=OPTIONS), folder, num_workers=0, shard_bytes=SHARD)
    return folder


def _start(out_dir: Path, *, num_workers: int, **options) -> subprocess.Popen:
    script = out_dir.parent / "ingest_drawn.py"
    script.write_text(INGEST)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), str(out_dir), str(num_workers)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **options)


def _shards(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        path.name: (path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.glob("*.arrow")
    }


def _wait_for(condition, *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc to find the worker processes")
def test_after_kills_at_several_moments_nothing_is_lost_doubled_or_done_again(whole, tmp_path):
    out_dir, finished = tmp_path / "store", {}
    for num_shards in (0, 1, 6):
        process = _start(out_dir, num_workers=1)
        _wait_for(lambda n=num_shards: out_dir.exists() and len(_shards(out_dir)) >= n)
        workers = _children(process.pid)
        process.kill()
        process.communicate()
        shards = _shards(out_dir)
        assert finished.items() <= shards.items()
        finished = shards
        _wait_for(lambda pids=workers: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    source = make_source("synthetic", options=OPTIONS)
    report = ingest(source, out_dir, num_workers=0, shard_bytes=SHARD)
    assert finished.items() <= _shards(out_dir).items()
    assert report.num_shards_kept == len(finished) >= 6
    assert _digests(out_dir) == _digests(whole)


def test_a_full_disk_keeps_the_finished_shards_and_says_what_to_do(whole, tmp_path):
    def no_file_above(num_bytes=70_000):  # smaller than a shard, as if the disk had no more room
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))

    source = make_source("synthetic", options=OPTIONS)
    ingest(ListedSource(list(source.photos())[:60]), tmp_path / "store", num_workers=0, shard_bytes=SHARD)
    before = _shards(tmp_path / "store")
    process = _start(tmp_path / "store", num_workers=0, preexec_fn=no_file_above)
    _, words = process.communicate()
    assert process.returncode == 1
    assert re.search(
        r"no room for another photo .* \d+ photos in \d+ finished shards are safe\. Free space", words
    )
    assert _shards(tmp_path / "store") == before
    assert not list((tmp_path / "store").glob("*.partial"))
    ingest(source, tmp_path / "store", num_workers=0, shard_bytes=SHARD)
    assert _same_photos(tmp_path / "store", whole)


def _same_photos(first: Path, second: Path) -> bool:
    tables = [pl.read_parquet(folder / "photos.parquet") for folder in (first, second)]
    stores = [PhotoStore(folder) for folder in (first, second)]
    read = [[store.read(row) for row in store.rows_of(tables[0]["photo_id"].to_list())] for store in stores]
    return tables[0].equals(tables[1]) and len(stores[0]) == len(stores[1]) and read[0] == read[1]


@dataclass(frozen=True, kw_only=True)
class _Deadly(SourcePhoto):
    """A photo whose worker is ended by the system, as when memory runs out."""

    def read(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def stamp(self):
        return None


def test_a_worker_that_dies_ends_ingest_with_a_sentence(tmp_path):
    photos = list(make_source("synthetic", options=OPTIONS).photos())[:200]
    source = ListedSource([*photos, _Deadly(photo_id="z", label=None)])
    with pytest.raises(
        IngestError, match=r"worker process died.* finished shards are safe\. Give ingest fewer"
    ):
        ingest(source, tmp_path / "store", num_workers=1, shard_bytes=SHARD)
    report = ingest(ListedSource(photos), tmp_path / "store", num_workers=0, shard_bytes=SHARD)
    assert report.num_shards_kept > 0
    assert report.num_photos == 200
