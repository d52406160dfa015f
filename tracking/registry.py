"""Model versions: an ensemble's bundle under a name, with everything needed to judge it and to rebuild it.

A version is found by its bundle's digest, so registering the same bundle twice gives the same version, also
from a fresh clone whose stages all came from a cache.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import yaml

from recognition.bundle import EnsembleConfig, digest, load_ensemble_config
from tracking.gates import Candidate
from tracking.lineage import Lineage
from tracking.runs import start_run
from tracking.store import TrackingError, explain_failure, make_client, patience

CHALLENGER = "challenger"
CHAMPION = "champion"
MODEL_PREFIX = "product-recognizer-"
DIGEST_TAG = "aisle.bundle_digest"
_PREDICTIONS_TAG = "aisle.predictions_digest"
_FOLDER_TAG = "aisle.evidence"
_REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "safetensors", "simplejpeg", "timm", "torch")


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

    @property
    def bundle_digest(self) -> str:
        """The sha256 of the bundle that was registered."""
        return self.tags[DIGEST_TAG]


@dataclass(frozen=True)
class Registered:
    """A version, and whether it is new or was found by its digest."""

    version: ModelVersion
    created: bool


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
        if found is None or found.tags.get(_PREDICTIONS_TAG) != tags[_PREDICTIONS_TAG]:
            tags[_FOLDER_TAG] = f"version/{tags[DIGEST_TAG][:12]}"
            _store_evidence(client, run_id=run_id, files=evidence, metrics=metrics, folder=tags[_FOLDER_TAG])
        version = found.version if found else _log_and_register(run_id, bundle=bundle, data=data, tags=tags)
        if found is not None:
            for key, value in tags.items():
                client.set_model_version_tag(model_name(data), version, key, value)
        client.set_registered_model_alias(model_name(data), CHALLENGER, version)
        return Registered(get_version(root, data=data, which=version), created=found is None)


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

    Raises TrackingError when the store cannot be reached or the files are not those that were registered.
    """
    with explain_failure(root, doing=f"fetch version {version.version} of {version.name}"), patience():
        uri = make_client(root).get_model_version_download_uri(version.name, version.version)
        bundle = _bundle_of(_fetch(root, version=version, uri=uri, name="model"))
    received = digest(bundle) if bundle.is_dir() else "nothing"
    if received != version.bundle_digest:
        raise TrackingError(
            f"expected bundle {version.bundle_digest[:12]} of version {version.version} of {version.name}, "
            f"received {received[:12]} in {bundle}; delete that folder if it is under .aisle/models and try "
            "again, else restore the artifact store from its backup"
        )
    return bundle


def load_candidate(root: Path, *, version: ModelVersion) -> Candidate:
    """The files of a version that a gate looks at."""
    bundle = download(root, version=version)
    with explain_failure(root, doing=f"fetch the evaluation of version {version.version}"), patience():
        run = make_client(root).get_run(version.run_id)
        uri = f"{run.info.artifact_uri}/{version.tags[_FOLDER_TAG]}"
        folder = _fetch(
            root, version=version, uri=uri, name=f"evidence-{version.tags[_PREDICTIONS_TAG][:12]}"
        )
    return Candidate(
        version=version.version,
        bundle=bundle,
        predictions=folder / "predictions.parquet",
        trained_on=folder / "trained_on.parquet",
    )


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


def _log_and_register(run_id: str, *, bundle: Path, data: str, tags: Mapping[str, str]) -> str:
    """Log the bundle as an MLflow model from code and register it; returns the version's number."""
    import mlflow

    with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        logged = mlflow.pyfunc.log_model(
            name="ensemble",
            python_model=str(Path(__file__).with_name("model_code.py")),
            artifacts={"bundle": str(bundle.resolve())},
            code_paths=[_folder_of(room) for room in ("imaging", "recognition")],
            signature=_signature(),
            pip_requirements=_pinned_requirements(),
        )
    return str(mlflow.register_model(logged.model_uri, model_name(data), tags=dict(tags)).version)


def _folder_of(room: str) -> str:
    found = find_spec(room)
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent)


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, DataType

    lists = {
        "top_k_class_index": DataType.long,
        "top_k_class_name": DataType.string,
        "top_k_probability": DataType.double,
    }
    outputs = [
        ColSpec("long", "class_index"),
        ColSpec("string", "class_name"),
        ColSpec("double", "probability"),
        *(ColSpec(Array(kind), name) for name, kind in lists.items()),
    ]
    return ModelSignature(
        inputs=Schema([ColSpec("binary", "photo")]),
        outputs=Schema(outputs),
        params=ParamSchema([ParamSpec("top_k", "long", 5)]),
    )


def _pinned_requirements() -> list[str]:
    """What the model needs, at the versions it was made with (without a build's local suffix)."""
    return [f"{name}=={installed_version(name).split('+')[0]}" for name in _REQUIREMENTS]


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


def _fetch(root: Path, *, version: ModelVersion, uri: str, name: str) -> Path:
    """The local folder behind an artifact URI, downloaded once where it lies elsewhere."""
    if "://" not in uri or uri.startswith("file:"):
        return Path(unquote(urlparse(uri).path))
    folder = root / ".aisle" / "models" / version.name / version.version / version.bundle_digest[:12] / name
    if not folder.is_dir():
        from mlflow.artifacts import download_artifacts

        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            received = download_artifacts(artifact_uri=uri, dst_path=temporary, tracking_uri=None)
            Path(received).rename(folder)
    return folder


def _bundle_of(model: Path) -> Path:
    """The bundle inside a logged model, which lies there under the name that its folder had."""
    described = yaml.safe_load((model / "MLmodel").read_text())
    return model / str(described["flavors"]["python_function"]["artifacts"]["bundle"]["path"])


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
