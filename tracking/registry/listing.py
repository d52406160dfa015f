"""A registered model as a whole: its aliases, tags and versions, read fast.

Importing MLflow takes longer than reading a registry of 200 versions, so a database is asked in SQL. A server
is asked through MLflow's client in as few requests as it allows, and so is a database of other tables.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from tracking.project_store import DATABASE
from tracking.registry.versions import MODEL_PREFIX, ModelVersion, model_name, to_version
from tracking.store import Store

_PAGE = 1000
# MLflow's default workspace; a database from before workspaces has no such column, and the client is asked.
_OF_MODEL = "WHERE name = :name AND workspace = 'default'"


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
    with store.explain_failure(doing=f"look up the aliases of {name}"):
        try:
            with _database(store) as connection:
                if connection is not None:
                    return _select_model(connection, name=name)
        except SQLAlchemyError:
            pass  # the client says what is wrong, if anything is
        return _ask_for_model(store, name=name)


def list_versions(store: Store, *, data: str | None = None) -> list[ModelVersion]:
    """All versions with their aliases, newest first; of one data name, or of all of them, name by name.

    Raises TrackingError when the store cannot be reached.
    """
    if data is None:
        with store.explain_failure(doing="list the registered models"):
            models = list(_all_pages(store.client.search_registered_models, f"name LIKE '{MODEL_PREFIX}%'"))
        names = sorted(str(model.name) for model in models)
        return [each for name in names for each in list_versions(store, data=name.removeprefix(MODEL_PREFIX))]
    name = model_name(data)
    aliases: dict[str, list[str]] = {}
    for alias, version in load_model(store, name=name).aliases.items():
        aliases.setdefault(version, []).append(alias)
    with store.explain_failure(doing=f"list the versions of {name}"):
        versions = _read_versions(store, name=name)
    versions = [replace(each, aliases=tuple(aliases.get(each.version, ()))) for each in versions]
    return sorted(versions, key=lambda each: int(each.version), reverse=True)


def _read_versions(store: Store, *, name: str) -> list[ModelVersion]:
    try:
        with _database(store) as connection:
            if connection is not None:
                return _select_versions(connection, name=name)
    except SQLAlchemyError:
        pass  # the client says what is wrong, if anything is
    return _ask_for_versions(store, name=name)


@contextmanager
def _database(store: Store) -> Iterator[Connection | None]:
    """A connection to the store's database; None for a server, and where there is no file yet."""
    if store.artifacts is None or os.environ.get("MLFLOW_WORKSPACE"):
        yield None
    elif store.is_own and not (store.root / DATABASE).is_file():
        yield None  # connecting would make an empty file
    else:
        with create_engine(store.uri, poolclass=NullPool).connect() as connection:
            yield connection


def _select_model(connection: Connection, *, name: str) -> RegisteredModel:
    def select(columns: str, table: str) -> Any:
        return connection.execute(text(f"SELECT {columns} FROM {table} {_OF_MODEL}"), {"name": name})

    exists = select("name", "registered_models").first() is not None
    aliases = {alias: str(version) for alias, version in select("alias, version", "registered_model_aliases")}
    tags = dict(select("key, value", "registered_model_tags").all())
    return RegisteredModel(name, aliases=aliases, tags=tags, exists=exists)


def _select_versions(connection: Connection, *, name: str) -> list[ModelVersion]:
    """The versions but deleted ones, without their aliases."""
    tags: dict[int, dict[str, str]] = {}

    query = f"SELECT version, key, value FROM model_version_tags {_OF_MODEL}"
    for version, key, value in connection.execute(text(query), {"name": name}):
        tags.setdefault(version, {})[key] = value
    query = f"SELECT version, run_id, creation_time, current_stage FROM model_versions {_OF_MODEL}"
    return [
        ModelVersion(
            name=name,
            version=str(version),
            run_id=str(run_id),
            aliases=(),
            tags=tags.get(version, {}),
            created_at=datetime.fromtimestamp(created / 1000, UTC),
        )
        for version, run_id, created, stage in connection.execute(text(query), {"name": name})
        if stage != "Deleted_Internal"
    ]


def _ask_for_model(store: Store, *, name: str) -> RegisteredModel:
    from mlflow.exceptions import MlflowException

    try:
        found = store.client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return RegisteredModel(name, aliases={}, tags={}, exists=False)
    aliases = {alias: str(version) for alias, version in found.aliases.items()}
    return RegisteredModel(name, aliases=aliases, tags=dict(found.tags), exists=True)


def _ask_for_versions(store: Store, *, name: str) -> list[ModelVersion]:
    """The versions without their aliases, which a search leaves out."""
    return [to_version(item) for item in _all_pages(store.client.search_model_versions, f"name = '{name}'")]


def _all_pages(search: Callable[..., Any], wanted: str) -> Iterator[Any]:
    token = None
    while True:
        page = search(wanted, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
