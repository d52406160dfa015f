"""Is a promotion whose process is killed always brought to an end?

    python -m bench.crash --kills 20

promotes one version after the other over the same registry. Each promotion is a process of its own that is
ended by SIGKILL at the request that moves the alias: once before MLflow has it (the intent is there, the
alias is not), once after (the alias is there, the result is not). Then, in another process, an ordinary
promotion must be refused, and what `aisle doctor` calls (`complete` and `revert` by turns) must leave the
alias where the history says, no operation open, and a chain that verifies. On SQLite and on PostgreSQL, which
hold MLflow's tables and the history's.

Exit code 1 where one does not. Every process is forked from one that has used MLflow on another database,
which is most of what a start costs.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, text

from tests.servers import postgres
from tracking.gates.report import GateAnswer, GateReport
from tracking.history.database import VARIABLE
from tracking.history.history import History
from tracking.history.state import aliases_of, open_operations
from tracking.operations import BlockedError, complete, revert
from tracking.promotion import promote
from tracking.registry.listing import load_model
from tracking.registry.versions import CHALLENGER, CHAMPION, model_name
from tracking.store import Store

Place = Literal["intent, then killed", "alias, then killed"]
PLACES: tuple[Place, ...] = ("intent, then killed", "alias, then killed")
DATA = "crash"
NAME = model_name(DATA)
FORK = multiprocessing.get_context("fork")


def in_process(work: Callable[..., Any], *arguments: Any) -> tuple[int, Any]:
    """Run a function in a process of its own: its exit code (negative: the signal) and what it returned."""
    mine, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_answer, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        answer = mine.recv()
    except EOFError:
        answer = None
    process.join()
    return process.exitcode or 0, answer


def _answer(pipe: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send(work(*arguments))
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def passed(challenger: str, champion: str | None) -> GateReport:
    """A report of gates that all passed."""
    answer = GateAnswer(gate="error", outcome="pass", sentence="no worse", numbers={"difference": 0.0})
    return GateReport(challenger=challenger, champion=champion, answers=(answer,))


@contextmanager
def killed_at(place: Place) -> Iterator[None]:
    """End this process by SIGKILL when MLflow is asked to move an alias, before or after it is done."""
    ask = MlflowClient.set_registered_model_alias

    def ask_and_die(client: MlflowClient, *arguments: Any) -> None:
        if place == "alias, then killed":
            ask(client, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    MlflowClient.set_registered_model_alias = ask_and_die
    try:
        yield
    finally:
        MlflowClient.set_registered_model_alias = ask


def make_registry(root: Path) -> None:
    """Two registered versions, of which the first is promoted and the second is the challenger."""
    store = Store.at(root)
    store.client.create_registered_model(NAME)
    for version in ("1", "2"):
        store.client.create_model_version(NAME, source=str(root), tags={"aisle.registered_by": "anna"})
        store.client.set_registered_model_alias(NAME, CHALLENGER, version)
        if version == "1":
            promote(store, data=DATA, gate_result=passed("1", None), by="anna")


def promote_other(root: Path, place: Place | None) -> str:
    """Promote the version that is not the champion, as far as the process lives; says why it was refused."""
    store = Store.at(root)
    champion = load_model(store, name=NAME).aliases[CHAMPION]
    other = "2" if champion == "1" else "1"
    store.client.set_registered_model_alias(NAME, CHALLENGER, other)
    with ExitStack() as stack:
        if place is not None:
            stack.enter_context(killed_at(place))
        try:
            promote(store, data=DATA, gate_result=passed(other, champion), by="anna")
        except BlockedError as error:
            return str(error)
    return ""


def settle(root: Path, how: str) -> list[str]:
    """Be refused, then end the open operation as `aisle doctor` does; what is wrong afterwards."""
    refusal = promote_other(root, None)
    history = History.at(Store.at(root))
    found = open_operations(history, NAME)
    if len(found) != 1:
        return [f"{len(found)} operations were open instead of one"]
    intent = found[0]
    result = complete(history, intent) if how == "completed" else revert(history, intent)
    wanted = intent.version if how == "completed" else intent.previous_version
    now = load_model(history.store, name=NAME).aliases[CHAMPION]
    problems = history.verify(NAME)
    if "aisle doctor" not in refusal:
        problems.append("a promotion was not refused")
    if result.outcome != how:
        problems.append(f"the result says {result.outcome}")
    if not now == wanted == aliases_of(history.events(NAME))[CHAMPION]:
        problems.append(f"the champion is version {now}, not {wanted}")
    if open_operations(history, NAME):
        problems.append("an operation is still open")
    return problems


def crash(root: Path, place: Place, *, how: str) -> list[str]:
    """One promotion killed, then the next process; what went wrong."""
    code, _ = in_process(promote_other, root, place)
    if code != -signal.SIGKILL:
        return [f"the promotion ended with {code} instead of being killed"]
    code, problems = in_process(settle, root, how)
    return problems if code == 0 else [f"the process after it ended with {code}"]


@contextmanager
def database(kind: str, root: Path) -> Iterator[None]:
    """MLflow's store and the history on one kind of database, by the variables that a user would set."""
    kept = {name: os.environ.pop(name, None) for name in ("MLFLOW_TRACKING_URI", VARIABLE)}
    with ExitStack() as stack:
        if kind == "PostgreSQL":
            server = stack.enter_context(postgres())
            engine = create_engine(server, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text("CREATE DATABASE mlflow"))
            engine.dispose()
            os.environ["MLFLOW_TRACKING_URI"] = server.replace("/postgres", "/mlflow")
            os.environ[VARIABLE] = server
        try:
            code, _ = in_process(make_registry, root)
            assert code == 0, f"the registry could not be made: exit code {code}"
            yield
        finally:
            for name, value in kept.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def warm_up() -> None:
    """Let MLflow load here what each process would load again."""
    kept = {name: os.environ.pop(name, None) for name in ("MLFLOW_TRACKING_URI", VARIABLE)}
    with tempfile.TemporaryDirectory() as folder:
        make_registry(Path(folder))
    os.environ.update({name: value for name, value in kept.items() if value is not None})


def main() -> None:
    """Crash promotions and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="at each place, on each database")
    kills = parser.parse_args().kills
    names = ("database", "place", "kills", "completed", "reverted", "wrong", "seconds")
    table = Table(*names, title="Promotions ended by SIGKILL, then brought to an end as aisle doctor does")
    everything: list[str] = []
    warm_up()
    for kind in ("SQLite", "PostgreSQL"):
        with tempfile.TemporaryDirectory() as folder, database(kind, Path(folder)):
            for place in PLACES:
                started, count, wrong = time.monotonic(), {"completed": 0, "reverted": 0}, list[str]()
                for number in range(kills):
                    how = ("completed", "reverted")[number % 2]
                    problems = crash(Path(folder), place, how=how)
                    wrong += problems
                    count[how] += not problems
                seconds = time.monotonic() - started
                counts = (kills, count["completed"], count["reverted"], len(wrong))
                table.add_row(kind, place, *map(str, counts), f"{seconds:.0f}")
                everything += [f"{kind}, {place}: {problem}" for problem in wrong]
    Console(width=110).print(table)
    if everything:
        sys.exit("\n".join(everything))


if __name__ == "__main__":
    main()
