"""A registered model as a whole: its aliases, tags and versions, in as few requests as MLflow allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tracking.registry.versions import MODEL_PREFIX, ModelVersion, model_name, to_version
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


def list_versions(store: Store, *, data: str | None = None) -> list[ModelVersion]:
    """All versions with their aliases, newest first; of one data name, or of every model of ours by name.

    Raises TrackingError when the store cannot be reached.
    """
    wanted = f"name LIKE '{MODEL_PREFIX}%'" if data is None else f"name = '{model_name(data)}'"
    with store.explain_failure(doing="list the registered versions"):
        found = list(_all_pages(store.client.search_model_versions, wanted))
        models = list(_all_pages(store.client.search_registered_models, wanted))
    aliases: dict[tuple[str, str], list[str]] = {}
    for model in models:  # a search for versions leaves the aliases out
        for alias, number in sorted(model.aliases.items()):
            aliases.setdefault((model.name, str(number)), []).append(alias)
    versions = [to_version(item) for item in found]
    versions = [replace(each, aliases=tuple(aliases.get((each.name, each.version), ()))) for each in versions]
    versions.sort(key=lambda each: int(each.version), reverse=True)
    return sorted(versions, key=lambda each: each.name)


def _all_pages(search: Callable[..., Any], wanted: str) -> Iterator[Any]:
    token = None
    while True:
        page = search(wanted, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
