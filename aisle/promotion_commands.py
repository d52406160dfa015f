"""Commands about versions: `aisle promote`, `rollback`, `approve`, `delete`, `versions`, `audit`."""

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from aisle.project import ROOT, data_name, in_words, warn_of_hand_edits


def _for_data(command: Callable[..., None]) -> Callable[..., None]:
    """The option --data."""
    return click.option("--data", callback=data_name, help="Data name; default: the one in params.yaml.")(
        command
    )


def _signed(command: Callable[..., None]) -> Callable[..., None]:
    """The option --by."""
    return click.option("--by", metavar="NAME", help="Who decides; default: git's user name.")(command)


def _data(given: str | None) -> str:
    """The data name: as given, else that of params.yaml, which is read as a whole only if it has none."""
    import yaml

    from pipelines.names import check_name

    if given:
        return given
    try:
        return check_name(yaml.safe_load((ROOT / "params.yaml").read_bytes())["data"]["name"])
    except (OSError, ValueError, TypeError, LookupError, yaml.YAMLError):
        from pipelines.params import load_params  # takes seconds, and says what is wrong

        return load_params(ROOT).data.name


def _person(given: str | None) -> str:
    from tracking.lineage.origin import git_user

    return given or git_user(ROOT)


@click.command()
@_for_data
@_signed
@click.option("--reason", metavar="TEXT", default="", help="Why, for the history.")
@click.option("--force", metavar="REASON", help="Promote although a gate failed, and why; recorded.")
@click.option(
    "--accept-removed",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Accept that it lacks up to N classes of the champion; recorded.",
)
@in_words
def promote(data: str | None, by: str | None, reason: str, force: str | None, accept_removed: int) -> None:
    """Make the challenger the champion if it passes the gates.

    \b
    aisle promote
    aisle promote --by "Anna Berg" --reason "autumn range"
    aisle promote --force "shop 12 needs the new SKUs today"

    If it does not pass, the reasons and exit code 3. Every promotion is a row of the history (`aisle audit`);
    `aisle rollback` goes back. Where MLflow is a server, AISLE_DATABASE_URL names the history's database.
    """
    from aisle.promote import promote_challenger
    from pipelines.params import load_params
    from tracking.registry.versions import get_version, model_name
    from tracking.store import find_store

    if force is not None and not force.strip():
        raise click.UsageError("--force needs a reason, as in --force 'the new SKUs are needed today'.")
    warn_of_hand_edits()
    params = load_params(ROOT)
    data = data or params.data.name
    store = find_store()
    promotion = promote_challenger(
        store,
        data=data,
        evaluation=params.evaluation,
        by=_person(by),
        gates=params.gates,
        duplicates=params.data.duplicates,
        allowed_licences=params.weights.allowed_licences,
        accept_removed=accept_removed,
        reason=reason,
        force=force,
    )
    model = f"{model_name(data)} version {promotion.version}"
    refused = not promotion.moved and promotion.version != promotion.previous_champion
    if promotion.moved:
        before = promotion.previous_champion
        why = f"although a gate failed ({force})" if promotion.forced else "because"
        click.echo(f"{model} is the champion now{f' (before: version {before})' if before else ''}, {why}:")
    else:
        click.echo(f"{model} is not promoted, because:" if refused else f"{model} is the champion already:")
    click.echo("\n".join(f"  - {reason}" for reason in promotion.reasons))
    for role, number in (("challenger", promotion.version), ("champion", promotion.previous_champion)):
        if number is not None:
            click.echo(f"{role}: {get_version(store, data=data, which=number).origin}")
    if refused:
        sys.exit(3)


@click.command()
@click.option("--to", metavar="VERSION", help="The version to go back to; default: the champion before.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for the history.")
@_for_data
@_signed
@in_words
def rollback(to: str | None, reason: str, data: str | None, by: str | None) -> None:
    """Make an earlier champion the champion again.

    \b
    aisle rollback --reason "wrong prices in shop 12"
    aisle rollback --to 7

    Without --to it is the champion before the present one; a second rollback goes one further back, never
    to a version that the first one left. The version's files are checked before anything moves. No gate
    is asked, and the challenger stays.
    """
    from tracking.promotion import rollback as run
    from tracking.registry.versions import model_name
    from tracking.store import find_store

    data = _data(data)
    done = run(find_store(), data=data, by=_person(by), to=to, reason=reason)
    model = f"{model_name(data)} version {done.version}"
    if not done.moved:
        click.echo(f"{model} is the champion already")
        return
    click.echo(f"{model} is the champion again (before: version {done.previous_champion or 'none'})")
    click.echo("\n".join(f"  - {reason}" for reason in done.reasons))


