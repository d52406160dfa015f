"""The history itself: what is appended stays, in one order, and what was changed by hand is named."""

import hashlib
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from tests.tracking.light_registry import NAME, add_version, alter
from tracking.history import database
from tracking.history.database import SCHEMA, VARIABLE, SchemaError
from tracking.history.events import FIRST_HASH, NewEvent, make_row, row_hash
from tracking.history.history import HEAD_TAG, ConflictError, History
from tracking.history.tables import VERSION_TABLE, metadata
from tracking.project import TrackingError
from tracking.store import Store

APPEND = """
import sys, time
from pathlib import Path
from tracking.history.events import FIRST_HASH, NewEvent, make_row, row_hash
from tracking.history.history import History
from tracking.store import Store
name, folders = sys.argv[1], list(map(Path, sys.argv[3:]))
for folder in folders:
    (folder / f"ready-{name}").touch()
    deadline = time.monotonic() + 120
    while len(list(folder.glob("ready-*"))) < 2:
        assert time.monotonic() < deadline, "the other process has ended"
        time.sleep(0.001)
    history = History.at(Store.at(folder))
    for number in range(int(sys.argv[2])):
        history.append(NewEvent(model="m", kind="note", action="count", by=name, version=str(number)))
"""


def note(model: str = "m", **values: object) -> NewEvent:
    return NewEvent(**{"model": model, "kind": "note", "action": "count", "by": "anna", **values})  # type: ignore[arg-type]


def run_two(count: int, *folders: Path) -> None:
    command = [sys.executable, "-c", APPEND]
    both = [
        subprocess.Popen([*command, name, str(count), *map(str, folders)], stderr=subprocess.PIPE, text=True)
        for name in ("anna", "bert")
    ]
    for process in both:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said


def test_events_come_back_as_they_were_appended(history: History) -> None:
    details = {"numbers": {"difference": -0.25, "none": None, "nan": float("nan")}, "list": [1, "ä"]}
    first = history.append(note(version="1", reason="weil ☂", details=details, alias="champion"))
    second = history.append(note(version=None, by="bert", previous_version="1", after=1))
    history.append(note(model="other"))
    assert history.events("m") == [first, second]
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.details == {"numbers": {"difference": -0.25, "none": None, "nan": "nan"}, "list": [1, "ä"]}
    assert (first.reason, second.version, second.previous_version) == ("weil ☂", None, "1")
    assert first.at.utcoffset() is not None
    assert second.previous_hash == first.hash
    assert history.models() == ["m", "other"]
    assert [history.verify(name) for name in ("m", "other", "none")] == [[], [], []]


def test_text_that_a_database_cannot_store_is_cleaned(history: History) -> None:
    history.append(note(reason="a\0b\udcff", by="o'k; DROP TABLE aisle_events"))
    event = history.events("m")[0]
    assert (event.reason, event.by) == ("ab?", "o'k; DROP TABLE aisle_events")
    assert history.verify("m") == []


def test_who_comes_second_is_told_who_was_first(history: History) -> None:
    history.append(note())
    history.append(note(kind="intent", action="promote", by="bert", version="7", after=1))
    with pytest.raises(
        ConflictError, match=r"bert began to promote version 7 at 20\d\d-.*`aisle audit`"
    ) as raised:
        history.append(note(kind="intent", action="promote", by="anna", version="8", after=1))
    assert raised.value.event == history.events("m")[1]
    assert len(history.events("m")) == 2


def test_an_operation_has_one_result(history: History) -> None:
    intent = history.append(note(kind="intent", action="promote", version="7"))
    ended = {"kind": "result", "action": "promote", "version": "7", "operation": intent.operation}
    history.append(note(**ended, by="carl", details={"outcome": "reverted"}))
    with pytest.raises(ConflictError, match=r"carl promoted version 7 at .*, which was reverted"):
        history.append(note(**ended, details={"outcome": "completed"}))


@pytest.mark.parametrize("count", [60])
def test_two_processes_that_append_at_once_lose_nothing(root: Path, history: History, count: int) -> None:
    run_two(count, root)
    events = history.events("m")
    assert [event.sequence for event in events] == list(range(1, 2 * count + 1))
    for name in ("anna", "bert"):
        assert [event.version for event in events if event.by == name] == list(map(str, range(count)))
    assert history.verify("m") == []


def test_two_first_users_make_one_history(root: Path) -> None:
    folders = [root / str(number) for number in range(5)]
    for folder in folders:
        folder.mkdir()
    run_two(1, *folders)
    for folder in folders:
        assert len(History.at(Store.at(folder)).events("m")) == 2


def test_two_first_users_make_one_history_on_postgresql(
    root: Path, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, postgres_database)
    run_two(1, root)
    assert len(History.at(Store.at(root)).events("m")) == 2


