"""What a source has and what a store already holds of it: the plan of the least that ingest must do.

Everything here is columns (polars, Arrow over the shards' memory maps), never an object a photo: three
million photos take a few hundred megabytes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from tqdm import tqdm

from catalog.ingest.preparation import digest_sources
from catalog.ingest.shards import (
    SCHEMA,
    SHARD_NAMES,
    PlacedShard,
    Shard,
    describe_shard,
    load_shard,
    open_shard,
)
from catalog.ingest.stamps import Stamps, digest_stamp
from catalog.ingest.workers import Workers, count_cores
from catalog.photo_store import STORE_FILE, ShardInfo, damage_of, load_store_info
from catalog.sources import Source, SourcePhoto

CHUNK = 32  # photos a task: few in memory, and still many enough to hide the queue's cost
_LISTED_ROWS = 8_192  # as objects at a time
_LISTING = {
    "photo_id": pl.String,
    "label": pl.Categorical,
    "true_label": pl.Categorical,
    "coarse_label": pl.Categorical,
    "group": pl.Categorical,
    "split": pl.Categorical,
    "stamp": pl.UInt64,
}
_ROWS = {
    "shard": pl.Int32,
    "row": pl.UInt32,
    "position": pl.UInt32,
    "same_stamp": pl.Boolean,
    "left": pl.String,
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Inspection:
    """What an ingest found of a shard: its manifest entry, or its damage, or neither if made otherwise."""

    shard: ShardInfo | None = None
    damage: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What becomes of each shard, and of each photo of the source."""

    kept: list[PlacedShard]
    """Every photo in them is in the source, unchanged, and in no other of them."""
    dropped: list[str]
    """Names of the other shards, which go when their unchanged photos are in new ones."""
    copies: list[tuple[str, pl.DataFrame]]
    """Those photos: name of the shard; row and position (in the source)."""
    missing: npt.NDArray[np.bool_]
    """Which photos of the source must be prepared, `[N]`."""
    changed: pl.Series
    """Ids of those of them of which the shards have an earlier form."""
    num_left: int
    """Photos of the shards that are not in the source any more."""
    restamped: list[PlacedShard]
    """Kept shards with photos whose stamps are new."""


def list_source(source: Source, *, quiet: bool | None) -> pl.DataFrame:
    """The source's photos without their bytes: photo_id, labels, group, split, stamp (UInt64 digest or null).

    Raises ValueError where two photos have one id.
    """
    photos = iter(tqdm(source.photos(), "list", len(source), unit="photo", disable=quiet))
    parts = [pl.DataFrame(schema=_LISTING)]
    while chunk := list(islice(photos, _LISTED_ROWS)):
        columns: dict[str, list[Any]] = {
            name: [getattr(photo, name) for photo in chunk] for name in _LISTING if name != "stamp"
        }
        columns["stamp"] = [digest_stamp(photo.stamp()) for photo in chunk]
        parts.append(pl.DataFrame(columns, schema=_LISTING))
    listing = pl.concat(parts, rechunk=True)
    if listing["photo_id"].n_unique() < len(listing):
        ids = listing["photo_id"].filter(listing["photo_id"].is_duplicated()).unique(maintain_order=True)
        raise ValueError(
            f"Expected one photo a photo_id, received several for {len(ids)} ids, first "
            f"{', '.join(ids[:5])}. Remove the repeated rows from the source's index."
        )
    return listing


def select_photos(
    source: Source, listing: pl.DataFrame, wanted: npt.NDArray[np.bool_]
) -> Iterator[list[SourcePhoto]]:
    """The wanted photos of a source that has been listed, in chunks.

    Raises ValueError where the source is not the one that was listed.
    """
    ids = iter(listing["photo_id"].filter(pl.Series(wanted)))
    photos = compress(source.photos(), wanted)
    while chunk := list(islice(photos, CHUNK)):
        if [photo.photo_id for photo in chunk] != list(islice(ids, len(chunk))):
            raise ValueError(
                "The source changed while ingest read it: other photos, or another order, than a moment ago. "
                "Run ingest again when nobody writes there; it goes on after its finished shards."
            )
        yield chunk


