"""A gate's report as one HTML file that needs nothing beside it, and as an artifact of the version's run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tracking.gates.report import GateAnswer, GateReport, Number
from tracking.registry.card import put_gate
from tracking.registry.versions import ModelVersion
from tracking.store import Store, patience

GATE_REPORT_TAG = "aisle.gate_report"
"""The folder of a version's latest report among the artifacts of its run."""
_WIDTH, _HEIGHT, _MARGIN = 340, 34, 10

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Gates of {{ report.model }} version {{ report.challenger }}</title>
<style>
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5a6876; --line: #d9dfe5; --paper: #fff;
  --pass: #0b7f60; --fail: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --soft: #9aa7b4; --line: #34383d;
  --paper: #1a1a1a; --pass: #3dbd97; --fail: #f2887f; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 66rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0;
  border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.pass { color: var(--pass); } .fail { color: var(--fail); font-weight: 600; }
.soft, .not { color: var(--soft); } ul { margin: .3rem 0 0; padding-left: 1.2rem; color: var(--soft); }
svg text { fill: var(--soft); font-size: 10px; } svg .axis { stroke: var(--line); }
svg .zero { stroke: var(--soft); } svg .limit { stroke: var(--fail); stroke-dasharray: 3 3; }
svg .interval { stroke: var(--ink); stroke-width: 3; } svg circle { fill: var(--ink); }
</style>
<h1>{{ report.model }} version {{ report.challenger }}:
  <span class="{{ 'pass' if report.passed else 'fail' }}">{{ verdict }}</span></h1>
<p class="soft">{% if report.champion is none %}There is no champion yet.{% else %}Compared with version
  {{ report.champion }}.{% endif %} {{ report.at }}</p>
<table>
<tr><th>gate<th>answer<th>found</tr>
{% for answer in report.answers %}
<tr id="{{ answer.gate }}"><td>{{ answer.gate }}<td class="{{ answer.outcome }}">{{ answer.outcome }}
<td>{{ answer.sentence }}
{% with drawing = intervals.get(answer.gate) %}{% if drawing %}
<div><svg width="{{ width }}" height="{{ height }}" role="img" aria-label="{{ drawing.label }}">
<line class="axis" x1="0" x2="{{ width }}" y1="12" y2="12"/>
<line class="zero" x1="{{ drawing.zero }}" x2="{{ drawing.zero }}" y1="4" y2="20"/>
<text x="{{ drawing.zero }}" y="32" text-anchor="middle">0</text>
{% if drawing.limit is not none %}
<line class="limit" x1="{{ drawing.limit }}" x2="{{ drawing.limit }}" y1="2" y2="22"/>
{% endif %}
<line class="interval" x1="{{ drawing.low }}" x2="{{ drawing.high }}" y1="12" y2="12"/>
<circle cx="{{ drawing.difference }}" cy="12" r="4"/></svg>
<span class="soft">{{ drawing.label }}</span></div>
{% endif %}{% endwith %}
{% if answer.details %}<ul>{% for text in answer.details %}<li>{{ text }}{% endfor %}</ul>{% endif %}
</tr>
{% endfor %}
</table>
{% for answer in report.answers if answer.rows %}
<h2>{{ answer.gate }}: classes that became significantly worse</h2>
<p class="soft">Exact sign test of each class, corrected for their number (Benjamini and Hochberg).</p>
<table>
<tr>{% for key in answer.rows[0] %}
<th{% if not loop.first %} class="number"{% endif %}>{{ key|words }}{% endfor %}</tr>
{% for row in answer.rows %}
<tr>{% for value in row.values() %}
<td{% if not loop.first %} class="number"{% endif %}>{{ value|cell }}{% endfor %}</tr>
{% endfor %}
</table>
{% endfor %}
{% for answer in report.answers %}{% for kind, names in answer.names.items() if names %}
<h2>{{ answer.gate }}: {{ kind }} ({{ names|length }})</h2>
<p>{% for name in names %}<span>{{ name }}</span>{% if not loop.last %}, {% endif %}{% endfor %}</p>
{% endfor %}{% endfor %}
"""


def render_report(report: GateReport) -> str:
    """The report as HTML; everything that came from outside, such as class names, is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = _cell
    environment.filters["words"] = lambda key: key.replace("_", " ")
    count = len(report.failures)
    return environment.from_string(_PAGE).render(
        report=report,
        verdict="passes" if report.passed else f"refused by {count} gate{'s' * (count > 1)}",
        intervals={answer.gate: _draw(answer) for answer in report.answers if "low" in answer.numbers},
        width=_WIDTH,
        height=_HEIGHT,
    )


def save_report(store: Store, *, version: ModelVersion, report: GateReport) -> str:
    """Store a report as gates/<UTC time>/report.json and report.html of the version's run; its folder.

    The run's tag `aisle.gate_report` names the latest, and the version's card says how it ended. Raises
    TrackingError when the store cannot be reached.
    """
    path = f"gates/{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    with (
        store.explain_failure(doing=f"store the gates' report of version {version.version}"),
        patience(),
        tempfile.TemporaryDirectory() as folder,
    ):
        Path(folder, "report.json").write_text(report.to_json(), encoding="utf-8")
        Path(folder, "report.html").write_text(render_report(report), encoding="utf-8")
        store.client.log_artifacts(version.run_id, folder, path)
        store.client.set_tag(version.run_id, GATE_REPORT_TAG, path)
        described = store.client.get_model_version(version.name, version.version).description or ""
        store.client.update_model_version(
            version.name, version.version, description=put_gate(described, gate=report.summary)
        )
    return path


def _draw(answer: GateAnswer) -> Mapping[str, str | float | None]:
    """Where the interval's parts lie in the drawing, and the same in words."""
    numbers = {key: value for key, value in answer.numbers.items() if isinstance(value, int | float)}
    shown = [0.0, *(numbers[key] for key in ("low", "high", "difference", "limit") if key in numbers)]
    start, end = min(shown), max(shown)

    def place(value: float) -> float:
        return round(_MARGIN + (value - start) / ((end - start) or 1) * (_WIDTH - 2 * _MARGIN), 1)

    label = (
        f"{numbers['difference']:+.4f} ({100 * numbers['confidence']:g} % interval {numbers['low']:+.4f} to "
        f"{numbers['high']:+.4f}" + (f"; limit {numbers['limit']:g})" if "limit" in numbers else ")")
    )
    places = {key: place(numbers[key]) for key in ("low", "high", "difference")}
    limit = place(numbers["limit"]) if "limit" in numbers else None
    return {**places, "zero": place(0.0), "limit": limit, "label": label}


def _cell(value: Number) -> str:
    if value is None:
        return "\N{EN DASH}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
