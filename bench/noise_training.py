"""The trainings of bench.noise_found: photos with labels made wrong, and what a model says of them.

Each training is the product's own job folder. What it leaves is kept in a folder named by everything that
determines it, so that a second call of the bench goes on where the first one ended.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors.torch import load_file
from torch import Tensor

from catalog.ingest.run import ingest
from catalog.list_rules import Fold, make_list
from catalog.noise import NoiseConfig
from catalog.photo_store import PHOTOS_FILE, STORE_FILE, PhotoStore
from catalog.sources import make_source
from catalog.splits import SplitConfig, make_splits, make_truth
from contracts.evidence import LOSS_LOG
from contracts.photos import PHOTOS
from imaging.storage import StoragePolicy
from recognition.backbones import Model, make_model
from recognition.bundle import load_member
from recognition.loader import make_inference_loader
from recognition.precision import resolve_precision
from recognition.preprocessing import make_preprocessing, normalize
from training.config import AugmentationConfig, JobConfig, PhaseConfig, save_job
from training.config.optimizers import RangerConfig
from training.config.schedules import CosineConfig
from training.job import run_job
from training.loss_log import LossLog, measure
from training.trainer import EpochMetrics

ROOT = Path(".aisle/bench/noise_found")
NUM_FOLDS = 4
LOSS_LOG_FILE = "loss_log.parquet"
LOGITS_FILE = "held_out.npz"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is trained: conf/size/small.yaml's model at fewer pixels; from random weights, so crops first."""

    pixels: int = 64
    epochs: int = 10
    """Of each fold; the one run on all photos has as many as the folds cost together."""
    batch_size: int = 32
    lr: float = 0.01
    backbone: str = "resnet10t"

    @property
    def epochs_of_one_run(self) -> int:
        """Epochs over all photos that cost what the folds cost: each photo is in all folds' lists but one."""
        return (NUM_FOLDS - 1) * self.epochs

    def phase(self, *, epochs: int) -> PhaseConfig:
        """The phase of one training; one thread, since trainings run side by side."""
        return PhaseConfig(
            backbone=self.backbone,
            input_size=self.pixels,
            resize=self.pixels,
            epochs=epochs,
            batch_size=self.batch_size,
            optimizer=RangerConfig(lr=self.lr),
            schedule=CosineConfig(warmup_epochs=1 if epochs > 1 else 0),
            augmentation=AugmentationConfig(name="resized_crop"),
            num_threads=1,
            checkpoint_steps=0,
        )


@dataclass(frozen=True, kw_only=True)
class Photos:
    """The photo store, of small photos, since the model sees few pixels."""

    folder: Path
    table: pl.DataFrame
    """photos.parquet."""
    class_names: tuple[str, ...]
    coarse_of: dict[str, str]
    storage: StoragePolicy

    @cached_property
    def store(self) -> PhotoStore:
        """The opened store."""
        return PhotoStore(self.folder)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training: all photos, or those outside one fold; picklable, so that it can run elsewhere."""

    study: Study
    share: float
    seed: int
    fold: int | None
    """The fold that is held out; None trains on all photos."""
    labels_digest: str
    """Hash of the wrong and right labels and of the folds, so that other ones are not taken for these."""

    def name(self) -> str:
        """What a person calls it."""
        part = "all photos" if self.fold is None else f"without fold {self.fold}"
        return f"{self.share:.0%} wrong, seed {self.seed}, {part}"


def load_photos(root: Path, *, pixels: int) -> Photos:
    """Open the study's photo store, and make it first where there is none. root: the grocery photos."""
    storage = StoragePolicy(max_side=max(160, 2 * pixels))  # crops of 35 % of a photo stay sharp
    folder = ROOT / f"photos-{storage.max_side}"
    source = make_source("grocery_store", root=root)
    if not (folder / STORE_FILE).exists():
        ingest(source, folder, policy=storage)
    return Photos(
        folder=folder,
        table=pl.DataFrame(PHOTOS.read(folder / PHOTOS_FILE)),
        class_names=tuple(source.class_names),
        coarse_of=source.coarse_of,
        storage=storage,
    )


