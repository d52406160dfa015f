"""From a source's photos to a photo store that grows in place, so that nothing after it meets a broken file.

Workers read, check, encode and hash on all cores; this process only writes. Three million photos take hours,
so nothing that is done is done again:

- A shard has its name when it is whole and on disk. After a crash, a full disk or Ctrl-C the next ingest goes
  on after the finished shards. A source ingested into an empty folder gives the same bytes however many
  workers there were and however often it was killed on the way; so does one whose shards were damaged.
- A later ingest prepares only photos that are new or have changed; they go into new shards. A shard with a
  photo that changed or left gives its other photos, byte for byte, to a new one. All others stay untouched.
- store.json, the manifest, goes before the first file is replaced and comes last: in between there is no
  store, only shards, and the next ingest makes one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from catalog.ingest.inventory import Plan, find_shards, list_source, make_plan, select_photos
from catalog.ingest.photo_table import write_photo_table
from catalog.ingest.preparation import Refusal, prepare_photos
from catalog.ingest.shards import (
    SHARD_BYTES,
    SHARD_NAMES,
    PlacedShard,
    ShardWriter,
    count_rows,
    free_names,
    load_shard,
    make_mark,
    read_rows,
)
from catalog.ingest.stamps import Stamps
from catalog.ingest.workers import Workers
from catalog.photo_store import PHOTOS_FILE, QUARANTINE_FILE, STORE_FILE, ShardInfo, StoreInfo, store_text
from catalog.quarantine import Quarantine, count_reasons
from catalog.sources import Source
from contracts.photos import REJECTED
from imaging.atomic_write import PARTIAL, is_disk_full, partial_file, put_in_place
from imaging.limits import Limits
from imaging.storage import StoragePolicy


class IngestError(RuntimeError):
    """Ingest had to stop; the message says what is safe and what to do."""


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What an ingest did."""

    num_photos: int
    """Photos in the store."""
    num_new: int
    """Of these, prepared by this ingest: new ones and changed ones."""
    num_kept: int
    """Of these, already there, from the last ingest or from an interrupted one."""
    num_removed: int
    """Photos that were there and are not any more."""
    num_quarantined: int
    reasons: dict[str, int]
    """Quarantined photos of each reason."""
    num_shards_kept: int
    num_shards_new: int


def ingest(
    source: Source,
    out_dir: Path,
    *,
    policy: StoragePolicy | None = None,
    limits: Limits | None = None,
    stamps_dir: Path | None = None,
    num_workers: int | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = True,
) -> IngestReport:
    """Bring the photo store in out_dir to what the source has now, with as little work as possible.

    stamps_dir: where to remember how files looked, so that unchanged ones are not read again; may be lost.
    num_workers: processes; None for one a core, 0 for this process. shard_bytes: photos of a shard, in bytes.
    Raises ValueError when every photo is refused, when two photos have one id, or when out_dir holds
    something that is no store; IngestError when the disk is full or a worker dies. In each case the finished
    shards stay, and the next ingest goes on after them.
    """
    _check_is_store(out_dir)
    run = _Ingest(
        source=source,
        out_dir=out_dir,
        policy=policy or StoragePolicy(),
        limits=limits or Limits(),
        stamps=Stamps(stamps_dir),
        shard_bytes=shard_bytes,
        quiet=None if progress else True,  # None: bars only where a person watches
    )
    with _stopping_in_words(out_dir), Workers(num_workers) as workers:
        return run.run(workers)