@click.command()
@click.argument("version", required=False)
@click.option("--reason", metavar="TEXT", default="", help="Why, for the history.")
@_for_data
@_signed
@in_words
def approve(version: str | None, reason: str, data: str | None, by: str | None) -> None:
    """Approve VERSION, by default the challenger, for promotion.

    The gate `approval` asks for it where params.yaml wants one. Whoever registered the version cannot
    approve it.
    """
    from tracking.approval import approve as run
    from tracking.store import find_store

    event, is_new = run(find_store(), data=_data(data), by=_person(by), version=version, reason=reason)
    click.echo(event.sentence if is_new else f"{event.sentence} already")


@click.command()
@click.argument("version")
@click.option("--reason", metavar="TEXT", required=True, help="Why, for the history.")
@_for_data
@_signed
@in_words
def delete(version: str, reason: str, data: str | None, by: str | None) -> None:
    """Delete VERSION from the registry.

    Refused while an alias such as champion is on it. Its files stay in the artifact store.
    """
    from tracking.deletion import delete_version
    from tracking.store import find_store

    done = delete_version(find_store(), data=_data(data), version=version, by=_person(by), reason=reason)
    click.echo(done.sentence)


@click.command()
@_for_data
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@in_words
def versions(data: str | None, as_json: bool) -> None:
    """List the registered versions, newest first.

    Aliases, recipe, mean top-1 error, commit, by whom and when.
    """
    from aisle.show_registry import version_as_json, versions_table
    from tracking.registry.listing import list_versions
    from tracking.registry.versions import model_name
    from tracking.store import find_store

    store, data = find_store(), _data(data)
    _adopt(store, data=data, required=False)
    found = list_versions(store, data=data)
    if as_json:
        click.echo(json.dumps([version_as_json(version) for version in found], indent=2))
    elif found:
        click.echo("\n".join(versions_table(found)))
    else:
        click.echo(f"No version of {model_name(data)} is registered yet. Run: dvc repro")


@click.group(invoke_without_command=True)
@_for_data
@click.option("--json", "as_json", is_flag=True, help="All rows and columns, for a program.")
@in_words
def audit(data: str | None, as_json: bool) -> None:
    """Print what happened to the registry: who, when, why.

    One line a promotion, rollback, approval, registration, deletion, or move of an alias outside of Aisle.
    """
    from aisle.show_registry import event_as_json, history_table
    from tracking.registry.versions import model_name
    from tracking.store import find_store

    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        return
    data = _data(data)
    history = _adopt(find_store(), data=data, required=True)
    events = history.events(model_name(data))
    if as_json:
        click.echo(json.dumps([event_as_json(event) for event in events], indent=2))
    elif events:
        click.echo("\n".join(history_table(events)))
    else:
        click.echo(f"Nothing happened to {model_name(data)} yet.")


@audit.command()
@in_words
def verify() -> None:
    """Check that no row of the history was altered.

    Each row holds the hash of the one before; MLflow remembers the newest. Exit code 1 where a row was
    altered, added or is missing, each named.
    """
    from tracking.history.history import History
    from tracking.store import find_store

    history = History.at(find_store())
    models = history.models()
    problems = [problem for model in models for problem in history.verify(model)]
    for model in models:
        count = len(history.events(model)) if not problems else 0
        if count:
            click.echo(f"{model}: {count:,} rows, each follows on the one before")
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        sys.exit(1)
    if not models:
        click.echo(f"The history in {history.shown_url} is empty.")


def _adopt(store: Any, *, data: str, required: bool) -> Any:
    """Adopt what happened outside and say it; the history, None where it is out of reach and not required."""
    from tracking.history.history import History
    from tracking.history.outside import adopt_outside_moves
    from tracking.project import TrackingError

    try:
        history = History.at(store)
        adopted = adopt_outside_moves(history, data=data)
    except TrackingError as error:
        if required:
            raise
        click.secho(f"Moves outside of Aisle are not looked for: {error}", fg="yellow", err=True)
        return None
    for event in adopted:
        click.secho(event.sentence if event.kind == "outside" else event.reason, fg="yellow", err=True)
    return history


COMMANDS = (promote, rollback, approve, versions, audit, delete)
