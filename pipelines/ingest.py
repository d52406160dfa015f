"""Stage `ingest`: the source's photos into the photo store, what is refused into its quarantine."""

from pathlib import Path

from catalog.ingest import ingest
from catalog.sources import make_source
from pipelines import paths
from pipelines.params import load_params
from pipelines.stage import run_stage


def main() -> None:
    """Write data/photos/<data>/."""
    data = load_params().data
    root = None if data.root is None else Path(data.root)
    source = make_source(data.layout, root=root, options=data.options)
    report = ingest(source, Path(paths.photo_store(data.name)), policy=data.storage)
    print(f"{report.num_photos:,} photos stored, {report.num_quarantined:,} refused", end="")
    print("".join(f"\n  {count:,} x {reason}" for reason, count in sorted(report.reasons.items())))


if __name__ == "__main__":
    run_stage(main)
