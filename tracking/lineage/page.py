"""A version's lineage to look at: lines for a terminal, and one HTML page that needs nothing beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from tracking.lineage.lines import Node, make_tree
from tracking.lineage.tree import VersionLineage

if TYPE_CHECKING:
    from rich.tree import Tree

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ root.title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem;
  color: #1d2330; background: #fff }
h1 { font-size: 1.3rem }
ul { list-style: none; margin: 0; padding-left: 1.4rem; border-left: 1px solid #d5dae3 }
li { margin: .15rem 0; overflow-wrap: anywhere }
summary { cursor: pointer }
.unknown { background: #fff4d6; padding: .5rem 1rem; border-radius: .4rem }
pre, td { font: 13px/1.45 ui-monospace, monospace }
pre { background: #f4f6f9; padding: 1rem; overflow: auto }
td { padding: .1rem 1rem .1rem 0; overflow-wrap: anywhere; vertical-align: top }
@media (prefers-color-scheme: dark) {
  body { background: #14171d; color: #dfe3ea } pre { background: #1d222b } .unknown { background: #4a3c10 }
  ul { border-color: #3a4252 }
}
</style>
</head>
<body>
<h1>{{ root.title }}</h1>
{% if unknown %}
<div class="unknown"><p>Not known:</p>
<ul>{% for sentence in unknown %}<li>{{ sentence }}</li>{% endfor %}</ul></div>
{% endif %}
{% macro show(node, open) %}
<li>{% if node.children %}<details{{ " open" if open }}><summary>{{ node.title }}</summary>
<ul>{% for child in node.children %}{{ show(child, open) }}{% endfor %}</ul></details>
{% else %}{{ node.title }}{% endif %}</li>
{% endmacro %}
<ul>{% for child in root.children %}{{ show(child, true) }}{% endfor %}</ul>
{% for name, each in versions.items() %}
<details><summary>Inputs of {{ name }}: {{ each.record.inputs | length }} with DVC's md5</summary>
<table>
{% for path, md5 in each.record.inputs.items() %}
<tr><td>{{ path }}</td><td>{{ md5 }}</td></tr>
{% endfor %}
</table></details>
<details><summary>Parameters of {{ name }}: params.yaml as it was stored</summary>
<pre>{{ each.params or "not known" }}</pre></details>
{% endfor %}
</body>
</html>
"""


def to_tree(root: Node) -> Tree:
    """The lines for a terminal."""
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(root.title))
    waiting = [(tree, child) for child in reversed(root.children)]
    while waiting:
        parent, node = waiting.pop()
        branch = parent.add(Text(node.title))
        waiting += [(branch, child) for child in reversed(node.children)]
    return tree


def to_html(lineage: VersionLineage) -> str:
    """The page: the tree, what is not known, every input's md5 and the parameters."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    versions = {lineage.name: lineage}
    waiting = [lineage]
    while waiting:
        for name, each in waiting.pop().started_from.items():
            if name not in versions:
                versions[name] = each
                waiting.append(each)
    root = make_tree(lineage)
    return environment.from_string(_PAGE).render(root=root, versions=versions, unknown=lineage.unknown)
