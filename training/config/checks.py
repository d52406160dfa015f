"""How configurations refuse a value: one sentence with the key, what was expected and what was received."""

from __future__ import annotations

from typing import Any, ClassVar, get_args

STRICT: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}
"""What a dataclass's `__pydantic_config__` says, so that the pipeline checks and explains them, too."""


class Strict:
    """Base of every configuration: pydantic refuses unknown keys and reads the text under each field."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


class ByName:
    """Marks a union of configurations, `Annotated[A | B, ByName()]`, of which the key `name` chooses one.

    Pydantic asks the marker for a schema; the reader of bare nodes looks for it. Neither imports the other.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> dict[str, Any]:
        """Return pydantic's schema of a union that is told apart by `name`."""
        choices = {kind.name: handler.generate_schema(kind) for kind in get_args(source)}
        return {"type": "tagged-union", "discriminator": "name", "choices": choices}


def require(holds: bool, *, key: str, expected: str, received: object) -> None:
    """Raise ValueError unless `holds`."""
    if not holds:
        raise ValueError(f"{key}: expected {expected}, received {received!r}.")


def require_range(value: float, *, key: str, low: float, high: float) -> None:
    """Raise ValueError unless low <= value <= high."""
    require(low <= value <= high, key=key, expected=f"a number from {low:g} to {high:g}", received=value)


def require_positive(value: float, *, key: str) -> None:
    """Raise ValueError unless value > 0."""
    require(value > 0, key=key, expected="a number above 0", received=value)


def require_at_least(value: float, *, key: str, low: float) -> None:
    """Raise ValueError unless value >= low."""
    require(value >= low, key=key, expected=f"{low:g} or more", received=value)
