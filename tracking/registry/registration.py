"""How an ensemble's bundle becomes a model version, with everything needed to judge it and to rebuild it.

A version is found by its bundle's digest, so registering the same bundle twice gives the same version, also
from a fresh clone whose stages all came from a cache.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from recognition.bundle import EnsembleConfig, digest, find_provenance, load_ensemble_config
from tracking.artifacts import Artifacts
from tracking.history.registered import note_registration
from tracking.lineage.origin import Lineage, git_user, source_name
from tracking.lineage.record import LINEAGE_FILE, Record
from tracking.registry.card import card
from tracking.registry.listing import load_model
from tracking.registry.logged_model import bundle_of, log_model, upload_model
from tracking.registry.versions import (
    CHALLENGER,
    DIGEST_TAG,
    DIGESTS_FILE,
    EVIDENCE_TAG,
    PREDICTIONS_TAG,
    REQUIRED_EVIDENCE,
    SHOWN_TAGS,
    ModelVersion,
    evidence_of,
    file_digest,
    find_version,
    get_version,
    model_name,
    model_of,
)
from tracking.runs.pipeline_run import PipelineRun, may_replace_note
from tracking.runs.run_log import add_to_pipeline, start_run
from tracking.store import Store, patience


@dataclass(frozen=True)
class Registered:
    """A version, whether it is new or was found by its digest, and whether lost files were uploaded again."""

    version: ModelVersion
    created: bool
    restored: bool = False


def register_ensemble(
    store: Store,
    *,
    data: str,
    bundle: Path,
    predictions: Path,
    metrics: Mapping[str, float],
    trained_on: Path,
    fingerprint: str,
    members: Mapping[str, str],
    lineage: Lineage,
    params_path: Path,
    lock_path: Path,
    record: Record,
    evaluated_on: Path,
    review: Path | None = None,
    pipeline: PipelineRun | None = None,
    lists: Sequence[str] = (),
) -> Registered:
    """Register an ensemble's bundle and make it the challenger; the same bundle keeps its version.

    `members` maps a member's name to its phase's fingerprint, `fingerprint` is the ensemble's. The version's
    run is that of the pipeline, or the ensemble's own where it came from none. `lists` are for the card, each
    with its number of photos. `trained_on` and `evaluated_on` are tables of contracts/evaluation.py, `record`
    becomes lineage.json. A new evaluation of a known bundle, or the first record of it, replaces what is
    stored. Raises TrackingError when the store cannot be reached.
    """
    config = load_ensemble_config(bundle)
    evidence = {
        "predictions.parquet": predictions,
        "trained_on.parquet": trained_on,
        "evaluated_on.parquet": evaluated_on,
        "params.yaml": params_path,
        "dvc.lock": lock_path,
    }
    if review is not None:  # of the data that it was trained on, as the stage split found them
        evidence["review.json"] = review
    facts = {
        DIGEST_TAG: digest(bundle),
        PREDICTIONS_TAG: file_digest(predictions),
        "aisle.data": data,
        "aisle.recipe": config.recipe,
        "aisle.fingerprint": fingerprint,
        "aisle.members": json.dumps(dict(members), sort_keys=True),
        **{f"aisle.{key.rsplit('/', 1)[-1]}": f"{value:.4f}" for key, value in metrics.items()},
        **lineage.tags(),
    }
    name = model_name(data)
    with store.explain_failure(doing=f"register {bundle}"), patience():
        found = find_version(store, name=name, bundle_digest=facts[DIGEST_TAG])
        run_id = (
            found.run_id
            if found
            else _ensemble_run(store, config=config, tags=facts, members=members, pipeline=pipeline)
        )
        restored = found is not None and _restore(store, version=found, bundle=bundle)
        number = found.version if found else None
        if found is None or not _has_evidence(store, found, predictions=facts[PREDICTIONS_TAG]):
            facts[EVIDENCE_TAG] = f"version/{facts[DIGEST_TAG][:12]}"
            facts["aisle.registered_by"] = git_user(store.root)
            facts["aisle.registered_at"] = datetime.now(UTC).isoformat(timespec="seconds")
            who = {key: facts[f"aisle.{key}"] for key in ("registered_by", "registered_at")}
            texts = {
                "metrics.json": json.dumps(dict(metrics), indent=2, sort_keys=True),
                LINEAGE_FILE: record.model_copy(update=who).model_dump_json(indent=1),
            }
            _store_evidence(store, run_id=run_id, files=evidence, texts=texts, folder=facts[EVIDENCE_TAG])
            for key, value in metrics.items():
                store.client.log_metric(run_id, key, value)
            number = number or log_model(run_id, bundle=bundle, name=name, tags=_version_tags(facts))
            if found is not None:
                _replace_tags(store, found, facts=facts)
            described = card(
                recipe=config.recipe,
                members=config.members,
                metrics=metrics,
                lists=lists,
                lineage=lineage,
                licences=find_provenance(bundle),
                registered=f"by {who['registered_by']}, `{source_name()}`",
            )
            _describe(store, name=name, version=number, description=described)
        assert number is not None
        before = load_model(store, name=name).aliases.get(CHALLENGER)
        store.client.set_registered_model_alias(name, CHALLENGER, number)
        made = get_version(store, data=data, which=number)
    note_registration(store, made, previous=before)
    return Registered(made, created=found is None, restored=restored)


def _version_tags(facts: Mapping[str, str]) -> dict[str, str]:
    """The few tags that people see; MLflow's UI shows those that begin with mlflow. as well."""
    return {key: facts[key] for key in SHOWN_TAGS if key in facts}


