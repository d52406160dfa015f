"""Whether the databases are of this code's schema, and whether the checkout is where its store was made.

Looks at the databases themselves and before anything opens them, since opening makes, upgrades and relocates.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from tracking.doctor.finding import Finding
from tracking.history.database import SCHEMA, find_url, make_engine, show
from tracking.history.history import History
from tracking.history.tables import VERSION_TABLE
from tracking.project import TrackingError
from tracking.project_store import DATABASE, former_roots, prepare
from tracking.store import Store


def check_place(store: Store) -> list[Finding]:
    """A checkout that moved. Only the project's own store holds paths that are ours to correct."""
    database = store.root / DATABASE
    if not store.is_own or not database.is_file() or mlflow_schema(store) is None:
        return []
    return [
        Finding(
            kind="moved checkout",
            sentence=f"expected the artifacts of {DATABASE} under {store.root}, but it names some under "
            f"{former}, where this checkout was before",
            run="`aisle doctor --fix` writes the present place; so does any command that opens the store",
            fix=lambda: prepare(store.root),
        )
        for former in former_roots(database, root=store.root)
    ]


def check_schemas(store: Store) -> list[Finding]:
    """Tables of another version of MLflow or of Aisle."""
    return [*_check_mlflow(store), *_check_history(store)]


def mlflow_schema(store: Store) -> str | None:
    """The revision of MLflow's tables, None where there are none yet or a server keeps them."""
    if store.artifacts is None or _is_no_file(store.uri):
        return None
    engine = create_engine(store.uri)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return None if found is None else str(found)
    finally:
        engine.dispose()


def history_schema(store: Store) -> str | None:
    """The schema of the history's tables, None before the first event.

    Raises TrackingError without a database that everyone shares, SQLAlchemyError where it cannot be read.
    """
    url = find_url(store)
    if _is_no_file(url.render_as_string(hide_password=False)):
        return None
    with make_engine(url).connect() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
        return None if found is None else str(found)


def _check_mlflow(store: Store) -> list[Finding]:
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    found = mlflow_schema(store)
    script = ScriptDirectory.from_config(_get_alembic_config(""))
    expected = script.get_current_head()
    if found is None or found == expected:
        return []
    if found in {each.revision for each in script.walk_revisions()}:
        which, run = "an older", f"back the database up, then run `mlflow db upgrade {store.shown_uri}`"
    else:
        which, run = "a newer or damaged", "install the MLflow that wrote it, or restore it from a backup"
    return [
        Finding(
            kind="schema",
            sentence=f"expected MLflow's tables of revision {expected} in {store.shown_uri}, found {found} "
            f"of {which} MLflow",
            run=run,
        )
    ]


def _check_history(store: Store) -> list[Finding]:
    try:
        found, url = history_schema(store), show(find_url(store))
    except TrackingError:  # the registry's checks say so
        return []
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        return [
            Finding(
                kind="schema",
                sentence=f"expected a history in {show(find_url(store))}, which cannot be read: {reason}",
                run="start the database's server, or restore the database from a backup",
            )
        ]
    if found in (None, SCHEMA):
        return []
    sentence = f"expected a history of schema {SCHEMA} in {url}, found {found} of"
    if str(found) > SCHEMA:
        return [Finding(kind="schema", sentence=f"{sentence} a newer Aisle", run="update this checkout")]
    run = "back the database up, then run `aisle doctor --fix` or `aisle audit`, which upgrade it"
    return [
        Finding(kind="schema", sentence=f"{sentence} an older Aisle", run=run, fix=lambda: History.at(store))
    ]


def _is_no_file(uri: str) -> bool:
    """Whether it is a SQLite file that does not exist, which connecting would make."""
    url = make_url(uri)
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file()
