"""Stage `register`: the evaluated ensemble as the registry's challenger, with what judges and rebuilds it."""

import json
import tempfile
from pathlib import Path

import polars as pl

from catalog.content import add_content
from catalog.review import REVIEW_FILE
from catalog.splits import load_splits
from contracts.evaluation import TRAINED_ON
from contracts.lists import LIST
from pipelines import paths
from pipelines.params import PARAMS_FILE, Params, load_params
from pipelines.parent_run import pipeline_run
from pipelines.recording import count_lists, record_errors
from pipelines.registered import registered_sources
from pipelines.stage import run_stage
from recognition.bundle import digest, load_ensemble_config, load_member_config
from tracking.lineage.origin import fingerprint, read_lineage
from tracking.registry.registration import register_ensemble
from tracking.store import Store, find_store


def list_files(params: Params) -> list[str]:
    """The lists that the recipe's phases are trained on."""
    names = {phase.list for phase in params.recipe.phases.values()}
    return [paths.list_file(params.data.name, name) for name in sorted(names)]


def save_trained_on(params: Params, path: Path, *, store: Store) -> None:
    """Write what any phase of the recipe was trained on: no gate compares versions on these photos.

    One row for each content (photo_id, of several names the first; source_sha256, perceptual_hash). What a
    registered version that a phase began with has seen, counts, too; of one that was registered before photos
    carried their content only names are known, which stay rows without content.
    """
    tables = []
    for name in list_files(params):
        listed = pl.DataFrame(LIST.read(Path(name), TRAINED_ON.names))
        if listed.columns != TRAINED_ON.names:  # a person's list of names
            splits = load_splits(Path(paths.split_folder(params.data.name)))
            listed = add_content(listed.select("photo_id"), splits=splits, name=name)
        tables.append(listed)
    for found in registered_sources(store, recipe=params.recipe):
        tables.append(pl.DataFrame(TRAINED_ON.read(found.trained_on())))
    nothing = pl.DataFrame(schema=pl.Schema(TRAINED_ON.schema))
    seen = pl.concat([nothing, *tables], how="diagonal").sort("photo_id")
    is_known = pl.col("source_sha256").is_not_null()
    known = seen.filter(is_known).unique("source_sha256", keep="first", maintain_order=True)
    named = seen.filter(~is_known).unique("photo_id", keep="first", maintain_order=True)
    TRAINED_ON.write(path, pl.concat([known, named]).sort("photo_id", "source_sha256"))


def main() -> None:
    """Register the ensemble of params.yaml's recipe; the same bundle keeps its version."""
    params = load_params()
    bundle = Path(paths.ensemble_bundle(params.recipe.name))
    evaluation = paths.evaluation_folder(params.recipe.name)
    if not (evaluation / "metrics.json").exists():
        raise ValueError(f"Expected an evaluated ensemble in {evaluation}, found none. Run: dvc repro")
    members = {
        name: load_member_config(bundle / "members" / name).fingerprint
        for name in load_ensemble_config(bundle).members
    }
    metrics = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
    errors = metrics["ensemble"]
    inputs = {paths.split_folder(params.data.name), paths.photo_store(params.data.name)}
    inputs |= set(list_files(params))
    lineage = read_lineage(Path(), inputs=inputs)
    store = find_store()
    if errors:  # where the stage evaluate came out of DVC's cache, nobody has recorded them here
        record_errors(
            params,
            {"ensemble": errors, **metrics["members"]},
            num_photos=metrics["num_photos"],
            lineage=lineage,
        )
    with tempfile.TemporaryDirectory() as folder:
        trained_on = Path(folder) / "trained_on.parquet"
        save_trained_on(params, trained_on, store=store)
        registered = register_ensemble(
            store,
            data=params.data.name,
            bundle=bundle,
            predictions=evaluation / "predictions.parquet",
            metrics={f"{params.evaluation.split}/{key}": value for key, value in errors.items()},
            trained_on=trained_on,
            fingerprint=fingerprint({"ensemble": digest(bundle)}, inputs={}, seed=params.seed),
            members=members,
            lineage=lineage,
            params_path=Path(PARAMS_FILE),
            lock_path=Path("dvc.lock"),
            review=Path(paths.split_folder(params.data.name)) / REVIEW_FILE,
            pipeline=pipeline_run(params),
            lists=list(count_lists(params).values()),
        )
    version = registered.version
    how = "registered as" if registered.created else "was registered before, it is"
    if registered.restored:
        how = "was registered before; its files were missing from the artifact store and are back. It is"
    print(
        f"{params.recipe.name} {how} {version.name} version {version.version}, challenger. "
        "Next: aisle promote"
    )
    if not errors:
        print("It has no errors, because evaluation.split is null: it can only become the first champion.")


if __name__ == "__main__":
    run_stage(main)
