"""The Grocery Store Dataset (Klasson et al., WACV 2019): real smartphone photos with two levels of classes.

Lines of train.txt, val.txt and test.txt are `path, class id, coarse class id`; classes.csv holds the names.
"""

from __future__ import annotations

import csv

import polars as pl

from catalog.sources.csv_rows import MALFORMED
from catalog.sources.folder import ASIDE, Folder, open_folder, read_index
from catalog.sources.index import IndexedSource, check_rows
from catalog.sources.list_file import read_lines
from contracts.values import GIVEN_SPLITS

_SCHEMA = {"path": pl.String, "label": pl.String, "split": pl.String, "where": pl.String, "number": pl.Int64}


def open_grocery_store(folder: Folder) -> IndexedSource:
    """The photos of train, val and test, each in the order of its file.

    The folder is the repository's `dataset`, or its parent.
    """
    if folder.has("dataset/classes.csv"):
        folder = open_folder(f"{folder.root}/dataset", layout="grocery_store")
    names = _read_classes(folder)
    lines, rejected = [], []
    for split in GIVEN_SPLITS:
        for line in read_lines(read_index(folder, f"{split}.txt"), name=f"{split}.txt"):
            parts = [part.strip() for part in line.text.split(",")]
            if len(parts) == 3 and parts[1].isdecimal() and int(parts[1]) < len(names):
                lines.append((parts[0], names[int(parts[1])][0], split, f"{split}.txt", line.number))
            else:
                place = f"{split}.txt, line {line.number}"
                rejected.append((place, MALFORMED, f"{place}: {_expect(len(names), line.text)}"))
    return IndexedSource(
        "grocery_store",
        folder,
        check_rows(
            pl.DataFrame(lines, orient="row", schema=_SCHEMA),
            folder,
            indexes=["classes.csv", *(f"{split}.txt" for split in GIVEN_SPLITS)],
            rejected=pl.DataFrame(rejected, orient="row", schema=ASIDE),
        ),
        class_names=[name for name, _ in names],
        coarse_of=dict(names),
    )


def _expect(num_classes: int, line: str) -> str:
    return (
        f"expected 'path, class id, coarse class id' with a class id below {num_classes} (classes.csv), "
        f"received {line!r}. Correct or remove the line."
    )


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
