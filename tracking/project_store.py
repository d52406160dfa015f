"""The project's own store, mlflow.db: made whole at first use, and corrected when its checkout has moved.

MLflow makes a SQLite store in sixty migrations that are no transaction: two first users at once, or a process
killed in between, leave one that no later process can open. And it records where artifacts lie as absolute
paths, which a moved or copied checkout no longer has, or which are those of the checkout it was copied from.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlparse

from filelock import FileLock
from sqlalchemy.engine import URL

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
_SECONDS_FOR_LOCK = 300
_LOG = logging.getLogger("aisle.tracking")
# What of MLflow's tables holds the place of artifacts.
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


def sqlite_uri(database: Path) -> str:
    """The URI of a SQLite file at any path: `%`, `?`, `#` and their like are escaped."""
    return URL.create("sqlite", database=str(database.resolve())).render_as_string()


@contextmanager
def first_use(root: Path) -> Iterator[None]:
    """Let one process at a time be in the block; raises OSError where another one stays for five minutes."""
    folder = root / ".aisle"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "store.lock", timeout=_SECONDS_FOR_LOCK):
        yield


def prepare(root: Path) -> None:
    """Make mlflow.db where there is none, and correct where its artifacts lie if the checkout has moved.

    A store that is whole and in its place is only read. Raises OSError, or SQLAlchemy's or sqlite3's error,
    where the store can be neither made nor read.
    """
    database = root / DATABASE
    if _is_whole(database) and not former_roots(database, root=root):
        return
    with first_use(root):
        if not database.exists():
            _make(database, root=root)
        elif not _is_whole(database):
            _open_with_mlflow(database, root=root)
        for former in former_roots(database, root=root):
            _relocate(database, former=former, root=root)


def _make(database: Path, *, root: Path) -> None:
    """Make the store beside its place and move it there, so that a killed process leaves none."""
    folder = root / ".aisle" / "new-store"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    _open_with_mlflow(folder / DATABASE, root=root)
    (folder / DATABASE).rename(database)
    folder.rmdir()


def _open_with_mlflow(database: Path, *, root: Path) -> None:
    """Let MLflow make the tables that are missing."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(sqlite_uri(database), (root / ARTIFACTS).as_uri()).engine.dispose()


def _is_whole(database: Path) -> bool:
    """Whether all migrations of some version of MLflow have run."""
    if not database.is_file():
        return False
    with closing(_connect(database)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        return tables >= {"experiments", "runs", "model_versions", "logged_models"} and bool(
            connection.execute("SELECT 1 FROM alembic_version").fetchone()
        )


def former_roots(database: Path, *, root: Path) -> list[str]:
    """The roots, as URIs, under which get_or_create_experiment has put artifacts before the checkout moved.

    One whose artifacts are still there and not here is none: then only mlflow.db was copied.
    """
    with closing(_connect(database)) as connection:
        found = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
    roots = set()
    for name, location in found:
        suffix = Path("/", ARTIFACTS, name).as_uri().removeprefix("file://")
        if str(location).startswith("file:///") and str(location).endswith(suffix):
            roots.add(str(location).removesuffix(suffix))
    here = root.resolve().as_uri()
    return sorted(
        former
        for former in roots - {here}
        if (root / ARTIFACTS).is_dir() or not Path(_path_of(former), ARTIFACTS).is_dir()
    )


def _relocate(database: Path, *, former: str, root: Path) -> None:
    """Write the present root in the place of a former one; a store that cannot be written stays as it is."""
    here = root.resolve().as_uri()
    pairs = [(former, here), (_path_of(former), _path_of(here))]
    try:
        with closing(_connect(database)) as connection, connection:
            for table, column in _LOCATIONS:
                for old, new in pairs:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE substr({column}, 1, ?) = ?",
                        (new, len(old) + 1, len(old) + 1, f"{old}/"),
                    )
    except sqlite3.OperationalError as error:
        _LOG.warning("%s still names artifacts under %s: %s", database, _path_of(former), error)
    else:
        _LOG.warning(
            "This checkout was at %s before: %s now names its artifacts where they are, under %s",
            _path_of(former),
            DATABASE,
            root,
        )


def _path_of(uri: str) -> str:
    return unquote(urlparse(uri).path)


def _connect(database: Path) -> sqlite3.Connection:
    """Connect to a file that exists; it is not made."""
    return sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", uri=True, timeout=60)
