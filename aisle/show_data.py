"""What `aisle data review` prints: the review that the stage `split` stored, or a look at what is there."""

from pathlib import Path

from catalog.photo_store import STORE_FILE
from catalog.review import REVIEW_FILE, describe_review, load_review, refuse_stops
from catalog.splits import SPLITS_FILE, load_splits
from pipelines import paths
from pipelines.params import load_params
from pipelines.split import review_store


def show_review(root: Path) -> None:
    """Print the review of params.yaml's data; ReviewError, after it, where nothing may be trained on them.

    Before the stage `split` has run it is made of what there is. Raises FileNotFoundError without a store.
    """
    params = load_params(root)
    data, config = params.data.name, params.data.review
    splits = root / paths.split_folder(data)
    if (splits / REVIEW_FILE).exists():
        review, todo = load_review(splits / REVIEW_FILE), ""
    elif (root / paths.photo_store(data) / STORE_FILE).exists():
        made = load_splits(splits) if (splits / SPLITS_FILE).exists() else None
        review = review_store(params, root, splits=made)
        todo = "\nNot reviewed by the stage split yet. Run: dvc repro split"
    else:
        raise FileNotFoundError(
            f"Expected a photo store in {paths.photo_store(data)}, found none. Run: dvc repro split"
        )
    print(describe_review(review, data=data, config=config) + todo)
    refuse_stops(review, data=data)
