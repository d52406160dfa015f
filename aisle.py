"""Aisle's command line: where the rooms meet a person; each command imports the rooms it needs as it runs."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import click

ROOT = Path()
_TYPED_IN = "aisle.typed_in"
_EDITS_SHOWN = 10


def _in_words(command: Callable[..., None]) -> Callable[..., None]:
    """Run a command from the project's root, wherever it was called; errors become a sentence and exit 1.

    Outside of a project only a command that was given --bundle goes on.
    """

    @wraps(command)
    def run(**options: Any) -> None:
        from pipelines.stage import errors_in_words

        with errors_in_words(click.get_current_context().command_path):
            command(**_enter_project(options))

    return run


def _data_name(_: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """A data name of the command line follows the pattern of those in params.yaml."""
    from pipelines.names import check_name

    try:
        return name if name is None else check_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from error


def _enter_project(options: dict[str, Any]) -> dict[str, Any]:
    """Change to the root of the project around the current folder; typed paths keep their meaning."""
    from tracking.store import find_workspace

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

    click.get_current_context().meta[_TYPED_IN] = here
    return {name: as_typed(value) for name, value in options.items()}


def _list_edits(edits: list[str]) -> None:
    for edit in edits[:_EDITS_SHOWN]:
        click.echo(f"  {edit}", err=True)
    if len(edits) > _EDITS_SHOWN:
        click.echo(f"  and {len(edits) - _EDITS_SHOWN} more", err=True)


def _warn_of_hand_edits() -> None:
    from pipelines.composition import hand_edits

    if edits := hand_edits(ROOT):
        click.secho("params.yaml differs from its composition out of conf/:", fg="yellow", err=True)
        _list_edits(edits)
        click.echo(
            "`dvc repro` runs it as it stands; `aisle use` and `dvc exp run` compose it anew.", err=True
        )


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """From photos to a served product recogniser.

    \b
    aisle use recipe=loss_guided data=synthetic size=tiny   choose the experiment
    dvc repro                                               run it, as far as anything changed
    aisle results                                           errors of every recipe, side by side
    aisle explore                                           look at photos, lists and what refinement drops
    aisle promote                                           challenger to champion, if it passes the gate
    aisle serve                                             answer POST /predict with the champion
    """


@main.command()
@click.argument("choices", nargs=-1, metavar="[GROUP=NAME | KEY=VALUE]...")
@_in_words
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
    from pipelines import composition

    here: Path = click.get_current_context().meta.get(_TYPED_IN, Path.cwd())
    lost = composition.hand_edits(ROOT)
    composed = composition.use(ROOT, overrides=choices, cwd=here)
    if lost:
        click.echo("Replaced values that conf/ does not hold:", err=True)
        _list_edits(lost)
    click.echo(
        f"params.yaml: {' '.join(composition.choices(composed))} seed={composed['seed']}. Now: dvc repro"
    )


@main.command()
@click.option("--data", callback=_data_name, help="Data name; default: the one in params.yaml.")
@_in_words
def results(data: str | None) -> None:
    """Print the errors of every evaluated recipe.

    Ensembles and members, on the evaluation split.
    """
    from pipelines.params import load_params
    from tracking.results import make_table

    _warn_of_hand_edits()
    click.echo(make_table(ROOT.resolve(), data=data or load_params(ROOT).data.name))


@main.command()
@_in_words
def weights() -> None:
    """List the pretrained models that can start here and now.

    Nothing is downloaded.
    """
    from pipelines.show_weights import describe_weights

    click.echo("\n".join(describe_weights(ROOT)))


@main.command()
@_in_words
def register() -> None:
    """Register the evaluated ensemble as challenger.

    `dvc repro` does it; a fresh clone whose stages are all cached needs this command.
    """
    from pipelines.register import main as run

    _warn_of_hand_edits()
    run()


@main.command()
@click.option("--data", callback=_data_name, help="Data name; default: the one in params.yaml.")
@click.option("--by", default=None, help="Who promotes; default: git's user name.")
@_in_words
def promote(data: str | None, by: str | None) -> None:
    """Make the challenger the champion if it passes the gate.

    If it does not, the reason and exit code 3.
    """
    from pipelines.params import load_params
    from pipelines.promote import promote_challenger
    from tracking.registry import get_version, model_name

    _warn_of_hand_edits()
    params = load_params(ROOT)
    data = data or params.data.name
    promotion = promote_challenger(
        ROOT.resolve(),
        data=data,
        evaluation=params.evaluation,
        by=by,
        allowed_licences=params.weights.allowed_licences,
    )
    model = f"{model_name(data)} version {promotion.version}"
    refused = not promotion.moved and promotion.version != promotion.previous_champion
    if promotion.moved:
        before = promotion.previous_champion
        click.echo(f"{model} is the champion now{f' (before: version {before})' if before else ''}, because:")
    else:
        click.echo(f"{model} is not promoted, because:" if refused else f"{model} is the champion already:")
    click.echo("\n".join(f"  - {reason}" for reason in promotion.reasons))
    for role, number in (("challenger", promotion.version), ("champion", promotion.previous_champion)):
        if number is not None:
            click.echo(f"{role}: {get_version(ROOT.resolve(), data=data, which=number).origin}")
    if refused:
        sys.exit(3)


@main.command()
@click.option("--host", default=None, help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, default=None, help="Port to listen on.  [default: 8000]")
@click.option(
    "--data", callback=_data_name, help="Serve this data name's champion; default: the one in params.yaml."
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    default=None,
    envvar="AISLE_BUNDLE",  # here already: it needs no project around it
    help="Serve this bundle folder instead.",
)
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default=None)
@_in_words
def serve(**options: Any) -> None:
    """Serve the champion over HTTP.

    POST /predict, GET /model, /health/live, /health/ready, /docs.

    Every option can also be an environment variable: AISLE_PORT=8080 aisle serve.
    """
    from service.app import serve as run
    from service.settings import Settings

    given = {name: value for name, value in options.items() if value is not None}
    if "data" not in given and "bundle" not in given:
        given |= _data_of_params()
    with suppress(KeyboardInterrupt):  # uvicorn has ended in good order and says so by raising it again
        run(Settings(**given))


def _data_of_params() -> dict[str, str]:
    from pipelines.params import PARAMS_FILE, load_params

    in_environment = any(f"AISLE_{name}" in os.environ for name in ("DATA", "BUNDLE"))
    return (
        {} if in_environment or not (ROOT / PARAMS_FILE).exists() else {"data": load_params(ROOT).data.name}
    )


@main.command()
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
    "--data", callback=_data_name, help="Use this data name's champion; default: the one in params.yaml."
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
@_in_words
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
    from tracking.registry import CHAMPION, download, get_version

    name = data or _data_of_params().get("data")
    if name is None:
        raise ValueError("Expected --data or --bundle, or a params.yaml that names the data.")
    version = get_version(ROOT.resolve(), data=name, which=CHAMPION)
    bundle = download(ROOT.resolve(), version=version)
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
    from pipelines.params import load_params
    from pipelines.score import find_ensemble, predict_split

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


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=5000, show_default=True, type=int)
@_in_words
def ui(host: str, port: int) -> None:
    """Open MLflow's UI on this project's runs and models."""
    from tracking.store import serve_ui

    serve_ui(ROOT.resolve(), host=host, port=port)


@main.command()
@_in_words
def sync() -> None:
    """Send metrics that were kept while the server was down.

    They wait in .aisle/spool.
    """
    from tracking.runs import sync as send

    report = send(ROOT.resolve())
    click.echo(f"{report.num_sent} runs sent, {report.num_left} waiting")
    if report.num_left:
        raise ValueError(f"The MLflow request failed: {report.reason}")


@main.group()
def params() -> None:
    """Look at what params.yaml means."""


@params.command(name="show")
@click.argument("phase")
@_in_words
def show_phase(phase: str) -> None:
    """Print every value of the phase PHASE, and where it is from.

    phase: its own difference. defaults: recipe.defaults. library: the default of training/config/.
    """
    from pipelines.params import load_params
    from pipelines.phases import describe_phase

    _warn_of_hand_edits()
    click.echo("\n".join(describe_phase(load_params(ROOT).recipe, phase)))


@main.group()
def data() -> None:
    """Look at the data of params.yaml as a whole."""


@data.command()
@_in_words
def review() -> None:
    """Print what the stage split found: classes, splits, rows.

    Exit code 1 where it stopped.
    """
    from pipelines.show_data import show_review

    show_review(ROOT)


@main.group()
def photos() -> None:
    """Look at the photo store of params.yaml's data."""