def find_shards(folder: Path, *, mark: bytes, quiet: bool | None) -> list[Shard]:
    """The folder's sound shards that carry this mark, those of the manifest first; damaged ones are removed.

    A damaged shard takes the manifest with it, since the store is no longer whole; its photos are then
    missing and will be prepared again.
    """
    listed = _listed_shards(folder)
    names = sorted(listed) + sorted({path.name for path in folder.glob(SHARD_NAMES)} - set(listed))
    with ThreadPoolExecutor(count_cores()) as pool:  # hashing lets other threads run
        found = pool.map(lambda name: _inspect(folder, name, listed=listed.get(name), mark=mark), names)
        inspections = list(tqdm(found, "verify", len(names), unit="shard", disable=quiet))
    shards = []
    for name, inspection in zip(names, inspections, strict=True):
        if inspection.damage is not None:
            log.warning("%s: %s. Its photos are ingested again.", folder, inspection.damage)
            (folder / STORE_FILE).unlink(missing_ok=True)
            (folder / name).unlink(missing_ok=True)
        elif inspection.shard is not None:
            shards.append(load_shard(folder, inspection.shard))
    return shards


def _inspect(folder: Path, name: str, *, listed: ShardInfo | None, mark: bytes) -> _Inspection:
    """Read a whole shard and say whether ingest may go on with it.

    One that the manifest lists must have that SHA-256; of one that an interrupted ingest left behind, each
    photo must have its own.
    """
    try:
        damage = None if listed is None else damage_of(folder, listed)
        if damage is not None:
            return _Inspection(damage=damage)
        table, made = open_shard(folder / name)
        if made != mark:
            return _Inspection()
        if listed is not None:
            return _Inspection(shard=listed)
        _check_photos(table)
    except (pa.ArrowException, OSError, KeyError, ValueError, MemoryError) as error:
        return _Inspection(damage=f"{name} is damaged ({' '.join(str(error).split())[:200]})")
    return _Inspection(shard=describe_shard(folder / name, num_photos=table.num_rows))


def _check_photos(table: pa.Table) -> None:
    if not table.schema.equals(SCHEMA):
        raise ValueError(f"columns {', '.join(map(str, table.schema))}")
    table.validate(full=True)
    for batch in table.to_batches():
        for photo, sha256 in zip(batch["photo"], batch["sha256"], strict=True):
            if hashlib.sha256(photo.as_buffer()).digest() != sha256.as_py():
                raise ValueError("a photo's SHA-256 is not the one beside it")


def _listed_shards(folder: Path) -> dict[str, ShardInfo]:
    try:
        return {shard.name: shard for shard in load_store_info(folder).shards}
    except (FileNotFoundError, ValueError):  # none yet, or one of another version
        return {}


def make_plan(
    source: Source,
    listing: pl.DataFrame,
    shards: list[Shard],
    *,
    folder: Path,
    stamps: Stamps,
    workers: Workers,
    quiet: bool | None,
) -> Plan:
    """Find out which photos of the shards are still those of the source, and which shards may stay whole."""
    rows = _join(listing, shards, stamps)
    unsure = rows["position"].is_not_null() & ~rows["same_stamp"]
    if unsure.any():
        digests = _digest(source, listing, rows["position"].filter(unsure), workers=workers, quiet=quiet)
        rows = rows.with_columns(current=rows["same_stamp"] | _same_content(rows, unsure, digests, shards))
    else:
        rows = rows.with_columns(current="same_stamp")
    kept = _shards_to_keep(rows)
    current = rows.filter("current")
    staying = current.filter(pl.col("shard").is_in(kept))
    copied = (
        current.filter(~pl.col("shard").is_in(kept))
        .join(staying, on="position", how="anti", maintain_order="left")
        .unique("position", keep="first", maintain_order=True)
    )
    held, missing = np.zeros(len(listing), dtype=np.bool_), np.ones(len(listing), dtype=np.bool_)
    held[rows["position"].drop_nulls().to_numpy()] = True
    missing[staying["position"].to_numpy()] = False
    missing[copied["position"].to_numpy()] = False
    placed = {
        number: shards[number].place(staying.filter(shard=number).sort("row")["position"]) for number in kept
    }
    names = {shard.info.name for shard in placed.values()}
    restamped = staying.filter(~pl.col("same_stamp"))["shard"].unique().sort()
    return Plan(
        kept=list(placed.values()),
        dropped=sorted(path.name for path in folder.glob(SHARD_NAMES) if path.name not in names),
        copies=[
            (shards[int(number)].info.name, part.select("row", "position"))
            for (number,), part in copied.group_by("shard", maintain_order=True)
        ],
        missing=missing,
        changed=listing["photo_id"].filter(pl.Series(held & missing)),
        num_left=rows["left"].drop_nulls().n_unique(),
        restamped=[placed[number] for number in restamped],
    )


