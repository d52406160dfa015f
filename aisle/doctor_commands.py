"""`aisle doctor`: what is wrong with store, registry and runs, and what to run about it."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from aisle.project import in_words


@click.command()
@click.option("--fix", is_flag=True, help="Mend what is safe to mend; each is said.")
@click.option("--all", "every_version", is_flag=True, help="Check the files of every version.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@in_words
def doctor(fix: bool, every_version: bool, as_json: bool) -> None:
    """Find what is wrong with the store, the registry and the runs.

    \b
    aisle doctor          name it, each with what to run
    aisle doctor --fix    end open operations, record moves outside of Aisle, send waiting events,
                          close orphaned runs, write where a moved checkout is
    aisle doctor --all    hash the files of every version, not only of those behind an alias

    Nothing here deletes a version or changes a row of the history. Exit code 1 where something is wrong.
    """
    from tracking.doctor.examine import examine
    from tracking.store import find_store

    with _progress() as on_version:
        found = examine(find_store(), fix=fix, every_version=every_version, on_version=on_version)
    if as_json:
        content = {
            "findings": [_as_json(finding) for finding in found.findings],
            "fixed": [_as_json(finding) for finding in found.fixed],
            "notes": found.notes,
        }
        click.echo(json.dumps(content, indent=2))
    else:
        for finding in found.fixed:
            click.echo(f"fixed: {finding.kind}: {finding.sentence}")
        for finding in found.findings:
            click.echo(f"{finding.kind}: {finding.sentence}\n    {finding.run}")
        for note in found.notes:
            click.secho(note, fg="yellow", err=True)
        if not found.findings:
            click.echo("Nothing is wrong." if not found.fixed else "Nothing else is wrong.")
    if found.findings:
        sys.exit(1)


def _as_json(finding: Any) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "sentence": finding.sentence,
        "run": finding.run,
        "fixable": finding.fix is not None,
    }


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal's stderr while versions are hashed."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Files of versions", total=None)
        yield lambda number, total: bar.update(task, completed=number, total=total)


COMMANDS = (doctor,)