@photos.command()
@_in_words
def check() -> None:
    """Compare every shard with its checksum.

    Damaged ones are named.
    """
    from pipelines.show_photos import check_store

    click.echo(check_store(ROOT))


@photos.command()
@click.option("--show", default=5, show_default=True, type=click.IntRange(min=0), help="Photos of a reason.")
@_in_words
def rejected(show: int) -> None:
    """List rejected files and rows: reason and what to do."""
    from pipelines.show_photos import describe_quarantine

    click.echo("\n".join(describe_quarantine(ROOT, num_shown=show)))


photos.add_command(  # the former name, for one release
    click.Command("quarantine", callback=rejected.callback, params=rejected.params, hidden=True)
)


@photos.command()
@click.option("--show", default=10, show_default=True, type=click.IntRange(min=0), help="Pairs to list.")
@_in_words
def copies(show: int) -> None:
    """Count duplicates and contradicting labels.

    Exact and near-duplicates; those across splits are listed.
    """
    from pipelines.show_photos import describe_copies

    click.echo("\n".join(describe_copies(ROOT, num_shown=show)))


@main.command()
@_in_words
def explore() -> None:
    """Write the report of photos, lists and refinement rounds.

    It is data/exploration/<recipe>/report.html.
    """
    from pipelines.explore import main as run

    _warn_of_hand_edits()
    run()