def _join(listing: pl.DataFrame, shards: list[Shard], stamps: Stamps) -> pl.DataFrame:
    """Every row of every shard: shard, row, position in the source, same_stamp; left: its id if it left."""
    if not shards:
        return pl.DataFrame(schema=_ROWS)
    parts = []
    for number, shard in enumerate(shards):
        ids = pl.Series(shard.facts["photo_id"], dtype=pl.String)
        held = pl.DataFrame({"photo_id": ids, "then": stamps.load(shard.info)}).with_row_index("row")
        parts.append(held.with_columns(shard=pl.lit(number, pl.Int32)))
    joined = pl.concat(parts).join(
        listing.select("photo_id", "stamp").with_row_index("position"),
        on="photo_id",
        how="left",
        maintain_order="left",
    )
    same = (pl.col("then") == pl.col("stamp")).fill_null(False)
    left = pl.when(pl.col("position").is_null()).then("photo_id")
    return joined.select("shard", "row", "position", same_stamp=same, left=left)


def _digest(
    source: Source, listing: pl.DataFrame, positions: pl.Series, *, workers: Workers, quiet: bool | None
) -> pl.DataFrame:
    """SHA-256 of the source's present bytes at some positions (null where unreadable): position, digest."""
    wanted = np.zeros(len(listing), dtype=np.bool_)
    wanted[positions.to_numpy()] = True
    parts = [pl.DataFrame(schema={"digest": pl.Binary})]
    with tqdm(desc="compare", total=int(wanted.sum()), unit="photo", disable=quiet) as bar:
        for digests in workers.run(digest_sources, select_photos(source, listing, wanted)):
            parts.append(pl.DataFrame({"digest": digests}, schema=parts[0].schema))
            bar.update(len(digests))
    found = pl.Series("position", np.flatnonzero(wanted), dtype=pl.UInt32)
    return pl.concat(parts, rechunk=True).with_columns(found)


def _same_content(
    rows: pl.DataFrame, unsure: pl.Series, digests: pl.DataFrame, shards: list[Shard]
) -> pl.Series:
    """Whether the bytes that a row was made from are those that its source has now, [rows]."""
    made_from = pa.chunked_array(
        [chunk for shard in shards for chunk in shard.facts["source_sha256"].chunks], pa.binary(32)
    )
    index = unsure.arg_true()
    compared = (
        rows.select("position").filter(unsure).join(digests, on="position", how="left", maintain_order="left")
    )
    then = pl.Series(made_from.take(index.to_arrow()).cast(pa.binary()))
    same = np.zeros(len(rows), dtype=np.bool_)
    same[index.to_numpy()] = (then == compared["digest"]).fill_null(False).to_numpy()
    return pl.Series(same)


def _shards_to_keep(rows: pl.DataFrame) -> list[int]:
    """Shards whose photos are all current, each photo in one of them only: earlier shards come first.

    Two shards hold one photo only after a crash between the last steps of an ingest.
    """
    whole = rows.group_by("shard").agg(pl.col("current").all()).filter("current")["shard"].sort()
    twice = rows.filter(pl.col("current"), pl.col("position").is_duplicated())
    doubled = {int(number): set(part["position"]) for (number,), part in twice.group_by("shard")}
    kept: list[int] = []
    taken: set[int] = set()
    for number in whole:
        positions = doubled.get(number, set())
        if taken.isdisjoint(positions):
            taken |= positions
            kept.append(number)
    return kept