def _replace_tags(store: Store, version: ModelVersion, *, facts: Mapping[str, str]) -> None:
    """Set the tags of a new evaluation, and take off those that are in the evidence now."""
    client = store.client
    for key, value in _version_tags(facts).items():
        client.set_model_version_tag(version.name, version.version, key, value)
    for key in set(version.tags) & set(facts) - set(_version_tags(facts)):
        client.delete_model_version_tag(version.name, version.version, key)


def _describe(store: Store, *, name: str, version: str, description: str) -> None:
    """Write the card, unless a person has written a description of their own."""
    if may_replace_note(store.client.get_model_version(name, version).description or ""):
        store.client.update_model_version(name, version, description=description)


def _ensemble_run(
    store: Store,
    *,
    config: EnsembleConfig,
    tags: Mapping[str, str],
    members: Mapping[str, str],
    pipeline: PipelineRun | None,
) -> str:
    """The run that holds the version's files: the pipeline's, else the ensemble's, found or made."""
    if pipeline is not None:
        run = add_to_pipeline(store, pipeline, what="registration", closes=True)
        run.end()
        return _arrived(run.run_id)
    run = start_run(
        store,
        experiment=f"aisle-{tags['aisle.data']}",
        name=f"{config.recipe}/ensemble",
        fingerprint=tags["aisle.fingerprint"],
        params={key: getattr(config, key) for key in ("recipe", "merge", "views")}
        | {"members": list(members)},
        tags={**tags, "aisle.kind": "ensemble"},
    )
    run.end()
    return _arrived(run.run_id)


def _arrived(run_id: str | None) -> str:
    if run_id is None:
        raise OSError("the run of the ensemble could not be recorded")
    return run_id


def _restore(store: Store, *, version: ModelVersion, bundle: Path) -> bool:
    """Upload a version's bundle again where the store has lost or changed a file of it; True if it had."""
    model = model_of(store, version)
    if model.local is None:  # by names and sizes: a download of gigabytes would be the price of more
        stored, wanted = model.list_files(), Artifacts(store, str(bundle.resolve())).list_files()
        whole = "MLmodel" in stored and all(
            any(name.endswith(f"/{path}") and size == length for name, length in stored.items())
            for path, size in wanted.items()
        )
    else:
        try:
            is_model = (model.local / "MLmodel").is_file()
            whole = is_model and digest(bundle_of(model.local)) == version.bundle_digest
        except (OSError, ValueError):
            whole = False
    if not whole:
        model_id = store.client.get_model_version(version.name, version.version).model_id
        upload_model(model, bundle=bundle, run_id=version.run_id, model_id=model_id)
    return not whole


def _has_evidence(store: Store, version: ModelVersion, *, predictions: str) -> bool:
    """Whether the store holds the evaluation with these predictions, and how the version was made."""
    if version.tags.get(PREDICTIONS_TAG) != predictions or EVIDENCE_TAG not in version.tags:
        return False
    return {*REQUIRED_EVIDENCE, LINEAGE_FILE} <= set(evidence_of(store, version).list_files())


def _store_evidence(
    store: Store, *, run_id: str, files: Mapping[str, Path], texts: Mapping[str, str], folder: str
) -> None:
    """Store what a version is judged by and rebuilt from as artifacts of its run."""
    with tempfile.TemporaryDirectory() as temporary:
        for name, path in files.items():
            shutil.copyfile(path, Path(temporary, name))
        for name, content in texts.items():
            Path(temporary, name).write_text(content + "\n", encoding="utf-8")
        digests = {path.name: file_digest(path) for path in sorted(Path(temporary).iterdir())}
        Path(temporary, DIGESTS_FILE).write_text(json.dumps(digests, indent=2) + "\n")
        store.client.log_artifacts(run_id, temporary, folder)