def make_noisy(photos: Photos, *, share: float, seed: int) -> pl.DataFrame:
    """The photos of train (photo_id, class, fold, is_wrong) after symmetric noise."""
    config = SplitConfig(method="given", noise=NoiseConfig(kind="symmetric", share=share))
    splits = make_splits(
        photos.table, class_names=photos.class_names, coarse_of=photos.coarse_of, config=config, seed=seed
    )
    truth = make_truth(photos.table, class_names=photos.class_names, config=config)
    folds = [
        make_list(splits, config=Fold(num_folds=NUM_FOLDS, fold=fold, held_out=True), seed=seed).select(
            "photo_id", fold=pl.lit(fold)
        )
        for fold in range(NUM_FOLDS)
    ]
    return (
        splits.filter(pl.col("split") == "train")
        .join(pl.concat(folds), on="photo_id", how="left", maintain_order="left")
        .join(truth.select("photo_id", truth="class"), on="photo_id", how="left", maintain_order="left")
        .select("photo_id", "class", "fold", is_wrong=pl.col("class") != pl.col("truth"))
    )


def make_trainings(study: Study, *, noisy: pl.DataFrame, share: float, seed: int) -> list[Training]:
    """The run on all photos, then one for each fold."""
    digest = hashlib.blake2b(noisy.write_csv().encode(), digest_size=8).hexdigest()
    return [
        Training(study=study, share=share, seed=seed, fold=fold, labels_digest=digest)
        for fold in (None, *range(NUM_FOLDS))
    ]


def result_folder(training: Training) -> Path:
    """Where a training's result lies, by everything that the study says about it."""
    text = json.dumps(asdict(training), sort_keys=True)
    return ROOT / hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def train(training: Training, *, photos_root: Path) -> Path:
    """Run one training unless its result is there; returns the folder of the result.

    All photos: the phase's own loss log. One fold held out: its photos' logits after each epoch.
    """
    result = result_folder(training)
    if result.exists():
        return result
    photos = load_photos(photos_root, pixels=training.study.pixels)
    noisy = make_noisy(photos, share=training.share, seed=training.seed)
    job_dir = result.with_suffix(".job")
    if not (job_dir / "job.json").exists():
        shutil.rmtree(job_dir, ignore_errors=True)
        _write_job(job_dir, training, photos=photos, noisy=noisy)
    made = job_dir / "result"
    made.mkdir(exist_ok=True)
    with (made / "progress.txt").open("a") as progress, redirect_stderr(progress):
        if training.fold is None:
            shutil.move(run_job(job_dir).loss_log_path, made / LOSS_LOG_FILE)
        else:
            held_out = noisy.filter(pl.col("fold") == training.fold)
            logits = _train_watched(job_dir, training, photos=photos, photo_ids=held_out["photo_id"])
            np.savez_compressed(made / LOGITS_FILE, logits=logits)
    (made / "training.json").write_text(json.dumps(asdict(training), indent=1) + "\n", encoding="utf-8")
    made.rename(result)
    shutil.rmtree(job_dir)
    return result


def _write_job(job_dir: Path, training: Training, *, photos: Photos, noisy: pl.DataFrame) -> None:
    """Lay out the job folder as pipelines.train does; job.json comes last, and makes it whole."""
    job_dir.mkdir(parents=True)
    (job_dir / "photos").symlink_to(photos.folder.resolve())
    if training.fold is None:
        rows, epochs = noisy, training.study.epochs_of_one_run
    else:
        rows, epochs = noisy.filter(pl.col("fold") != training.fold), training.study.epochs
    rows.select("photo_id", "class").write_parquet(job_dir / "list.parquet")
    rows[:0].select("photo_id", "class").write_parquet(job_dir / "val.parquet")
    job = JobConfig(
        name="noise_found",
        seed=training.seed,
        phase=training.study.phase(epochs=epochs),
        class_names=photos.class_names,
        fingerprint=result_folder(training).name,
        storage=photos.storage,
    )
    save_job(job_dir / "job.json", job=job)


