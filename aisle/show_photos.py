"""What `aisle photos` prints: damage, what was rejected, and copies."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
from tqdm import tqdm

from catalog.copies_across import COPIES_FILE
from catalog.duplicates import contradictions, load_duplicates
from catalog.photo_store import PhotoStore
from catalog.quarantine import count_reasons, load_quarantine
from catalog.splits import load_splits
from contracts.splits import COPIES_ACROSS
from pipelines import paths
from pipelines.params import load_params


def check_store(root: Path) -> str:
    """Compare every shard with its SHA-256; ValueError that names the damaged ones."""
    store = PhotoStore(root / paths.photo_store(load_params(root).data.name))
    with tqdm(desc="check", total=store.num_bytes, unit="B", unit_scale=True, disable=None) as bar:
        store.verify(progress=bar.update)
    return f"{len(store):,} photos, every shard is as ingest wrote it"


def describe_quarantine(root: Path, *, num_shown: int) -> Iterator[str]:
    """Counts by reason, then the first photos of each with what to do."""
    quarantine = load_quarantine(root / paths.photo_store(load_params(root).data.name))
    if quarantine.is_empty():
        yield "Nothing was rejected."
    for reason, count in count_reasons(quarantine).items():
        yield f"{count:,} x {reason}"
        of_reason = quarantine.filter(pl.col("reason") == reason)
        for photo_id, message in of_reason.select("photo_id", "message").head(num_shown).iter_rows():
            shown = photo_id if photo_id.isprintable() else repr(photo_id)  # names may hold line ends
            yield f"  {shown}: {message}"
        if count > num_shown:
            yield f"  and {count - num_shown:,} more (--show {count})"


def describe_copies(root: Path, *, num_shown: int) -> Iterator[str]:
    """Exact and near copies, those with contradicting labels, and those across splits."""
    data = load_params(root).data.name
    exact, near = load_duplicates(root / paths.duplicates_folder(data))
    splits = root / paths.split_folder(data)
    labels = load_splits(splits).select("photo_id", "class")
    yield f"{exact.height:,} photos in {exact['group'].n_unique():,} groups of exact copies"
    yield f"{near.height:,} near pairs"
    for up_to, more in (("exact", None), ("exact or near", near)):
        clashing = contradictions(exact, more, labels)
        yield f"{clashing.height:,} photos with {up_to} copies of another label"
    across = pl.DataFrame(COPIES_ACROSS.read(splits / COPIES_FILE))
    yield f"{across.height:,} copies across splits ({paths.split_folder(data)}/{COPIES_FILE})"
    for photo, split, other, of, kind, distance in across.head(num_shown).iter_rows():
        yield f"  {kind} (distance {distance}): {photo} ({split}) and {other} ({of})"
    if across.height > num_shown:
        yield f"  and {across.height - num_shown:,} more (--show {across.height})"
