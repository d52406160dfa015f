"""Whether the artifact store still holds what was registered, byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from tracking.artifacts import AlteredArtifactsError, Artifacts, MissingArtifactsError
from tracking.doctor.finding import Finding, Kind
from tracking.registry.logged_model import bundle_of
from tracking.registry.versions import (
    DIGEST_TAG,
    EVIDENCE_TAG,
    PREDICTIONS_TAG,
    REQUIRED_EVIDENCE,
    ModelVersion,
    copies_of,
    download,
    evidence_of,
    load_candidate,
    model_of,
)
from tracking.store import Store

_EVIDENCE = (*REQUIRED_EVIDENCE, "params.yaml", "dvc.lock")
_RUN = (
    "run `aisle register` where its ensemble is under data/ensembles (`dvc pull` may bring it), restore the "
    "artifact store from its backup, or promote another version"
)


def check_files(store: Store, version: ModelVersion) -> list[Finding]:
    """What is missing or altered of a version's bundle and evidence.

    A local store is hashed. Of a server the names and sizes are compared, and what is not on this machine yet
    is downloaded and hashed. Raises TrackingError where the store cannot be reached.
    """
    if DIGEST_TAG not in version.tags:
        return []  # registered by something else than Aisle, which has nothing to compare it with
    return [*_check_bundle(store, version), *_check_evidence(store, version)]


def _check_bundle(store: Store, version: ModelVersion) -> list[Finding]:
    from recognition.bundle import digest  # which brings torch

    what = f"the bundle of version {version.version} of {version.name}"
    with store.explain_failure(doing=f"look at {what}"):
        model = model_of(store, version)
        try:
            if model.local is None:
                return _compare_with_copy(store, version, model, what=what)
            bundle = bundle_of(model.fetch(copy=Path(), required=["MLmodel"]))
            if not bundle.is_dir():
                raise MissingArtifactsError(f"expected the bundle in {bundle}, where it is missing")
            received = digest(bundle)
        except (MissingArtifactsError, FileNotFoundError) as error:
            return [_finding("missing artifact", f"{what} is not whole: {error}")]
        except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:  # an empty or cut file
            return [_finding("altered artifact", f"{what} cannot be read: {error}")]
    if received == version.bundle_digest:
        return []
    lacking = _missing_files(bundle)
    kind: Kind = "missing artifact" if lacking else "altered artifact"
    detail = f"{', '.join(lacking)} missing in" if lacking else "files were altered or removed in"
    expected = f"expected {version.bundle_digest[:12]}, received {received[:12]}"
    return [_finding(kind, f"{what} is not what was registered ({expected}): {detail} {bundle}")]


def _compare_with_copy(store: Store, version: ModelVersion, model: Artifacts, *, what: str) -> list[Finding]:
    stored = model.list_files()
    if "MLmodel" not in stored:
        return [_finding("missing artifact", f"{what} is gone from {model.uri}")]
    try:
        download(store, version=version)
    except MissingArtifactsError as error:
        return [_finding("missing artifact", str(error))]
    except AlteredArtifactsError as error:
        return [_finding("altered artifact", str(error))]
    wanted = Artifacts(store, str((copies_of(store, version) / "model").resolve())).list_files()
    lost = sorted(set(wanted) - set(stored))
    altered = sorted(name for name in set(wanted) & set(stored) if wanted[name] != stored[name])
    return [
        *(_finding("missing artifact", f"{what}: {name} is missing in {model.uri}") for name in lost),
        *(
            _finding("altered artifact", f"{what}: {name} has another size in {model.uri}")
            for name in altered
        ),
    ]


def _check_evidence(store: Store, version: ModelVersion) -> list[Finding]:
    what = f"the evidence of version {version.version} of {version.name}"
    if EVIDENCE_TAG not in version.tags:
        return [_finding("missing artifact", f"{what} was never stored: it has no tag {EVIDENCE_TAG}")]
    with store.explain_failure(doing=f"look at {what}"):
        evidence = evidence_of(store, version)
        missing = sorted(set(_EVIDENCE) - set(evidence.list_files()))
    if missing:
        return [_finding("missing artifact", f"{what} lacks {', '.join(missing)} in {evidence.uri}")]
    predictions = _load_predictions(store, version, evidence)
    received = hashlib.sha256(predictions.read_bytes()).hexdigest()
    expected = version.tags[PREDICTIONS_TAG]
    if received == expected:
        return []
    told = f"expected {expected[:12]}, received {received[:12]} in {predictions}"
    return [_finding("altered artifact", f"{what}: predictions.parquet was altered ({told})")]


def _load_predictions(store: Store, version: ModelVersion, evidence: Artifacts) -> Path:
    """The evaluation's predictions, in place or downloaded."""
    if evidence.local is not None:
        return evidence.local / "predictions.parquet"
    return load_candidate(store, version=version).predictions


def _missing_files(bundle: Path) -> list[str]:
    """Files that every member of an ensemble has, and one has not."""
    members = [folder for folder in (bundle / "members").glob("*") if folder.is_dir()]
    names = {path.name for folder in members for path in folder.iterdir()} | {"weights.safetensors"}
    return sorted(
        f"members/{folder.name}/{name}"
        for folder in members
        for name in names
        if not (folder / name).exists()
    )


def _finding(kind: Kind, sentence: str) -> Finding:
    return Finding(kind=kind, sentence=sentence, run=_RUN)
