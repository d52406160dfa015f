"""One pattern for every name that becomes a path, a key of params.yaml, a stage of DVC or a model's name.

DVC would take `a.b` for a nested key, `a@b` for another stage and hand `a; b` to a shell; a disk that does
not tell cases apart would keep one folder for `Shop` and `shop`; Windows keeps `con` and its kin for devices.
So names are checked before anything runs, and no command of dvc.yaml holds one (a test reads it).
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import yaml
from pydantic import AfterValidator, Field

PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

_DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)),
}
_NUMBER = re.compile(r"[0-9]+([eE]-?[0-9]+)?|0[oO][0-7]+")  # of YAML 1.2, which DVC reads; PyYAML is 1.1


def check_name(name: str) -> str:
    """The name itself. Raises ValueError for one that breaks PATTERN, Windows reserves or YAML converts."""
    if not re.fullmatch(PATTERN.strip("^$"), name):
        raise ValueError(
            f"expected a name of letters from a to z, digits, _ and -, at most 64, the first a letter or "
            f"digit ({PATTERN}), received {name!r}: choose another name"
        )
    if name.lower() in _DEVICES:
        raise ValueError(
            f"expected a name that Windows does not reserve for a device, received {name!r}: choose another"
        )
    if _NUMBER.fullmatch(name) or not isinstance(yaml.safe_load(name), str):
        raise ValueError(
            f"expected a name that YAML reads as text, received {name!r}, a number, date or word of YAML: "
            "put a letter before it"
        )
    return name


def check_distinct(names: Iterable[str], *, kind: str) -> None:
    """Raise ValueError where two names would be one file on a disk that does not tell cases apart."""
    names = list(names)
    counts = Counter(name.lower() for name in names)
    alike = [name for name in names if counts[name.lower()] > 1]
    if alike:
        raise ValueError(
            f"{kind}: expected names that differ in more than case, received {', '.join(alike)}: rename one"
        )


Name = Annotated[str, AfterValidator(check_name), Field(json_schema_extra={"pattern": PATTERN})]
"""A name in params.yaml."""
