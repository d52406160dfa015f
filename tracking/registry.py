"""Model versions: an ensemble's bundle under a name, with everything needed to judge it and to rebuild it.

A version is found by its bundle's digest, so registering the same bundle twice gives the same version, also
from a fresh clone whose stages all came from a cache.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recognition.bundle import EnsembleConfig, digest, load_ensemble_config
from tracking.artifacts import MissingArtifactsError, fetch, forget, list_files, local_path
from tracking.gates import Candidate
from tracking.lineage import Lineage, git_user
from tracking.logged_model import bundle_of, log_model, upload_model
from tracking.runs import start_run
from tracking.store import TrackingError, explain_failure, make_client, patience

CHALLENGER = "challenger"
CHAMPION = "champion"
MODEL_PREFIX = "product-recognizer-"
DIGEST_TAG = "aisle.bundle_digest"
_PREDICTIONS_TAG = "aisle.predictions_digest"
_FOLDER_TAG = "aisle.evidence"
_REQUIRED_EVIDENCE = ("predictions.parquet", "trained_on.parquet")


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
class Registered:
    """A version, whether it is new or was found by its digest, and whether lost files were uploaded again."""

    version: ModelVersion
    created: bool
    restored: bool = False


def model_name(data: str) -> str:
    """The registered model's name for the data set `data`."""
    return f"{MODEL_PREFIX}{data}"


def register_ensemble(
    root: Path,
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
    review: Path | None = None,
) -> Registered:
    """Register an ensemble's bundle and make it the challenger; the same bundle keeps its version.

    `members` maps a member's name to its phase's fingerprint, `fingerprint` is the ensemble's: its run is
    used, or made. `trained_on` is a table with the column photo_id. A new evaluation of a known bundle
    replaces the stored one. Raises TrackingError when the store cannot be reached.
    """
    config = load_ensemble_config(bundle)
    evidence = {
        "predictions.parquet": predictions,
        "trained_on.parquet": trained_on,
        "params.yaml": params_path,
        "dvc.lock": lock_path,
    }
    if review is not None:  # of the data that it was trained on, as the stage split found them
        evidence["review.json"] = review
    tags = {
        DIGEST_TAG: digest(bundle),
        _PREDICTIONS_TAG: _file_digest(predictions),
        "aisle.data": data,
        "aisle.recipe": config.recipe,
        "aisle.fingerprint": fingerprint,
        "aisle.members": json.dumps(dict(members), sort_keys=True),
        **{f"aisle.{key.rsplit('/', 1)[-1]}": f"{value:.4f}" for key, value in metrics.items()},
        **lineage.tags(),
    }
    with explain_failure(root, doing=f"register {bundle}"), patience():
        client = make_client(root)
        found = _find_by_digest(client, name=model_name(data), wanted=tags[DIGEST_TAG])
        run_id = found.run_id if found else _ensemble_run(root, config=config, tags=tags, members=members)
        restored = found is not None and _restore(root, client, version=found, bundle=bundle)
        if found is None or not _has_evidence(root, client, found, predictions=tags[_PREDICTIONS_TAG]):
            tags[_FOLDER_TAG] = f"version/{tags[DIGEST_TAG][:12]}"
            tags["aisle.registered_by"] = git_user(root)
            tags["aisle.registered_at"] = datetime.now(UTC).isoformat(timespec="seconds")
            _store_evidence(client, run_id=run_id, files=evidence, metrics=metrics, folder=tags[_FOLDER_TAG])
            if found is not None:
                for key, value in tags.items():
                    client.set_model_version_tag(found.name, found.version, key, value)
        if found is None:
            version = log_model(run_id, bundle=bundle, name=model_name(data), tags=tags)
        else:
            version = found.version
        client.set_registered_model_alias(model_name(data), CHALLENGER, version)
        registered = get_version(root, data=data, which=version)
        return Registered(registered, created=found is None, restored=restored)


