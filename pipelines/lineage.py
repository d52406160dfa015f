"""What the stage `register` writes down of how a version was made: counts that only the data can give.

What is not on this machine, as in a clone whose stages all came from a cache, is left out: the record says
then that it is not known.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import polars as pl
import torch
import yaml

from catalog.content import CONTENT
from catalog.lists import summarize
from catalog.photo_store import load_store_info
from catalog.quarantine import count_reasons, load_quarantine
from catalog.review import REVIEW_FILE, load_review
from catalog.splits import load_splits
from contracts.evaluation import EVALUATED_ON
from contracts.lists import LIST
from pipelines import paths
from pipelines.params import PARAMS_FILE, Params
from recognition.bundle import (
    MEMBERS_FOLDER,
    bundle_kind,
    find_provenance,
    load_ensemble_config,
    load_member_config,
)
from tracking.lineage import record
from tracking.lineage.origin import Lineage
from tracking.lineage.record import MadeList, Phase, Record, Weights, record_of

_PACKAGES = ("torch", "timm", "mlflow", "dvc", "numpy", "polars", "pyarrow", "pillow")


def describe_lineage(params: Params, *, lineage: Lineage, lock_path: Path, bundle: Path) -> Record:
    """The record of params.yaml's ensemble, from what lies in the current folder."""
    lock = yaml.safe_load(lock_path.read_text(encoding="utf-8")) if lock_path.exists() else {}
    said = record_of(yaml.safe_load(Path(PARAMS_FILE).read_text(encoding="utf-8")), lock=lock or {})
    splits = load_splits(Path(paths.split_folder(params.data.name)))
    review = Path(paths.split_folder(params.data.name)) / REVIEW_FILE
    config = load_ensemble_config(bundle)
    return said.model_copy(
        update={
            "origin": record.Origin(
                commit=lineage.commit or None, clean=lineage.clean, code_digest=lineage.code
            ),
            "ensemble": said.ensemble.model_copy(update={"num_classes": len(config.class_names)}),
            "phases": {name: _phase(params, name, said=phase) for name, phase in said.phases.items()},
            "lists": _lists(params, said=said.lists, splits=splits),
            "weights": {
                name: _weights(params, name, said=each, bundle=bundle) for name, each in said.weights.items()
            },
            "splits": _count_splits(splits),
            "split_method": load_review(review).method if review.exists() else None,
            "photos": _photos(Path(paths.photo_store(params.data.name))),
            "source": said.source.model_copy(update={"seen": _source_file(params.data.name)}),
            "inputs": lineage.inputs | said.inputs,
            "environment": _environment(),
        }
    )


def save_evaluated_on(params: Params, path: Path) -> None:
    """Write the photos that training watched or errors are reported on, learnt from or not."""
    splits = load_splits(Path(paths.split_folder(params.data.name)))
    labelled = splits.filter(pl.col("class").is_not_null()).select("photo_id", *CONTENT, "split")
    # Two different splits (pipelines.params).
    uses = {"evaluation": params.evaluation.split, "validation": params.evaluation.validation_split}
    rows = [
        labelled.filter(pl.col("split") == split).with_columns(use=pl.lit(use))
        for use, split in uses.items()
        if split is not None
    ]
    nothing = pl.DataFrame(schema=pl.Schema(EVALUATED_ON.schema))
    EVALUATED_ON.write(path, pl.concat([nothing, *rows]))


def _phase(params: Params, name: str, *, said: Phase) -> Phase:
    bundle = Path(paths.phase_bundle(name))
    return said.model_copy(
        update={
            "config": params.recipe.configs[name].model_dump(mode="json"),
            "fingerprint": load_member_config(bundle).fingerprint if bundle.exists() else None,
        }
    )


def _lists(params: Params, *, said: Mapping[str, MadeList], splits: pl.DataFrame) -> dict[str, MadeList]:
    counted = {}
    for name, made in said.items():
        path = Path(paths.list_file(params.data.name, name))
        if not path.exists():
            counted[name] = made
            continue
        rows = pl.DataFrame(LIST.read(path))
        if "why" not in rows.columns:  # a person's list
            rows = rows.with_columns(why=pl.lit(None, dtype=pl.String))
        summary = summarize(rows.with_columns(pl.col("why").fill_null("no reason given")), splits=splits)
        counted[name] = made.model_copy(
            update={
                "num_photos": summary.num_photos,
                "num_unlabelled": summary.num_unlabelled,
                "num_classes": summary.num_classes,
                "reasons": summary.reasons,
                "num_before": None
                if name in params.recipe.refinements
                else _num_drawn_from(
                    params.recipe.lists[name].split, splits=splits, unlabelled=summary.num_unlabelled > 0
                ),
            }
        )
    for name, made in counted.items():
        if made.base in counted:
            counted[name] = made.model_copy(update={"num_before": counted[made.base].num_photos})
    return counted


def _num_drawn_from(split: str, *, splits: pl.DataFrame, unlabelled: bool) -> int:
    has_label = pl.col("class").is_not_null()
    return splits.filter(pl.col("split") == split, ~has_label if unlabelled else has_label).height


def _weights(params: Params, name: str, *, said: Weights, bundle: Path) -> Weights:
    """With the provenance that their bundle says, else a member of the ensemble that began with them."""
    own = Path(paths.phase_bundle(name))
    if own.exists():
        origins, kind = find_provenance(own), bundle_kind(own)
    else:
        members = load_ensemble_config(bundle).members
        begun = [each for each in members if params.recipe.first_weights(each) == name]
        origins = [load_member_config(bundle / MEMBERS_FOLDER / each).initial_weights for each in begun]
        kind = None
    provenance = tuple(record.Provenance(**asdict(origin)) for origin in dict.fromkeys(origins))
    return said.model_copy(update={"kind": kind, "provenance": provenance})


def _count_splits(splits: pl.DataFrame) -> tuple[record.SplitCount, ...]:
    counted = splits.group_by("split", maintain_order=True).agg(
        photos=pl.len(), labelled=pl.col("class").count(), classes=pl.col("class").drop_nulls().n_unique()
    )
    rows = counted.sort("photos", descending=True, maintain_order=True).iter_rows(named=True)
    return tuple(record.SplitCount(**row) for row in rows)


def _photos(store: Path) -> record.Photos:
    if not store.exists():
        return record.Photos()
    info, rejected = load_store_info(store), load_quarantine(store)
    return record.Photos(
        num_photos=info.num_photos,
        num_rejected=rejected.height,
        rejected=count_reasons(rejected),
        num_shards=len(info.shards),
    )


def _source_file(data: str) -> dict[str, Any] | None:
    """What the stage `source` wrote."""
    path = Path(paths.source_file(data))
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _environment() -> record.Environment:
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = installed_version(name)
        except PackageNotFoundError:  # another build's name, such as pillow-simd
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu {platform.machine()}"
    return record.Environment(
        python=platform.python_version(), platform=platform.platform(), device=device, packages=packages
    )
