"""A version's description in MLflow's registry: what a person wants to know before they promote it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from recognition.provenance import RANDOM, Provenance
from tracking.lineage.origin import Lineage
from tracking.runs.note import CLASS_SIZES, describe_commit
from tracking.runs.pipeline_run import NOTE_END

_GATE_TITLE = "### Gate"
_NO_GATE = "Not checked yet: `aisle gate`."
MAX_LENGTH = 5000
"""MLflow's limit of a description."""
_CUT = " ... (cut; the whole report is an artifact)"


def card(
    *,
    recipe: str,
    members: Sequence[str],
    metrics: Mapping[str, float],
    lists: Sequence[str],
    lineage: Lineage,
    licences: Sequence[Provenance],
    registered: str,
    gate: str | None = None,
) -> str:
    """The card in markdown; its first line is what a list of versions shows of it.

    metrics: `<split>/<name>` of the ensemble. lists: each list with its number of photos. licences: what the
    members began from. registered: by whom and how. gate: a gate's answers in markdown, where it was asked.
    """
    rows = {
        "recipe": recipe,
        "members": ", ".join(members),
        "lists": ", ".join(lists) or "unknown",
        "made from": describe_commit(commit=lineage.commit, clean=lineage.clean),
        "weights": "; ".join(dict.fromkeys(_describe_weights(origin) for origin in licences)),
        "registered": registered,
    }
    table = "\n".join(["| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in rows.items())])
    first = _summary(metrics, recipe=recipe)
    return "\n\n".join([first, _errors(metrics), table, f"{_GATE_TITLE}\n\n{gate or _NO_GATE}", NOTE_END])


def put_gate(description: str, *, gate: str) -> str:
    """The card with a gate's answers in the place of what it said before; other texts stay as they are."""
    pattern = re.compile(rf"{re.escape(_GATE_TITLE)}\n\n.*?(?=\n\n{re.escape(NOTE_END)})", re.DOTALL)
    room = MAX_LENGTH - len(pattern.sub(lambda _: f"{_GATE_TITLE}\n\n", description))
    said = gate if len(gate) <= room else gate[: max(0, room - len(_CUT))] + _CUT
    return pattern.sub(lambda _: f"{_GATE_TITLE}\n\n{said}", description)


def _summary(metrics: Mapping[str, float], *, recipe: str) -> str:
    found = [(key, value) for key, value in metrics.items() if key.endswith("/mean_top1_error")]
    if not found:
        return f"{recipe}, not evaluated"
    (key, value), *_ = found
    return f"{recipe}: {100 * value:.2f} % mean top-1 error on {key.split('/', maxsplit=1)[0]}"


def _errors(metrics: Mapping[str, float]) -> str:
    """Errors by class size, in percent."""
    if not metrics:
        return "Nothing was evaluated, so no gate can compare it."
    split = next(iter(metrics)).split("/", maxsplit=1)[0]
    values = [metrics.get(f"{split}/{size}_top1_error") for size in CLASS_SIZES]
    shown = ["-" if value is None else f"{100 * value:.2f}" for value in values]
    return "\n".join(
        [
            f"| top-1 error on {split}, % | {' | '.join(CLASS_SIZES)} |",
            f"| --- |{' ---: |' * len(CLASS_SIZES)}",
            f"| ensemble | {' | '.join(shown)} |",
        ]
    )


def _describe_weights(origin: Provenance) -> str:
    if origin.source == RANDOM:
        return "random, no licence needed"
    return f"{origin.model or origin.source}, licence {origin.licence or 'unknown'}"
