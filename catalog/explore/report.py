"""Write the report of a catalogue: report.html, which needs no other file and no network, and PNG plots.

The report is a DVC out: equal inputs give equal bytes, so it holds no time, host or path. Tables are counted
whole; the photos shown are the only ones read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from catalog.explore.classes import describe_classes
from catalog.explore.copies import describe_copies
from catalog.explore.overview import describe_catalogue, describe_sizes
from catalog.explore.page import Plot, Section, Sheet, Text, render_page
from catalog.explore.rounds import Round, describe_round
from catalog.explore.sheets import draw_sheet, make_thumbnails
from catalog.photo_store import PhotoStore
from imaging.atomic_write import write_text

REPORT_FILE = "report.html"
PLOTS_DIR = "plots"
_FILE_NAME = re.compile(r"[\w-][\w.-]*")


def explore(
    out_dir: Path,
    *,
    title: str,
    store: PhotoStore,
    photos: pl.DataFrame,
    quarantine: pl.DataFrame,
    splits: pl.DataFrame,
    class_names: Sequence[str],
    coarse_names: Sequence[str | None],
    exact: pl.DataFrame,
    near: pl.DataFrame,
    lists: Mapping[str, pl.DataFrame],
    rounds: Sequence[Round],
    truth: pl.DataFrame | None,
) -> Path:
    """Write report.html and plots/*.png into out_dir, and return the report's path.

    A plot without anything to show is not written: the page says so in a sentence. Raises ValueError for a
    photo that the store lacks, classes outside class_names, and round names that are no file names or come
    twice.
    """
    _check_names(rounds)
    sections = [
        describe_catalogue(
            photos,
            quarantine=quarantine,
            splits=splits,
            coarse_names=coarse_names,
            exact=exact,
            near=near,
            lists=lists,
        ),
        *describe_classes(splits, class_names=class_names, lists=lists),
        describe_sizes(photos),
        describe_copies(exact, near, splits=splits, class_names=class_names),
        *_describe_rounds(rounds, class_names=class_names, coarse_names=coarse_names, truth=truth),
    ]
    return _write(out_dir, title=title, sections=sections, store=store)


def _describe_rounds(
    rounds: Sequence[Round],
    *,
    class_names: Sequence[str],
    coarse_names: Sequence[str | None],
    truth: pl.DataFrame | None,
) -> list[Section]:
    if not rounds:
        none = Text(text="No refinement round yet: a recipe with refinements shows here what each one drops.")
        return [Section(anchor="rounds", title="Refinement", blocks=[none])]
    return [
        describe_round(round, class_names=class_names, coarse_names=coarse_names, truth=truth)
        for round in rounds
    ]


def _write(out_dir: Path, *, title: str, sections: Sequence[Section], store: PhotoStore) -> Path:
    """Read the photos that sheets show, then write the plots, the sheets with a file name, and the page."""
    plots_dir = out_dir / PLOTS_DIR
    plots_dir.mkdir(parents=True, exist_ok=True)
    blocks = [block for section in sections for block in section.blocks]
    sheets = [block for block in blocks if isinstance(block, Sheet)]
    thumbnails = make_thumbnails(store, [photo_id for sheet in sheets for photo_id in sheet.photo_ids])
    for plot in blocks:
        if isinstance(plot, Plot):
            (plots_dir / plot.file).write_bytes(plot.png)
    for sheet in sheets:
        if sheet.file is not None:
            (plots_dir / sheet.file).write_bytes(draw_sheet(sheet, thumbnails=thumbnails))
    path = out_dir / REPORT_FILE
    write_text(path, render_page(title, sections, thumbnails=thumbnails))
    return path


def _check_names(rounds: Sequence[Round]) -> None:
    names = [round.name for round in rounds]
    unfit = [name for name in names if not _FILE_NAME.fullmatch(name) or names.count(name) > 1]
    if unfit:
        raise ValueError(
            f"Expected round names that differ and can be file names (letters, digits, '_', '-', '.'), "
            f"received {unfit[0]!r} among {names}: rename the refinement."
        )
