"""End to end on synthetic images, as a new user would go: `make demo`.

Runs the recipes plain and loss_guided, the latter with two members and one round of refinement, shows their
errors beside each other, whether the difference may be chance, and what refinement dropped; promotes the
first champion, serves it, sends it photos that no stage has seen, and stops the service.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import polars as pl

from bench.service import running_service
from catalog.sources.synthetic import SyntheticConfig, SyntheticSource, draw_photo
from contracts.evaluation import PREDICTIONS
from pipelines import paths
from pipelines.params import load_params
from recognition.bootstrap import bootstrap_difference

LEFT_OUT = ("converge_b", "converge_c", "refined_c", "record_2", "refined_2a", "refined_2b", "refined_2c")
"""Phases of report B's other seeds and second round, which the demo's minutes do not hold."""
SETTINGS = {
    "plain": (),
    "loss_guided": (
        *(f"~recipe.phases.{name}" for name in LEFT_OUT),
        "~recipe.refinements.low_loss_2",
        # Both members refine one model, and refinement trains on from there: an epoch less before it.
        "recipe.phases.converge_a.epochs=4",
        *(f"recipe.phases.refined_b.{use}=converge_a" for use in ("init", "teacher")),
        "recipe.members=[refined_a,refined_b]",
    ),
}
UNSEEN_SEED = 20_200_614
NUM_UNSEEN = 6


def run(*command: str) -> None:
    """Show a command, run it, and end the demo where it fails."""
    print(f"\n$ {' '.join(command)}", flush=True)
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(f"demo: `{' '.join(command)}` failed with exit code {code}; its message stands above")


def compare_recipes(*, recipe: str, reference: str) -> None:
    """Print how much less a recipe errs than another on the same photos, and whether that may be chance."""
    answers = [
        pl.DataFrame(PREDICTIONS.read(paths.evaluation_folder(name) / "predictions.parquet")).sort("photo_id")
        for name in (recipe, reference)
    ]
    if not answers[0].select("photo_id", "label").equals(answers[1].select("photo_id", "label")):
        sys.exit(f"demo: {recipe} and {reference} were not evaluated on the same photos")
    labels = answers[0]["label"].to_numpy()
    wrong = [table["classes"].list.first().to_numpy() != labels for table in answers]
    gap, low, high = bootstrap_difference(wrong[0], wrong[1], labels)
    verdict = "more than chance" if high < 0 else "within what chance does"
    print(
        f"\n{recipe} - {reference}: mean top-1 error {100 * gap:+.1f} points, 95 % interval "
        f"{100 * low:+.1f} to {100 * high:+.1f} (paired bootstrap over {len(labels)} photos within their "
        f"classes): {verdict}.",
        flush=True,
    )


def ask_about_unseen_photos(client: httpx.Client) -> None:
    """Draw photos that no stage has seen, send them in one request, print the answers."""
    config = load_params().data.options
    assert isinstance(config, SyntheticConfig)
    names = SyntheticSource(config).class_names
    skus = [index * len(names) // NUM_UNSEEN for index in range(NUM_UNSEEN)]
    files = [
        ("photos", (f"{names[sku]}.jpg", draw_photo(config, sku=sku, seed=UNSEEN_SEED + sku), "image/jpeg"))
        for sku in skus
    ]
    print("$ curl -F photos=@... http://.../predict?top_k=2   # photos drawn just now", flush=True)
    answer = client.post("/predict", params={"top_k": 2}, files=files).raise_for_status().json()
    model = answer["model"]
    print(f"{model['name']} version {model['version']}, {answer['took_ms']:.0f} ms")
    for sku, result in zip(skus, answer["results"], strict=True):
        guesses = ", ".join(f"{best['sku']} {best['probability']:.0%}" for best in result["predictions"])
        right = result["predictions"][0]["class_index"] == sku
        print(f"  {'right' if right else 'WRONG'}  shown: {names[sku]:32} said: {guesses}")


def main() -> None:
    """Run both recipes, compare, promote, serve and ask."""
    started = time.monotonic()
    os.chdir(Path(__file__).parent.parent)
    for recipe, settings in SETTINGS.items():
        run("aisle", "use", f"recipe={recipe}", "data=synthetic", "size=tiny", *settings)
        run("dvc", "repro")
    run("aisle", "results")
    compare_recipes(recipe="loss_guided", reference="plain")
    run("aisle", "lists", "score", "low_loss")
    run("aisle", "promote")
    with running_service() as client:
        ask_about_unseen_photos(client)
    print(
        f"\nThe demo took {time.monotonic() - started:.0f} s. "
        "Look around: make ui, make serve, dvc metrics show."
    )


if __name__ == "__main__":
    main()
