"""A job folder of drawn photos: what the benches of training need where real photos would add nothing."""

from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.ingest.run import ingest
from catalog.sources.synthetic import SyntheticConfig, SyntheticSource
from training.config import JobConfig, PhaseConfig, save_job

LISTS = {"train": "list.parquet", "val": "val.parquet"}


def make_drawn_job(job_dir: Path, *, phase: PhaseConfig, photos: SyntheticConfig) -> None:
    """Draw the photos into a store, list them by their labels, and write job.json."""
    source = SyntheticSource(photos)
    ingest(source, job_dir / "photos", num_workers=0)
    rows: dict[str, dict[str, list[str | int]]] = defaultdict(lambda: {"photo_id": [], "class": []})
    for photo in source.photos():
        assert photo.split is not None
        assert photo.label is not None
        rows[photo.split]["photo_id"].append(photo.photo_id)
        rows[photo.split]["class"].append(source.class_names.index(photo.label))
    for split, name in LISTS.items():
        pq.write_table(pa.table(rows[split]), job_dir / name)
    job = JobConfig(
        name="bench", seed=1, phase=phase, class_names=tuple(source.class_names), fingerprint="bench"
    )
    save_job(job_dir / "job.json", job=job)
