"""A registered model as a whole: its aliases, tags and versions, in as few requests as MLflow allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tracking.registry.versions import ModelVersion, model_name, to_version
from tracking.store import Store

_PAGE = 1000


@dataclass(frozen=True)
class RegisteredModel:
    """What MLflow knows of a model beside its versions; nothing where no version was ever registered."""

    name: str
    aliases: Mapping[str, str]
    """The version behind each alias."""
    tags: Mapping[str, str]
    exists: bool


def load_model(store: Store, *, name: str) -> RegisteredModel:
    """Aliases and tags of a registered model; TrackingError when the store cannot be reached."""
    from mlflow.exceptions import MlflowException

    with store.explain_failure(doing=f"look up the aliases of {name}"):
        try:
            found = store.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return RegisteredModel(name, aliases={}, tags={}, exists=False)
    aliases = {alias: str(version) for alias, version in found.aliases.items()}
    return RegisteredModel(name, aliases=aliases, tags=dict(found.tags), exists=True)


def list_versions(store: Store, *, data: str) -> list[ModelVersion]:
    """All versions with their aliases, newest first; TrackingError when the store cannot be reached."""
    name = model_name(data)
    aliases: dict[str, list[str]] = {}
    for alias, version in load_model(store, name=name).aliases.items():
        aliases.setdefault(version, []).append(alias)
    found: list[Any] = []
    with store.explain_failure(doing=f"list the versions of {name}"):
        token = None
        while True:
            page = store.client.search_model_versions(f"name = '{name}'", max_results=_PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                break
    versions = [to_version(item) for item in found]  # a search leaves the aliases out
    versions = [replace(each, aliases=tuple(aliases.get(each.version, ()))) for each in versions]
    return sorted(versions, key=lambda each: int(each.version), reverse=True)
