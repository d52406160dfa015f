"""Proof that a change of the code changes no result: every recipe, shrunken, before and after.

    python -m bench.same_results --save .aisle/before.json       # on the commit before
    python -m bench.same_results --compare .aisle/before.json    # on the commit after

Runs `dvc repro evaluate` of each recipe of conf/ on the same few synthetic images (bench.shrunken) in a copy
of this checkout, one thread, and hashes what came out: weights, lists, loss logs, splits, features,
predictions, metrics. Tables are compared by their columns and rows, whatever metadata their files carry;
config.json without its fingerprint, which follows the layout of params.yaml.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench.rows import environment
from bench.shrunken import make_photos, shrink
from bench.study_runs import ROOT, copy_checkout
from bench.warm_python import warm_python

COMPARED = ("runs", "data/splits", "data/lists", "data/predictions", "data/features", "data/ensembles")
COMPARED += ("data/evaluations",)


def digest_file(path: Path) -> str:
    """SHA-256 of what a file says."""
    if path.suffix == ".parquet":
        rows = repr(pq.read_table(path).to_pydict())  # not buffers: what lies under a null is arbitrary
        return hashlib.sha256(rows.encode()).hexdigest()
    if path.suffix == ".json":
        content = _without(json.loads(path.read_text(encoding="utf-8")), "fingerprint")
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _without(content: Any, key: str) -> Any:
    if isinstance(content, dict):
        return {name: _without(value, key) for name, value in content.items() if name != key}
    return [_without(value, key) for value in content] if isinstance(content, list) else content


def run_recipe(checkout: Path, recipe: str, *, photos: Path, python: Path) -> dict[str, str]:
    """Run a recipe; the digest of each file it made, by its path in the checkout."""
    for folder in COMPARED:
        shutil.rmtree(checkout / folder, ignore_errors=True)
    use = ("python", "-m", "aisle", "use", *shrink(f"recipe={recipe}"), f"data.root={photos}")
    for command in (use, ("dvc", "repro", "evaluate")):
        done = subprocess.run(
            command, cwd=checkout, env=environment(python), capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"same_results: {recipe}: {' '.join(command)} failed\n{done.stdout}{done.stderr}")
    files = sorted(path for folder in COMPARED for path in (checkout / folder).rglob("*") if path.is_file())
    return {
        path.relative_to(checkout).as_posix(): digest_file(path)
        for path in files
        if path.name != ".gitignore"
    }


def compare(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """A line for each file that is not the same, was not there before or is not there any more."""
    lines = [f"removed  {path}" for path in before if path not in after]
    lines += [f"added    {path}" for path in after if path not in before]
    return lines + [f"differs  {path}" for path in before if after.get(path, before[path]) != before[path]]


def main() -> None:
    """Run the recipes, then save or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--recipes", nargs="*", default=sorted(p.stem for p in (ROOT / "conf/recipe").glob("*.yaml"))
    )
    parser.add_argument("--save", type=Path, help="file for the digests")
    parser.add_argument("--compare", type=Path, help="file of digests to compare with")
    options = parser.parse_args()
    if (options.save is None) == (options.compare is None):
        parser.error("expected one of --save and --compare")
    before = json.loads(options.compare.read_text(encoding="utf-8")) if options.compare else {}
    after, same = {}, True
    with tempfile.TemporaryDirectory() as folder, warm_python(Path(folder) / "python") as python:
        make_photos(Path(folder) / "photos")
        copy_checkout(Path(folder) / "checkout")
        for recipe in options.recipes:
            after[recipe] = run_recipe(
                Path(folder) / "checkout", recipe, photos=Path(folder) / "photos", python=python
            )
            if options.save:
                print(f"{recipe}: {len(after[recipe])} files", flush=True)
                continue
            if recipe not in before:
                sys.exit(
                    f"same_results: {options.compare} has no recipe {recipe}; it has {', '.join(before)}"
                )
            changes = compare(before[recipe], after[recipe])
            same = same and not changes
            print(
                f"{recipe}: {len(after[recipe])} files, {'the same' if not changes else 'NOT the same'}",
                flush=True,
            )
            print(*(f"  {line}" for line in changes), sep="\n", end="\n" if changes else "", flush=True)
    if options.save:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(json.dumps(after, indent=1) + "\n", encoding="utf-8")
    sys.exit(not same)


if __name__ == "__main__":
    main()
