"""Commands that put evaluations side by side: `aisle results`, `compare`.

They look at many runs and must answer at once: neither MLflow nor the classes of params.yaml are imported.
"""

import json
from typing import Any

import click

from aisle.project import ROOT, data_name, in_words

PARAMS_FILE = "params.yaml"


@click.command()
@click.option("--data", callback=data_name, help="Data name; default: the one in params.yaml.")
@in_words
def results(data: str | None) -> None:
    """Print the errors of every evaluated recipe.

    Ensembles and members, on the evaluation split, seed by seed.
    """
    from tracking.runs.results import make_table
    from tracking.store import find_store

    click.echo(make_table(find_store(), data=data or _name_in_params("data")))


@click.command()
@click.argument("named", nargs=-1, metavar="[RUN_OR_RECIPE]...")
@click.option("--metric", default=None, help="Default: mean_top1_error, on the evaluation split.")
@click.option("--data", callback=data_name, help="Data name; default: the one in params.yaml.")
@click.option("--size", default=None, help="Size of the recipes; default: the one in params.yaml.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@in_words
def compare(
    named: tuple[str, ...], metric: str | None, data: str | None, size: str | None, as_json: bool
) -> None:
    """Compare recipes over their seeds, each with the first one named.

    \b
    aisle compare plain loss_guided
    aisle compare plain loss_guided --metric tail_top1_error --json
    aisle compare "plain, seed 3, small" "loss_guided, seed 3, small"

    Mean and standard deviation over seeds, and the mean of the differences seed by seed with its 95 %
    interval. A run is named by its name or id in MLflow. Without a name: all recipes of the size.
    """
    from tracking.runs.comparison import METRIC
    from tracking.runs.comparison import compare as run
    from tracking.store import find_store

    found = run(
        find_store(),
        data=data or _name_in_params("data"),
        size=size or _name_in_params("size"),
        named=named,
        metric=metric or METRIC,
    )
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else found.to_text())


def _name_in_params(group: str) -> str:
    """The name of the data or size in params.yaml, read without checking the rest, which takes long."""
    import yaml

    path = ROOT / PARAMS_FILE
    try:
        values: Any = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return str(values[group]["name"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected {group}.name in {path.resolve()}, found none ({error}). Give --{group}, or make the "
            "file with: aisle use recipe=loss_guided data=synthetic"
        ) from error


COMMANDS = (results, compare)
