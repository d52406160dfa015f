"""Stage `evaluate`: what the ensemble and each of its members get wrong on the evaluation split."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from catalog.content import add_content
from catalog.splits import load_class_names, load_splits
from contracts.evaluation import PREDICTIONS
from contracts.values import GROUPS
from imaging.atomic_write import atomic_write, write_text
from pipelines import paths
from pipelines.params import Params, load_params
from pipelines.recording import log_evaluation
from pipelines.stage import run_stage
from recognition.bundle import load_ensemble_config, load_head, load_member_config
from recognition.feature_bank import FeatureBank, load_feature_bank
from recognition.merge import predict_bank
from recognition.metrics import error_metrics, frequency_groups

NUM_RANKED = 5
ENSEMBLE = "ensemble"

Errors = dict[str, float]


def predict_all(params: Params, banks: Mapping[str, FeatureBank]) -> dict[str, tuple[Tensor, Tensor]]:
    """Top classes [N, 5] and probabilities [N, 5] of the ensemble and of each member, by name."""
    merge = load_ensemble_config(Path(paths.ensemble_bundle(params.recipe.name))).merge
    heads = {name: load_head(bank.bundle_dir) for name, bank in banks.items()}
    ranked = {ENSEMBLE: predict_bank(list(banks.values()), list(heads.values()), merge=merge, k=NUM_RANKED)}
    for name, bank in banks.items():
        ranked[name] = predict_bank([bank], [heads[name]], merge="logits", k=NUM_RANKED)
    return ranked


def save_predictions(
    path: Path, bank: FeatureBank, *, splits: pl.DataFrame, classes: Tensor, probabilities: Tensor
) -> None:
    """Write predictions.parquet: photo_id, label, the five best classes with their probabilities, content."""
    table = pl.DataFrame(
        {
            "photo_id": pl.Series(bank.photo_ids, dtype=pl.String),
            "label": pl.Series(bank.classes, dtype=pl.Int32),
            "classes": pl.Series(classes.numpy().tolist(), dtype=pl.List(pl.Int32)),
            "probabilities": pl.Series(probabilities.numpy().tolist(), dtype=pl.List(pl.Float32)),
        }
    )
    PREDICTIONS.write(path, add_content(table, splits=splits, name=path.name))


def save_nothing(folder: Path, *, splits: pl.DataFrame, members: Iterable[str]) -> None:
    """Write the outs of an experiment without an evaluation split: their keys and columns, and no number."""
    empty = torch.empty(0, NUM_RANKED)
    bank = FeatureBank(
        features=empty.numpy(), photo_ids=[], classes=np.empty(0, dtype=np.int64), bundle_dir=folder
    )
    save_predictions(
        folder / "predictions.parquet", bank, splits=splits, classes=empty.long(), probabilities=empty
    )
    save_errors(folder, {ENSEMBLE: {}, **{name: {} for name in members}}, num_photos=0)


def save_errors(folder: Path, errors: Mapping[str, Errors], *, num_photos: int) -> None:
    """Write metrics.json for `dvc metrics` and errors.csv for `dvc plots`."""
    members = {name: values for name, values in errors.items() if name != ENSEMBLE}
    metrics = {"num_photos": num_photos, ENSEMBLE: errors[ENSEMBLE], "members": members}
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    rows = [
        {"class_frequency": f"{group} ({name})", "top1_error": values[f"{group}_top1_error"]}
        for name, values in errors.items()
        for group in GROUPS
        if f"{group}_top1_error" in values
    ]
    schema = {"class_frequency": pl.String, "top1_error": pl.Float64}
    with atomic_write(folder / "errors.csv") as file:
        pl.DataFrame(rows, schema=schema).write_csv(file)


def count_training_photos(params: Params, *, num_classes: int) -> npt.NDArray[np.int64]:
    """Training photos of each class, [K]."""
    splits = load_splits(Path(paths.split_folder(params.data.name)))
    classes = splits.filter(pl.col("split") == "train")["class"].drop_nulls()
    return np.bincount(classes.to_numpy(), minlength=num_classes)


def main() -> None:
    """Write data/evaluations/<recipe>/."""
    params = load_params()
    recipe = params.recipe
    out = paths.evaluation_folder(recipe.name)
    out.mkdir(parents=True, exist_ok=True)
    split_folder = Path(paths.split_folder(params.data.name))
    splits = load_splits(split_folder)
    if params.evaluation.split is None:
        save_nothing(out, splits=splits, members=recipe.members)
        print(f"{recipe.name}: nothing is evaluated, because evaluation.split is null")
        return
    class_names, _ = load_class_names(split_folder)
    num_classes = len(class_names)
    banks = {name: load_feature_bank(Path(paths.feature_bank(recipe.name, name))) for name in recipe.members}
    first = next(iter(banks.values()))
    groups = frequency_groups(count_training_photos(params, num_classes=num_classes))
    ranked = predict_all(params, banks)
    errors = {
        name: error_metrics(classes.numpy(), first.classes, num_classes=num_classes, groups=groups)
        for name, (classes, _) in ranked.items()
    }
    classes, probabilities = ranked[ENSEMBLE]
    predictions = out / "predictions.parquet"
    save_predictions(predictions, first, splits=splits, classes=classes, probabilities=probabilities)
    save_errors(out, errors, num_photos=len(first.photo_ids))
    phases = {name: load_member_config(bank.bundle_dir).fingerprint for name, bank in banks.items()}
    log_evaluation(params, errors, num_photos=len(first.photo_ids), phases=phases)
    for name, values in errors.items():
        print(f"{recipe.name} {name}: mean top-1 error {values['mean_top1_error']:.4f}")


if __name__ == "__main__":
    run_stage(main)
