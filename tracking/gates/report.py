"""What the gates answered about a challenger: numbers for a program, one sentence for a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["pass", "fail", "not applicable"]
Number = float | int | str | None


@dataclass(frozen=True, kw_only=True)
class GateAnswer:
    """One gate's answer."""

    gate: str
    """The gate's name, a key of `gates:` in params.yaml."""
    outcome: Outcome
    sentence: str
    """What was expected and what was found; where it failed, what to do."""
    details: tuple[str, ...] = ()
    """Further sentences, such as which photos were left out of the comparison."""
    numbers: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """All answers about one challenger; versions are numbers, `champion` is None before the first one."""

    challenger: str
    champion: str | None
    answers: tuple[GateAnswer, ...]

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
        """Every sentence, in order."""
        return [text for answer in self.answers for text in (*answer.details, answer.sentence)]
