"""params.yaml out of conf/, by DVC's own Hydra support, and what somebody changed in it by hand since."""

import json
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from aisle.overrides import (
    Override,
    expand_star,
    follow_renaming,
    parse,
    resolve_paths,
    restore,
    to_hydra,
)
from imaging.atomic_write import write_text
from imaging.config_errors import first_of, near_match
from pipelines.params import PARAMS_FILE, check_params, make_schema

GROUPS = ("recipe", "data", "size")
EXPERIMENT = "experiment"
HEADER = "# yaml-language-server: $schema=conf/params.schema.json\n"
_COMPOSED = "# composed: "


def compose(root: Path, *, overrides: Sequence[str], cwd: Path | None = None) -> dict[str, Any]:
    """What params.yaml says with these overrides; ValueError, in a sentence, for what conf/ does not hold.

    Relative paths mean the folder `cwd` (default: the checkout).
    """
    return _compose(root, _read(root, overrides, cwd=cwd))


def _read(root: Path, typed: Sequence[str], *, cwd: Path | None) -> list[Override]:
    read = [resolve_paths(follow_renaming(parse(text)), root=root, cwd=cwd or root) for text in typed]
    for override in read:
        _check_choice(root, override)
    chosen = {override.key: override.value for override in read}
    of_recipe = str(chosen.get(EXPERIMENT)).split("/")[0]
    if EXPERIMENT in chosen and chosen.get("recipe", of_recipe) != of_recipe:
        raise ValueError(
            f"experiment={chosen[EXPERIMENT]}: expected recipe={of_recipe} beside it, or none, "
            f"received recipe={chosen['recipe']}"
        )
    return read


def _is_choice(root: Path, override: Override) -> bool:
    return "." not in override.key and (root / "conf" / override.key).is_dir()


def _check_choice(root: Path, override: Override) -> None:
    if not _is_choice(root, override):
        return
    folder = root / "conf" / override.key
    known = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    if override.value not in known:
        near = [name for name in known if name.split("/")[0] == str(override.value).split("/")[0]] or known
        raise ValueError(
            f"{override.key}: expected one of {first_of(near)}, received {override.value!r}"
            f"{near_match(str(override.value), known)}"
        )


def _compose(root: Path, overrides: Sequence[Override]) -> dict[str, Any]:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    composition_errors = (HydraException, OmegaConfBaseException)
    overrides = _expand_stars(root, overrides)
    try:
        return _run_hydra(root, overrides)
    except composition_errors:
        overrides = _add_known_keys(root, overrides)
    try:
        return _run_hydra(root, overrides)
    except composition_errors as error:
        given = shlex.join(map(str, overrides))
        raise ValueError(f"conf/ cannot be composed with {given}: {str(error).splitlines()[0]}") from error


def _expand_stars(root: Path, overrides: Sequence[Override]) -> list[Override]:
    """The overrides, each with a star written out for the recipe as those before it leave it."""
    choices = [override for override in overrides if _is_choice(root, override)]
    expanded, recipe = list[Override](), None
    for override in overrides:
        if not override.has_star:
            expanded, recipe = [*expanded, override], None
            continue
        if recipe is None:
            before = [earlier for earlier in expanded if earlier not in choices]
            recipe = _compose(root, [*choices, *before])["recipe"]
        expanded += expand_star(override, recipe=recipe)
    return expanded


def _run_hydra(root: Path, overrides: Sequence[Override]) -> dict[str, Any]:
    from dvc.utils.hydra import compose_and_dump

    written, literals = to_hydra(overrides)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / PARAMS_FILE
        compose_and_dump(out, str((root / "conf").resolve()), None, "config", "", written)
        composed: dict[str, Any] = restore(yaml.safe_load(out.read_text(encoding="utf-8")), literals)
    return composed


def _add_known_keys(root: Path, overrides: Sequence[Override]) -> list[Override]:
    """The overrides with `++` before keys that conf/ leaves out; ValueError for a key that nothing knows."""
    chosen = [override for override in overrides if _is_choice(root, override)]
    base = _run_hydra(root, chosen)
    for override in overrides:  # keys under what another override adds or chooses are not wrong
        if override.sign.startswith("+"):
            _put(base, override.key.split("."))
        _choose(base, override)
    schema = json.loads(make_schema())
    return [
        override if override in chosen or override.sign.startswith("+") else _known(override, base, schema)
        for override in overrides
    ]


def _put(values: dict[str, Any], path: list[str]) -> None:
    for part in path:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            return
        values = inner


