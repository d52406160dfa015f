"""Stage `weights`: what a phase may start from, as a bundle with its source, licence and SHA-256.

Pretrained weights are inputs as photos are: found once, copied by a stage, and named by every bundle that
begins with them (docs/decisions/009-pretrained-weights-are-versioned-inputs.md).
"""

import logging
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import cast

from pipelines import paths
from pipelines.params import load_params
from pipelines.params_recipe import WeightsParams
from pipelines.paths import NO_FILE
from pipelines.stage import run_stage
from recognition.backbones import make_model
from recognition.bundle import (
    CONFIG_FILE,
    WeightsConfig,
    bundle_kind,
    find_provenance,
    save_pretrained,
)
from recognition.initial_weights import Place, WeightsError, file_sha256, find_pretrained_weights
from recognition.provenance import RANDOM, Provenance, name_unlisted_licences

logger = logging.getLogger(__name__)


def write_weights(out: Path, *, name: str, entry: WeightsParams) -> None:
    """Write the bundle of one of the recipe's weights.

    WeightsError where they are unavailable and `missing` is stop; ValueError where they do not fit the
    backbone, or the path or version names no bundle.
    """
    shutil.rmtree(out, ignore_errors=True)
    if entry.source == "registry":
        _copy_bundle(_fetch_version(entry.version), out)
    elif entry.path != NO_FILE and (Path(entry.path) / CONFIG_FILE).exists():
        _copy_bundle(Path(entry.path), out)
    else:
        _write_pretrained(out, name=name, entry=entry)


def _copy_bundle(bundle: Path, out: Path) -> None:
    """Copy a bundle of ours whole: its head is for its own classes, which a phase compares with its own."""
    bundle_kind(bundle)
    shutil.copytree(bundle, out, copy_function=shutil.copyfile)


def _fetch_version(version: str) -> Path:
    from pipelines.registered import find_registered  # imports MLflow, which other sources need not wait for
    from tracking.store import find_store

    return find_registered(find_store(), named=version).fetch(one_member=False)


def _write_pretrained(out: Path, *, name: str, entry: WeightsParams) -> None:
    origin, path = Provenance(source=RANDOM), None
    if entry.source != RANDOM:
        try:
            origin, path = _find(entry)
        except WeightsError as error:
            if entry.missing == "stop":
                raise
            logger.warning("%s Starting from random weights.", error)
    model = None
    if path is not None:
        model = make_model(entry.backbone, num_classes=1, weights_path=path, seed=0)
    config = WeightsConfig(name=name, backbone=entry.backbone, initial_weights=origin)
    save_pretrained(out, config=config, model=model)


def _find(entry: WeightsParams) -> tuple[Provenance, Path]:
    """Find the file: the one that is named, else where `source` says; auto tries every place."""
    if entry.path != NO_FILE:
        path = Path(entry.path)
        origin = Provenance(
            source=f"file {path.name}",
            model=entry.backbone,
            licence=entry.licence,
            sha256=file_sha256(path),
        )
        return origin, path
    assert entry.source not in ("registry", "random", "file")  # the params' own check
    found = find_pretrained_weights(entry.backbone, place=cast("Place", entry.source))
    return found.provenance(), found.path


def warn_of_licences(what: str, bundle: Path, *, allowed: Collection[str]) -> None:
    """Log a warning for each licence of a bundle's first weights that is not on the list."""
    origins = [(what, origin) for origin in dict.fromkeys(find_provenance(bundle))]
    for sentence in name_unlisted_licences(origins, allowed=allowed):
        logger.warning("%s", sentence)


def main(name: str) -> None:
    """Write runs/<name>/bundle."""
    params = load_params()
    entry, out = params.recipe.weights[name], Path(paths.phase_bundle(name))
    write_weights(out, name=name, entry=entry)
    for origin in dict.fromkeys(find_provenance(out)):
        licence = f", licence {origin.licence or 'unknown'}" if origin.source != RANDOM else ""
        print(f"{name}: {entry.backbone} from {origin.source}{licence}")
    warn_of_licences(name, out, allowed=params.weights.allowed_licences)


if __name__ == "__main__":
    run_stage(main)
