"""Model versions that take milliseconds to register: a bundle of one small file, as MLflow keeps it."""

import uuid
from pathlib import Path

import yaml
from sqlalchemy import text

from recognition.bundle import digest
from tracking.gates.report import GateAnswer, GateReport, Outcome
from tracking.history.history import History
from tracking.history.registered import note_registration
from tracking.registry.listing import load_model
from tracking.registry.versions import CHALLENGER, DIGEST_TAG, get_version, model_name
from tracking.store import Store

NAME = model_name("tiny")


def add_version(
    store: Store, *, data: str = "tiny", by: str = "anna", tags: dict[str, str] | None = None
) -> str:
    """Register a version as challenger, as registration.py does; its number."""
    name = model_name(data)
    model = store.root / "mlartifacts" / uuid.uuid4().hex
    bundle = model / "artifacts" / "tiny"
    bundle.mkdir(parents=True)
    (bundle / "weights.safetensors").write_text(uuid.uuid4().hex)
    described = {"flavors": {"python_function": {"artifacts": {"bundle": {"path": "artifacts/tiny"}}}}}
    (model / "MLmodel").write_text(yaml.safe_dump(described))
    if not load_model(store, name=name).exists:
        store.client.create_registered_model(name)
    tags = {DIGEST_TAG: digest(bundle), "aisle.registered_by": by, **(tags or {})}
    version = str(store.client.create_model_version(name, source=str(model), tags=tags).version)
    before = load_model(store, name=name).aliases.get(CHALLENGER)
    store.client.set_registered_model_alias(name, CHALLENGER, version)
    note_registration(store, get_version(store, data=data, which=version), previous=before)
    return version


def weights_of(store: Store, version: str) -> Path:
    """The file of weights in a version's bundle."""
    model = Path(store.client.get_model_version_download_uri(NAME, version))
    return model / "artifacts" / "tiny" / "weights.safetensors"


def report(challenger: str, champion: str | None, *, outcome: Outcome = "pass") -> GateReport:
    """A report of two gates, the first of which may fail."""
    answers = (
        GateAnswer(gate="error", outcome=outcome, sentence="it is good", numbers={"difference": -0.25}),
        GateAnswer(gate="integrity", outcome="pass", sentence="it is whole"),
    )
    return GateReport(challenger=challenger, champion=champion, answers=answers)


def alias(store: Store, name: str = "champion") -> str | None:
    """The version behind an alias, as MLflow says."""
    return load_model(store, name=NAME).aliases.get(name)


def alter(history: History, *statements: str) -> None:
    """Change the history's table behind its back."""
    with history.engine.connect() as connection, connection.begin():
        for statement in statements:
            connection.execute(text(statement))
