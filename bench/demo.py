"""The whole way on drawn photos, as a new user would walk it: `make demo`.

Runs the recipes plain and loss_guided, shows their errors beside each other and what refinement dropped,
promotes the first champion, serves it, sends it photos that no stage has seen, and stops the service.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from bench.service import running_service
from catalog.sources.synthetic import SyntheticSource, draw_photo, make_synthetic_config
from pipelines.params import load_params

RECIPES = ("plain", "loss_guided")
UNSEEN_SEED = 20_200_614
NUM_UNSEEN = 6


def run(*command: str) -> None:
    """Show a command, run it, and end the demo where it fails."""
    print(f"\n$ {' '.join(command)}", flush=True)
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(f"demo: `{' '.join(command)}` failed with exit code {code}; its message stands above")


def ask_about_unseen_photos(client: httpx.Client) -> None:
    """Draw photos that no stage has seen, send them in one request, print the answers."""
    config = make_synthetic_config(load_params().data.options)
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
    """Walk the whole way."""
    started = time.monotonic()
    os.chdir(Path(__file__).parent.parent)
    for recipe in RECIPES:
        run("aisle", "use", f"recipe={recipe}", "data=synthetic", "size=tiny")
        run("dvc", "repro")
    run("aisle", "results")
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