@main.group()
def lists() -> None:
    """Look at lists, and at what differs between two."""


@lists.command()
@click.argument("name")
@_in_words
def show(name: str) -> None:
    """Print counts, classes and reasons of the list NAME.

    NAME may be of another git revision: main~3:low_loss.
    """
    from pipelines.show_lists import show_list

    click.echo(show_list(ROOT, name=name))


@lists.command()
@click.argument("before")
@click.argument("after")
@click.option("--show", default=10, show_default=True, type=click.IntRange(min=0), help="Photos to name.")
@click.option("--out", type=click.Path(path_type=Path), help="Write all that differs into this Parquet file.")
@_in_words
def diff(before: str, after: str, show: int, out: Path | None) -> None:
    """Say which photos were added and removed between lists.

    From list BEFORE to list AFTER.

    \b
    aisle lists diff full low_loss
    aisle lists diff main~3:low_loss low_loss     the list as it was three commits ago
    """
    from pipelines.show_lists import diff_lists

    click.echo(diff_lists(ROOT, before=before, after=after, num_shown=show, out=out))


@lists.command()
@click.argument("name")
@_in_words
def score(name: str) -> None:
    """Say how many wrong labels the list NAME dropped.

    Precision and recall, where the truth about labels is known.
    """
    from pipelines.show_lists import score_list

    click.echo(score_list(ROOT, name=name))


@main.command()
@_in_words
def schema() -> None:
    """Write params.schema.json, for editors of params.yaml."""
    from imaging.atomic_write import write_text
    from pipelines.params import SCHEMA_FILE, make_schema

    write_text(ROOT / SCHEMA_FILE, make_schema())
    click.echo(f"{SCHEMA_FILE} written")


if __name__ == "__main__":
    main()
