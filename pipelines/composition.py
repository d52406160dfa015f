"""params.yaml out of conf/, by DVC's own Hydra support, and what somebody changed in it by hand since."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from imaging.atomic_write import write_text
from pipelines.params import PARAMS_FILE, check_params

GROUPS = ("recipe", "data", "size")
HEADER = "# yaml-language-server: $schema=params.schema.json\n"


def compose(root: Path, *, overrides: Sequence[str]) -> dict[str, Any]:
    """What `dvc exp run -S override ...` would write into params.yaml; ValueError for choices conf/ lacks."""
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / PARAMS_FILE
        try:
            compose_and_dump(out, str((root / "conf").resolve()), None, "config", "", list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(f"conf/ cannot be composed with {' '.join(overrides)}: {error}") from error
        composed: dict[str, Any] = yaml.safe_load(out.read_text(encoding="utf-8"))
    return composed


def choices(params: dict[str, Any]) -> list[str]:
    """The group choices that params.yaml was composed from, as overrides: recipe=..., data=..., size=..."""
    return [f"{group}={params[group]['name']}" for group in GROUPS]


def hand_edits(root: Path) -> list[str]:
    """Each key of params.yaml that differs from its composition, as a line; empty where nothing differs."""
    path = root / PARAMS_FILE
    if not path.exists():
        return []
    current = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        composed = compose(root, overrides=choices(current))
    except (KeyError, TypeError, ValueError) as error:
        return [f"its choices cannot be composed again: {error}"]
    return [
        f"{key}: conf/ says {was!r}, {PARAMS_FILE} says {now!r}"
        for key, was, now in _compare(composed, current)
    ]


def _compare(composed: Any, current: Any, *, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(composed, dict) and isinstance(current, dict):
        for name in composed | current:
            inner = f"{key}.{name}" if key else name
            yield from _compare(composed.get(name, "nothing"), current.get(name, "nothing"), key=inner)
    elif composed != current:
        yield key, composed, current


def use(root: Path, *, overrides: Sequence[str]) -> dict[str, Any]:
    """Write params.yaml composed with the overrides, and return it; a ParamsError leaves the old one."""
    composed = compose(root, overrides=overrides)
    check_params(composed, where=f"What {' '.join(overrides) or 'conf/'} composes")
    text = yaml.safe_dump(composed, sort_keys=False, allow_unicode=True)
    write_text(root / PARAMS_FILE, HEADER + text)
    return composed
