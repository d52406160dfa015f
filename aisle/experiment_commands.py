"""Commands about the experiment: `aisle use`, `params show`, `explore`, `schema`, `sync`."""

from pathlib import Path

import click

from aisle.project import ROOT, TYPED_IN, in_words, list_edits, warn_of_hand_edits


@click.command()
@click.argument("choices", nargs=-1, metavar="[GROUP=NAME | KEY=VALUE]...")
@in_words
def use(choices: tuple[str, ...]) -> None:
    """Compose params.yaml from conf/ without running anything.

    `dvc repro` then runs it.

    \b
    aisle use recipe=plain data=grocery size=small
    aisle use recipe=loss_guided recipe.phases.record.epochs=5 seed=7
    aisle use data=image_folder data.name=shop_a data.root="/photos/shop (a)"

    A group that is not named goes back to its default. Edits made in params.yaml by hand are lost. A path is
    taken as it is typed, ~ is the home folder, and a relative one means the folder you are in.
    """
    from aisle import composition

    here: Path = click.get_current_context().meta.get(TYPED_IN, Path.cwd())
    lost = composition.hand_edits(ROOT)
    composed = composition.use(ROOT, overrides=choices, cwd=here)
    if lost:
        click.echo("Replaced values that conf/ does not hold:", err=True)
        list_edits(lost)
    click.echo(
        f"params.yaml: {' '.join(composition.choices(composed))} seed={composed['seed']}. Now: dvc repro"
    )


@click.group()
def params() -> None:
    """Look at what params.yaml means."""


@params.command(name="show")
@click.argument("phase")
@in_words
def show_phase(phase: str) -> None:
    """Print every value of the phase PHASE, and where it is from.

    phase: its own difference. defaults: recipe.defaults. library: the default of training/config/.
    """
    from pipelines.params import load_params
    from pipelines.phases import describe_phase

    warn_of_hand_edits()
    click.echo("\n".join(describe_phase(load_params(ROOT).recipe, phase)))


@click.command()
@in_words
def explore() -> None:
    """Write the report of photos, lists and refinement rounds.

    It is data/exploration/<recipe>/report.html.
    """
    from pipelines.explore import main as run

    warn_of_hand_edits()
    run()


@click.command()
@in_words
def schema() -> None:
    """Write conf/params.schema.json, for editors of params.yaml."""
    from imaging.atomic_write import write_text
    from pipelines.params import SCHEMA_FILE, make_schema

    write_text(ROOT / SCHEMA_FILE, make_schema())
    click.echo(f"{SCHEMA_FILE} written")


@click.command()
@in_words
def sync() -> None:
    """Send metrics that were kept while the server was down.

    They wait in .aisle/spool.
    """
    from tracking.runs.run_log import sync as send
    from tracking.store import find_store

    report = send(find_store())
    click.echo(f"{report.num_sent} runs sent, {report.num_left} waiting")
    if report.num_left:
        raise ValueError(f"The MLflow request failed: {report.reason}")


COMMANDS = (use, params, explore, schema, sync)