# The chain


COPY = (
    "INSERT INTO aisle_events SELECT model, {new}, 'forged', kind, action, alias, '9', previous_version, "
    '"by", at, reason, details, previous_hash, hash FROM aisle_events WHERE sequence = {old}'
)
DAMAGES: dict[str, tuple[tuple[str, ...], str]] = {
    "edited": (
        ("UPDATE aisle_events SET \"by\" = 'mallory' WHERE sequence = 3",),
        "row 3 of the history of m was altered: its hash is not that of its columns",
    ),
    "edited back in time": (
        ("UPDATE aisle_events SET at = '2020-01-01T00:00:00.000000+00:00' WHERE sequence = 1",),
        "row 1 of the history of m was altered: its hash is not that of its columns",
    ),
    "deleted": (("DELETE FROM aisle_events WHERE sequence = 2",), "row 2 is missing of the history of m"),
    "deleted first": (
        ("DELETE FROM aisle_events WHERE sequence < 3",),
        "rows 1 to 2 are missing of the history of m",
    ),
    "swapped": (
        (
            "UPDATE aisle_events SET sequence = 99 WHERE sequence = 2",
            "UPDATE aisle_events SET sequence = 2 WHERE sequence = 3",
            "UPDATE aisle_events SET sequence = 3 WHERE sequence = 99",
        ),
        "row 2 of the history of m was altered: its hash is not that of its columns",
    ),
    "inserted": (
        (
            *(f"UPDATE aisle_events SET sequence = {n + 1} WHERE sequence = {n}" for n in (5, 4, 3)),
            COPY.format(new=3, old=2),
        ),
        "row 3 of the history of m was altered: its hash is not that of its columns",
    ),
    "no JSON": (
        ("UPDATE aisle_events SET details = 'x' WHERE sequence = 5",),
        "row 5 of the history of m was altered: its hash is not that of its columns",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_changed_chain_is_named(history: History, damage: str) -> None:
    for number in range(5):
        history.append(note(version=str(number)))
    statements, sentence = DAMAGES[damage]
    alter(history, *statements)
    assert history.verify("m")[0] == sentence


def test_a_row_that_was_altered_together_with_its_hash_is_named_by_the_next_one(history: History) -> None:
    for number in range(4):
        history.append(note(version=str(number)))
    with history.engine.connect() as connection:
        row = dict(connection.execute(text("SELECT * FROM aisle_events WHERE sequence = 2")).mappings().one())
    forged = row_hash(row | {"version": "9"})
    alter(history, f"UPDATE aisle_events SET version = '9', hash = '{forged}' WHERE sequence = 2")
    assert history.verify("m") == [
        "row 3 of the history of m does not follow on row 2: one of the two was inserted or altered"
    ]


def test_many_broken_rows_are_counted(history: History) -> None:
    for number in range(12):
        history.append(note(version=str(number)))
    alter(history, "UPDATE aisle_events SET action = 'x'")
    found = history.verify("m")
    assert len(found) == 6
    assert found[-1] == "7 more rows of m do not follow either"


def test_a_cut_end_is_seen_by_what_mlflow_remembers(history: History) -> None:
    for _ in range(3):
        add_version(history.store)
    assert history.verify(NAME) == []
    alter(history, "DELETE FROM aisle_events WHERE sequence = 3")
    assert history.verify(NAME)[0].startswith(
        f"the history of {NAME} ends with row 2, but MLflow remembers row 3"
    )
    alter(history, "DELETE FROM aisle_events")
    assert "ends with row 0, but MLflow remembers row 3" in history.verify(NAME)[0]


def test_a_rewritten_end_is_seen_and_a_kill_before_the_mark_is_not_taken_for_one(history: History) -> None:
    add_version(history.store)
    history.append(note(NAME))  # as where a process is killed before MLflow is told
    assert history.verify(NAME) == []
    history.append(note(NAME))
    assert history.verify(NAME)[0].startswith(
        f"MLflow remembers row 1 as the newest of {NAME}, but rows up to 3"
    )
    history.mark_head(NAME)
    assert history.verify(NAME) == []
    mark = f"3:{'0' * 64}"
    history.store.client.set_registered_model_tag(NAME, HEAD_TAG, mark)
    assert history.verify(NAME) == [
        f"row 3 of the history of {NAME} is not the one that MLflow remembers: it was rewritten"
    ]


# The schema


def test_the_migrations_make_the_table_of_the_code(history: History) -> None:
    with history.engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    assert ScriptDirectory(str(database._MIGRATIONS)).get_current_head() == SCHEMA


def test_a_newer_schema_is_refused_and_left_alone(root: Path, history: History) -> None:
    history.append(note())
    alter(history, f"UPDATE {VERSION_TABLE} SET version_num = '999'")
    with pytest.raises(
        SchemaError, match=r"schema 001 or older in .*, received 999, of a newer Aisle; update this"
    ):
        History.at(Store.at(root))
    assert len(history.events("m")) == 1


def test_an_older_schema_is_upgraded_and_keeps_its_rows(
    root: Path, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.append(note())
    newer = Path(shutil.copytree(database._MIGRATIONS, tmp_path / "100% newer"))
    (newer / "versions" / "v002_more.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nrevision = '002'\ndown_revision = '001'\n\n\n"
        "def upgrade():\n    op.add_column('aisle_events', sa.Column('more', sa.Text))\n"
    )
    monkeypatch.setattr(database, "_MIGRATIONS", newer)
    monkeypatch.setattr(database, "SCHEMA", "002")
    upgraded = History.at(Store.at(root))
    assert upgraded.verify("m") == []
    assert "more" in {column["name"] for column in inspect(upgraded.engine).get_columns("aisle_events")}


def test_a_first_use_that_fails_half_way_leaves_nothing(
    root: Path, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter(history, "DROP TABLE aisle_events", f"DROP TABLE {VERSION_TABLE}")
    broken = Path(shutil.copytree(database._MIGRATIONS, tmp_path / "broken"))
    with (broken / "versions" / "v001_events.py").open("a") as module:
        module.write("    raise OSError('killed here')\n")
    with monkeypatch.context() as patched:
        patched.setattr(database, "_MIGRATIONS", broken)
        with pytest.raises(OSError, match="killed here"):
            History.at(Store.at(root))
    assert inspect(history.engine).get_table_names() == []
    History.at(Store.at(root)).append(note())


# The database


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            "mysql://shop:s3cret@db/x",
            r"of a SQLite file in AISLE_DATABASE_URL, received mysql://shop:\*\*\*@",
        ),
        ("sqlite://", "PostgreSQL or of a SQLite file"),
        ("s3cret", "received one that cannot be read"),
        (
            "postgresql://shop:s3cret@127.0.0.1:9/x?password=s3cret",
            r"shop:\*\*\*@127.0.0.1:9/x failed .*start",
        ),
        ("sqlite:////proc/none/aisle.db?x=s3cret", "restore aisle.db from a backup where it is damaged"),
    ],
)
def test_a_database_that_cannot_be_used_is_a_sentence_without_a_password(
    root: Path, monkeypatch: pytest.MonkeyPatch, given: str, sentence: str
) -> None:
    monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(TrackingError, match=sentence) as raised:
        History.at(Store.at(root))
    assert "s3cret" not in str(raised.value)


def test_a_file_that_is_no_database_is_a_sentence(root: Path) -> None:
    (root / "aisle.db").write_bytes(b"no database" * 1000)
    with pytest.raises(
        TrackingError, match=r"aisle.db failed \(file is not a database\); restore aisle.db from a"
    ):
        History.at(Store.at(root))


def test_a_relative_path_means_the_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "sqlite:///team.db")
    History.at(Store.at(root)).append(note())
    assert (root / "team.db").is_file()
    assert not (root / "aisle.db").exists()


