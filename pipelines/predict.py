"""Stage `predict`: what a phase's model says of the photos of a list, as evidence for refinement.

A held-out fold gives out-of-fold evidence for `confident`, several members on one list `agreement`, a list of
unlabelled photos `pseudo`. The table has the loss log's columns, so that every rule reads
both, and the photos' perceptual hashes.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from tqdm import tqdm

from catalog.content import CONTENT
from catalog.lists import load_list
from catalog.photo_store import PhotoStore
from catalog.splits import load_splits
from pipelines import paths
from pipelines.params import EvaluationParams, load_params
from pipelines.stage import run_stage
from recognition.bundle import load_member
from recognition.feature_bank import pooled_features
from recognition.loader import make_inference_loader
from recognition.memory import keep_freed_memory
from recognition.precision import cast_for_inference, resolve_precision
from training.loss_log import LossLog, measure, save_loss_log

_OF_THE_LABEL = ("mean_loss", "loss_variance", "mean_margin", "mean_label_probability")


@torch.inference_mode()
def predict(
    bundle: Path,
    *,
    store: PhotoStore,
    rows: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    config: EvaluationParams,
) -> LossLog:
    """Run a bundle's model once over rows [N] of a store; labels [N] are class indices, -1 for unlabelled.

    An unlabelled photo is measured against its least likely class: the largest other class is then the
    model's answer.
    """
    model, member = load_member(bundle)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    dtype = resolve_precision(config.precision, device)
    backbone = cast_for_inference(model.backbone, device=device, dtype=dtype)
    head = model.linear_head(device=device)
    loader = make_inference_loader(
        store,
        rows,
        preprocessing=member.preprocessing,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
    )
    log = LossLog(len(rows))
    for canvases, positions in tqdm(loader, desc="predict", unit="batch", mininterval=1):
        features = pooled_features(
            backbone,
            canvases,
            views=("center",),
            preprocessing=member.preprocessing,
            device=device,
            dtype=dtype,
        )
        logits = head(features)
        given = torch.from_numpy(labels[positions.numpy()]).to(device)
        targets = torch.where(given >= 0, given, logits.argmin(dim=1))
        log.record(measure(logits, targets), positions=positions)
    return log


def main(name: str) -> None:
    """Write data/predictions/<recipe>/<name>.parquet."""
    keep_freed_memory()
    params = load_params()
    config = params.recipe.predictions[name]
    splits = load_splits(Path(paths.split_folder(params.data.name)))
    photos = load_list(Path(paths.list_file(params.data.name, config.list)), splits=splits)
    store = PhotoStore(paths.photo_store(params.data.name))
    labels = photos["class"].fill_null(-1).to_numpy().astype(np.int64)
    photo_ids = photos["photo_id"].to_arrow()
    rows = store.rows_of(photo_ids, source_sha256=photos["source_sha256"].to_arrow())
    bundle = Path(paths.phase_bundle(config.phase))
    log = predict(bundle, store=store, rows=rows, labels=labels, config=params.evaluation)
    table = pl.DataFrame(log.to_table(photo_ids=photos.to_arrow()["photo_id"], labels=labels))
    labelled = photos["class"].is_not_null()
    table = table.with_columns(
        photos["class"],
        *(photos[column] for column in CONTENT),
        *(pl.when(labelled).then(pl.col(column)).alias(column) for column in _OF_THE_LABEL),
    )
    out = Path(paths.predictions_file(params.recipe.name, name))
    out.parent.mkdir(parents=True, exist_ok=True)
    save_loss_log(out, table=table.to_arrow())
    right = (table["mean_margin"] > 0).sum()
    print(f"{name}: {table.height:,} photos, {right:,} of {labelled.sum():,} labelled ones as labelled")


if __name__ == "__main__":
    run_stage(main)