@dataclass(frozen=True, kw_only=True)
class _Ingest:
    """One ingest's arguments, and its steps."""

    source: Source
    out_dir: Path
    policy: StoragePolicy
    limits: Limits
    stamps: Stamps
    shard_bytes: int
    quiet: bool | None

    @property
    def mark(self) -> bytes:
        return make_mark(self.policy, self.limits)

    def run(self, workers: Workers) -> IngestReport:
        listing = list_source(self.source, quiet=self.quiet)
        found = find_shards(self.out_dir, mark=self.mark, quiet=self.quiet)
        plan = make_plan(
            self.source,
            listing,
            found,
            folder=self.out_dir,
            stamps=self.stamps,
            workers=workers,
            quiet=self.quiet,
        )
        quarantine = Quarantine()
        new = self.write_new_shards(listing, plan, quarantine, workers)
        refused = quarantine.table()
        reasons = count_reasons(refused)
        num_photos = sum(shard.info.num_photos for shard in [*plan.kept, *new])
        if num_photos == 0:
            raise _nothing_to_store(refused, reasons)
        self.commit(listing, plan, new, refused)
        num_kept = int((~plan.missing).sum())
        return IngestReport(
            num_photos=num_photos,
            num_new=num_photos - num_kept,
            num_kept=num_kept,
            num_removed=plan.num_left + int(plan.changed.is_in(refused["photo_id"].implode()).sum()),
            num_quarantined=len(refused),
            reasons=reasons,
            num_shards_kept=len(plan.kept),
            num_shards_new=len(new),
        )

    def write_new_shards(
        self, listing: pl.DataFrame, plan: Plan, quarantine: Quarantine, workers: Workers
    ) -> list[PlacedShard]:
        """Copy what dropped shards still have, prepare what is missing; the new shards as written."""
        new: list[PlacedShard] = []
        pending: list[int] = []  # positions of the photos in the shard that is being written

        def remember(shard: ShardInfo) -> None:
            new.append(load_shard(self.out_dir, shard).place(pending))
            self.stamps.save(shard, listing["stamp"].gather(pending))
            pending.clear()

        prepare = partial(prepare_photos, policy=self.policy, limits=self.limits)
        missing = iter(np.flatnonzero(plan.missing))
        writer = ShardWriter(self.out_dir, mark=self.mark, shard_bytes=self.shard_bytes, on_shard=remember)
        with writer, tqdm(desc="ingest", total=len(listing), unit="photo", disable=self.quiet) as bar:
            for name, copies in plan.copies:
                for photo, position in zip(
                    read_rows(self.out_dir / name, copies["row"]), copies["position"], strict=True
                ):
                    pending.append(position)
                    writer.add(photo)
            bar.update(int((~plan.missing).sum()))
            for outcomes in workers.run(prepare, select_photos(self.source, listing, plan.missing)):
                for outcome, position in zip(outcomes, missing, strict=False):
                    if isinstance(outcome, Refusal):
                        quarantine.add(outcome.photo_id, reason=outcome.reason, message=outcome.message)
                    else:
                        pending.append(int(position))
                        writer.add(outcome)
                bar.update(len(outcomes))
                bar.set_postfix(refused=len(quarantine), refresh=False)
        for aside in self.source.set_aside():
            quarantine.add(aside.photo_id, reason=aside.reason, message=aside.message)
        return new

    def commit(
        self, listing: pl.DataFrame, plan: Plan, new: list[PlacedShard], refused: pl.DataFrame
    ) -> None:
        """Let the kept and the new shards be the store; new ones get the lowest numbers that are free."""
        names = free_names({shard.info.name for shard in plan.kept})
        renamed = [
            replace(shard, info=replace(shard.info, name=name))
            for shard, name in zip(new, names, strict=False)
        ]
        shards = sorted([*plan.kept, *renamed], key=lambda shard: shard.info.name)
        info = StoreInfo(
            layout=self.source.layout,
            policy=self.policy,
            class_names=self.source.class_names,
            coarse_of=self.source.coarse_of,
            num_photos=sum(shard.info.num_photos for shard in shards),
            shards=[shard.info for shard in shards],
        )
        with partial_file(self.out_dir / PHOTOS_FILE) as file:
            write_photo_table(listing, shards, file)
        with partial_file(self.out_dir / QUARANTINE_FILE) as file:
            REJECTED.write_to(file, refused)
        with partial_file(self.out_dir / STORE_FILE) as file:
            file.write(store_text(info).encode())
        (self.out_dir / STORE_FILE).unlink(missing_ok=True)  # from here to the last line there is no store
        for name in plan.dropped:
            (self.out_dir / name).unlink()
        for shard, target in zip(new, renamed, strict=True):
            (self.out_dir / shard.info.name).rename(self.out_dir / target.info.name)
        for name in (PHOTOS_FILE, QUARANTINE_FILE, STORE_FILE):
            put_in_place(self.out_dir / name)
        for shard in plan.restamped:
            self.stamps.save(shard.info, listing["stamp"].gather(shard.positions))
        self.stamps.keep_only([shard.info for shard in shards])


def _check_is_store(out_dir: Path) -> None:
    """Ingest replaces and deletes files: only ever those of a store."""
    if out_dir.exists() and any(out_dir.iterdir()):
        ours = (
            (out_dir / STORE_FILE).exists()
            or any(out_dir.glob(SHARD_NAMES))
            or any(out_dir.glob(f"*{PARTIAL}"))
        )
        if not ours:
            raise ValueError(
                f"Expected {out_dir} to be absent, empty or a photo store to bring up to date; it holds "
                "other files. Choose another folder, or empty this one."
            )


@contextmanager
def _stopping_in_words(out_dir: Path) -> Iterator[None]:
    """Say what is safe where ingest cannot go on, and leave nothing unfinished behind."""
    out_dir.mkdir(parents=True, exist_ok=True)
    _remove_partial(out_dir)  # of an ingest that was killed
    try:
        yield
    except BrokenProcessPool as error:
        raise IngestError(
            "A worker process died, most often because memory ran out and the system ended it. "
            f"{_safe(out_dir)} Give ingest fewer workers or more memory and run it again: it goes on after "
            "them."
        ) from error
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise IngestError(
            f"There is no room for another photo where {out_dir} lies ({error.strerror or error}). "
            f"{_safe(out_dir)} Free space there and run ingest again: it goes on after them."
        ) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Ingest was interrupted. {_safe(out_dir)} Run it again: it goes on after them."
        ) from None
    finally:
        _remove_partial(out_dir)
        if not any(out_dir.iterdir()):
            out_dir.rmdir()


def _remove_partial(out_dir: Path) -> None:
    for path in out_dir.glob(f"*{PARTIAL}"):
        path.unlink()


def _safe(out_dir: Path) -> str:
    shards = [count_rows(path) for path in sorted(out_dir.glob(SHARD_NAMES))]
    return f"{sum(shards):,} photos in {len(shards):,} finished shards are safe."


def _nothing_to_store(refused: pl.DataFrame, reasons: dict[str, int]) -> ValueError:
    first = f" The first: {refused['photo_id'][0]}: {refused['message'][0]}" if reasons else ""
    return ValueError(
        f"Expected at least one photo that decodes, received {len(refused)} photos, all refused "
        f"({reasons}).{first} Check the source's layout and root."
    )
