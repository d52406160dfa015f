"""`aisle lineage`: how a version was made, and which versions learnt from a photo."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import click

from aisle.project import ROOT, data_name, data_of_params, in_words

NEAR_BITS = 2
_WIDTH_OF_A_FILE = 200


@click.command()
@click.argument("version", required=False)
@click.option(
    "--photo",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Instead: which versions learnt from this photo, and through which lists.",
)
@click.option(
    "--near",
    type=click.IntRange(0, 16),
    is_flag=False,
    flag_value=NEAR_BITS,
    metavar="[BITS]",
    help=f"With --photo: also photos whose perceptual hash differs in at most BITS bits.  [{NEAR_BITS}]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, whose form docs/lineage.md describes.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page to look at."
)
@click.option(
    "--data",
    callback=data_name,
    help="Data name; default: the one in params.yaml, with --photo: all.",
)
@in_words
def lineage(
    version: str | None,
    photo: Path | None,
    near: int | None,
    as_json: bool,
    html: Path | None,
    data: str | None,
) -> None:
    """Show how a version was made.

    Members, phases, lists, weights, data, code, environment.

    VERSION is a number, an alias, or <model>/<number>; default: the champion, else the challenger. All comes
    from what is stored with the version, so the data need not be here.

    With --photo FILE: which versions learnt from the photo with these bytes, directly or through a version
    that they started from, which only evaluated on it, and what is not known.
    """
    if photo is not None:
        if version is not None or html is not None:
            raise click.UsageError(f"{'VERSION' if version else '--html'} does not go with --photo.")
        _show_photo(photo, near=near, as_json=as_json, data=data)
        return
    if near is not None:
        raise click.UsageError("--near goes with --photo.")
    if as_json and html is not None:
        raise click.UsageError("Give --json or --html, not both.")
    _show_version(version, as_json=as_json, html=html, data=data)


def _show_version(named: str | None, *, as_json: bool, html: Path | None, data: str | None) -> None:
    from imaging.atomic_write import write_text
    from tracking.lineage.lines import make_tree
    from tracking.lineage.page import to_html, to_tree
    from tracking.lineage.tree import load_lineage
    from tracking.registry.versions import (
        CHALLENGER,
        MODEL_PREFIX,
        find_champion,
        get_version,
    )
    from tracking.store import find_store

    if named is not None and "/" in named:
        model, named = named.split("/", maxsplit=1)
        data = model.removeprefix(MODEL_PREFIX)
    data = data or data_of_params().get("data")
    if data is None:
        raise ValueError("Expected --data, or a params.yaml that names the data.")
    store = find_store()
    found = find_champion(store, data=data) if named is None else None
    found = found or get_version(store, data=data, which=named or CHALLENGER)
    made = load_lineage(store, version=found)
    if as_json:
        click.echo(json.dumps(made.to_json(), indent=1, ensure_ascii=False))
    elif html is not None:
        write_text(html, to_html(made))
        click.echo(f"{html}: {found.name} version {found.version}")
    else:
        from rich.console import Console

        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH_OF_A_FILE
        Console(width=width, highlight=False).print(to_tree(make_tree(made)))


def _show_photo(path: Path, *, near: int | None, as_json: bool, data: str | None) -> None:
    from tqdm import tqdm

    from aisle.show_lineage import describe_report, read_photo, refuse_what_is_no_photo
    from tracking.lineage.photos import find_photo
    from tracking.store import find_store

    photo, problem = read_photo(ROOT, path)
    with tqdm(desc="versions", unit="version", delay=1, leave=False, disable=None) as bar:

        def count(total: int) -> None:
            bar.total = total
            bar.update()

        report = find_photo(find_store(), photo, data=data, near=near, on_version=count)
    refuse_what_is_no_photo(report, path=path, problem=problem)
    if not report.uses:
        raise ValueError(
            "Expected registered versions to ask about the photo, found none"
            f"{f' of data {data}' if data else ''}: run `dvc repro` to make one, or correct --data."
        )
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1, ensure_ascii=False))
    else:
        click.echo("\n".join(describe_report(report)))


COMMANDS = (lineage,)
