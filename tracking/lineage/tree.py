"""The lineage of one version: its record, what is not known of it, and both as a tree that a person reads.

Everything comes from what is stored with the version, so it is the same on a machine without the data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tracking.lineage.record import (
    FORMAT_VERSION,
    LINEAGE_FILE,
    Origin,
    Photos,
    Provenance,
    Record,
    SplitCount,
    record_of,
)
from tracking.project import TrackingError
from tracking.registry.logged_model import bundle_of
from tracking.registry.versions import (
    DIGEST_TAG,
    EVIDENCE_TAG,
    MODEL_PREFIX,
    MissingAlias,
    ModelVersion,
    evidence_of,
    fetch_evidence,
    get_version,
    model_of,
)
from tracking.store import Store

_FROM_BEFORE = (
    "registered before lineage.json was stored, so what is shown is what params.yaml, dvc.lock, review.json "
    "and its tags say: counts of lists, complete configurations of phases and the environment are not known; "
    "`aisle register` where its ensemble is under data/ensembles adds them"
)


@dataclass(frozen=True, kw_only=True)
class VersionLineage:
    """What is known of how a version was made."""

    version: ModelVersion
    record: Record
    metrics: Mapping[str, float]
    params: str | None
    """Its params.yaml as it was stored."""
    unknown: tuple[str, ...]
    """One sentence for each thing that is not known."""
    started_from: Mapping[str, VersionLineage] = field(default_factory=dict)
    """The registered versions that phases start or learn from, by <model>/<version>."""

    @property
    def name(self) -> str:
        """<model>/<version>."""
        return f"{self.version.name}/{self.version.version}"

    def to_json(self) -> dict[str, Any]:
        """The form that docs/lineage.md describes."""
        version, record = self.version, self.record
        return {
            "format_version": FORMAT_VERSION,
            "model": version.name,
            "version": version.version,
            "aliases": sorted(version.aliases),
            "bundle_digest": version.tags.get(DIGEST_TAG),
            "run_id": version.run_id,
            "registered_by": record.registered_by,
            "registered_at": record.registered_at,
            "metrics": dict(self.metrics),
            "record": record.model_dump(mode="json", exclude={"registered_by", "registered_at"}),
            "parameters": self.params,
            "unknown": list(self.unknown),
            "started_from": {name: each.to_json() for name, each in self.started_from.items()},
        }


def load_lineage(store: Store, *, version: ModelVersion) -> VersionLineage:
    """Read a version's lineage, and that of the registered versions it started from.

    Raises TrackingError where the store cannot be reached, or lineage.json is not what Aisle writes.
    """
    return _load(store, version=version, known={})


def _load(store: Store, *, version: ModelVersion, known: dict[str, VersionLineage]) -> VersionLineage:
    folder, problem = _find_files(store, version)
    unknown = [problem] if problem else []
    params, text = _read(folder, "params.yaml"), _read(folder, LINEAGE_FILE)
    if text is None:
        record = _from_before(store, version, folder, params=params)
        unknown += [] if problem else [_FROM_BEFORE]
    else:
        record = _parse(text, where=f"{LINEAGE_FILE} of version {version.version} of {version.name}")
        unknown += _unknown_of(record)
    started: dict[str, VersionLineage] = {}
    for named in dict.fromkeys(each.version for each in record.weights.values() if each.version):
        name = "/".join(named.split("/")[:2])
        try:
            if name not in known:
                model, number = name.split("/")
                source = get_version(store, data=model.removeprefix(MODEL_PREFIX), which=number)
                known[name] = _load(store, version=source, known=known)
            started[name] = known[name]
        except MissingAlias as error:
            unknown.append(f"how {name} was made, which phases start from: {error}")
    return VersionLineage(
        version=version,
        record=record,
        metrics=json.loads(_read(folder, "metrics.json") or "{}"),
        params=params,
        unknown=tuple(unknown),
        started_from=started,
    )


def _find_files(store: Store, version: ModelVersion) -> tuple[Path | None, str]:
    """The folder of what was stored with the version, or a sentence that says why there is none."""
    from mlflow.exceptions import MlflowException

    if EVIDENCE_TAG not in version.tags:
        return None, "how it was made: it was registered without files that say so"
    with store.explain_failure(doing=f"read how version {version.version} was made"):
        try:
            evidence = evidence_of(store, version)
            if evidence.list_files():
                return fetch_evidence(
                    store, version=version, found=evidence, required=[], wanted=[LINEAGE_FILE]
                ), ""
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    return None, (
        "how it was made: what was stored with it is gone from the artifact store, only its tags are left; "
        "run `aisle register` where its ensemble is under data/ensembles, or restore the artifact store"
    )


def _parse(text: str, *, where: str) -> Record:
    try:
        values = json.loads(text)
        if values.get("format_version") != FORMAT_VERSION:
            raise TrackingError(
                f"expected {where} in format {FORMAT_VERSION}, received {values.get('format_version')}: a "
                "later version of Aisle wrote it; update Aisle"
            )
        return Record.model_validate(values)
    except (ValueError, AttributeError, ValidationError) as error:
        raise TrackingError(
            f"expected {where} as `aisle register` writes it, received another content ({error}); restore "
            "the artifact store from its backup, or run `aisle register` where its ensemble is"
        ) from error


def _read(folder: Path | None, name: str) -> str | None:
    path = None if folder is None else folder / name
    return None if path is None or not path.is_file() else path.read_text(encoding="utf-8")


def _tags_of_run(store: Store, version: ModelVersion) -> dict[str, str]:
    """The tags of the run that a version was registered from; none where that is gone, too."""
    from mlflow.exceptions import MlflowException

    with store.explain_failure(doing=f"read how version {version.version} was made"):
        try:
            return dict(store.client.get_run(version.run_id).data.tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}


def _from_before(store: Store, version: ModelVersion, folder: Path | None, *, params: str | None) -> Record:
    """What files and tags say of a version without lineage.json: from before, or its files are gone."""
    tags = {**_tags_of_run(store, version), **version.tags}
    values, lock = (yaml.safe_load(text or "") for text in (params, _read(folder, "dvc.lock")))
    record = record_of(values if isinstance(values, dict) else {}, lock=lock or {})
    review = json.loads(_read(folder, "review.json") or "null") or {}
    members = tuple(json.loads(tags.get("aisle.members", "{}")))
    commit = tags.get("aisle.git_commit", "none")
    return record.model_copy(
        update={
            "data": record.data or tags.get("aisle.data"),
            "recipe": record.recipe or tags.get("aisle.recipe"),
            "ensemble": record.ensemble.model_copy(update={"members": record.ensemble.members or members}),
            "weights": _with_provenance(store, version, record),
            "origin": Origin(
                commit=None if commit == "none" else commit,
                clean=tags["aisle.git_clean"] == "true" if "aisle.git_clean" in tags else None,
                code_digest=tags.get("aisle.code_digest"),
            ),
            "inputs": json.loads(tags.get("aisle.inputs", "{}")) | record.inputs,
            "splits": tuple(SplitCount(**row) for row in review.get("splits", [])) or None,
            "split_method": review.get("method"),
            "photos": Photos(num_photos=review.get("num_photos"), num_rejected=review.get("num_refused")),
            "registered_by": tags.get("aisle.registered_by"),
            "registered_at": tags.get("aisle.registered_at")
            or version.created_at.isoformat(timespec="seconds"),
        }
    )


def _with_provenance(store: Store, version: ModelVersion, record: Record) -> dict[str, Any]:
    """The weights, with what members of a bundle that lies here say they began from.

    Gigabytes are not downloaded for it.
    """
    from recognition.bundle import MEMBERS_FOLDER, load_ensemble_config, load_member_config

    weights = dict(record.weights)
    try:
        with store.explain_failure(doing=f"look up the model of version {version.version}"):
            model = model_of(store, version).local
        if model is None:
            return weights
        bundle = bundle_of(model)
        for member in load_ensemble_config(bundle).members:
            begun = record.init_chain(member)[-1]
            origin = load_member_config(bundle / MEMBERS_FOLDER / member).initial_weights
            if begun in weights and not weights[begun].provenance:
                found = Provenance(**asdict(origin))
                weights[begun] = weights[begun].model_copy(update={"provenance": (found,)})
    except (OSError, ValueError, KeyError):  # the bundle is gone or damaged; the lineage need not be
        pass
    return weights


def _unknown_of(record: Record) -> Iterator[str]:
    """A sentence for each thing that was not on the machine that registered the version."""
    for name, made in record.lists.items():
        if made.num_photos is None:
            yield f"how many photos the list {name} has: its file was not there at registration"
    if record.photos.num_photos is None:
        yield "the photo store's counts: it was not there at registration"
    if record.source.seen is None:
        yield "what the source had: the stage `source` had written nothing"
    for name, phase in record.phases.items():
        if phase.fingerprint is None:
            yield f"the fingerprint of phase {name}: its bundle was not there at registration"
    for name, weights in record.weights.items():
        if not weights.provenance:
            yield f"where the weights {name} came from: their bundle was not there at registration"
        elif weights.kind in ("member", "ensemble") and not weights.version:
            yield (
                f"which photos the model in {weights.path}, from which {name} was taken, had learnt from: it "
                "is no registered version"
            )
