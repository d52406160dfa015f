"""Commands that look at what an experiment is made from: `aisle data`, `photos`, `lists`, `weights`."""

from pathlib import Path

import click

from aisle.project import ROOT, in_words


@click.group()
def data() -> None:
    """Look at the data of params.yaml as a whole."""


@data.command()
@in_words
def review() -> None:
    """Print what the stage split found: classes, splits, rows.

    Exit code 1 where it stopped.
    """
    from aisle.show_data import show_review

    show_review(ROOT)


@click.group()
def photos() -> None:
    """Look at the photo store of params.yaml's data."""


@photos.command()
@in_words
def check() -> None:
    """Compare every shard with its checksum.

    Damaged ones are named.
    """
    from aisle.show_photos import check_store

    click.echo(check_store(ROOT))


@photos.command()
@click.option("--show", default=5, show_default=True, type=click.IntRange(min=0), help="Photos of a reason.")
@in_words
def rejected(show: int) -> None:
    """List rejected files and rows: reason and what to do."""
    from aisle.show_photos import describe_quarantine

    click.echo("\n".join(describe_quarantine(ROOT, num_shown=show)))


photos.add_command(  # the former name, for one release
    click.Command("quarantine", callback=rejected.callback, params=rejected.params, hidden=True)
)


@photos.command()
@click.option("--show", default=10, show_default=True, type=click.IntRange(min=0), help="Pairs to list.")
@in_words
def copies(show: int) -> None:
    """Count duplicates and contradicting labels.

    Exact and near-duplicates; those across splits are listed.
    """
    from aisle.show_photos import describe_copies

    click.echo("\n".join(describe_copies(ROOT, num_shown=show)))


@click.group()
def lists() -> None:
    """Look at lists, and at what differs between two."""


@lists.command()
@click.argument("name")
@in_words
def show(name: str) -> None:
    """Print counts, classes and reasons of the list NAME.

    NAME may be of another git revision: main~3:low_loss.
    """
    from aisle.show_lists import show_list

    click.echo(show_list(ROOT, name=name))


@lists.command()
@click.argument("before")
@click.argument("after")
@click.option("--show", default=10, show_default=True, type=click.IntRange(min=0), help="Photos to name.")
@click.option("--out", type=click.Path(path_type=Path), help="Write all that differs into this Parquet file.")
@in_words
def diff(before: str, after: str, show: int, out: Path | None) -> None:
    """Say which photos were added and removed between lists.

    From list BEFORE to list AFTER.

    \b
    aisle lists diff full low_loss
    aisle lists diff main~3:low_loss low_loss     the list as it was three commits ago
    """
    from aisle.show_lists import diff_lists

    click.echo(diff_lists(ROOT, before=before, after=after, num_shown=show, out=out))


@lists.command()
@click.argument("name")
@in_words
def score(name: str) -> None:
    """Say how many wrong labels the list NAME dropped.

    Precision and recall, where the truth about labels is known.
    """
    from aisle.show_lists import score_list

    click.echo(score_list(ROOT, name=name))


@click.command()
@in_words
def weights() -> None:
    """List the pretrained models that can start here and now.

    Nothing is downloaded.
    """
    from aisle.show_weights import describe_weights

    click.echo("\n".join(describe_weights(ROOT)))


COMMANDS = (data, photos, lists, weights)
