"""Promotion, rollback, approval and deletion over real databases: what moves, is recorded, and is told."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from bench.crash import NAME as CRASHED
from bench.crash import PLACES, Place, make_registry, settle
from tests.tracking.light_registry import NAME, add_version, alias, alter, report, weights_of
from tracking.approval import approve
from tracking.deletion import delete_version
from tracking.history.events import Event, Kind, NewEvent
from tracking.history.history import ConflictError, History
from tracking.history.outside import adopt_outside_moves
from tracking.history.state import aliases_of, approvals, champions, open_operations
from tracking.operations import BlockedError, complete, may_be_running, revert, standing
from tracking.project import TrackingError
from tracking.promotion import Promotion, promote, rollback
from tracking.registry.versions import MissingAlias
from tracking.store import Store

KILLED = """
import sys
from pathlib import Path
from bench.crash import promote_other
promote_other(Path(sys.argv[1]), sys.argv[2])
"""
AT_ONCE = """
import json, sys, time
from pathlib import Path
from bench.crash import passed
from tracking.project import TrackingError
from tracking.promotion import promote
from tracking.store import Store
root, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store, said = Store.at(root), []
store.client.search_registered_models()
for number in range(count):
    (root / f"ready-{number}-{name}").touch()
    deadline = time.monotonic() + 120
    while len(list(root.glob(f"ready-{number}-*"))) < 2:
        assert time.monotonic() < deadline, "the other process has ended"
        time.sleep(0.001)
    try:
        promote(store, data=f"data{number}", gate_result=passed("1", None), by=name)
        said.append("won")
    except TrackingError as error:
        said.append(str(error))
