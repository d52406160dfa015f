"""Where each stage's outs lie, as dvc.yaml says it: a test holds the two against each other."""

from pathlib import Path

NO_FILE = "conf/nothing.yaml"
"""What an item of params.yaml names where it has no file: DVC's templates know no conditions."""


def code_digest(stage: str) -> str:
    """Digest of the code that a stage runs."""
    return f"data/code/{stage}.txt"


def source_file(data: str) -> str:
    """What the source of a data name had when a stage last looked."""
    return f"data/sources/{data}.json"


def photo_store(data: str) -> str:
    """The photo store of a data name."""
    return f"data/photos/{data}"


def duplicates_folder(data: str) -> str:
    """Exact and near copies among the photos of a data name."""
    return f"data/duplicates/{data}"


def split_folder(data: str) -> str:
    """splits.parquet and classes.json of a data name."""
    return f"data/splits/{data}"


def list_file(data: str, name: str) -> str:
    """A list or refinement list."""
    return f"data/lists/{data}/{name}.parquet"


def out_of_fold_folder(recipe: str) -> str:
    """Out-of-fold predictions: what models of a recipe say of the photos of its lists."""
    return f"data/predictions/{recipe}"


def out_of_fold_file(recipe: str, name: str) -> str:
    """What one model says of the photos of one list."""
    return f"{out_of_fold_folder(recipe)}/{name}.parquet"


def phase_bundle(phase: str) -> str:
    """The bundle that a phase writes."""
    return f"runs/{phase}/bundle"


def loss_log(phase: str) -> str:
    """The loss log that a phase writes."""
    return f"runs/{phase}/loss_log.parquet"


def phase_config(phase: str) -> str:
    """The configuration of a phase, resolved from the recipe's defaults and its difference."""
    return f"data/phases/{phase}.json"


def history(phase: str) -> str:
    """Losses and errors of a phase, epoch by epoch."""
    return f"runs/{phase}/history.csv"


def exploration_folder(recipe: str) -> str:
    """report.html and plots/ of a recipe's photos, lists and refinement rounds."""
    return f"data/exploration/{recipe}"


def feature_bank(recipe: str, member: str) -> str:
    """A member's features on the evaluation split, with a copy of its bundle."""
    return f"data/features/{recipe}/{member}"


def ensemble_bundle(recipe: str) -> str:
    """The bundle of bundles."""
    return f"data/ensembles/{recipe}"


def evaluation_folder(recipe: str) -> Path:
    """The evaluation's predictions.parquet, metrics.json and errors.csv of a recipe."""
    return Path("data/evaluations") / recipe
