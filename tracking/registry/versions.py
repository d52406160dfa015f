"""Model versions: what is registered under a name, which alias it has, and the files that came with it.

tracking/registry/registration.py makes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracking.artifacts import AlteredArtifactsError, Artifacts, MissingArtifactsError
from tracking.lineage.origin import Lineage
from tracking.lineage.record import LINEAGE_FILE, Record
from tracking.project import TrackingError
from tracking.registry.logged_model import bundle_of
from tracking.store import Store, patience

CHALLENGER = "challenger"
CHAMPION = "champion"
MODEL_PREFIX = "product-recognizer-"
DIGEST_TAG = "aisle.bundle_digest"
PREDICTIONS_TAG = "aisle.predictions_digest"
EVIDENCE_TAG = "aisle.evidence"
REQUIRED_EVIDENCE = ("predictions.parquet", "trained_on.parquet")
DIGESTS_FILE = "digests.json"
"""The sha256 of each other file of the evidence."""
SHOWN_TAGS = (
    "aisle.recipe",
    "aisle.mean_top1_error",
    "aisle.git_commit",
    "aisle.git_clean",
    "aisle.registered_by",
    DIGEST_TAG,
    PREDICTIONS_TAG,
    EVIDENCE_TAG,
)
"""The tags of a version that MLflow shows to people: what a list of versions is read by, and what finds the
version's files. The rest is in lineage.json, and
tags of its run."""


class MissingAlias(TrackingError):  # noqa: N818  a name of the house
    """No version carries the alias or number that was asked for; the message says what to run."""


@dataclass(frozen=True)
class ModelVersion:
    """One version in the registry."""

    name: str
    version: str
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    created_at: datetime

    @property
    def bundle_digest(self) -> str:
        """The sha256 of the bundle that was registered."""
        return self.tags[DIGEST_TAG]

    @property
    def origin(self) -> str:
        """Who registered it, when, and from which commit; of old versions, what is known."""
        who = self.tags.get("aisle.registered_by", "an unknown person")
        when = self.tags.get("aisle.registered_at", self.created_at.isoformat(timespec="seconds"))
        commit = self.tags.get("aisle.git_commit", "none")
        clean = self.tags.get("aisle.git_clean") == "true"
        state = "" if clean else " with uncommitted changes"
        whence = "without a commit" if commit == "none" else f"from commit {commit[:10]}{state}"
        return f"version {self.version}, registered by {who} at {when} {whence}"


@dataclass(frozen=True)
class Candidate:
    """What a gate needs of a version: its number and the files that were stored with it."""

    version: str
    bundle: Path
    predictions: Path
    trained_on: Path
    bundle_digest: str = ""
    """The sha256 that the bundle was registered with."""
    evidence_digests: Mapping[str, str] = field(default_factory=dict)
    """The sha256 that each file of the evidence was registered with, by name, as far as they were kept."""
    lineage: Lineage | None = None
    """None where the version says nothing of it."""
    registered_by: str = ""

    @property
    def review(self) -> Path:
        """The review of the data; there is none of versions that were registered before it was stored."""
        return self.predictions.with_name("review.json")


def lineage_of(version: ModelVersion, *, evidence: Path) -> Lineage | None:
    """What a version was made from: as its lineage.json says, else the tags of an older one, else None."""
    if (evidence / LINEAGE_FILE).is_file():
        record = Record.model_validate_json((evidence / LINEAGE_FILE).read_bytes())
        return Lineage(
            commit=record.origin.commit or "",
            clean=bool(record.origin.clean),
            code=record.origin.code_digest or "",
            inputs=dict(record.inputs),
        )
    tags = version.tags
    if "aisle.inputs" not in tags:
        return None
    commit = tags.get("aisle.git_commit", "none")
    return Lineage(
        commit="" if commit == "none" else commit,
        clean=tags.get("aisle.git_clean") == "true",
        code=tags.get("aisle.code_digest", ""),
        inputs=json.loads(tags["aisle.inputs"]),
    )


def model_name(data: str) -> str:
    """The registered model's name for the data set `data`."""
    return f"{MODEL_PREFIX}{data}"


def get_version(store: Store, *, data: str, which: str) -> ModelVersion:
    """The version with the alias or number `which`.

    Raises MissingAlias when there is none, TrackingError when the store cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    name = model_name(data)
    with store.explain_failure(doing=f"look up {which} of {name}"):
        client = store.client
        try:
            number = which if which.isdigit() else client.get_model_version_by_alias(name, which).version
            return to_version(client.get_model_version(name, number))  # by alias, the aliases are left out
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise MissingAlias(_what_to_run(client, name=name, which=which)) from error


def find_champion(store: Store, *, data: str) -> ModelVersion | None:
    """The champion, None before the first one; raises TrackingError when the store cannot be reached."""
    try:
        return get_version(store, data=data, which=CHAMPION)
    except MissingAlias:
        return None


def find_version(store: Store, *, name: str, bundle_digest: str) -> ModelVersion | None:
    """The latest version of the model `name` with this bundle, None when there is none.

    Raises one of tracking.store.send_errors() when the store cannot be reached.
    """
    found = store.client.search_model_versions(f"name = '{name}' and tags.`{DIGEST_TAG}` = '{bundle_digest}'")
    return max((to_version(item) for item in found), key=lambda each: int(each.version), default=None)


def model_of(store: Store, version: ModelVersion) -> Artifacts:
    """The version's model as MLflow keeps it, with the bundle in it."""
    return Artifacts(store, store.client.get_model_version_download_uri(version.name, version.version))


