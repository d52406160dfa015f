"""The Grocery Store Dataset (Klasson et al., WACV 2019): real smartphone photos with two levels of classes.

Lines of train.txt, val.txt and test.txt are `path, class id, coarse class id`; classes.csv holds the names.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from catalog.sources import FilePhoto, SourcePhoto

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class _Line:
    path: str
    class_id: int
    split: str


class GroceryStoreSource:
    """Photos named by the three split files of the repository's `dataset` folder (or of its parent)."""

    layout = "grocery_store"

    def __init__(self, root: Path) -> None:
        self._root = root / "dataset" if (root / "dataset" / "classes.csv").exists() else root
        names = _read_classes(self._root / "classes.csv")
        self.class_names = [name for name, _ in names]
        self.coarse_of = dict(names)
        self._lines = [line for split in SPLITS for line in self._read_split(split)]

    def __len__(self) -> int:
        return len(self._lines)

    def photos(self) -> Iterator[SourcePhoto]:
        """The photos of train, val and test, each in the order of its file."""
        for line in self._lines:
            label = self.class_names[line.class_id]
            yield FilePhoto(
                photo_id=line.path,
                label=label,
                split=line.split,
                coarse_label=self.coarse_of[label],
                path=self._root / line.path,
            )

    def _read_split(self, split: str) -> Iterator[_Line]:
        path = self._root / f"{split}.txt"
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            parts = [part.strip() for part in text.split(",")]
            if parts == [""]:
                continue
            known = len(parts) == 3 and parts[1].isdecimal() and int(parts[1]) < len(self.class_names)
            if not known:
                raise ValueError(
                    f"{path.name}, line {number}: expected 'path, class id, coarse class id' with a class "
                    f"id below {len(self.class_names)} (classes.csv), received {text!r}. Correct or remove "
                    "the line."
                )
            yield _Line(path=parts[0], class_id=int(parts[1]), split=split)


def _read_classes(path: Path) -> list[tuple[str, str]]:
    """Class name and coarse class name in the order of the class ids. Raises ValueError on a gap."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["Class ID (int)"]))
    ids = [int(row["Class ID (int)"]) for row in rows]
    if ids != list(range(len(rows))):
        raise ValueError(
            f"{path.name}: expected the class ids 0..{len(rows) - 1} once each, received {ids}. "
            "Fetch the data set's repository again."
        )
    return [(row["Class Name (str)"], row["Coarse Class Name (str)"]) for row in rows]
