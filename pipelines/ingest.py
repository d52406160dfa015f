"""Stage `ingest`: the source's photos into the photo store, what is refused into its quarantine.

Ingest's workers import this module again, as spawned processes do: what it needs is imported as it runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.stage import run_stage

if TYPE_CHECKING:
    from catalog.ingest.run import IngestReport


def describe(report: "IngestReport") -> str:
    """What became of the source's photos, a line a number."""
    lines = [
        f"{report.num_photos:,} photos in the store: {report.num_new:,} new, {report.num_kept:,} kept; "
        f"{report.num_removed:,} removed",
        f"{report.num_shards_new:,} shards written, {report.num_shards_kept:,} kept as they were",
        f"{report.num_quarantined:,} rejected{' (aisle photos rejected)' if report.reasons else ''}",
    ]
    return "\n  ".join(lines + [f"{count:,} x {reason}" for reason, count in sorted(report.reasons.items())])


def main() -> None:
    """Bring data/photos/<data>/ to what the source has now."""
    from catalog.ingest.run import ingest
    from catalog.sources import make_source
    from pipelines import paths
    from pipelines.params import load_params

    data = load_params().data
    source = make_source(data.layout, root=data.root, options=data.options)
    report = ingest(
        source,
        Path(paths.photo_store(data.name)),
        policy=data.storage,
        stamps_dir=Path(".aisle/ingest") / data.name,
    )
    print(describe(report))


if __name__ == "__main__":
    run_stage(main)