def _choose(values: Any, override: Override) -> None:
    """Put a text in the place of another: a name, rule or layout decides which keys may stand beside it."""
    *parents, last = override.key.split(".")
    for part in parents:
        values = values.get(part) if isinstance(values, dict) else None
    if isinstance(values, dict) and isinstance(values.get(last), str):
        values[last] = override.value


def _known(override: Override, base: Any, schema: dict[str, Any]) -> Override:
    parts, here, places = override.key.split("."), base, [schema]
    for position, part in enumerate(parts):
        named = [option for place in places for option in _options(place, schema, here)]
        properties = {name for option in named for name in option.get("properties", {})}
        present = here if isinstance(here, dict) else {}
        if part not in present and (part not in properties or override.sign == "~"):
            known = sorted({*present} if override.sign == "~" else {*present, *properties})
            place = ".".join(parts[:position]) or PARAMS_FILE
            meant = get_close_matches(part, known, n=1)
            near = ".".join([*parts[:position], *meant, *parts[position + 1 :]]) if meant else None
            hint = f"did you mean {near}?" if near else f"the keys there are {first_of(known)}."
            raise ValueError(f"{override.key}: {place} has no key {part!r}; {hint}")
        here = present.get(part)
        places = [option["properties"].get(part, {}) for option in named if "properties" in option]
        places += [inner for option in named for inner in option.get("patternProperties", {}).values()]
    return override if override.sign == "~" else replace(override, sign="++")


def _options(place: dict[str, Any], schema: dict[str, Any], here: Any) -> Iterator[dict[str, Any]]:
    """The parts of a JSON schema that a place may follow, references and alternatives resolved.

    Of alternatives that a key tells apart it is the one that the values `here` choose.
    """
    if "$ref" in place:
        yield from _options(schema["$defs"][place["$ref"].rsplit("/", 1)[-1]], schema, here)
    alternatives = [*place.get("anyOf", ()), *place.get("oneOf", ()), *place.get("allOf", ())]
    if "discriminator" in place and isinstance(here, dict):
        chosen = place["discriminator"]["mapping"].get(here.get(place["discriminator"]["propertyName"]))
        alternatives = [{"$ref": chosen}] if chosen else alternatives
    for alternative in alternatives:
        yield from _options(alternative, schema, here)
    yield place


def choices(params: dict[str, Any]) -> list[str]:
    """What params.yaml was composed from, as overrides: recipe=..., data=..., size=..., experiment=..."""
    named = [f"{group}={params[group].get('config') or params[group]['name']}" for group in GROUPS]
    return [*named, *([f"{EXPERIMENT}={params[EXPERIMENT]}"] if params.get(EXPERIMENT) else [])]


def hand_edits(root: Path) -> list[str]:
    """Each key of params.yaml that differs from its composition, as a line; empty where nothing differs.

    `aisle use` writes down what it composed from; after `dvc exp run`, which does not, the files that the
    groups name are composed.
    """
    path = root / PARAMS_FILE
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    try:
        current = yaml.safe_load(text)
        composed = compose(root, overrides=_composed_from(text) or choices(current))
    except yaml.YAMLError as error:
        return [f"it is not YAML: {str(error).splitlines()[0]}"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
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


def use(root: Path, *, overrides: Sequence[str], cwd: Path | None = None) -> dict[str, Any]:
    """Write params.yaml composed with the overrides, and return it; a ParamsError leaves the old one."""
    read = _read(root, overrides, cwd=cwd)
    composed = _compose(root, read)
    check_params(composed, where=f"What {shlex.join(overrides) or 'conf/'} composes")
    text = yaml.dump(
        composed, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110
    )
    write_text(root / PARAMS_FILE, HEADER + _note(read) + text)
    return composed


class _Dumper(yaml.SafeDumper):
    """YAML with text in quotes that may look like a number: 1e5 is text to PyYAML, a number to DVC."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if text[:1] in {*"+-.0123456789"} else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _note(overrides: Sequence[Override]) -> str:
    """A comment that holds what was typed, on one line whatever that was; nothing where nothing was."""
    text = json.dumps([str(override) for override in overrides], ensure_ascii=False)
    printable = (char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
    return f"{_COMPOSED}{''.join(printable)}\n" if overrides else ""


def _composed_from(text: str) -> list[str] | None:
    for line in text.splitlines():
        if not line.startswith("#"):
            return None
        if line.startswith(_COMPOSED):
            read = json.loads(line.removeprefix(_COMPOSED))
            return [str(override) for override in read]
    return None
