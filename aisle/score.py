"""Photos of the store scored by any bundle: what `aisle predict --split` writes, and what the gate lacks."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl
from tqdm import tqdm

from catalog.content import CONTENT
from catalog.photo_store import PhotoStore, load_store_info
from catalog.quarantine import load_quarantine
from catalog.splits import load_class_names, load_splits
from contracts.evaluation import SCORES
from imaging.atomic_write import atomic_write
from pipelines import paths
from pipelines.params import EvaluationParams, Params
from recognition.bundle import load_bundle_config
from recognition.metrics import error_metrics
from recognition.scoring import score_rows

logger = logging.getLogger(__name__)

SUBMISSION_HEADER = ("id", "predicted")
NUM_NAMED = 5


def score_photos(
    root: Path,
    *,
    data: str,
    bundle: Path,
    photo_ids: Sequence[str],
    evaluation: EvaluationParams,
    source_sha256: Sequence[bytes] | None = None,
    top_k: int = 5,
) -> pl.DataFrame:
    """Predictions of stored photos by any bundle: photo_id, classes (Int32) and probabilities, best first.

    source_sha256: what the photos are to be [N]. Shows a progress bar. ValueError for photos that the store
    lacks or has with another content, since it is newer than the evaluation then.
    """
    folder = root / paths.photo_store(data)
    store = PhotoStore(folder)
    rows = store.rows_of(photo_ids, source_sha256=source_sha256)
    total = len(rows) * len(load_bundle_config(bundle).members)
    with tqdm(desc="predict", total=total, unit="photo", mininterval=1, disable=None) as bar:
        classes, probabilities = score_rows(
            bundle,
            store,
            rows,
            policy=load_store_info(folder).policy,
            precision=evaluation.precision,
            batch_size=evaluation.batch_size,
            num_workers=evaluation.num_workers,
            top_k=top_k,
            progress=bar.update,
        )
    return pl.DataFrame(
        {
            "photo_id": photo_ids,
            "classes": pl.Series(classes.numpy().tolist(), dtype=pl.List(pl.Int32)),
            "probabilities": pl.Series(probabilities.numpy().tolist(), dtype=pl.List(pl.Float32)),
        }
    )


def photos_of_split(root: Path, *, data: str, split: str) -> pl.DataFrame:
    """The photos of a split in its order: photo_id, label_name (as the data names the class), content.

    ValueError with the splits there are for one without photos.
    """
    folder = root / paths.split_folder(data)
    splits = load_splits(folder)
    photos = splits.filter(pl.col("split") == split)
    if photos.is_empty():
        counts = splits.group_by("split").len().sort("split").iter_rows()
        found = ", ".join(f"{name} ({count:,})" for name, count in counts)
        raise ValueError(f"Expected a split of {data} with photos, received {split!r}. Splits: {found}.")
    names = dict(enumerate(load_class_names(folder)[0]))
    label_name = photos["class"].replace_strict(names, default=None, return_dtype=pl.String)
    return photos.select("photo_id", label_name.alias("label_name"), *CONTENT)


def predict_split(
    root: Path,
    params: Params,
    *,
    split: str,
    bundle: Path,
    out: Path,
    submission: Path | None = None,
    top_k: int = 5,
) -> str:
    """Score every photo of a split, labelled or not, write what was asked for, and say it in a line.

    out: a scores table (docs/tables.md). Warns of photos that are missing because ingest rejected them, and
    of classes that the bundle does not know.
    """
    data = params.data.name
    photos = photos_of_split(root, data=data, split=split)
    photo_ids = photos["photo_id"].to_list()
    if submission is not None:
        submission_ids(photo_ids)  # before an hour is spent on scoring them
    class_names = load_bundle_config(bundle).class_names
    index = {name: number for number, name in enumerate(class_names)}
    label = photos["label_name"].replace_strict(index, default=None, return_dtype=pl.Int32)
    _warn_of_unknown(photos["label_name"].filter(label.is_null()).drop_nulls(), bundle=bundle)
    _warn_of_rejected(root / paths.photo_store(data), split=split)
    scored = score_photos(
        root,
        data=data,
        bundle=bundle,
        photo_ids=photo_ids,
        evaluation=params.evaluation,
        source_sha256=photos["source_sha256"].to_list(),
        top_k=top_k,
    )
    scored = scored.insert_column(1, label.alias("label")).with_columns(photos[*CONTENT, "label_name"])
    save_scores(out, scored)
    if submission is not None:
        save_submission(submission, scored, class_names=class_names)
    return describe_scores(scored, num_classes=len(class_names))


def _warn_of_unknown(names: pl.Series, *, bundle: Path) -> None:
    if len(names):
        classes = names.unique().sort()
        logger.warning(
            "%s photos are of %s classes that %s does not know, first %s: their label is null, label_name "
            "names them.",
            f"{len(names):,}",
            f"{len(classes):,}",
            bundle,
            ", ".join(map(repr, classes[:NUM_NAMED])),
        )


def _warn_of_rejected(store: Path, *, split: str) -> None:
    rejected = load_quarantine(store)["photo_id"]
    here = rejected.filter(rejected.str.starts_with(f"{split}/"))
    if len(rejected):
        named = f", {len(here):,} of them in {split}/, first {here[0]!r}" if len(here) else ""
        logger.warning(
            "%s photos of the source were rejected by ingest and have no row here%s. "
            "`aisle photos rejected` says which and why.",
            f"{len(rejected):,}",
            named,
        )


def find_ensemble(root: Path, *, recipe: str) -> Path:
    """The bundle that the recipe's `ensemble` stage wrote; FileNotFoundError says how to make it."""
    bundle = root / paths.ensemble_bundle(recipe)
    if not bundle.is_dir():
        raise FileNotFoundError(
            f"Expected the ensemble of recipe {recipe} in {bundle}, found none: run `dvc repro ensemble`, or "
            "give --champion or --bundle."
        )
    return bundle


