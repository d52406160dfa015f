"""`aisle gate`: what the gates answer about a version, without promoting it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aisle.project import ROOT, data_name, in_words

if TYPE_CHECKING:
    from tracking.gates.report import GateReport

_FILE_WIDTH = 120
_COLOURS = {"pass": "green", "fail": "bold red", "not applicable": "dim"}


@click.command()
@click.argument("version", default="challenger")
@click.option("--against", metavar="VERSION", help="Compare with this version; default: the champion.")
@click.option("--data", callback=data_name, help="Data name; default: the one in params.yaml.")
@click.option(
    "--accept-removed",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Accept that it lacks up to N classes of the other one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write it as HTML."
)
@in_words
def gate(version: str, as_json: bool, html: Path | None, **options: Any) -> None:
    """Say what the gates answer about VERSION, and move nothing.

    VERSION and --against are numbers or aliases; the default is the challenger. The limits are `gates:` in
    params.yaml. The report becomes an artifact of the version's run. Exit code 3 where a gate fails.

    \b
    aisle gate
    aisle gate 7 --against 5 --html report.html
    """
    from imaging.atomic_write import write_text
    from tracking.gates.page import render_report

    report = _ask(version, **options)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        write_text(html, render_report(report))
    if as_json:
        click.echo(report.to_json(), nl=False)
    else:
        print_report(report)
        if html is not None:
            click.echo(f"{html} written")
    if not report.passed:
        raise SystemExit(3)


def _ask(version: str, *, against: str | None, data: str | None, accept_removed: int) -> "GateReport":
    from aisle.promote import gate_challenger
    from pipelines.params import load_params
    from tracking.store import find_store

    params = load_params(ROOT)
    report, _ = gate_challenger(
        find_store(),
        data=data or params.data.name,
        evaluation=params.evaluation,
        gates=params.gates,
        duplicates=params.data.duplicates,
        allowed_licences=params.weights.allowed_licences,
        which=version,
        against=against,
        accept_removed=accept_removed,
    )
    return report


def print_report(report: "GateReport") -> None:
    """Print a table of the gates' answers, then the sentences about photos, classes and what was left out."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)
    other = f"compared with version {report.champion}" if report.champion else "without a champion"
    table = Table(title=f"{report.model} version {report.challenger}, {other}", title_justify="left")
    table.add_column("gate", no_wrap=True)
    table.add_column("answer", no_wrap=True)
    table.add_column("found", overflow="fold")
    for answer in report.answers:
        colour = _COLOURS[answer.outcome]
        table.add_row(answer.gate, f"[{colour}]{answer.outcome}[/]", escape(answer.sentence))
    console.print(table)
    for answer in report.answers:
        for text in answer.details:
            click.echo(f"  {answer.gate}: {text}")
    failed = ", ".join(answer.gate for answer in report.failures)
    click.echo(f"Refused by: {failed}" if failed else "It passes. Next: aisle promote")


COMMANDS = (gate,)
