"""What the gates answered about a challenger: numbers for a program, one sentence for a person."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["pass", "fail", "not applicable"]
Number = float | int | str | None
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class GateAnswer:
    """One gate's answer."""

    gate: str
    """The gate's name: error, tail, new_classes, ..."""
    outcome: Outcome
    sentence: str
    """What was expected and what was found; where it failed, what to do."""
    details: tuple[str, ...] = ()
    """Further sentences, such as which photos were left out of the comparison."""
    numbers: Mapping[str, Number] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Lists of names, such as all classes that were added."""
    rows: tuple[Mapping[str, Number], ...] = ()
    """A table, such as the classes that became significantly worse; all rows have the same keys."""


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """All answers about one challenger; versions are numbers, `champion` is None before the first one."""

    challenger: str
    champion: str | None
    answers: tuple[GateAnswer, ...]
    model: str = ""
    """The registered model's name."""
    at: str = ""
    """When it was made, ISO 8601 in UTC."""

    @property
    def passed(self) -> bool:
        """Whether no gate failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[GateAnswer, ...]:
        """The answers that speak against the promotion."""
        return tuple(answer for answer in self.answers if answer.outcome == "fail")

    @property
    def reasons(self) -> list[str]:
        """Every sentence once, in order."""
        texts = (text for answer in self.answers for text in (*answer.details, answer.sentence))
        return list(dict.fromkeys(texts))

    @property
    def summary(self) -> str:
        """The outcome and the answers that decided it, in markdown."""
        beside = f" beside version {self.champion}" if self.champion else ""
        verdict = "Refused" if self.failures else "Passed"
        lines = [f"- {answer.gate}: {answer.sentence}" for answer in self.failures or self.answers]
        return "\n".join([f"{verdict}{beside}.", "", *lines])

    def answer(self, gate: str) -> GateAnswer:
        """The answer of one gate; KeyError for a name that no gate has."""
        for answer in self.answers:
            if answer.gate == gate:
                return answer
        raise KeyError(f"Expected one of {[answer.gate for answer in self.answers]}, received {gate!r}.")

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of `to_json`, by which a row of the history names the report that it went by."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The report as text; equal reports give equal bytes."""
        values = {"format_version": FORMAT_VERSION, "passed": self.passed, **asdict(self)}
        return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> GateReport:
        """Read a report. Raises ValueError for text of another format."""
        try:
            values = json.loads(text)
            version = values.pop("format_version", None)
            values.pop("passed", None)
            if version != FORMAT_VERSION:
                raise ValueError(f"format version {version}")
            return cls(**{**values, "answers": tuple(_read_answer(item) for item in values["answers"])})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Expected a gate's report of format version {FORMAT_VERSION}, received another text "
                f"({error}): run `aisle gate` again."
            ) from error


def _read_answer(values: Mapping[str, Any]) -> GateAnswer:
    lists = {
        "details": tuple(values["details"]),
        "names": {key: tuple(names) for key, names in values["names"].items()},
        "rows": tuple(values["rows"]),
    }
    return GateAnswer(**{**values, **lists})
