"""One kind of configuration for the whole house: params.yaml, a source's options, a job folder's job.json.

Every room may import this one, so the base class is here; a bare GPU node has pydantic, too.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Config(BaseModel):
    """A configuration: it never changes, and refuses keys that it does not have.

    The text under each field is its description in the JSON schema, also in classes that inherit the field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """A checked copy with other values. Raises ValidationError as the class itself does."""
        return type(self).model_validate({**dict(self), **changes})

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The schema without generated titles, and with descriptions, which cost a parse of the source.

        Pydantic's own use_attribute_docstrings reads the source whenever a class is made, which made every
        import of the configuration wait for help that only a schema shows.
        """
        schema = handler(core_schema)
        table = handler.resolve_ref_schema(schema)
        table.pop("title", None)
        descriptions = {
            name: text for kind in reversed(cls.__mro__) for name, text in _field_docstrings(kind).items()
        }
        for name, entry in table.get("properties", {}).items():
            entry.pop("title", None)
            if name in descriptions:
                entry["description"] = descriptions[name]
        return schema


class WrongValueError(ValueError):
    """A value that a configuration cannot have; `key` is relative to the configuration that refuses it."""

    def __init__(self, key: str, expected: str, received: object) -> None:
        self.key = key
        super().__init__(f"{key}: expected {expected}, received {received!r}.")


def require(holds: bool, *, key: str, expected: str, received: object) -> None:
    """Raise WrongValueError unless `holds`: for what a field's own type and limits cannot say."""
    if not holds:
        raise WrongValueError(key, expected, received)


def _field_docstrings(kind: type) -> dict[str, str]:
    """The text under each field that a class declares itself."""
    if not issubclass(kind, Config):
        return {}
    for node in ast.walk(_parse(kind.__module__)):
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            return {
                field.target.id: inspect.cleandoc(text.value.value)
                for field, text in pairwise(node.body)
                if isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            }
    return {}


@cache
def _parse(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(sys.modules[module]))
