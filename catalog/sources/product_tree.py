"""The optional product_tree.json beside AliProducts' indexes: which classes belong together.

Its form is not published with the challenge, so the forms of its neighbours are read, and anything else is
a warning: coarse classes are a help, never a reason to refuse three million photos. Read are levels of names
down to lists of class ids, as iMaterialist's product tree has them ({"food": {"jam": ["00000", "00007"]}}),
the same as nodes ({"name": "jam", "children": [{"class_id": "00000"}]}), and a parent a class ({"00000":
"jam"}).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator
from typing import Any

logger = logging.getLogger(__name__)


class _UnknownFormError(Exception):
    """What the tree holds where a class id or a level was expected."""


def read_product_tree(content: bytes, *, class_names: Collection[str]) -> dict[str, str]:
    """The coarse class of each class: the names of the levels above it, such as food/jam.

    Classes that the tree lacks or names under two parents have none; where the form is unknown, no class has.
    """
    parents: dict[str, set[str]] = {}
    known = set(class_names)
    try:
        for class_id, parent in _leaves(json.loads(content), levels=(), known=known):
            parents.setdefault(class_id, set()).add(parent)
    except (_UnknownFormError, ValueError, RecursionError) as error:
        logger.warning(
            "product_tree.json: expected class ids below named levels, found %s: coarse classes stay empty. "
            "Bring it into the form {level: {level: [class_id, ...]}}, or remove it.",
            error,
        )
        return {}
    coarse_of = {name: next(iter(parents[name])) for name in sorted(known) if len(parents.get(name, ())) == 1}
    if len(coarse_of) < len(known):
        logger.warning(
            "product_tree.json: %d of %d classes have one parent in it; the others get no coarse class.",
            len(coarse_of),
            len(known),
        )
    return coarse_of


def _leaves(node: Any, *, levels: tuple[str, ...], known: set[str]) -> Iterator[tuple[str, str]]:
    """Every class id with its parent's name. Raises _UnknownFormError for what is neither leaf nor level."""
    if isinstance(node, list):
        for item in node:
            yield from _leaves(item, levels=levels, known=known)
    elif not isinstance(node, dict):
        yield _class_id(node, levels=levels), "/".join(levels)
    elif "class_id" in node:
        yield _class_id(node["class_id"], levels=levels), "/".join(levels)
    elif "children" in node:
        name = () if node.get("name") is None else (str(node["name"]),)
        yield from _leaves(node["children"], levels=levels + name, known=known)
    else:
        for key, value in node.items():
            if isinstance(value, dict | list) and len(value):
                yield from _leaves(value, levels=(*levels, key), known=known)
            elif not isinstance(value, list):
                parent = [value] if isinstance(value, str) and not levels else levels
                yield _class_id(key, levels=levels), "/".join(parent)


def _class_id(value: Any, *, levels: tuple[str, ...]) -> str:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal():
        raise _UnknownFormError(f"{value!r} under {'/'.join(levels) or 'its top'}")
    return text.zfill(5)
