"""The Grocery Store Dataset (Klasson et al., WACV 2019): real smartphone photos with two levels of classes.

Lines of train.txt, val.txt and test.txt are `path, class id, coarse class id`; classes.csv holds the names.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

import polars as pl

from catalog.sources.folder import Folder, open_folder, read_index
from catalog.sources.index import SPLITS, IndexedSource, check_rows


def open_grocery_store(folder: Folder) -> IndexedSource:
    """The photos of train, val and test, each in the order of its file.

    The folder is the repository's `dataset`, or its parent.
    """
    if folder.has("dataset/classes.csv"):
        folder = open_folder(f"{folder.root}/dataset", layout="grocery_store")
    names = _read_classes(folder)
    lines = [line for split in SPLITS for line in _read_split(folder, split, names=names)]
    rows = pl.DataFrame(lines, orient="row", schema=["path", "label", "split"])
    return IndexedSource(
        "grocery_store",
        folder,
        check_rows(rows.with_columns(where=pl.col("split") + ".txt")),
        class_names=[name for name, _ in names],
        coarse_of=dict(names),
    )


def _read_split(
    folder: Folder, split: str, *, names: list[tuple[str, str]]
) -> Iterator[tuple[str, str, str]]:
    """Path, label and split of each line. Raises ValueError, which names the file and the line."""
    text = read_index(folder, f"{split}.txt").decode("utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        parts = [part.strip() for part in line.split(",")]
        if parts == [""]:
            continue
        known = len(parts) == 3 and parts[1].isdecimal() and int(parts[1]) < len(names)
        if not known:
            raise ValueError(
                f"{split}.txt, line {number}: expected 'path, class id, coarse class id' with a class "
                f"id below {len(names)} (classes.csv), received {line!r}. Correct or remove the line."
            )
        yield parts[0], names[int(parts[1])][0], split


def _read_classes(folder: Folder) -> list[tuple[str, str]]:
    """Class name and coarse class name in the order of the class ids. Raises ValueError on a gap."""
    lines = read_index(folder, "classes.csv").decode("utf-8").splitlines()
    rows = sorted(csv.DictReader(lines), key=lambda row: int(row["Class ID (int)"]))
    ids = [int(row["Class ID (int)"]) for row in rows]
    if ids != list(range(len(rows))):
        raise ValueError(
            f"classes.csv: expected the class ids 0..{len(rows) - 1} once each, received {ids}. "
            "Fetch the data set's repository again."
        )
    return [(row["Class Name (str)"], row["Coarse Class Name (str)"]) for row in rows]
