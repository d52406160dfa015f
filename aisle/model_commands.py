"""Commands about models: `aisle register`, `serve`, `predict`, and MLflow's `ui`."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from aisle.project import ROOT, data_name, data_of_params, in_words, warn_of_hand_edits


@click.command()
@in_words
def register() -> None:
    """Register the evaluated ensemble as challenger.

    `dvc repro` does it; a fresh clone whose stages are all cached needs this command.
    """
    from pipelines.register import main as run

    warn_of_hand_edits()
    run()


@click.command()
@click.option("--host", default=None, help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, default=None, help="Port to listen on.  [default: 8000]")
@click.option(
    "--data", callback=data_name, help="Serve this data name's champion; default: the one in params.yaml."
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    default=None,
    envvar="AISLE_BUNDLE",  # here already: it needs no project around it
    help="Serve this bundle folder instead.",
)
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default=None)
@in_words
def serve(**options: Any) -> None:
    """Serve the champion over HTTP.

    POST /predict, GET /model, /health/live, /health/ready, /docs.

    Every option can also be an environment variable: AISLE_PORT=8080 aisle serve.
    """
    from service.app import serve as run
    from service.settings import Settings

    given = {name: value for name, value in options.items() if value is not None}
    if "data" not in given and "bundle" not in given:
        given |= data_of_params()
    with suppress(KeyboardInterrupt):  # uvicorn has ended in good order and says so by raising it again
        run(Settings(**given))


@click.command()
@click.argument(
    "photos",
    nargs=-1,
    metavar="[PHOTO]...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--split", metavar="NAME", help="Score this split of params.yaml's data instead of PHOTOs.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Parquet file for --split."
)
@click.option(
    "--submission",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the challenge's CSV, `id,predicted`.",
)
@click.option("--champion", is_flag=True, help="Score --split with the champion, not params.yaml's ensemble.")
@click.option("--top-k", default=5, show_default=True, type=click.IntRange(min=1), help="SKUs per photo.")
@click.option(
    "--data", callback=data_name, help="Use this data name's champion; default: the one in params.yaml."
)
@click.option(
    "--bundle", type=click.Path(path_type=Path), default=None, help="Use this bundle folder instead."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default=None,
    help="Default: auto for PHOTOs, evaluation.precision for --split.",
)
@in_words
def predict(photos: tuple[Path, ...], split: str | None, **options: Any) -> None:
    """Say what is on photos, or score a whole split.

    Each PHOTO is answered by the champion, without a server.

    \b
    aisle predict milk.jpg soup.png
    aisle predict --split test --out test.parquet --submission submission.csv

    A split, unlabelled or not, is scored as `dvc repro` evaluates: with the ensemble that params.yaml's
    recipe made (data/ensembles/<recipe>, nothing needs to be promoted), its views and its merge. --bundle
    and --champion choose another. The Parquet file has photo_id, label (null where unlabelled), classes and
    probabilities (best first), label_name; the CSV each photo's file name and its best class, as the data
    names it.
    """
    if (split is None) == (not photos):
        raise click.UsageError("Give either photos, or --split with --out.")
    if split is None:
        misplaced = [name for name in ("out", "submission", "champion") if options.pop(name)]
        if misplaced:
            raise click.UsageError(f"--{misplaced[0]} goes with --split.")
        _predict_photos(photos, **options)
    else:
        _predict_split(split, **options)


def _fetch_champion(data: str | None) -> Path:
    """The bundle of a data name's champion; says which version it is."""
    from tracking.registry.versions import CHAMPION, download, get_version
    from tracking.store import find_store

    name = data or data_of_params().get("data")
    if name is None:
        raise ValueError("Expected --data or --bundle, or a params.yaml that names the data.")
    store = find_store()
    version = get_version(store, data=name, which=CHAMPION)
    bundle = download(store, version=version)
    click.echo(f"{version.name} version {version.version}")
    return bundle


def _predict_split(
    split: str,
    *,
    out: Path | None,
    submission: Path | None,
    champion: bool,
    bundle: Path | None,
    data: str | None,
    top_k: int,
    precision: Any,
) -> None:
    from aisle.score import find_ensemble, predict_split
    from pipelines.params import load_params

    if out is None:
        raise click.UsageError("--split needs --out FILE.parquet.")
    if data is not None:
        raise click.UsageError("--data goes with PHOTOs: --split scores photos of params.yaml's data.")
    if champion and bundle is not None:
        raise click.UsageError("Give --champion or --bundle, not both.")
    params = load_params(ROOT)
    if champion:
        bundle = _fetch_champion(params.data.name)
    elif bundle is None:
        bundle = find_ensemble(ROOT, recipe=params.recipe.name)
        click.echo(f"{bundle}, the ensemble of params.yaml's recipe")
    if precision is not None:
        evaluation = params.evaluation.model_copy(update={"precision": precision})
        params = params.model_copy(update={"evaluation": evaluation})
    said = predict_split(
        ROOT, params, split=split, bundle=bundle, out=out, submission=submission, top_k=top_k
    )
    click.echo(f"{out}{f', {submission}' if submission else ''}: {said}")


def _predict_photos(
    photos: tuple[Path, ...], *, top_k: int, data: str | None, bundle: Path | None, precision: Any
) -> None:
    from imaging.limits import PhotoError
    from recognition.recognizer import Recognizer

    recognizer = Recognizer(bundle or _fetch_champion(data), precision=precision or "auto")
    refused = 0
    for path in photos:
        try:
            answer = recognizer.predict([path.read_bytes()], top_k=top_k)[0]
        except PhotoError as error:
            click.echo(f"{path}: {error}", err=True)
            refused += 1
            continue
        click.echo(f"{path}")
        for prediction in answer.predictions:
            click.echo(f"  {prediction.probability:6.1%}  {prediction.name}")
    if refused:
        raise ValueError(f"{refused} of {len(photos)} photos could not be read; the reasons stand above.")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=5000, show_default=True, type=int)
@in_words
def ui(host: str, port: int) -> None:
    """Open MLflow's UI on this project's runs and models.

    The address that is printed opens the pipelines of params.yaml's data with their errors; MLflow's own
    first page is about language models.
    """
    from tracking.store import find_store, serve_ui, ui_address

    store = find_store()
    data = data_of_params().get("data")
    if data is not None and store.artifacts is not None:
        click.echo(f"Pipelines and their errors: {ui_address(store, host=host, port=port, data=data)}")
    serve_ui(store, host=host, port=port)


COMMANDS = (register, serve, predict, ui)
