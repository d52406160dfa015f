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
from pipelines.lineage import describe_lineage, save_evaluated_on
from pipelines.params import PARAMS_FILE, Params, load_params
from pipelines.parent_run import pipeline_run
from pipelines.recording import count_lists, record_errors
from pipelines.registered import registered_sources
from pipelines.stage import run_stage
from recognition.bundle import digest, load_ensemble_config, load_member_config
from tracking.lineage.origin import fingerprint, read_lineage
from tracking.registry.registration import register_ensemble
from tracking.store import Store, find_store

LOCK = Path("dvc.lock")


def list_names(params: Params) -> list[str]:
    """The lists that the recipe's phases are trained on."""
    return sorted({phase.list for phase in params.recipe.phases.values()})


def save_trained_on(params: Params, path: Path, *, store: Store) -> None:
    """Write what any phase of the recipe was trained on: no gate compares versions on these photos.

    One row for each content (photo_id, of several names the first; source_sha256, perceptual_hash, lists).
    What a registered version that a phase began with has seen, counts, too; of one that was registered before
    photos carried their content only names are known, which stay rows without content.
    """
    tables = [pl.DataFrame(schema=pl.Schema(TRAINED_ON.schema)).explode("lists")]
    names = TRAINED_ON.names[:3]
    for name in list_names(params):
        file = paths.list_file(params.data.name, name)
        listed = pl.DataFrame(LIST.read(Path(file), names))
        if listed.columns != names:  # a person's list of names
            splits = load_splits(Path(paths.split_folder(params.data.name)))
            listed = add_content(listed.select("photo_id"), splits=splits, name=file)
        tables.append(listed.with_columns(lists=pl.lit(name)))
    for found in registered_sources(store, recipe=params.recipe):
        table = pl.DataFrame(TRAINED_ON.read(found.trained_on()))
        version = f"{found.version.name}/{found.version.version}"
        tables.append(_learnt_through(table, version=version))
    seen = pl.concat(tables, how="diagonal")
    lists = pl.col("lists").unique().sort()
    is_known = pl.col("source_sha256").is_not_null()
    known = seen.filter(is_known).group_by("source_sha256")
    named = seen.filter(~is_known).group_by("photo_id")
    written = [
        known.agg(pl.col("photo_id").min(), pl.col("perceptual_hash").max(), lists),
        named.agg(pl.col("source_sha256", "perceptual_hash").first(), lists),
    ]
    # Content is sorted by the contract; names without it are sorted here.
    rows = [table.select(TRAINED_ON.names).sort("photo_id") for table in written]
    TRAINED_ON.write(path, pl.concat(rows))


def _learnt_through(table: pl.DataFrame, *, version: str) -> pl.DataFrame:
    """What a registered version has seen, one row for each list, which is named with its version."""
    if "lists" not in table.columns:  # registered before lists were kept
        return table.with_columns(lists=pl.lit(version))
    is_own = ~pl.col("lists").str.contains("/", literal=True)  # else of a version that this one began with
    named = pl.when(is_own).then(pl.lit(f"{version}:") + pl.col("lists")).otherwise("lists")
    return table.explode("lists").with_columns(lists=named.fill_null(version))


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
    inputs |= {paths.list_file(params.data.name, name) for name in list_names(params)}
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
        trained_on, evaluated_on = (Path(folder) / name for name in ("trained_on", "evaluated_on"))
        save_trained_on(params, trained_on, store=store)
        save_evaluated_on(params, evaluated_on)
        registered = register_ensemble(
            store,
            data=params.data.name,
            bundle=bundle,
            predictions=evaluation / "predictions.parquet",
            metrics={f"{params.evaluation.split}/{key}": value for key, value in errors.items()},
            trained_on=trained_on,
            evaluated_on=evaluated_on,
            fingerprint=fingerprint({"ensemble": digest(bundle)}, inputs={}, seed=params.seed),
            members=members,
            lineage=lineage,
            record=describe_lineage(params, lineage=lineage, lock_path=LOCK, bundle=bundle),
            params_path=Path(PARAMS_FILE),
            lock_path=LOCK,
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
