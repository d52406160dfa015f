"""What `aisle versions` and `aisle audit` print: the registry's versions, and what happened to them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tracking.history.events import Event
from tracking.registry.versions import ModelVersion

_COMMIT_SHOWN = 10


def version_as_json(version: ModelVersion) -> dict[str, Any]:
    """A version for a program; None for what was not recorded of it."""
    tags = version.tags
    error, commit = tags.get("aisle.mean_top1_error"), tags.get("aisle.git_commit")
    return {
        "model": version.name,
        "version": int(version.version),
        "aliases": sorted(version.aliases),
        "recipe": tags.get("aisle.recipe"),
        "mean_top1_error": None if error is None else float(error),
        "commit": None if commit == "none" else commit,
        "clean": tags.get("aisle.git_clean") == "true",
        "by": tags.get("aisle.registered_by"),
        "at": tags.get("aisle.registered_at", version.created_at.isoformat(timespec="seconds")),
    }


def versions_table(versions: Iterable[ModelVersion]) -> Iterator[str]:
    """One line a version: number, aliases, recipe, mean top-1 error in percent, commit, by whom, when."""
    rows = [("version", "aliases", "recipe", "error %", "commit", "by", "when")]
    for content in map(version_as_json, versions):
        error, commit = content["mean_top1_error"], content["commit"]
        rows.append(
            (
                str(content["version"]),
                ", ".join(content["aliases"]),
                content["recipe"] or "-",
                "-" if error is None else f"{100 * error:.2f}",
                f"{commit[:_COMMIT_SHOWN]}{'' if content['clean'] else ' + changes'}" if commit else "-",
                content["by"] or "-",
                content["at"].partition("+")[0].replace("T", " "),
            )
        )
    return _aligned(rows, right=(0, 3))


def event_as_json(event: Event) -> dict[str, Any]:
    """A row of the history for a program: all of its columns."""
    return {**vars(event), "at": event.at.isoformat(timespec="microseconds"), "details": dict(event.details)}


def history_table(events: Sequence[Event]) -> Iterator[str]:
    """One line an operation: its result, or its intent where it has none."""
    ended = {event.operation for event in events if event.kind == "result"}
    rows = [("row", "when (UTC)", "by", "what", "reason")]
    for event in events:
        if event.kind == "intent" and event.operation in ended:
            continue
        when = event.at.isoformat(sep=" ", timespec="seconds").partition("+")[0]
        rows.append((str(event.sequence), when, event.by, _what(event), _reason(event, events)))
    return _aligned(rows, right=(0,))


def _what(event: Event) -> str:
    from_to = f"version {event.version or 'none'}"
    if event.alias is not None:
        from_to = f"{event.alias} {event.previous_version or 'none'} -> {event.version or 'none'}"
    action = "outside" if event.kind == "outside" else event.action
    if event.kind == "intent":
        return f"{action}, {from_to}: OPEN, run `aisle doctor`"
    state = "" if event.outcome in (None, "completed") else f": {event.outcome.upper()}"
    return f"{action}, {from_to}{state}"


def _reason(event: Event, events: Sequence[Event]) -> str:
    """Why, and what of the gates has to be known: that they were overruled."""
    intents = (each for each in events if each.operation == event.operation and each.kind == "intent")
    details = {**next((each.details for each in intents), {}), **event.details}
    parts = [event.reason] if event.reason else []
    if details.get("gates"):
        gates = details["gates"]
        failed = [name for name, answer in gates.items() if answer["outcome"] == "fail"]
        parts.append(f"forced past {', '.join(failed)}" if failed else f"{len(gates)} gates passed")
    parts += [f"by {details['settled_by']}"] if "settled_by" in details else []
    parts += [str(details["error"])] if "error" in details else []
    return "; ".join(parts) or "-"


def _aligned(rows: Sequence[Sequence[str]], *, right: Sequence[int]) -> Iterator[str]:
    """Lines of cells in columns; the last one is not padded."""
    shown = [[cell if cell.isprintable() else repr(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(rows[0]))]
    for row in shown:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
