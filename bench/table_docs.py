"""Which tables does one stage write and another read, and what is in them?

    python -m bench.table_docs

rewrites docs/tables.md from the modules of contracts/; a test fails when it is stale.
"""

from collections.abc import Iterator
from pathlib import Path

from contracts.duplicates import EXACT_DUPLICATES, NEAR_DUPLICATES
from contracts.evaluation import EVALUATED_ON, FEATURES, PREDICTIONS, SCORES, TRAINED_ON
from contracts.evidence import LOSS_LOG, OUT_OF_FOLD
from contracts.keyed import ROW_GROUP, KeyedTable
from contracts.lists import LIST
from contracts.photos import PHOTOS, REJECTED
from contracts.splits import COPIES_ACROSS, SPLITS, TRUTH
from contracts.table import Column, Table

DOCUMENT = Path(__file__).parent.parent / "docs/tables.md"
TABLES = (
    PHOTOS,
    REJECTED,
    EXACT_DUPLICATES,
    NEAR_DUPLICATES,
    SPLITS,
    TRUTH,
    COPIES_ACROSS,
    LIST,
    LOSS_LOG,
    OUT_OF_FOLD,
    FEATURES,
    PREDICTIONS,
    TRAINED_ON,
    EVALUATED_ON,
    SCORES,
)
INTRODUCTION = """\
# Tables

Written by `python -m bench.table_docs` from the modules of `contracts/`; edit those.

Each table is Parquet and carries its name (`aisle.table`) and format version (`aisle.format_version`) in the
schema's metadata. Whatever reads one compares name, version, columns, types and nulls, and refuses another
table with the file, what was expected, what was received and what to run. The two tables called predictions
are the out-of-fold predictions that refinement rules read, and the evaluation's that gates compare.
"""


def make_document() -> str:
    """The text of docs/tables.md."""
    return "\n".join([INTRODUCTION, *("\n".join(_section(table)) for table in TABLES)])


def _section(table: Table) -> Iterator[str]:
    yield f"## {table.name.capitalize()}"
    yield ""
    yield f"{table.meaning} Format version {table.version}."
    yield ""
    yield f"- file: {_as_code(table.location)}"
    yield f"- written by: {table.written_by}"
    yield f"- read by: {', '.join(table.read_by)}"
    yield f"- another file is refused: {table.remake}"
    if isinstance(table, KeyedTable):
        if table.version > 1:
            yield "- older files: every format version is read"
        yield f"- rows: sorted by `{table.key}`, in row groups of {ROW_GROUP:,}"
    if table.unmarked:
        yield f"- without a version: {table.unmarked}"
    yield ""
    yield "| column | type | null | meaning |"
    yield "|---|---|---|---|"
    for column in table.columns:
        yield f"| `{column.name}` | {column.type} | {_null(column, table)} | {column.meaning} |"
    yield ""


def _as_code(location: str) -> str:
    return location if " " in location else f"`{location}`"


def _null(column: Column, table: Table) -> str:
    words = "yes" if column.nullable else "no"
    if since := getattr(table, "since", {}).get(column.name):
        return f"{words}; absent before version {since}"
    return words if column.required else f"{words}; may be absent without a version"


def main() -> None:
    """Rewrite docs/tables.md."""
    DOCUMENT.write_text(make_document(), encoding="utf-8")
    print(f"{len(TABLES)} tables in docs/{DOCUMENT.name}")


if __name__ == "__main__":
    main()