def _train_watched(
    job_dir: Path, training: Training, *, photos: Photos, photo_ids: pl.Series
) -> npt.NDArray[np.float32]:
    """Train, and return the logits `[E, N, K]` of the held-out photos after each epoch.

    When an epoch is reported, the newest checkpoint is still that of the epoch before; the last epoch's model
    is the bundle's. Logits are written at once, so that a resumed training has those of its earlier epochs.
    """
    held_out = HeldOut(photos, photo_ids=photo_ids, study=training.study)
    num_classes = len(photos.class_names)
    model = make_model(training.study.backbone, num_classes=num_classes, initial_weights="random", seed=0)

    def look_back(metrics: EpochMetrics) -> None:
        path = _logits_file(job_dir, metrics.epoch - 1)
        if metrics.epoch > 1 and not path.exists():
            (state,) = (job_dir / "checkpoint").glob("step-*/state.safetensors")
            tensors = load_file(state)
            named = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
            model.load_state_dict(named)
            np.save(job_dir / "half-written.npy", held_out.predict(model).numpy())
            (job_dir / "half-written.npy").rename(path)

    result = run_job(job_dir, on_epoch=look_back)
    earlier = [np.load(_logits_file(job_dir, epoch)) for epoch in range(1, training.study.epochs)]
    last = held_out.predict(load_member(result.bundle_dir)[0]).numpy()
    return np.stack([*earlier, last])


def _logits_file(job_dir: Path, epoch: int) -> Path:
    return job_dir / f"held-out-{epoch:03d}.npy"


class HeldOut:
    """The photos of a fold, prepared once, as in serving: the whole photo, not mirrored."""

    def __init__(self, photos: Photos, *, photo_ids: pl.Series, study: Study) -> None:
        self.preprocessing = make_preprocessing(
            study.backbone, input_size=study.pixels, resize=study.pixels, storage=photos.storage
        )
        loader = make_inference_loader(
            photos.store,
            photos.store.rows_of(photo_ids.to_arrow()),
            preprocessing=self.preprocessing,
            batch_size=128,
        )
        self.batches = [canvases[:, 0] for canvases, _ in loader]
        self.dtype = resolve_precision("auto", torch.device("cpu"))

    @torch.inference_mode()
    def predict(self, model: Model) -> Tensor:
        """Return logits float32 [N, K]."""
        model.eval()
        with torch.autocast("cpu", dtype=self.dtype, enabled=self.dtype != torch.float32):
            pixels = (normalize(canvases, self.preprocessing) for canvases in self.batches)
            outputs = [model(batch.contiguous(memory_format=torch.channels_last)) for batch in pixels]
        return torch.cat(outputs).float()


def load_loss_log(training: Training, *, noisy: pl.DataFrame) -> pl.DataFrame:
    """The loss log of the run on all photos, in their order."""
    log = pl.DataFrame(LOSS_LOG.read(result_folder(training) / LOSS_LOG_FILE))
    return noisy.select("photo_id").join(log, on="photo_id", how="left", maintain_order="left")


def load_held_out_logits(trainings: list[Training], *, noisy: pl.DataFrame) -> npt.NDArray[np.float32]:
    """The logits `[E, N, K]` of all photos, each from the training that did not see it."""
    parts = {t.fold: np.load(result_folder(t) / LOGITS_FILE)["logits"] for t in trainings}
    first = parts[trainings[0].fold]
    logits = np.full((len(first), len(noisy), first.shape[2]), np.nan, dtype=np.float32)
    for fold, part in parts.items():
        logits[:, noisy["fold"].to_numpy() == fold] = part
    return logits


def held_out_evidence(logits: npt.NDArray[np.float32], *, noisy: pl.DataFrame) -> pl.DataFrame:
    """Evidence of held-out logits `[E, N, K]`, averaged over the epochs as a loss log averages."""
    labels = noisy["class"].to_numpy().astype(np.int64)
    log = LossLog(len(noisy))
    for epoch in torch.from_numpy(logits):
        log.record(measure(epoch, torch.from_numpy(labels)), positions=torch.arange(len(noisy)))
    photo_ids = pl.DataFrame(noisy["photo_id"]).to_arrow()["photo_id"]
    return pl.DataFrame(log.to_table(photo_ids=photo_ids, labels=labels))
