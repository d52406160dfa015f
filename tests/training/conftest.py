"""Job folders as small as they can be: drawn photos, a real photo store, timm's test_resnet at 32 pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
import torch

from catalog.ingest.preparation import PreparedPhoto, prepare_photo
from catalog.ingest.shards import ShardWriter, make_mark
from catalog.photo_store import STORE_FILE, StoreInfo, store_text
from imaging.limits import Limits
from imaging.storage import StoragePolicy
from training.config import AugmentationConfig, JobConfig, PhaseConfig, save_job
from training.config.optimizers import SgdConfig

CLASS_NAMES = ("apple", "pear", "plum", "fig")

TINY_PHASE = PhaseConfig(
    backbone="test_resnet",
    input_size=32,
    resize=32,
    epochs=2,
    batch_size=8,
    optimizer=SgdConfig(lr=0.05),
    augmentation=AugmentationConfig(name="none"),
    precision="float32",
    num_threads=1,
)


class MakeJob(Protocol):
    """Writes a job folder and returns it."""

    def __call__(
        self, name: str = ..., *, num_photos: int = ..., num_val: int = ..., **phase: Any
    ) -> Path: ...


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_photo(index: int) -> bytes:
    """One JPEG of 40 x 48 pixels: the class is the brighter channel, or none of them."""
    pixels = np.random.default_rng(index).integers(0, 120, size=(40, 48, 3), dtype=np.uint8)
    pixels[..., : index % len(CLASS_NAMES)] += 100
    return simplejpeg.encode_jpeg(pixels, quality=95)


def write_list(path: Path, rows: Mapping[str, int]) -> None:
    """Write a list of photo_id -> class."""
    columns = {
        "photo_id": pa.array(list(rows), pa.string()),
        "class": pa.array(list(rows.values()), pa.int32()),
    }
    pq.write_table(pa.table(columns), path)


def write_store(folder: Path, rows: Iterable[PreparedPhoto]) -> None:
    """Write a photo store of prepared photos."""
    policy = StoragePolicy()
    with ShardWriter(folder, mark=make_mark(policy, Limits()), batch_rows=7) as writer:
        for row in rows:
            writer.add(row)
    info = StoreInfo(
        layout="drawn",
        policy=policy,
        class_names=list(CLASS_NAMES),
        coarse_of={},
        num_photos=sum(shard.num_photos for shard in writer.shards),
        shards=writer.shards,
    )
    (folder / STORE_FILE).write_text(store_text(info), encoding="utf-8")


def broken_photo(photo_id: str) -> PreparedPhoto:
    """A photo of a sound store that does not decode, which ingest would not have let in."""
    data = b"not a photo"
    return prepare_photo(photo_id, draw_photo(0))._replace(photo=data, crc32=crc32(data))


def write_job(
    job_dir: Path,
    *,
    num_photos: int = 16,
    num_val: int = 4,
    coarse_names: tuple[str | None, ...] = (),
    **phase: Any,
) -> Path:
    """Write a job folder whose phase is the tiny one but for what is given."""
    (job_dir / "photos").mkdir(parents=True)
    labels = {f"shelf/{i}.jpg": i % len(CLASS_NAMES) for i in range(num_photos + num_val)}
    rows = [prepare_photo(photo_id, draw_photo(index)) for index, photo_id in enumerate(labels)]
    write_store(job_dir / "photos", rows)
    ids = list(labels)
    write_list(job_dir / "list.parquet", {i: labels[i] for i in ids[:num_photos]})
    write_list(job_dir / "val.parquet", {i: labels[i] for i in ids[num_photos:]})
    job = JobConfig(
        name="tiny",
        seed=7,
        phase=TINY_PHASE.replace(**phase),
        class_names=CLASS_NAMES,
        coarse_names=coarse_names,
        fingerprint="f00d",
    )
    save_job(job_dir / "job.json", job=job)
    return job_dir


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    def make(name: str = "job", *, num_photos: int = 16, num_val: int = 4, **phase: Any) -> Path:
        return write_job(tmp_path / name, num_photos=num_photos, num_val=num_val, **phase)

    return make