def evidence_of(store: Store, version: ModelVersion) -> Artifacts:
    """What the version is judged by and rebuilt from."""
    run = store.client.get_run(version.run_id)
    return Artifacts(store, f"{run.info.artifact_uri}/{version.tags[EVIDENCE_TAG]}")


def download(store: Store, *, version: ModelVersion, verify: bool = True) -> Path:
    """The folder of the version's bundle: in place in a local store, else a copy under .aisle/models.

    Without `verify` changed files are returned as they are, for a gate to say so. Raises
    MissingArtifactsError when the store has lost it, TrackingError when the store cannot be reached or the
    files are not those that were registered.
    """
    from recognition.bundle import digest  # imports torch, which commands that read the registry need not

    copy = copies_of(store, version) / "model"
    with _fetching(store, version, what="bundle", doing=f"fetch version {version.version} of {version.name}"):
        model = model_of(store, version)
        bundle = bundle_of(model.fetch(copy=copy, required=["MLmodel"]))
        if not bundle.is_dir():
            model.forget(copy)
            raise MissingArtifactsError(f"expected the bundle in {bundle}, where it is missing")
    received = digest(bundle) if verify else version.bundle_digest
    if received != version.bundle_digest:
        again = "try again" if model.forget(copy) else "run `aisle register` where the bundle is"
        raise AlteredArtifactsError(
            f"expected bundle {version.bundle_digest[:12]} of version {version.version} of {version.name}, "
            f"received {received[:12]} in {bundle}: files there were changed or are missing; {again}, or "
            "restore the artifact store from its backup"
        )
    return bundle


def load_candidate(store: Store, *, version: ModelVersion, verify: bool = True) -> Candidate:
    """The files of a version that a gate looks at; raises as `download`."""
    bundle = download(store, version=version, verify=verify)
    folder = fetch_evidence(store, version=version)
    digests = {}
    if (folder / DIGESTS_FILE).is_file():
        digests = json.loads((folder / DIGESTS_FILE).read_text(encoding="utf-8"))
    digests["predictions.parquet"] = version.tags[PREDICTIONS_TAG]
    return Candidate(
        version.version,
        bundle,
        folder / "predictions.parquet",
        folder / "trained_on.parquet",
        bundle_digest=version.bundle_digest,
        evidence_digests=digests,
        lineage=lineage_of(version, evidence=folder),
        registered_by=version.tags.get("aisle.registered_by", ""),
    )


def file_digest(path: Path) -> str:
    """The sha256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch_evidence(
    store: Store,
    *,
    version: ModelVersion,
    found: Artifacts | None = None,
    required: Collection[str] = REQUIRED_EVIDENCE,
    wanted: Collection[str] = (),
) -> Path:
    """The folder of what a version is judged by and rebuilt from: in place, else a copy under .aisle/models.

    found: its `evidence_of`, where known. wanted: files that were perhaps added after the copy was made; it
    is made again then. Raises as `download`.
    """
    doing = f"fetch the evaluation of version {version.version}"
    with _fetching(store, version, what="evaluation", doing=doing):
        evidence = found or evidence_of(store, version)
        copy = copies_of(store, version) / f"evidence-{version.tags[PREDICTIONS_TAG][:12]}"
        missing = {name for name in wanted if not (copy / name).is_file()}
        if evidence.local is None and copy.is_dir() and missing & set(evidence.list_files()):
            evidence.forget(copy)
        return evidence.fetch(copy=copy, required=required)


@contextmanager
def _fetching(store: Store, version: ModelVersion, *, what: str, doing: str) -> Iterator[None]:
    """Wait for large files, and explain a store that cannot be reached or has lost them."""
    with store.explain_failure(doing=doing), patience():
        try:
            yield
        except MissingArtifactsError as error:
            raise MissingArtifactsError(
                f"the {what} of version {version.version} of {version.name} is gone from the artifact store: "
                f"{error}. Run `aisle register` where its ensemble is under data/ensembles (`dvc pull` may "
                "bring it) to upload it again, restore the artifact store from its backup, or promote "
                "another version"
            ) from error


def copies_of(store: Store, version: ModelVersion) -> Path:
    """Where the files of a version are downloaded to."""
    return store.downloads / version.name / version.version / version.bundle_digest[:12]


def to_version(found: Any) -> ModelVersion:
    """MLflow's model version as ours."""
    return ModelVersion(
        name=str(found.name),
        version=str(found.version),
        run_id=str(found.run_id),
        aliases=tuple(found.aliases),
        tags=dict(found.tags),
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
    )


def _what_to_run(client: Any, *, name: str, which: str) -> str:
    versions = client.search_model_versions(f"name = '{name}'")
    if not versions:
        return f"no version of {name} is registered; run `dvc repro` to make one, then `aisle promote`"
    if which.isdigit():
        numbers = ", ".join(sorted((str(item.version) for item in versions), key=int))
        return f"{name} has no version {which}; it has {numbers}"
    if which == CHAMPION:
        return f"{name} has no champion yet; run `aisle promote` to promote the challenger"
    return f"{name} has no version with the alias {which}; run `dvc repro` to register a challenger"
