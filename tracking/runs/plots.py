"""Plots that MLflow shows beside a run: a phase's curves, and errors by class size."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GROUPS = ("head", "medium", "tail")


def plot_history(history: Path, *, out: Path, title: str) -> Path | None:
    """Draw losses and errors over the steps of history.csv; None where there is no epoch to draw."""
    with history.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    curves = {
        unit: [key for key in (rows[0] if rows else ()) if key.endswith(unit)]
        for unit in ("loss", "mean_top1_error")
    }
    shown = {unit: keys for unit, keys in curves.items() if keys}
    if len(rows) < 2 or not shown:
        return None
    figure = _figure(width=5 * len(shown))
    steps = [int(row["step"]) for row in rows]
    for place, (unit, keys) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(1, len(shown), place)
        for key in keys:
            axes.plot(steps, [float(row[key] or "nan") for row in rows], marker="o", markersize=3, label=key)
        axes.set(xlabel="step", ylabel=unit.replace("_", " "), title=title)
        axes.set_ylim(bottom=0)
        axes.legend()
    figure.savefig(out, dpi=100)
    return out


def plot_errors(errors: Mapping[str, Mapping[str, float]], *, out: Path, title: str) -> Path | None:
    """Draw each model's top-1 error on head, medium and tail classes; None where nothing was evaluated."""
    groups = [group for group in GROUPS if any(f"{group}_top1_error" in values for values in errors.values())]
    if not groups:
        return None
    figure = _figure(width=2 + 1.5 * len(groups))
    axes = figure.add_subplot()
    width = 0.8 / len(errors)
    for number, (name, values) in enumerate(errors.items()):
        places = [index + width * (number - (len(errors) - 1) / 2) for index in range(len(groups))]
        heights = [100 * values.get(f"{group}_top1_error", 0.0) for group in groups]
        axes.bar(places, heights, width=width, label=name)
    axes.set_xticks(range(len(groups)), labels=groups)
    axes.set(ylabel="top-1 error, %", title=title)
    axes.legend()
    figure.savefig(out, dpi=100)
    return out


def _figure(*, width: float) -> Any:
    """A figure without pyplot, which would look for a display and keep every figure."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, 4), layout="constrained")
