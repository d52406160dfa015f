"""Does the service answer what the evaluation said? Photo by photo, with the original files.

    aisle serve --precision float32 &
    python -m bench.parity --precision float32

sends every photo of predictions.parquet, as the source has it and not as the store keeps it, to a running
service and compares top-1 and probabilities. `--upscale 1200` first enlarges each photo to that longer side
and compares with what a store that ingested the enlarged file would give. Exit code 1 without parity.
"""

import argparse
import io
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
from PIL import Image
from tqdm import tqdm

from catalog.sources import make_source
from imaging.storage import to_stored
from pipelines import paths
from pipelines.params import load_params
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
    predictions = pl.read_parquet(paths.evaluation_folder(params.recipe.name) / "predictions.parquet")
    answers = {
        photo_id: (classes[0], probabilities[0])
        for photo_id, classes, probabilities in predictions[:count]
        .select("photo_id", "classes", "probabilities")
        .iter_rows()
    }
    root = None if params.data.root is None else Path(params.data.root)
    for photo in make_source(params.data.layout, root=root, options=params.data.options).photos():
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


def main() -> None:
    """Print how many answers are equal and how far probabilities differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument(
        "--precision", choices=sorted(REQUIRED), required=True, help="what the service computes in"
    )
    parser.add_argument("--count", type=int, default=None, help="only so many photos; default all")
    parser.add_argument(
        "--upscale", type=int, default=None, help="enlarge each photo to this longer side first"
    )
    options = parser.parse_args()
    if options.upscale:
        photos = list(enlarged_photos(options.count, longer_side=options.upscale))
    else:
        photos = list(evaluated_photos(options.count))
    with httpx.Client(base_url=options.url, timeout=60) as client, ThreadPoolExecutor(8) as pool:
        served = client.get("/model").json()
        if served["precision"] != options.precision:
            sys.exit(f"The service computes in {served['precision']}, asked was {options.precision}")
        answers = list(
            tqdm(pool.map(lambda photo: ask(client, photo), photos), total=len(photos), mininterval=2)
        )
    equal = sum(answer["class_index"] == photo.best for answer, photo in zip(answers, photos, strict=True))
    largest = max(
        abs(answer["probability"] - photo.probability)
        for answer, photo in zip(answers, photos, strict=True)
        if answer["class_index"] == photo.best
    )
    share, tolerance = REQUIRED[options.precision]
    print(
        f"{options.precision}: {equal} of {len(photos)} top-1 equal ({equal / len(photos):.2%}), "
        f"largest difference of a probability {largest:.1e}"
    )
    if equal < share * len(photos) or (tolerance is not None and largest > tolerance):
        sys.exit(
            f"Parity does not hold: expected at least {share:.1%} equal"
            + (f" and probabilities within {tolerance:g}" if tolerance else "")
        )


if __name__ == "__main__":
    main()
