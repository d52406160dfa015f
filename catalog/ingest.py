"""From a source's photos to a photo store, once, so that nothing after it meets a broken file again.

Workers decode and re-encode on all cores; this process only writes, in the source's order, so the store's
bytes do not depend on the number of workers. The store is written beside its place and renamed when it is
whole.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from catalog.photo_store import PHOTOS_FILE, STORE_FILE, ShardWriter, StoreInfo, save_store_info
from catalog.preparation import PreparedPhoto, Refusal, prepare_photos
from catalog.quarantine import count_reasons, load_quarantine, save_quarantine
from catalog.sources import Source, SourcePhoto
from imaging.limits import Limits
from imaging.storage import StoragePolicy

PHOTOS_SCHEMA = pa.schema(
    [
        ("photo_id", pa.string()),
        ("label", pa.string()),
        ("true_label", pa.string()),
        ("coarse_label", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("num_bytes", pa.int64()),
        ("sha256", pa.string()),
    ]
)
_CHUNK = 32  # photos a task: small enough to keep few in memory, large enough to hide the queue's cost
_TABLE_ROWS = 20_000  # rows of photos.parquet kept in memory

Outcome = tuple[SourcePhoto, PreparedPhoto | Refusal]


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """How many photos entered the store, and how many did not for which reason."""

    num_photos: int
    num_quarantined: int
    reasons: dict[str, int]


def ingest(
    source: Source,
    out_dir: Path,
    *,
    policy: StoragePolicy | None = None,
    limits: Limits | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> IngestReport:
    """Write the photo store of a source into out_dir, replacing a store that is there.

    num_workers: processes; None for one a core, 0 for this process. width, height, num_bytes and sha256 in
    photos.parquet are those of the stored photo. Raises ValueError when every photo is refused, when two
    photos have one id, or when out_dir holds something that is no store.
    """
    policy, limits = policy or StoragePolicy(), limits or Limits()
    _check_replaceable(out_dir)
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        prepared = _prepare_all(source, policy=policy, limits=limits, num_workers=num_workers)
        quiet = None if progress else True  # None: a bar only where a person watches
        with closing(prepared) as outcomes:  # an error here ends the workers too
            bar = tqdm(outcomes, "ingest", len(source), unit="photo", disable=quiet)
            num_photos = _write(bar, partial)
        report = _finish(source, partial, policy=policy, num_photos=num_photos)
        shutil.rmtree(out_dir, ignore_errors=True)
        partial.rename(out_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _check_replaceable(out_dir: Path) -> None:
    """Ingest deletes what it replaces: only ever a store, or nothing."""
    if out_dir.exists() and any(out_dir.iterdir()) and not (out_dir / STORE_FILE).exists():
        raise ValueError(
            f"Expected {out_dir} to be absent, empty or a photo store to replace; it holds other files. "
            "Choose another folder, or empty this one."
        )


def _prepare_all(
    source: Source, *, policy: StoragePolicy, limits: Limits, num_workers: int | None
) -> Generator[Outcome, None, None]:
    """Each photo with what became of it, in the source's order, with few photos in memory at a time."""
    if num_workers is None:
        num_workers = (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
    photos = source.photos()
    if num_workers == 0:
        for photo in photos:
            yield photo, prepare_photos([photo], policy, limits)[0]
        return
    # spawn: a forked copy of a process that runs threads (polars, torch) may hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        waiting: deque[tuple[list[SourcePhoto], Future[Any]]] = deque()
        while True:
            while len(waiting) < 3 * num_workers and (chunk := list(islice(photos, _CHUNK))):
                waiting.append((chunk, pool.submit(prepare_photos, chunk, policy, limits)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            yield from zip(chunk, future.result(), strict=True)


def _write(outcomes: Iterable[Outcome], folder: Path) -> int:
    """Write shards, photos.parquet and quarantine.parquet; the number of photos written."""
    num_photos = 0
    rows: list[dict[str, Any]] = []
    refused: list[tuple[str, str, str]] = []
    with ShardWriter(folder) as shards, pq.ParquetWriter(folder / PHOTOS_FILE, PHOTOS_SCHEMA) as table:
        for photo, outcome in outcomes:
            if isinstance(outcome, Refusal):
                refused.append((photo.photo_id, outcome.reason, outcome.message))
                continue
            shards.add(photo.photo_id, outcome.stored.data)
            rows.append(_row(photo, outcome))
            num_photos += 1
            if len(rows) == _TABLE_ROWS:
                table.write_table(pa.Table.from_pylist(rows, PHOTOS_SCHEMA))
                rows = []
        table.write_table(pa.Table.from_pylist(rows, PHOTOS_SCHEMA))
    save_quarantine(refused, folder)
    return num_photos


def _row(photo: SourcePhoto, prepared: PreparedPhoto) -> dict[str, Any]:
    return {
        "photo_id": photo.photo_id,
        "label": photo.label,
        "true_label": photo.true_label,
        "coarse_label": photo.coarse_label,
        "group": photo.group,
        "split": photo.split,
        "width": prepared.stored.width,
        "height": prepared.stored.height,
        "num_bytes": len(prepared.stored.data),
        "sha256": prepared.sha256,
    }


def _finish(source: Source, folder: Path, *, policy: StoragePolicy, num_photos: int) -> IngestReport:
    """Check the whole store, describe it in store.json, and report."""
    quarantine = load_quarantine(folder)
    reasons = count_reasons(quarantine)
    if num_photos == 0:
        first = f" The first: {quarantine['photo_id'][0]}: {quarantine['message'][0]}" if reasons else ""
        raise ValueError(
            f"Expected at least one photo that decodes, received {len(quarantine)} photos, all refused "
            f"({reasons}).{first} Check the source's layout and root."
        )
    ids = pl.read_parquet(folder / PHOTOS_FILE, columns=["photo_id"])["photo_id"]
    if ids.n_unique() < len(ids):
        twice = ids.filter(ids.is_duplicated()).unique(maintain_order=True)
        raise ValueError(
            f"Expected one photo a photo_id, received several for {len(twice)} ids, first "
            f"{', '.join(twice[:5])}. Remove the repeated rows from the source's index."
        )
    info = StoreInfo(
        layout=source.layout,
        policy=policy,
        class_names=source.class_names,
        coarse_of=source.coarse_of,
        num_photos=num_photos,
    )
    save_store_info(folder, info)
    return IngestReport(num_photos=num_photos, num_quarantined=len(quarantine), reasons=reasons)
