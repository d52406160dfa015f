"""What every command does first: find the project around the current folder, and say errors in words."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

ROOT = Path()
"""The project's root, which commands run in."""
TYPED_IN = "aisle.typed_in"
_EDITS_SHOWN = 10


def in_words(command: Callable[..., None]) -> Callable[..., None]:
    """Run a command from the project's root, wherever it was called; errors become a sentence and exit 1.

    Outside of a project only a command that was given --bundle goes on.
    """

    @wraps(command)
    def run(**options: Any) -> None:
        from pipelines.stage import errors_in_words

        with errors_in_words(click.get_current_context().command_path):
            command(**_enter_project(options))

    return run


def data_name(_: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """A data name of the command line follows the pattern of those in params.yaml."""
    from pipelines.names import check_name

    try:
        return name if name is None else check_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from error


def _enter_project(options: dict[str, Any]) -> dict[str, Any]:
    """Change to the root of the project around the current folder; typed paths keep their meaning."""
    from tracking.project import find_workspace

    try:
        here, root = Path.cwd(), find_workspace()
    except FileNotFoundError:
        if options.get("bundle") is None:
            raise
        return options
    if root == here.resolve():
        return options
    os.chdir(root)

    def as_typed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(as_typed(item) for item in value)
        return here / value if isinstance(value, Path) else value

    click.get_current_context().meta[TYPED_IN] = here
    return {name: as_typed(value) for name, value in options.items()}


def list_edits(edits: list[str]) -> None:
    """Print the first hand edits of params.yaml."""
    for edit in edits[:_EDITS_SHOWN]:
        click.echo(f"  {edit}", err=True)
    if len(edits) > _EDITS_SHOWN:
        click.echo(f"  and {len(edits) - _EDITS_SHOWN} more", err=True)


def warn_of_hand_edits() -> None:
    """Say where params.yaml is not what conf/ composes."""
    from aisle.composition import hand_edits

    if edits := hand_edits(ROOT):
        click.secho("params.yaml differs from its composition out of conf/:", fg="yellow", err=True)
        list_edits(edits)
        click.echo("`dvc repro` runs it as it stands; `aisle use` and `dvc exp run` replace it.", err=True)


def data_of_params() -> dict[str, str]:
    """The setting `data` of params.yaml; nothing where the environment says it, or outside of a project."""
    from pipelines.params import PARAMS_FILE, load_params

    in_environment = any(f"AISLE_{name}" in os.environ for name in ("DATA", "BUNDLE"))
    return (
        {} if in_environment or not (ROOT / PARAMS_FILE).exists() else {"data": load_params(ROOT).data.name}
    )