@pytest.mark.parametrize("name", ["100%", "a%41b", "what? x=1", "#1", "é ü", "it's"])
def test_the_project_may_lie_under_any_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / name).mkdir()
    History.at(Store.at(tmp_path / name)).append(note())
    assert [path.parent.name for path in tmp_path.rglob("aisle.db")] == [name]


def test_a_server_needs_a_history_that_everyone_shares(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://shop:s3cret@127.0.0.1:9")
    with pytest.raises(
        TrackingError, match=r"expected AISLE_DATABASE_URL beside an MLflow server \(http://shop:\*\*\*@"
    ):
        History.at(Store.at(root))
    monkeypatch.setenv(VARIABLE, "sqlite:///shared.db")
    assert History.at(Store.at(root)).events("m") == []


def test_the_hash_is_of_all_columns_as_canonical_json() -> None:
    """What another program computes to check the chain: sha256 of the text below."""
    event = note(operation="o", version="1", details={"b": 1, "a": 0.1, "c": float("inf")})
    at = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
    row = make_row(event, sequence=1, previous_hash=FIRST_HASH, at=at)
    content = (
        '{"action":"count","alias":null,"at":"2026-11-25T12:00:00.000000+00:00","by":"anna",'
        '"details":"{\\"a\\":0.1,\\"b\\":1,\\"c\\":\\"inf\\"}","kind":"note","model":"m","operation":"o",'
        f'"previous_hash":"{"0" * 64}","previous_version":null,"reason":"","sequence":1,"version":"1"}}'
    )
    assert row["hash"] == hashlib.sha256(content.encode()).hexdigest()
    assert all(row_hash(row | {name: "x"}) != row["hash"] for name in row if name != "hash")
