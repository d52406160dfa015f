"""What does each recipe gain, and what does it cost? Five recipes, three seeds, on real photos.

    python -m bench.study                  # about an hour on 2 cores: grocery at size=study, seeds 0, 1, 2
    python -m bench.study --recipes plain bsce --seeds 0 --data synthetic --size tiny

Each run is the real pipeline, `aisle use recipe=R data=grocery size=study seed=S` and `dvc repro evaluate`,
in its own copy of this checkout under --folder; runs go side by side, one thread each. A second call goes on
where the first was stopped; finished runs are only read. Prints, and writes as Markdown into --folder, the
ensembles' errors on the evaluation split with their spread over the seeds, and each recipe beside plain, seed
by seed. Times are those of the whole pipeline without ingest: of all its processes (CPU), and beside the
other jobs (wall). Exit code 1 where a run failed.
"""

import argparse
import math
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev

import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from bench.study_runs import ROOT, Result, RunError, Study
from contracts.values import GROUPS

RECIPES = ("plain", "bsce", "loss_guided", "winner", "rebalanced")
REFERENCE = "plain"
CONFIDENCE = 0.95
HEADINGS = (
    "recipe",
    "mean top-1 error",
    "range",
    "top-1 error",
    *GROUPS,
    "members",
    "wall minutes",
    "CPU minutes",
)


def num_phases(recipe: str) -> int:
    """How many phases a recipe trains: what its time is nearly proportional to."""
    text = (ROOT / "conf/recipe" / f"{recipe}.yaml").read_text(encoding="utf-8")
    return len(yaml.safe_load(text)["recipe"]["phases"])


def run_all(study: Study, *, recipes: Sequence[str], seeds: Sequence[int], jobs: int) -> list[str]:
    """Run what is not finished, the longest first; returns what went wrong."""
    cases = [(recipe, seed) for recipe in sorted(recipes, key=num_phases, reverse=True) for seed in seeds]
    todo = [(recipe, seed) for recipe, seed in cases if study.result(recipe, seed=seed) is None]
    num_done, problems = len(cases) - len(todo), []
    print(f"{num_done} of {len(cases)} runs are finished; {jobs} at a time.", flush=True)
    if not todo:
        return []
    study.prepare()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            futures = [pool.submit(study.finish, recipe, seed=seed) for recipe, seed in todo]
            for future in as_completed(futures):
                try:
                    num_done += 1
                    print(f"{num_done}/{len(cases)}  {describe(future.result())}", flush=True)
                except RunError as error:
                    problems.append(str(error))
                    print(f"{num_done}/{len(cases)}  {error}", flush=True)
        except BaseException:
            for number in (signal.SIGINT, signal.SIGTERM):  # a second one would leave runs behind
                signal.signal(number, signal.SIG_IGN)
            pool.shutdown(wait=False, cancel_futures=True)
            study.stop()
            raise
    return problems


def describe(result: Result) -> str:
    """One finished run in a line."""
    return (
        f"{result.recipe} seed {result.seed}: mean top-1 error {result.errors['mean_top1_error']:.4f}, "
        f"{result.wall / 60:.1f} minutes, {result.cpu / 60:.1f} of CPU"
    )


def with_spread(values: Sequence[float], *, digits: int) -> str:
    """Mean, and standard deviation where there are two values."""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def row(recipe: str, results: Sequence[Result]) -> list[str]:
    """A recipe's line of the table."""
    errors = [result.errors["mean_top1_error"] for result in results]
    at_least = "" if all(result.is_timed for result in results) else "> "
    return [
        recipe,
        with_spread(errors, digits=3),
        f"{min(errors):.3f} to {max(errors):.3f}",
        with_spread([result.errors["top1_error"] for result in results], digits=3),
        *(
            with_spread([result.errors[f"{group}_top1_error"] for result in results], digits=3)
            for group in GROUPS
        ),
        str(results[0].num_members),
        at_least + with_spread([result.wall / 60 for result in results], digits=1),
        at_least + with_spread([result.cpu / 60 for result in results], digits=1),
    ]


