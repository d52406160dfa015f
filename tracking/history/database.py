"""Where the history is stored, and the schema there: made or upgraded by one process, refused when newer.

`aisle.db` in the project, or what AISLE_DATABASE_URL names: SQLite or PostgreSQL. Everything is one
transaction of the database, so that a killed process leaves nothing half made.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from tracking.history.tables import VERSION_TABLE
from tracking.project import TrackingError
from tracking.project_store import sqlite_uri
from tracking.store import Store, first_line

VARIABLE = "AISLE_DATABASE_URL"
DATABASE = "aisle.db"
SCHEMA = "001"
"""The newest module in migrations/versions."""
_MIGRATIONS = Path(__file__).parent / "migrations"
_SECONDS_FOR_LOCK = 60
_SECONDS_TO_CONNECT = 5
_ADVISORY_LOCK = 0x6169736C65  # "aisle"


class SchemaError(TrackingError):
    """The history's tables are of another version of Aisle; the message says what to do."""


def find_url(store: Store) -> URL:
    """The database of the history: AISLE_DATABASE_URL, else aisle.db in the project's root.

    TrackingError for a URL of another kind, and where MLflow is a server and the variable is not set: a
    history on each person's machine would be no history.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        if store.artifacts is None:
            raise TrackingError(
                f"expected {VARIABLE} beside an MLflow server ({store.shown_uri}), so that everyone writes "
                "one history of promotions, received none; set it to the team's database "
                "(postgresql://user:password@host/database)"
            )
        return make_url(sqlite_uri(store.root / DATABASE))
    try:
        url = make_url(given.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError):
        raise TrackingError(
            f"expected a database URL in {VARIABLE}, received one that cannot be read"
        ) from None
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        return make_url(sqlite_uri(store.root / url.database))  # a relative path means the project
    raise TrackingError(
        f"expected a database URL of PostgreSQL or of a SQLite file in {VARIABLE}, received {show(url)}"
    )


def is_configured(store: Store) -> bool:
    """Whether `find_url` finds a database: a server without AISLE_DATABASE_URL has none."""
    return store.artifacts is not None or bool(os.environ.get(VARIABLE))


def show(url: URL) -> str:
    """A URL for a message: without password and options."""
    return url.set(query={}).render_as_string(hide_password=True)


def make_engine(url: URL) -> Engine:
    """An engine that keeps no connection open; TrackingError where the driver is not installed."""
    if url.get_backend_name() == "postgresql":
        try:
            options = {} if "connect_timeout" in url.query else {"connect_timeout": _SECONDS_TO_CONNECT}
            return create_engine(url, poolclass=NullPool, connect_args=options)
        except ModuleNotFoundError:
            raise TrackingError(
                f"expected psycopg for {show(url)}, which is not installed: pip install 'aisle[postgres]'"
            ) from None
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _SECONDS_FOR_LOCK})

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # else Python commits before a CREATE TABLE

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that will write; on SQLite no other one can begin to write meanwhile."""
    with engine.connect().execution_options(begin="BEGIN IMMEDIATE") as connection, connection.begin():
        yield connection


@contextmanager
def explain_failure(url: URL, *, doing: str) -> Iterator[None]:
    """Turn a failure of the database into a TrackingError that says what was being done and what to do."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        advice = (
            f"restore {Path(url.database or '').name} from a backup where it is damaged; free space or "
            "correct the permissions where the disk is the reason"
            if url.get_backend_name() == "sqlite"
            else f"start the server, or correct {VARIABLE}"
        )
        raise TrackingError(
            f"cannot {doing}: the request to the history in {show(url)} failed ({first_line(cause)}); "
            f"{advice}, and run the same command again"
        ) from error


def ensure_schema(engine: Engine) -> None:
    """Make or upgrade the tables where they are not of this version; two first users wait for each other.

    Raises SchemaError for tables of a newer version, SQLAlchemy's errors where the database cannot be used.
    """
    with engine.connect() as connection:
        if _schema_of(connection) == SCHEMA:
            return
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        if _schema_of(connection) != SCHEMA:
            _upgrade(connection)


def _schema_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    logging.getLogger("alembic").setLevel(logging.WARNING)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = _schema_of(connection)
    if found is not None and found not in known:
        raise SchemaError(
            f"expected a history of schema {SCHEMA} or older in {show(connection.engine.url)}, received "
            f"{found}, of a newer Aisle; update this checkout"
        )
    command.upgrade(config, "head")
