"""Recipes against each other over seeds: means, spread, and how sure the paired difference is.

Two recipes with equal seeds share what a seed decides, so that the difference is taken seed by seed. Its
interval is Student's t of those differences: it says what further seeds would give, on the same photos.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tracking.project import TrackingError
from tracking.runs.pipeline_run import PIPELINE
from tracking.runs.records import RunRecord, read_runs
from tracking.runs.results import lay_out, split_of
from tracking.store import Store

METRIC = "mean_top1_error"
_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Group:
    """One recipe, or one run: its values by seed, of pipelines that are finished."""

    name: str
    values: Mapping[int, float]
    runs: Mapping[int, str]
    """MLflow's run of each seed."""
    num_older: int
    """Further finished pipelines of a seed, with other parameters or data: the newest one counts."""

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.values.values())

    @property
    def deviation(self) -> float | None:
        """Standard deviation over seeds, None for a single one."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A group minus the first one, over the seeds that both have; low and high are None below two seeds."""

    name: str
    reference: str
    seeds: tuple[int, ...]
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `aisle compare` says."""

    metric: str
    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        groups = [
            {**asdict(group), "mean": group.mean, "deviation": group.deviation} for group in self.groups
        ]
        return {"metric": self.metric, "groups": groups, "differences": [asdict(d) for d in self.differences]}

    def to_text(self) -> str:
        """As tables; errors in percent."""
        scale = 100 if self.metric.endswith("_error") else 1
        head = ("recipe", "seeds", "mean", "sd", "lowest", "highest")
        rows = [
            (
                group.name,
                f"{len(group.values)}",
                *(_number(value, scale=scale) for value in (group.mean, group.deviation)),
                *(_number(value(group.values.values()), scale=scale) for value in (min, max)),
            )
            for group in self.groups
        ]
        said = [f"{self.metric}{', percent' if scale == 100 else ''}:", lay_out([head, *rows], num_texts=1)]
        said += [_sentence(difference, scale=scale) for difference in self.differences]
        said += [
            f"{group.name}: {group.num_older} older pipelines of the same seeds, with other parameters, data "
            "or code, are left out"
            for group in self.groups
            if group.num_older
        ]
        return "\n".join(said)


def compare(store: Store, *, data: str, size: str, named: Sequence[str], metric: str = METRIC) -> Comparison:
    """Compare recipes, or runs by id or name, each of `named` with the first; without names all recipes.

    size: that of recipes. metric: with its split (test/tail_top1_error), or without: on the evaluation split.
    Raises TrackingError for a name that nothing finished has, a metric that a run lacks, or a store that
    cannot be reached.
    """
    runs = read_runs(store, experiment=f"aisle-{data}", kinds=[PIPELINE])
    finished = [run for run in runs if run.status == "FINISHED" and run.metrics]
    if not named:
        named = sorted({run.tags["aisle.recipe"] for run in finished if run.tags["aisle.size"] == size})
    groups = [_make_group(name, finished, size=size, metric=metric) for name in dict.fromkeys(named)]
    if not groups:
        raise TrackingError(_nothing(finished, what=f"no pipeline of size {size}", data=data))
    first, *others = groups
    return Comparison(
        metric=metric,
        groups=tuple(groups),
        differences=tuple(paired_difference(other, first) for other in others),
    )


def paired_difference(group: Group, reference: Group) -> Difference:
    """The mean difference over common seeds with its interval of 95 %; see the module."""
    seeds = tuple(sorted(set(group.values) & set(reference.values)))
    gaps = [group.values[seed] - reference.values[seed] for seed in seeds]
    mean, low, high = (statistics.fmean(gaps) if gaps else None), None, None
    if mean is not None and len(gaps) > 1:
        from scipy.special import stdtrit  # scipy.stats would take a second to import

        quantile = float(stdtrit(len(gaps) - 1, (1 + _CONFIDENCE) / 2))
        half = quantile * statistics.stdev(gaps) / math.sqrt(len(gaps))
        low, high = mean - half, mean + half
    return Difference(name=group.name, reference=reference.name, seeds=seeds, mean=mean, low=low, high=high)


def _make_group(name: str, runs: Sequence[RunRecord], *, size: str, metric: str) -> Group:
    """The runs of a recipe and size, the newest of each seed, or the one run with this id or name."""
    own = [run for run in runs if name in (run.run_id, run.name)][:1]
    found = own or [run for run in runs if (run.tags["aisle.recipe"], run.tags["aisle.size"]) == (name, size)]
    if not found:
        raise TrackingError(_nothing(runs, what=f"{name!r} is no recipe of size {size} and no run", data=""))
    newest: dict[int, RunRecord] = {}
    for run in found:
        newest.setdefault(int(run.tags["aisle.seed"]), run)
    return Group(
        name=name,
        values={seed: _value(run, metric=metric) for seed, run in sorted(newest.items())},
        runs={seed: run.run_id for seed, run in sorted(newest.items())},
        num_older=len(found) - len(newest),
    )


def _value(run: RunRecord, *, metric: str) -> float:
    for key in (metric, f"{split_of(run)}/{metric}"):
        if key in run.metrics:
            return run.metrics[key]
    known = ", ".join(sorted(key for key in run.metrics if not key.startswith("system/")))
    raise TrackingError(
        f"expected the metric {metric} in run {run.name!r}, which has {known}; name one of these"
    )


def _nothing(runs: Sequence[RunRecord], *, what: str, data: str) -> str:
    known = sorted({f"{run.tags['aisle.recipe']} ({run.tags['aisle.size']})" for run in runs})
    on = f" on {data}" if data else ""
    if not known:
        return f"{what} is finished{on}, nor is any other; run `dvc repro`"
    return (
        f"expected something that is finished{on}: {what}; finished are {', '.join(known)} (--size chooses)"
    )


def _sentence(difference: Difference, *, scale: int) -> str:
    names = f"{difference.name} - {difference.reference}"
    count = len(difference.seeds)
    if difference.mean is None:
        return f"{names}: no seed in common, so nothing can be said"
    gap = f"{scale * difference.mean:+.2f}"
    if difference.low is None or difference.high is None:
        return f"{names}: {gap} with one seed in common; of one seed nothing can be said about chance"
    verdict = "more than chance" if difference.low > 0 or difference.high < 0 else "may be chance"
    interval = f"{scale * difference.low:+.2f} to {scale * difference.high:+.2f}"
    return f"{names}: {gap}, 95 % interval {interval} over {count} paired seeds: {verdict}"


def _number(value: float | None, *, scale: int) -> str:
    return "-" if value is None else f"{scale * value:.2f}"
