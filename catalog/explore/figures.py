"""The plots of a report, each a function from arrays to PNG bytes.

Equal arrays give equal bytes: the style starts from matplotlib's defaults whatever the machine's settings,
and no version or time is written. Class names never enter a plot (the font lacks many scripts), and nothing
is sampled: photos are counted into bins, so three million cost as many pixels as three hundred.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import BytesIO
from typing import Any, Concatenate, ParamSpec

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from contracts.values import GROUPS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
P = ParamSpec("P")

_BLUE, _ORANGE, _GREEN, _GREY = "#3b6ea8", "#d5690f", "#0b7f60", "#c3ccd5"
_LINES = (_BLUE, _ORANGE, _GREEN, "#8a5aa6", "#6b7682")
_WIDTH, _ROW = 10.0, 2.9  # inches
_COLUMNS = 300  # bins along the ranks of classes: more would not be seen
_STYLE: dict[Any, Any] = {
    "figure.dpi": 120,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": "#8b949d",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6eaee",
    "legend.frameon": False,
}


def _figure(
    draw: Callable[Concatenate[Figure, P], None],
) -> Callable[P, bytes]:
    """Make a function that draws into a figure return that figure as PNG bytes."""

    @wraps(draw)
    def _draw(*args: P.args, **kwargs: P.kwargs) -> bytes:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            figure = Figure(figsize=(_WIDTH, _ROW), layout="constrained")
            FigureCanvasAgg(figure)
            draw(figure, *args, **kwargs)
            out = BytesIO()
            figure.savefig(out, format="png", metadata={"Software": None})
        return out.getvalue()

    return _draw


@_figure
def plot_class_frequency(figure: Figure, by_split: Mapping[str, Ints]) -> None:
    """Photos per class by rank, `[K]` counts of each split sorted by itself; thirds of the first marked."""
    figure.set_size_inches(_WIDTH, 1.35 * _ROW)
    axes = figure.add_subplot()
    for color, (split, counts) in zip(_LINES, by_split.items(), strict=False):
        ranked = np.sort(counts[counts > 0])[::-1]
        ranks = np.arange(1, len(ranked) + 1)
        axes.plot(ranks, ranked, color=color, label=split, drawstyle="steps-mid", marker=_marker(len(ranked)))
    first = next(iter(by_split.values()))
    _mark_thirds(axes, np.sort(first)[::-1])
    _log_counts(axes, np.concatenate(list(by_split.values())))
    axes.set(xlabel="rank of the class", ylabel="photos (log scale)", xlim=(0.5, len(first) + 0.5))
    axes.set_ylim(top=12 * max(1, int(first.max())))  # room for the words above the lines
    axes.xaxis.set_major_formatter("{x:,.0f}")
    figure.legend(loc="outside upper right", ncols=len(by_split))


def _mark_thirds(axes: Axes, ranked: Ints) -> None:
    """Shade head, medium and tail: thirds of the classes, as the error on each group is counted."""
    start = 0.5
    for number, (name, part) in enumerate(zip(GROUPS, np.array_split(ranked, len(GROUPS)), strict=True)):
        if len(part) == 0:
            continue
        axes.axvspan(start, start + len(part), color=_BLUE, alpha=0.09 - 0.035 * number, linewidth=0)
        share = 100 * part.sum() / max(1, ranked.sum())
        text = f"{name}\n{len(part):,} classes\n{share:.0f} % of photos"
        axes.text(
            start + len(part) / 2,
            0.97,
            text,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="top",
            color="#5a6876",
        )
        start += len(part)


@_figure
def plot_photos_per_class(figure: Figure, by_split: Mapping[str, Ints]) -> None:
    """Histogram of photos per class, a panel for each split; its title says how many classes have none."""
    figure.set_size_inches(_WIDTH, 0.5 + 1.25 * len(by_split))
    panels = figure.subplots(len(by_split), 1, sharex=True, squeeze=False)[:, 0]
    present = np.concatenate([counts[counts > 0] for counts in by_split.values()])
    edges = np.unique(np.round(np.geomspace(present.min(), present.max() + 1, 32))) - 0.5
    for axes, color, (split, counts) in zip(panels, _LINES, by_split.items(), strict=False):
        axes.hist(counts[counts > 0], bins=edges.tolist(), color=color)
        lacking = int((counts == 0).sum())
        axes.set_title(split + (f" ({lacking:,} classes without a photo)" if lacking else ""))
        axes.set_ylabel("classes")
        axes.yaxis.set_major_formatter("{x:,.0f}")
    panels[-1].set(xscale="log", xlabel="photos of a class (log scale)")
    _plain_ticks(panels[-1].xaxis)


@_figure
def plot_lists(figure: Figure, base: Ints, lists: Mapping[str, Ints]) -> None:
    """Photos per class of each list over the base, `[K]` counts, classes in the base's order."""
    columns = min(3, len(lists))
    rows = -(-len(lists) // columns)
    figure.set_size_inches(_WIDTH, 0.85 * _ROW * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, counts) in zip(panels, lists.items(), strict=False):
        _draw_over_base(axes, base, counts)
        axes.set_title(_short(name))
    for axes in panels[len(lists) :]:
        axes.remove()
    for axes in panels[max(0, len(lists) - columns) : len(lists)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("rank of the class in train", fontsize=9)
    figure.supylabel("photos (log scale)", fontsize=9)


def _draw_over_base(axes: Axes, base: Ints, counts: Ints) -> None:
    order = np.argsort(-base, kind="stable")
    bins = min(_COLUMNS, len(base))
    starts = np.linspace(0, len(base), bins, endpoint=False).astype(np.int64)
    widths = np.diff(np.append(starts, len(base)))
    edges = np.append(starts, len(base)) + 0.5
    for values, color, fill in ((base, _GREY, True), (counts, _BLUE, False)):
        means = np.add.reduceat(values[order], starts) / widths
        axes.stairs(
            means, edges.tolist(), color=color, fill=fill, baseline=0.7 if fill else None, linewidth=1.2
        )
    _log_counts(axes, np.concatenate([base, counts]))
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter("{x:,.0f}")


@_figure
def plot_photo_sizes(figure: Figure, widths: Ints, heights: Ints, num_bytes: Ints) -> None:
    """Width against height (a density), aspect ratio and stored bytes, `[N]` photos counted into bins."""
    figure.set_size_inches(_WIDTH, 1.15 * _ROW)
    sizes, aspects, bytes_axes = figure.subplots(1, 3)
    grid, x, y = np.histogram2d(widths, heights, bins=[_edges(widths, 40), _edges(heights, 40)])
    # log colours: most photo sets have a few very common sizes
    mesh = sizes.pcolormesh(
        x, y, np.where(grid > 0, grid, np.nan).T, norm=LogNorm(1, max(2.0, grid.max())), cmap="viridis_r"
    )
    figure.colorbar(mesh, ax=sizes, label="photos", format="{x:,.0f}")
    sizes.set(title="source size in pixels", xlabel="width", ylabel="height", xscale="log", yscale="log")
    for axis in (sizes.xaxis, sizes.yaxis):
        _plain_ticks(axis)
    _draw_aspects(aspects, np.log2(widths / heights))
    bytes_axes.hist(num_bytes / 1024, bins=_edges(num_bytes / 1024, 40).tolist(), color=_BLUE)
    bytes_axes.set(title="stored bytes", xlabel="KiB of a photo", xscale="log")
    _plain_ticks(bytes_axes.xaxis)
    for axes in (aspects, bytes_axes):
        axes.yaxis.set_major_formatter("{x:,.0f}")
    aspects.set_ylabel("photos")


def _draw_aspects(axes: Axes, log_ratios: Floats) -> None:
    reach = max(1.0, float(np.ceil(np.abs(log_ratios).max())))
    axes.hist(log_ratios, bins=np.linspace(-reach, reach, 42).tolist(), color=_BLUE)
    ticks = np.unique(np.round(np.linspace(-reach, reach, 5)))
    names = [f"{2**tick:.0f}:1" if tick > 0 else f"1:{2**-tick:.0f}" for tick in ticks]
    axes.set_xticks(ticks.tolist(), names)
    axes.set(title="aspect ratio of the source", xlabel="width : height (log scale)")


@_figure
def plot_duplicates(
    figure: Figure, kinds: Sequence[str], same_label: Sequence[int], contradicting: Sequence[int]
) -> None:
    """Ties between copies of each kind (same bytes, distance 0, ...), contradicting labels apart."""
    axes = figure.add_subplot()
    places = np.arange(len(kinds))
    axes.bar(places - 0.2, same_label, 0.38, color=_BLUE, label="labels agree, or one is unlabelled")
    axes.bar(
        places + 0.2,
        contradicting,
        0.38,
        color=_ORANGE,
        hatch="//",
        edgecolor="white",
        label="labels contradict",
    )
    axes.set_xticks(places, kinds)
    _log_counts(axes, np.array([*same_label, *contradicting]))
    axes.set(xlabel="same bytes, or Hamming distance of the perceptual hashes", ylabel="ties (log scale)")
    axes.legend()


@_figure
def plot_round(
    figure: Figure, kept: Floats, dropped: Floats, wrong: Floats | None, *, before: Ints, after: Ints
) -> None:
    """Losses in nats `[N]` of kept and dropped photos and of known wrong labels; class sizes `[K]`."""
    figure.set_size_inches(_WIDTH, 1.2 * _ROW)
    losses, sizes = figure.subplots(1, 2)
    values = np.concatenate([kept, dropped])
    if len(values):
        edges = np.linspace(0, max(1e-6, float(values.max())), 61).tolist()
        losses.hist(kept, bins=edges, color=_GREEN, alpha=0.55, label="kept")
        losses.hist(dropped, bins=edges, color=_ORANGE, histtype="step", linewidth=1.6, label="dropped")
        if wrong is not None:
            losses.hist(
                wrong,
                bins=edges,
                color="black",
                histtype="step",
                linestyle=":",
                label="label known to be wrong",
            )
        _log_counts(losses, np.histogram(values, bins=edges)[0])
        losses.legend()
    losses.set(title="mean loss", xlabel="nats", ylabel="photos (log scale)")
    _draw_over_base(sizes, before, after)
    sizes.set(title="photos per class: before (grey) and after (line)", xlabel="rank of the class before")


def _log_counts(axes: Axes, counts: Ints) -> None:
    axes.set_yscale("log")
    axes.set_ylim(0.7, 2.0 * max(1, int(counts.max(initial=1))))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _plain_ticks(axis: Axis) -> None:
    """A few round numbers on a log axis, also where it spans less than a decade."""
    low, high = axis.get_view_interval()
    for steps in ((1, 2, 3, 5, 7), (1, 2, 5), (1,)):
        numbers = [step * 10.0**power for power in range(-3, 8) for step in steps]
        ticks = [number for number in numbers if low <= number <= high]
        if len(ticks) <= 6:
            break
    axis.set_ticks(ticks, [f"{tick:,.10g}" for tick in ticks])
    axis.set_ticks([], minor=True)


def _edges(values: npt.NDArray[np.float64] | Ints, bins: int) -> Floats:
    """Log-spaced edges around the values, a factor of four apart at least: one size is not a whole plot."""
    low, high = max(1e-3, float(values.min())), max(1e-3, float(values.max()))
    middle = np.sqrt(low * high)
    low, high = min(low * 0.95, middle / 2), max(high * 1.05, middle * 2)
    edges: Floats = np.geomspace(low, high, bins + 1)
    return edges


def _marker(points: int) -> str:
    """A lone point draws no line."""
    return "o" if points < 3 else ""


def _short(name: str) -> str:
    """A list's name as a title: matplotlib would read dollars as mathematics."""
    return (name if len(name) <= 32 else name[:31] + "…").replace("$", r"\$")