def get_version(root: Path, *, data: str, which: str) -> ModelVersion:
    """The version with the alias or number `which`.

    Raises MissingAlias when there is none, TrackingError when the store cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    name = model_name(data)
    with explain_failure(root, doing=f"look up {which} of {name}"):
        client = make_client(root)
        try:
            if which.isdigit():
                return _to_version(client.get_model_version(name, which))
            found = client.get_model_version_by_alias(name, which)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise MissingAlias(_what_to_run(client, name=name, which=which)) from error
        # By alias MLflow leaves the aliases out.
        return _to_version(client.get_model_version(name, found.version))


def download(root: Path, *, version: ModelVersion) -> Path:
    """The folder of the version's bundle: in place in a local store, else a copy under .aisle/models.

    Raises MissingArtifactsError when the store has lost it, TrackingError when the store cannot be reached or
    the files are not those that were registered.
    """
    with (
        explain_failure(root, doing=f"fetch version {version.version} of {version.name}"),
        _explain_missing(version, what="bundle"),
        patience(),
    ):
        uri = make_client(root).get_model_version_download_uri(version.name, version.version)
        model = fetch(root, uri=uri, cache=_cache(root, version) / "model", required=["MLmodel"])
        bundle = bundle_of(model)
        if not bundle.is_dir():
            forget(model, root=root)
            raise MissingArtifactsError(f"expected the bundle in {bundle}, where it is missing")
    received = digest(bundle)
    if received != version.bundle_digest:
        again = "try again" if forget(model, root=root) else "run `aisle register` where the bundle is"
        raise TrackingError(
            f"expected bundle {version.bundle_digest[:12]} of version {version.version} of {version.name}, "
            f"received {received[:12]} in {bundle}: files there were changed or are missing; {again}, or "
            "restore the artifact store from its backup"
        )
    return bundle


def load_candidate(root: Path, *, version: ModelVersion) -> Candidate:
    """The files of a version that a gate looks at; raises as `download`."""
    bundle = download(root, version=version)
    with (
        explain_failure(root, doing=f"fetch the evaluation of version {version.version}"),
        _explain_missing(version, what="evaluation"),
        patience(),
    ):
        uri = _evidence_uri(make_client(root), version)
        cache = _cache(root, version) / f"evidence-{version.tags[_PREDICTIONS_TAG][:12]}"
        folder = fetch(root, uri=uri, cache=cache, required=_REQUIRED_EVIDENCE)
    return Candidate(
        version=version.version,
        bundle=bundle,
        predictions=folder / "predictions.parquet",
        trained_on=folder / "trained_on.parquet",
    )


@contextmanager
def _explain_missing(version: ModelVersion, *, what: str) -> Iterator[None]:
    try:
        yield
    except MissingArtifactsError as error:
        raise MissingArtifactsError(
            f"the {what} of version {version.version} of {version.name} is gone from the artifact store: "
            f"{error}. Run `aisle register` where its ensemble is under data/ensembles (`dvc pull` may bring "
            "it) to upload it again, restore the artifact store from its backup, or promote another version"
        ) from error


def _cache(root: Path, version: ModelVersion) -> Path:
    return root / ".aisle" / "models" / version.name / version.version / version.bundle_digest[:12]


def _evidence_uri(client: Any, version: ModelVersion) -> str:
    return f"{client.get_run(version.run_id).info.artifact_uri}/{version.tags[_FOLDER_TAG]}"


def _has_evidence(root: Path, client: Any, version: ModelVersion, *, predictions: str) -> bool:
    """Whether the store holds the evaluation with these predictions."""
    if version.tags.get(_PREDICTIONS_TAG) != predictions or _FOLDER_TAG not in version.tags:
        return False
    return set(_REQUIRED_EVIDENCE) <= set(list_files(_evidence_uri(client, version), root=root))


def _restore(root: Path, client: Any, *, version: ModelVersion, bundle: Path) -> bool:
    """Upload a version's bundle again where the store has lost or changed a file of it; True if it had."""
    uri = client.get_model_version_download_uri(version.name, version.version)
    folder = local_path(uri, root=root)
    if folder is None:  # by names and sizes: a download of gigabytes would be the price of more
        stored = sorted(list_files(uri, root=root).items())
        wanted = [(path.relative_to(bundle).as_posix(), path.stat().st_size) for path in _files_of(bundle)]
        whole = any(name == "MLmodel" for name, _ in stored) and all(
            any(name.endswith(f"/{path}") and size == length for name, length in stored)
            for path, size in wanted
        )
    else:
        whole = (folder / "MLmodel").is_file() and _digest_or_none(bundle_of(folder)) == version.bundle_digest
    if not whole:
        model = client.get_model_version(version.name, version.version)
        upload_model(root, uri=uri, bundle=bundle, run_id=version.run_id, model_id=model.model_id)
    return not whole


def _ensemble_run(
    root: Path, *, config: EnsembleConfig, tags: Mapping[str, str], members: Mapping[str, str]
) -> str:
    """The run of the ensemble: the one its stage recorded, else a new one."""
    run = start_run(
        root,
        experiment=f"aisle-{tags['aisle.data']}",
        name=f"{config.recipe}/ensemble",
        fingerprint=tags["aisle.fingerprint"],
        params={
            "recipe": config.recipe,
            "merge": config.merge,
            "views": config.views,
            "members": list(members),
        },
        tags={**tags, "aisle.kind": "ensemble"},
    )
    run.end()
    if run.run_id is None:
        raise OSError("the run of the ensemble could not be recorded")
    return run.run_id


def _store_evidence(
    client: Any, *, run_id: str, files: Mapping[str, Path], metrics: Mapping[str, float], folder: str
) -> None:
    """Store what a version is judged by and rebuilt from as artifacts of its run."""
    with tempfile.TemporaryDirectory() as temporary:
        for name, path in files.items():
            shutil.copyfile(path, Path(temporary, name))
        Path(temporary, "metrics.json").write_text(json.dumps(dict(metrics), indent=2, sort_keys=True) + "\n")
        client.log_artifacts(run_id, temporary, folder)
    for key, value in metrics.items():
        client.log_metric(run_id, key, value)


def _find_by_digest(client: Any, *, name: str, wanted: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{name}' and tags.`{DIGEST_TAG}` = '{wanted}'")
    versions = sorted((_to_version(item) for item in found), key=lambda version: int(version.version))
    return versions[-1] if versions else None


def _to_version(found: Any) -> ModelVersion:
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


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest_or_none(bundle: Path) -> str | None:
    try:
        return digest(bundle)
    except (OSError, ValueError):
        return None


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
