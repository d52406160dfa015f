"""Does the service answer what the evaluation said? Photo by photo, with the original files: `make bench`.

    python -m bench.parity

serves the ensemble of params.yaml's recipe in float32 and, where this machine has it, in bfloat16, sends it
every photo of predictions.parquet, as the source has it and not as the store keeps it, and compares top-1 and
probabilities. `--upscale 1200` first enlarges each photo to that longer side and compares with what a store
that ingested the enlarged file would give. Exit code 1 where parity does not hold.
"""

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
from PIL import Image
from tqdm import tqdm

from bench.service import running_service
from catalog.sources import make_source
from contracts.evaluation import PREDICTIONS
from imaging.storage import to_stored
from pipelines import paths
from pipelines.params import load_params
from recognition.precision import has_bfloat16
from recognition.recognizer import Recognizer

# float32: every top-1 equal, probabilities to 1e-4. bfloat16: at least 99.5 % of top-1 equal.
REQUIRED = {"float32": (1.0, 1e-4), "bfloat16": (0.995, None)}


@dataclass(frozen=True)
class Expected:
    """What evaluation says of a photo."""

    photo_id: str
    data: bytes
    best: int
    probability: float


def evaluated_photos(count: int | None) -> Iterator[Expected]:
    """The original files of the evaluated photos, with predictions.parquet's answer."""
    params = load_params()
    path = paths.evaluation_folder(params.recipe.name) / "predictions.parquet"
    if not path.exists():
        sys.exit(f"Expected an evaluated experiment with {path}, found none. Run: dvc repro")
    predictions = pl.DataFrame(PREDICTIONS.read(path))
    answers = {
        photo_id: (classes[0], probabilities[0])
        for photo_id, classes, probabilities in predictions[:count]
        .select("photo_id", "classes", "probabilities")
        .iter_rows()
    }
    for photo in make_source(params.data.layout, root=params.data.root, options=params.data.options).photos():
        if photo.photo_id in answers:
            yield Expected(photo.photo_id, photo.read(), *answers.pop(photo.photo_id))
    if answers:
        raise ValueError(
            f"{len(answers)} evaluated photos are not in the source any more, first {min(answers)!r}"
        )


def enlarged_photos(count: int | None, *, longer_side: int) -> Iterator[Expected]:
    """The same photos enlarged, with the answer to what a store would keep of them."""
    params = load_params()
    recognizer = Recognizer(Path(paths.ensemble_bundle(params.recipe.name)), precision="float32")
    for photo in evaluated_photos(count):
        picture = Image.open(io.BytesIO(photo.data)).convert("RGB")
        scale = longer_side / max(picture.size)
        file = io.BytesIO()
        picture.resize((round(picture.width * scale), round(picture.height * scale))).save(
            file, "JPEG", quality=92
        )
        stored = to_stored(file.getvalue(), policy=params.data.storage)
        best = recognizer.predict([stored.data], top_k=1)[0].predictions[0]
        yield Expected(photo.photo_id, file.getvalue(), best.class_index, best.probability)


def ask(client: httpx.Client, photo: Expected) -> dict[str, Any]:
    """The service's best answer to one photo; the service's own sentence when it refuses."""
    response = client.post("/predict", params={"top_k": 1}, files={"photos": (photo.photo_id, photo.data)})
    if response.status_code != 200:
        raise RuntimeError(f"{photo.photo_id}: {response.status_code} {response.text}")
    best: dict[str, Any] = response.json()["results"][0]["predictions"][0]
    return best


def compare(client: httpx.Client, photos: Sequence[Expected]) -> bool:
    """Send the photos, print how many answers are equal and how far probabilities are; True at parity."""
    precision = client.get("/model").raise_for_status().json()["precision"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            tqdm(pool.map(lambda photo: ask(client, photo), photos), total=len(photos), disable=None)
        )
    pairs = list(zip(answers, photos, strict=True))
    equal = sum(answer["class_index"] == photo.best for answer, photo in pairs)
    largest = max(
        (
            abs(answer["probability"] - photo.probability)
            for answer, photo in pairs
            if answer["class_index"] == photo.best
        ),
        default=0.0,
    )
    share, tolerance = REQUIRED[precision]
    holds = equal >= share * len(photos) and (tolerance is None or largest <= tolerance)
    within = f" and probabilities within {tolerance:g}" if tolerance else ""
    print(
        f"{precision}: {equal} of {len(photos)} top-1 equal ({equal / len(photos):.2%}), "
        f"largest difference of a probability {largest:.1e}: parity {'holds' if holds else 'DOES NOT HOLD'} "
        f"(at least {share:.1%} equal{within})"
    )
    return holds


def main() -> None:
    """Compare in each precision, or with the service that --url names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="compare with this running service instead of starting some")
    parser.add_argument("--count", type=int, help="only so many photos; default all")
    parser.add_argument("--upscale", type=int, help="enlarge each photo to this longer side first")
    options = parser.parse_args()
    if options.upscale:
        photos = list(enlarged_photos(options.count, longer_side=options.upscale))
    else:
        photos = list(evaluated_photos(options.count))
    if options.url:
        with httpx.Client(base_url=options.url, timeout=60) as client:
            sys.exit(not compare(client, photos))
    bundle = paths.ensemble_bundle(load_params().recipe.name)
    held = []
    for precision in ("float32", "bfloat16") if has_bfloat16("cpu") else ("float32",):
        with running_service("--bundle", bundle, "--precision", precision) as client:
            held.append(compare(client, photos))
    sys.exit(not all(held))


if __name__ == "__main__":
    main()