def describe_scores(scored: pl.DataFrame, *, num_classes: int) -> str:
    """How many photos were scored, and the mean top-1 error of those that have a label."""
    labelled = scored.filter(pl.col("label").is_not_null())
    words = f"{scored.height:,} photos, {labelled.height:,} of them labelled"
    if labelled.is_empty():
        return words
    ranked = np.array(labelled["classes"].to_list(), dtype=np.int64)
    errors = error_metrics(ranked, labelled["label"].to_numpy().astype(np.int64), num_classes=num_classes)
    return f"{words}, mean top-1 error {errors['mean_top1_error']:.4f}"


def save_scores(path: Path, scored: pl.DataFrame) -> None:
    """Write a split's answers; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    SCORES.write(path, scored)


def submission_ids(photo_ids: Sequence[str]) -> list[str]:
    """The challenge's ids of photos, their file names.

    ValueError where two photos have one file name: the organisers could not tell them apart.
    """
    ids = pl.Series([PurePosixPath(photo_id).name for photo_id in photo_ids], dtype=pl.String)
    if twice := ids.filter(ids.is_duplicated()).unique(maintain_order=True).to_list():
        raise ValueError(
            f"Expected photos of different file names for a submission, received {len(twice):,} names more "
            f"than once, first {', '.join(map(repr, twice[:NUM_NAMED]))}: an id names one photo. Submit a "
            "flat split, such as test."
        )
    return ids.to_list()


def save_submission(path: Path, scored: pl.DataFrame, *, class_names: Sequence[str]) -> None:
    """Write the challenge's CSV, `id,predicted`: each photo's file name and the best class's name.

    AliProducts' class names are its class ids, five digits. ValueError as of `submission_ids`.
    """
    best = [class_names[number] for number in scored["classes"].list.first()]
    rows = zip(submission_ids(scored["photo_id"].to_list()), best, strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        csv.writer(text, lineterminator="\n").writerows([SUBMISSION_HEADER, *rows])
        text.flush()
        text.detach()
