"""What `aisle lists` prints: a list's numbers, what changed between two, which wrong labels one dropped."""

import io
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from catalog.lists import ListDiff, ListSummary, diff, load_list, summarize
from catalog.refinement import score_dropped
from catalog.splits import load_class_names, load_splits, load_truth
from contracts.lists import LIST
from imaging.atomic_write import atomic_write
from pipelines import paths
from pipelines.params import Params, load_params

_CLASSES_SHOWN = 10


def read_list(root: Path, params: Params, *, name: str) -> pl.DataFrame:
    """Read a list of params.yaml's data by name, or as it was at a git revision: main~3:low_loss."""
    revision, _, name = name.rpartition(":")
    path = Path(paths.list_file(params.data.name, name))
    if revision:
        content = io.BytesIO(_read_at(root, path, revision=revision))
        return pl.DataFrame(LIST.read(content, where=f"{path} at {revision}"))
    if not (root / path).exists():
        made = sorted(found.stem for found in (root / path).parent.glob("*.parquet"))
        raise ValueError(f"Expected a list named {name!r} of {params.data.name}, found {made or 'no lists'}.")
    return load_list(root / path, splits=load_splits(root / paths.split_folder(params.data.name)))


def _read_at(root: Path, path: Path, *, revision: str) -> bytes:
    """A list's bytes at a git revision, out of DVC's cache or remote."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    import tracking.store  # noqa: F401  switches telemetry off before DVC is imported

    try:
        files = DVCFileSystem(str(root), rev=revision)
        with files.open(path.as_posix(), "rb") as file:
            content: bytes = file.read()
        return content
    except (DvcException, OSError) as error:
        raise ValueError(
            f"Expected the list {path} at revision {revision!r}, which cannot be read ({error}). Is dvc.lock "
            "committed there, and was the list made? `dvc fetch` brings what only the remote has."
        ) from error


def show_list(root: Path, *, name: str) -> str:
    """A list's counts, shares, thirds of classes, extremes, and reasons."""
    params = load_params(root)
    splits = root / paths.split_folder(params.data.name)
    class_names, _ = load_class_names(splits)
    summary = summarize(read_list(root, params, name=name), splits=load_splits(splits))
    return "\n".join(_describe(name, summary, class_names=class_names))


def _describe(name: str, summary: ListSummary, *, class_names: list[str]) -> Iterator[str]:
    unlabelled = f", {summary.num_unlabelled:,} of them without label" if summary.num_unlabelled else ""
    yield f"{name}: {summary.num_photos:,} photos{unlabelled}, {summary.share:.1%} of train"
    yield f"classes: {summary.num_classes:,} of {summary.num_classes_before:,} that train has"
    for third in summary.thirds:
        yield (
            f"  {third.name:6} {third.num_classes_kept:,} of {third.num_classes:,} classes, "
            f"{third.num_after:,} of {third.num_before:,} photos"
        )
    for what, extreme in (("largest", summary.largest), ("smallest", summary.smallest)):
        if extreme is not None:
            yield f"{what}: {class_names[extreme[0]]} with {extreme[1]:,}"
    yield f"splits: {', '.join(f'{count:,} of {split}' for split, count in summary.by_split.items())}"
    yield "why:"
    for reason, count in summary.reasons.items():
        yield f"  {count:,} x {reason}"


def diff_lists(root: Path, *, before: str, after: str, num_shown: int, out: Path | None) -> str:
    """What came and went between two lists; all of it as a table in `out`, where asked."""
    params = load_params(root)
    found = diff(read_list(root, params, name=before), read_list(root, params, name=after))
    class_names, _ = load_class_names(root / paths.split_folder(params.data.name))
    lines = [
        f"{before}: {found.num_before:,} photos; {after}: {found.num_after:,}; {found.num_same:,} the same"
    ]
    lines += _describe_diff(found, class_names=class_names, num_shown=num_shown)
    if out is not None:
        changes = all_changes(found)
        with atomic_write(out) as file:
            changes.write_parquet(file)
        lines.append(f"{changes.height:,} changes written to {out}")
    return "\n".join(lines)


def all_changes(found: ListDiff) -> pl.DataFrame:
    """Every photo that differs, with what happened: came, went, relabelled, another reason or content."""
    kinds = {
        "came": found.came,
        "went": found.went,
        "relabelled": found.relabelled,
        "reason": found.reasons_changed,
    }
    if found.content_changed is not None:
        kinds["content"] = found.content_changed
    tables = [rows.with_columns(change=pl.lit(kind)) for kind, rows in kinds.items()]
    changes: pl.DataFrame = pl.concat(tables, how="diagonal")
    return changes.select("change", pl.exclude("change"))


def _describe_diff(found: ListDiff, *, class_names: list[str], num_shown: int) -> Iterator[str]:
    def name_of(number: int | None) -> str:
        return "no class" if number is None else class_names[number]

    for sign, what, rows in (("+", "came", found.came), ("-", "went", found.went)):
        yield f"{rows.height:,} {what}"
        for photo_id, number, why in rows.head(num_shown).select("photo_id", "class", "why").iter_rows():
            yield f"  {sign} {photo_id}  {name_of(number)}  ({why})"
    if found.relabelled.height:
        yield f"{found.relabelled.height:,} with another class"
        for photo_id, was, now in found.relabelled.head(num_shown).iter_rows():
            yield f"  ~ {photo_id}  {name_of(was)} -> {name_of(now)}"
    changed = found.content_changed
    if changed is None:
        yield "one of the lists has no source_sha256: photos that changed under their names are not seen"
    elif changed.height:
        yield f"{changed.height:,} names with another photo than before"
        for photo_id, number in changed.head(num_shown).iter_rows():
            yield f"  ! {photo_id}  {name_of(number)}"
    if found.reasons_changed.height:
        yield f"{found.reasons_changed.height:,} stayed for another reason or number"
    if found.classes.height:
        yield f"{found.classes.height:,} classes changed, most:"
    for number, had, has, came, went in found.classes.head(_CLASSES_SHOWN).iter_rows():
        yield f"  {name_of(number)}: {had:,} -> {has:,} photos (+{came:,} -{went:,})"


def score_list(root: Path, *, name: str) -> str:
    """Precision and recall of what a list dropped from train; ValueError where no truth is known."""
    params = load_params(root)
    splits = root / paths.split_folder(params.data.name)
    train = load_splits(splits).filter(pl.col("split") == "train", pl.col("class").is_not_null())
    score = score_dropped(read_list(root, params, name=name), base=train, truth=load_truth(splits))
    num_kept = score.num_listed - score.num_dropped
    left = (score.num_wrong - score.num_wrong_dropped) / num_kept if num_kept else None
    return (
        f"{name}: dropped {score.num_dropped} of {score.num_listed} photos, {score.num_wrong_dropped} of the "
        f"{score.num_wrong} wrong labels among them\n"
        f"  precision {_percent(score.precision)} (wrong among the dropped), "
        f"recall {_percent(score.recall)} (dropped among the wrong)\n"
        f"  wrong labels: {_percent(score.num_wrong / score.num_listed)} before, "
        f"{_percent(left)} of what it keeps"
    )


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"