def compare(recipe: str, results: Sequence[Result], *, reference: Sequence[Result]) -> str:
    """Say what a recipe gains over the reference with the same seeds, and whether that means anything.

    The interval is Student's for the mean of paired differences.
    """
    of_seed = {result.seed: result.errors["mean_top1_error"] for result in reference}
    pairs = [
        (result.seed, result.errors["mean_top1_error"] - of_seed[result.seed])
        for result in results
        if result.seed in of_seed
    ]
    if not pairs:
        return f"{recipe}: no seed in common with {REFERENCE}."
    gaps = [gap for _, gap in pairs]
    listed = ", ".join(f"{gap:+.3f} (seed {seed})" for seed, gap in pairs)
    words = f"{recipe} - {REFERENCE}: {mean(gaps):+.3f}; {listed}."
    if len(gaps) == 1:
        return f"{words} One seed has no spread, so this may be chance."
    reach = float(student.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1)) * stdev(gaps) / math.sqrt(len(gaps))
    low, high = mean(gaps) - reach, mean(gaps) + reach
    interval = f"{CONFIDENCE:.0%} interval {low:+.3f} to {high:+.3f}"
    if not (max(gaps) < 0 or min(gaps) > 0):
        return f"{words} The seeds disagree on its sign: too small to mean anything ({interval})."
    words += f" The error is {'lower' if mean(gaps) < 0 else 'higher'} with every seed"
    if low <= 0 <= high:
        return f"{words}, but the spread swallows the difference ({interval})."
    return f"{words}, beyond the spread ({interval})."


def sampling_error(results: Sequence[Result]) -> str:
    """Say how far the test photos, a sample too, leave one run's error open."""
    error, count = mean([result.errors["top1_error"] for result in results]), results[0].num_photos
    deviation = math.sqrt(error * (1 - error) / count)
    return (
        f"One run's top-1 error on {count:,} photos has a binomial standard error of {deviation:.3f} (at "
        f"{error:.3f}): other photos of the same kind would move it so far, whatever the seeds say."
    )


def report(by_recipe: dict[str, list[Result]]) -> tuple[list[list[str]], list[str]]:
    """Return the table's rows and the sentences below it."""
    rows = [row(recipe, results) for recipe, results in by_recipe.items()]
    reference = by_recipe.get(REFERENCE, [])
    others = {recipe: results for recipe, results in by_recipe.items() if recipe != REFERENCE}
    sentences = [compare(recipe, results, reference=reference) for recipe, results in others.items()]
    if reference:
        sentences.append(sampling_error(reference))
    if any(not result.is_timed for results in by_recipe.values() for result in results):
        sentences.append("Times after > lack those of runs that were killed in the middle.")
    return rows, sentences


def show(rows: list[list[str]], sentences: list[str], *, title: str) -> None:
    """Print the report."""
    console = Console(width=160)
    table = Table(title=title, box=SIMPLE_HEAD)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == HEADINGS[0] else "right", no_wrap=True)
    for cells in rows:
        table.add_row(*cells)
    console.print(table)
    for sentence in sentences:
        console.print(f"- {sentence}", highlight=False)


def to_markdown(rows: list[list[str]], sentences: list[str], *, title: str) -> str:
    """Return the report as docs/results.md takes it."""
    rule = ["---", *["---:"] * (len(HEADINGS) - 1)]
    table = ["| " + " | ".join(cells) + " |" for cells in (HEADINGS, rule, *rows)]
    return "\n".join([title, "", *table, "", *(f"- {sentence}" for sentence in sentences), ""])


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, at most one a core")
    parser.add_argument("--folder", type=Path, default=Path(".aisle/study"))
    parser.add_argument("--data", default="grocery", help="of conf/data")
    parser.add_argument("--size", default="study", help="of conf/size")
    datasets = Path(os.environ.get("AISLE_DATASETS", ROOT.parent / "shared/datasets"))
    parser.add_argument("--datasets", type=Path, default=datasets, help="where grocery-store/ lies")
    return parser.parse_args()


def main() -> None:
    """Run what is not finished and report what is."""
    options = parse_options()
    for number in (signal.SIGINT, signal.SIGTERM):  # a stopped study stops its runs, in the background, too
        signal.signal(number, signal.default_int_handler)
    study = Study(folder=options.folder, data=options.data, size=options.size, datasets=options.datasets)
    jobs = max(1, min(options.jobs, len(os.sched_getaffinity(0))))
    try:
        problems = run_all(study, recipes=options.recipes, seeds=options.seeds, jobs=jobs)
    except KeyboardInterrupt:
        sys.exit("study: stopped; the same command goes on from here")
    except (RunError, ValueError) as error:
        sys.exit(f"study: {error}")
    by_recipe: dict[str, list[Result]] = {}
    for recipe in options.recipes:
        results = [study.result(recipe, seed=seed) for seed in options.seeds]
        if finished := [result for result in results if result is not None]:
            by_recipe[recipe] = finished
    rows, sentences = report(by_recipe)
    seeds = ", ".join(map(str, options.seeds))
    title = f"{options.data} at size={options.size}, seeds {seeds}: mean ± standard deviation over the seeds"
    show(rows, sentences, title=title)
    path = options.folder / "study.md"
    path.write_text(to_markdown(rows, sentences, title=title), encoding="utf-8")
    print(f"Written to {path}.")
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
