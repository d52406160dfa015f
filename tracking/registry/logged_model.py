"""The registered model as MLflow keeps it: a bundle beside the code that answers with it, and no pickle."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import yaml

from tracking.artifacts import Artifacts

_REQUIREMENTS = (
    "mlflow",
    "numpy",
    "pandas",
    "pillow",
    "pydantic",
    "safetensors",
    "simplejpeg",
    "timm",
    "torch",
)


def log_model(run_id: str, *, bundle: Path, name: str, tags: Mapping[str, str]) -> str:
    """Log the bundle as an MLflow model from code, register it as `name`; returns the version's number."""
    import mlflow

    with mlflow.start_run(run_id=run_id), _without_advice():
        logged = mlflow.pyfunc.log_model(name="ensemble", **_content(bundle))
    return str(mlflow.register_model(logged.model_uri, name, tags=dict(tags)).version)


def upload_model(model: Artifacts, *, bundle: Path, run_id: str, model_id: str | None) -> None:
    """Write a logged model's files again to where they were lost."""
    import mlflow
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as temporary, _without_advice():
        described = Model(artifact_path=model.uri, run_id=run_id, model_id=model_id)
        mlflow.pyfunc.save_model(Path(temporary, "model"), mlflow_model=described, **_content(bundle))
        model.upload(Path(temporary, "model"))


def bundle_of(model: Path) -> Path:
    """The bundle inside a logged model, which lies there under the name that its folder had."""
    described = yaml.safe_load((model / "MLmodel").read_text(encoding="utf-8"))
    return model / str(described["flavors"]["python_function"]["artifacts"]["bundle"]["path"])


def _content(bundle: Path) -> dict[str, Any]:
    return {
        "python_model": str(Path(__file__).with_name("model_code.py")),
        "artifacts": {"bundle": str(bundle.resolve())},
        "code_paths": [
            str(Path(__file__).parents[2] / room) for room in ("imaging", "recognition", "contracts")
        ],
        "signature": _signature(),
        "pip_requirements": _pinned_requirements(),
    }


@contextmanager
def _without_advice() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        yield


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