print(json.dumps(said))
"""


@pytest.fixture
def sqlite(root: Path) -> History:
    """A history in aisle.db alone, for what does not depend on the database."""
    return History.at(Store.at(root))


def challenge(history: History) -> Promotion:
    """Register a version and promote it."""
    champion = alias(history.store)
    return promote(
        history.store, data="tiny", gate_result=report(add_version(history.store), champion), by="anna"
    )


class Killed(BaseException):
    """What no `except Exception` catches, as little as it catches a SIGKILL."""


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, call: str, *, after: bool) -> Iterator[None]:
    """Stop at a request to MLflow, before or after it is done."""
    ask = getattr(MlflowClient, call)

    def stop(client: MlflowClient, *arguments: object) -> None:
        if after:
            ask(client, *arguments)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, call, stop)
        with pytest.raises(Killed):
            yield


def said_of(history: History) -> list[tuple[str, str, str | None]]:
    return [(event.kind, event.action, event.version) for event in history.events(NAME)]


# Promotion


def test_a_promotion_is_an_intent_a_move_and_a_result(history: History) -> None:
    add_version(history.store)
    done = promote(
        history.store,
        data="tiny",
        gate_result=report("1", None),
        by="bert",
        reason="autumn",
        report="gates/x",
    )
    assert (done.moved, alias(history.store)) == (True, "1")
    _, intent, result = history.events(NAME)
    assert said_of(history) == [
        ("note", "register", "1"),
        ("intent", "promote", "1"),
        ("result", "promote", "1"),
    ]
    assert intent.operation == result.operation
    assert (result.by, result.reason, result.alias, result.previous_version) == (
        "bert",
        "autumn",
        "champion",
        None,
    )
    assert result.outcome == "completed"
    assert done.event == result
    assert intent.details["gates"]["error"] == {
        "outcome": "pass",
        "sentence": "it is good",
        "numbers": {"difference": -0.25},
    }
    assert (intent.details["report"], intent.details["forced"]) == ("gates/x", False)
    assert len(intent.details["report_digest"]) == 64
    assert history.verify(NAME) == []


def test_a_failed_gate_moves_and_records_nothing_unless_forced(history: History) -> None:
    challenge(history)
    worse = report(add_version(history.store), "1", outcome="fail")
    before = said_of(history)
    assert not promote(history.store, data="tiny", gate_result=worse, by="anna").moved
    assert said_of(history) == before
    done = promote(history.store, data="tiny", gate_result=worse, by="anna", force="shop 12 waits")
    assert (done.moved, done.forced, alias(history.store)) == (True, True, "2")
    intent = history.events(NAME)[-2]
    assert (intent.reason, intent.details["forced"]) == ("shop 12 waits", True)
    assert intent.details["gates"]["error"]["outcome"] == "fail"


def test_force_is_not_recorded_where_the_gates_passed(sqlite: History) -> None:
    add_version(sqlite.store)
    done = promote(
        sqlite.store, data="tiny", gate_result=report("1", None), by="a", reason="b", force="in any case"
    )
    assert (done.forced, sqlite.events(NAME)[-1].reason) == (False, "b")


def test_the_champion_is_not_promoted_again(sqlite: History) -> None:
    challenge(sqlite)
    before = said_of(sqlite)
    assert not promote(sqlite.store, data="tiny", gate_result=report("1", "1"), by="anna").moved
    assert said_of(sqlite) == before


def test_a_champion_that_changed_after_the_gate_is_named_with_who_and_when(sqlite: History) -> None:
    challenge(sqlite)
    challenge(sqlite)
    late = report("2", "1")
    with pytest.raises(
        TrackingError, match=r"version 1 to be the champion.* version 2 now \(anna promoted version 2 at"
    ):
        promote(sqlite.store, data="tiny", gate_result=late, by="bert")


def test_a_request_that_mlflow_refuses_is_recorded_as_failed(
    sqlite: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MlflowException("the disk is full")

    challenge(sqlite)
    add_version(sqlite.store)
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_registered_model_alias", refuse)
        with pytest.raises(TrackingError, match="the disk is full"):
            promote(sqlite.store, data="tiny", gate_result=report("2", "1"), by="anna")
    assert sqlite.events(NAME)[-1].outcome == "failed"
    assert aliases_of(sqlite.events(NAME))["champion"] == alias(sqlite.store) == "1"
    assert promote(sqlite.store, data="tiny", gate_result=report("2", "1"), by="anna").moved


def test_an_answer_that_got_lost_does_not_hide_what_was_done(
    sqlite: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = MlflowClient.set_registered_model_alias

    def answer_lost(client: MlflowClient, *arguments: str) -> None:
        ask(client, *arguments)
        raise MlflowException("timed out")

    add_version(sqlite.store)
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_registered_model_alias", answer_lost)
        with pytest.raises(TrackingError, match=r"timed out.* was done nevertheless, and is recorded"):
            promote(sqlite.store, data="tiny", gate_result=report("1", None), by="anna")
    assert sqlite.events(NAME)[-1].outcome == "completed"
    assert not open_operations(sqlite, NAME)


def test_of_two_who_promote_at_the_same_moment_one_wins_and_the_other_is_told(
    root: Path, history: History
) -> None:
    count = 4
    for number in range(count):
        add_version(history.store, data=f"data{number}")
    both = {
        name: subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, str(root), name, str(count)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("anna", "bert")
    }
    said = {}
    for name, process in both.items():
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        said[name] = json.loads(out)
    for number, answers in enumerate(zip(said["anna"], said["bert"], strict=True)):
        winner, loser = ("anna", "bert") if answers[0] == "won" else ("bert", "anna")
        assert said[winner][number] == "won"
        assert f"{winner} " in said[loser][number]
        assert " version 1 at 20" in said[loser][number]
        model = f"product-recognizer-data{number}"
        promoted = [event for event in history.events(model) if event.action == "promote"]
        assert [(event.kind, event.by) for event in promoted] == [("intent", winner), ("result", winner)]
        assert history.verify(model) == []


# A process that is killed


def test_a_promotion_that_was_killed_is_brought_to_an_end(root: Path, history: History) -> None:
    """One kill at each place, each on another database; `python -m bench.crash` does all of them."""
    first = history.engine.dialect.name == "sqlite"
    place: Place = PLACES[0] if first else PLACES[1]
    make_registry(root)
    command = [sys.executable, "-c", KILLED, str(root), place]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (intent,) = open_operations(history, CRASHED)
    assert standing(history, intent) == ("not done" if first else "done")
    assert not may_be_running(intent)
    assert settle(root, "reverted" if first else "completed") == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("how", [complete, revert])
@pytest.mark.parametrize("action", ["promote", "rollback", "first"])
def test_an_open_move_is_completed_or_reverted(
    root: Path,
    sqlite: History,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
    how: object,
    action: str,
) -> None:
    history = sqlite
    if action != "first":
        challenge(history)
        challenge(history)
    before = alias(history.store)
    call = "set_registered_model_alias"
    if action == "rollback":
        with killed(monkeypatch, call, after=after):
            rollback(history.store, data="tiny", by="anna")
    else:
        wanted = add_version(history.store)
        with killed(monkeypatch, call, after=after):
            promote(history.store, data="tiny", gate_result=report(wanted, before), by="anna")
    (intent,) = open_operations(history, NAME)
    assert may_be_running(intent)  # this process
    with pytest.raises(BlockedError, match=r"no result yet \(anna began to .*run `aisle doctor`"):
        rollback(history.store, data="tiny", by="bert", to="1")
    assert adopt_outside_moves(history, data="tiny") == []
    result = how(history, intent, by="carl")
    assert (result.by, result.details["settled_by"]) == ("carl", "aisle doctor")
    assert alias(history.store) == (intent.version if how is complete else before)
    assert aliases_of(history.events(NAME)).get("champion") == alias(history.store)
    assert adopt_outside_moves(history, data="tiny") == []
    assert not open_operations(history, NAME)
    assert history.verify(NAME) == []


def test_an_alias_that_went_elsewhere_meanwhile_is_reverted_and_adopted(
    sqlite: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = sqlite
    for _ in range(3):
        challenge(history)
    wanted = add_version(history.store)
    with killed(monkeypatch, "set_registered_model_alias", after=True):
        promote(history.store, data="tiny", gate_result=report(wanted, "3"), by="anna")
    history.store.client.set_registered_model_alias(NAME, "champion", "1")
    (intent,) = open_operations(history, NAME)
    with pytest.raises(TrackingError, match="was moved to another version since; revert it instead"):
        complete(history, intent)
    revert(history, intent)
    assert alias(history.store) == "1"
    (adopted,) = adopt_outside_moves(history, data="tiny")
    assert (adopted.previous_version, adopted.version) == ("3", "1")


def test_what_doctor_has_ended_is_not_ended_again_by_its_process(
    sqlite: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, ask = sqlite, MlflowClient.set_registered_model_alias
    add_version(history.store)

    def ask_while_doctor_reverts(client: MlflowClient, *arguments: str) -> None:
        revert(history, open_operations(history, NAME)[0], by="doctor")
        ask(client, *arguments)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", ask_while_doctor_reverts)
    with pytest.raises(ConflictError, match=r"doctor promoted version 1 at .*, which was reverted"):
        promote(history.store, data="tiny", gate_result=report("1", None), by="anna")
    monkeypatch.undo()
    assert adopt_outside_moves(history, data="tiny")[0].version == "1"


# Rollback


def test_rolling_back_twice_goes_two_champions_back(history: History) -> None:
    for _ in range(3):
        challenge(history)
    first = rollback(history.store, data="tiny", by="bert", reason="wrong prices")
    second = rollback(history.store, data="tiny", by="bert")
    assert [(done.version, done.previous_champion) for done in (first, second)] == [("2", "3"), ("1", "2")]
    assert alias(history.store) == "1"
    assert alias(history.store, "challenger") == "3"
    with pytest.raises(MissingAlias, match=r"version 1 is the first that the history knows.*--to VERSION"):
        rollback(history.store, data="tiny", by="bert")
    challenge(history)
    assert rollback(history.store, data="tiny", by="bert").version == "1"
    assert (first.event and first.event.reason) == "wrong prices"
    assert history.verify(NAME) == []


def test_a_rollback_to_any_version(sqlite: History) -> None:
    for _ in range(3):
        challenge(sqlite)
    add_version(sqlite.store)
    assert rollback(sqlite.store, data="tiny", by="a", to="4").moved
    assert rollback(sqlite.store, data="tiny", by="a").version == "2"  # not 3, which was left
    assert not rollback(sqlite.store, data="tiny", by="a", to="2").moved
    with pytest.raises(MissingAlias, match="has no version 9; it has 1, 2, 3, 4"):
        rollback(sqlite.store, data="tiny", by="a", to="9")


def test_a_damaged_bundle_is_not_rolled_back_to(sqlite: History) -> None:
    for _ in range(2):
        challenge(sqlite)
    weights_of(sqlite.store, "1").write_text("other weights")
    before = said_of(sqlite)
    with pytest.raises(TrackingError, match="files there were changed"):
        rollback(sqlite.store, data="tiny", by="a")
    assert (alias(sqlite.store), said_of(sqlite)) == ("2", before)


def test_a_deleted_champion_is_skipped(sqlite: History) -> None:
    for _ in range(3):
        challenge(sqlite)
    delete_version(sqlite.store, data="tiny", version="2", by="anna", reason="its photos were withdrawn")
    done = rollback(sqlite.store, data="tiny", by="a")
    assert done.version == "1"
    assert done.reasons[0] == "version 2, the champion before, was deleted"


PAST = {
    "promotions": ("p1 p2 p3", ["1", "2", "3"]),
    "one back": ("p1 p2 p3 r2", ["1", "2"]),
    "two back, then a new one": ("p1 p2 p3 r2 r1 p4", ["1", "4"]),
    "skipping one": ("p1 p2 p3 r1", ["1"]),
    "to one that never was": ("p1 p2 p3 r9", ["1", "2", "9"]),
    "promoted again": ("p1 p2 p1", ["1", "2", "1"]),
    "promoted again and back": ("p1 p2 p1 r2", ["1", "2"]),
    "back outside": ("p1 p2 p3 o1", ["1"]),
    "on outside": ("p1 o2", ["1", "2"]),
    "removed outside": ("p1 o-", ["1", None]),
    "removed outside and promoted": ("p1 o- p2", ["1", None, "2"]),
}


@pytest.mark.parametrize("case", PAST)
def test_what_a_rollback_goes_back_through(sqlite: History, case: str) -> None:
    moves, expected = PAST[case]
    kinds: dict[str, tuple[Kind, str]] = {
        "p": ("result", "promote"),
        "r": ("result", "rollback"),
        "o": ("outside", "adopt"),
    }
    before: str | None = None
    for move in moves.split():
        kind, action = kinds[move[0]]
        version = None if move[1] == "-" else move[1]
        event = NewEvent(model="m", kind=kind, action=action, by="a", details={"outcome": "completed"})
        sqlite.append(replace(event, alias="champion", version=version, previous_version=before))
        before = version
    assert champions(sqlite.events("m"), alias="champion") == expected


# Outside of Aisle


def test_a_registration_is_not_outside(sqlite: History) -> None:
    add_version(sqlite.store, by="bert")
    add_version(sqlite.store)
    assert adopt_outside_moves(sqlite, data="tiny") == []
    first, second = sqlite.events(NAME)
    assert (first.by, first.action, first.alias, first.version) == ("bert", "register", "challenger", "1")
    assert second.previous_version == "1"


def test_moves_in_mlflow_are_adopted_once(history: History) -> None:
    for _ in range(2):
        challenge(history)
    client = history.store.client
    client.set_registered_model_alias(NAME, "champion", "1")
    client.delete_registered_model_alias(NAME, "challenger")
    adopted = {event.alias: event for event in adopt_outside_moves(history, data="tiny")}
    champion, challenger = adopted["champion"], adopted["challenger"]
    assert (champion.kind, champion.previous_version, champion.version, champion.by) == (
        "outside",
        "2",
        "1",
        "unknown",
    )
    assert champion.sentence.startswith("champion was moved to version 1 outside of Aisle, noticed at 20")
    assert (challenger.version, challenger.reason) == (None, "removed outside of Aisle")
    assert adopt_outside_moves(history, data="tiny") == []
    assert history.verify(NAME) == []


def test_a_champion_deleted_in_mlflow_is_adopted_and_rolled_back_from(sqlite: History) -> None:
    for _ in range(3):
        challenge(sqlite)
    sqlite.store.client.delete_model_version(NAME, "3")
    adopted = adopt_outside_moves(sqlite, data="tiny")
    assert {event.reason for event in adopted} == {"version 3 was deleted outside of Aisle"}
    assert rollback(sqlite.store, data="tiny", by="a").version == "2"


def test_a_champion_from_before_the_history_is_adopted_with_what_its_tags_say(sqlite: History) -> None:
    tags = {
        "aisle.promoted_at": "2026-09-01T10:00:00+00:00",
        "aisle.promoted_by": "greta",
        "aisle.promotion_reason": "no worse",
        "aisle.previous_champion": "1",
    }
    add_version(sqlite.store)
    add_version(sqlite.store, tags=tags)
    sqlite.store.client.set_registered_model_alias(NAME, "champion", "2")
    (event,) = adopt_outside_moves(sqlite, data="tiny")
    assert (event.kind, event.by, event.reason, event.previous_version) == (
        "outside",
        "greta",
        "no worse",
        "1",
    )
    assert event.details["promoted_at"] == "2026-09-01T10:00:00+00:00"
    assert rollback(sqlite.store, data="tiny", by="a").version == "1"


def test_a_history_out_of_reach_does_not_stop_a_registration(
    history: History, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("AISLE_DATABASE_URL", "postgresql://shop:s3cret@127.0.0.1:9/x")
        assert add_version(history.store, by="bert") == "1"
    assert "Version 1 is registered, but its registration is not recorded" in caplog.text
    assert "s3cret" not in caplog.text
    (event,) = adopt_outside_moves(history, data="tiny")
    assert (event.kind, event.by, event.version) == ("outside", "bert", "1")


def test_a_cut_end_is_noted_before_later_rows_hide_it(history: History) -> None:
    challenge(history)
    alter(history, "DELETE FROM aisle_events WHERE sequence = 3")
    revert(history, open_operations(history, NAME)[0])
    notes = [event for event in history.events(NAME) if event.action == "lost"]
    assert notes == []
    alter(history, "DELETE FROM aisle_events WHERE sequence > 1")
    adopt_outside_moves(history, data="tiny")
    (note,) = [event for event in history.events(NAME) if event.action == "lost"]
    assert "ends with row 1, but MLflow remembers row 3" in note.reason
    assert history.verify(NAME) == []


def test_without_a_shared_history_a_server_takes_no_decision(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    store = Store.at(root)
    for decide in (
        lambda: promote(store, data="tiny", gate_result=report("1", None), by="a"),
        lambda: rollback(store, data="tiny", by="a"),
        lambda: approve(store, data="tiny", by="a"),
        lambda: delete_version(store, data="tiny", version="1", by="a", reason="b"),
    ):
        with pytest.raises(TrackingError, match="expected AISLE_DATABASE_URL beside an MLflow server"):
            decide()


# Approval and deletion


def test_an_approval_is_recorded_once_and_never_by_who_registered(history: History) -> None:
    version = add_version(history.store, by="Anna  Berg")
    for name in ("Anna Berg", "anna berg "):
        with pytest.raises(TrackingError, match=r"somebody else to approve version 1 .*, who registered it"):
            approve(history.store, data="tiny", by=name)
    event, is_new = approve(history.store, data="tiny", by="bert", reason="looked at shelf 3")
    again, is_new_again = approve(history.store, data="tiny", by="Bert", version=version)
    assert (is_new, is_new_again, again) == (True, False, event)
    assert approvals(history, NAME, version) == [event]
    assert approvals(history, NAME, "2") == []
    assert (event.kind, event.version, event.alias, event.reason) == (
        "approval",
        "1",
        None,
        "looked at shelf 3",
    )
    assert event.details["registered_by"] == "Anna  Berg"
    assert aliases_of(history.events(NAME)) == {"challenger": "1"}


def test_a_version_behind_an_alias_is_not_deleted(history: History) -> None:
    for _ in range(2):
        challenge(history)
    for version, behind in (("1", "old"), ("2", "challenger and champion")):
        if version == "1":
            history.store.client.set_registered_model_alias(NAME, "old", "1")
        with pytest.raises(
            TrackingError, match=f"version {version} .*, which is the {behind}; promote or roll"
        ):
            delete_version(history.store, data="tiny", version=version, by="a", reason="b")
    assert {event.outcome for event in history.events(NAME) if event.action == "delete"} == {None, "failed"}
    history.store.client.delete_registered_model_alias(NAME, "old")
    event = delete_version(history.store, data="tiny", version="1", by="anna", reason="photos withdrawn")
    assert (event.action, event.outcome, event.reason) == ("delete", "completed", "photos withdrawn")
    with pytest.raises(MissingAlias):
        rollback(history.store, data="tiny", by="a", to="1")
    assert adopt_outside_moves(history, data="tiny") == []
    with pytest.raises(TrackingError, match="expected a reason"):
        delete_version(history.store, data="tiny", version="2", by="a", reason=" ")


@pytest.mark.parametrize("after", [False, True])
def test_an_open_deletion_is_brought_to_an_end(
    sqlite: History, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    history = sqlite
    for _ in range(2):
        challenge(history)
    with killed(monkeypatch, "delete_model_version", after=after):
        delete_version(history.store, data="tiny", version="1", by="a", reason="b")
    (intent,) = open_operations(history, NAME)
    if after:
        with pytest.raises(TrackingError, match="MLflow has deleted it already; complete it instead"):
            revert(history, intent)
        result: Event = complete(history, intent)
    else:
        result = revert(history, intent)
    assert (result.outcome, standing(history, intent)) == (
        ("completed", "done") if after else ("reverted", "not done")
    )
