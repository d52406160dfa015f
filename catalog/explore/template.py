"""The page's HTML and CSS, a Python string so that it is installed and digested like all other code.

Calm on purpose: system fonts, one accent, figures that are inverted where the reader's screen is dark. Colour
never says anything alone: headings name what a frame's colour means.
"""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5a6876; --line: #d9dfe5; --paper: #ffffff;
  --ground: #f5f7f9; --accent: #2f6299; --dropped: #c8500a; --kept: #0b7f60; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --soft: #9aa7b4; --line: #34383d;
  --paper: #1a1a1a; --ground: #121314; --accent: #7fb2e5; --dropped: #f08a4b; --kept: #3dbd97; }
  .plot img { filter: invert(0.9) hue-rotate(180deg); } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.5rem; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
header, main { max-width: 1240px; margin: 0 auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1.8rem 0 .8rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.6rem 0 .2rem; }
nav { position: sticky; top: 0; z-index: 1; background: var(--ground); border-bottom: 1px solid var(--line); }
nav ul { display: flex; gap: 1.2rem; max-width: 1240px; margin: 0 auto; padding: .6rem 1rem; list-style: none;
  overflow-x: auto; white-space: nowrap; }
a { color: var(--accent); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.2rem 1.3rem; margin: 1.2rem 0; }
p { max-width: 75ch; margin: .6rem 0; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.8rem, 1fr)); gap: .8rem;
  margin: .8rem 0; padding: 0; }
.tiles div { display: flex; flex-direction: column-reverse; justify-content: flex-end;
  border: 1px solid var(--line); border-radius: 8px;
  padding: .6rem .8rem; }
.tiles dd { margin: 0; font-size: 1.5rem; font-weight: 600; line-height: 1.25; }
.tiles dt, caption, figcaption, .note { color: var(--soft); font-size: .87rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; white-space: nowrap; }
th, td { padding: .28rem .9rem .28rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: break-word; max-width: 30rem; }
th { font-weight: 600; font-size: .87rem; overflow-wrap: normal; }
.number { text-align: right; }
td.number { white-space: nowrap; }
.plot { margin: 1rem 0; overflow-x: auto; }
.plot img { display: block; width: 1200px; max-width: max(100%, 640px); height: auto; }
.plot figcaption { max-width: 75ch; margin-top: .3rem; }
.sheet { margin: .6rem 0 1.6rem; }
.rows .row, .headings { display: grid; grid-template-columns: 8rem 1fr 1fr; gap: .9rem;
  border-top: 1px solid var(--line); padding: .7rem 0; }
.flow { display: flex; flex-wrap: wrap; gap: .8rem; }
.flow .row { border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; }
.flow .title { margin-bottom: .4rem; }
.flow .title strong { display: inline; margin-right: .5rem; }
.headings { border: 0; padding: .5rem 0 .3rem; font-weight: 600; font-size: .87rem; }
.title { overflow-wrap: anywhere; }
.title strong { display: block; line-height: 1.3; }
.strip { display: flex; flex-wrap: wrap; gap: .5rem; align-content: flex-start; }
.shot { margin: 0; width: 92px; }
.shot img { display: block; width: 92px; height: 92px; object-fit: contain; background: var(--ground);
  border: 1px solid var(--line); border-radius: 5px; }
.shot figcaption { font-size: .75rem; line-height: 1.3; margin-top: .2rem; overflow-wrap: anywhere; }
.shot figcaption span { display: block; }
.dropped .shot img { border: 3px solid var(--dropped); }
.kept .shot img { border: 3px solid var(--kept); }
.only { display: none; }
@media (max-width: 800px) { .rows .row { grid-template-columns: 1fr; } .headings { display: none; }
  caption { white-space: normal; }
  .only { display: block; width: 100%; font-weight: 600; font-size: .8rem; }
  section { padding: 1rem .8rem; } }
@media print { nav { display: none; } section { break-inside: auto; border: 0; padding: 0; } }
"""

_BLOCKS = """
{% macro tiles(block) %}
<dl class="tiles">
{% for count, what in block.tiles %}
<div><dt>{{ what }}</dt><dd>{{ count|cell }}</dd></div>
{% endfor %}
</dl>
{% endmacro %}
{% macro table(block) %}
<div class="scroll" role="region" tabindex="0" aria-label="{{ block.caption }}"><table>
<caption>{{ block.caption }}</caption>
<thead><tr>
{% for column in block.columns %}
<th scope="col"{% if block.rows and block.rows[0][loop.index0] is number %} class="number"{% endif %}>
{{- column }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in block.rows %}
<tr>{% for cell in row %}
<td{% if cell is number or cell is none %} class="number"{% endif %}>{{ cell|cell }}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}
{% macro plot(block) %}
<figure class="plot"><img src="{{ block.png|png }}" alt="{{ block.alt }}">
<figcaption>{{ block.caption }}</figcaption></figure>
{% endmacro %}
{% macro sheet(block) %}
<h3>{{ block.title }}</h3>
<p class="note">{{ block.note }}</p>
<div class="sheet {{ 'rows' if block.headings else 'flow' }}">
{% if block.headings %}
<div class="headings" aria-hidden="true"><span></span>
{% for heading in block.headings %}<span>{{ heading }}</span>{% endfor %}
</div>
{% endif %}
{% for row in block.rows %}
<div class="row"><div class="title"><strong>{{ row.title }}</strong>
<span class="note">{{ row.note }}</span></div>
{% for strip in row.strips %}
<div class="strip {{ strip.tone }}">
{% if block.headings %}<span class="only">{{ block.headings[loop.index0] }}</span>{% endif %}

{% for shot in strip.shots %}
<figure class="shot"><img src="{{ shot.photo_id|thumbnail }}" alt="photo {{ shot.photo_id }}"
 title="{{ shot.photo_id }}" loading="lazy"><figcaption>
{%- for line in shot.lines %}<span>{{ line }}</span>{% endfor %}</figcaption></figure>
{% else %}
<span class="note">{{ strip.empty }}</span>
{% endfor %}
</div>
{% endfor %}
</div>
{% endfor %}
</div>
{% endmacro %}
"""

PAGE = (
    _BLOCKS
    + """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>"""
    + _STYLE
    + """</style>
</head>
<body>
<header><h1>{{ title }}</h1></header>
<nav aria-label="Sections"><ul>
{% for section in sections %}
<li><a href="#{{ section.anchor }}">{{ section.title }}</a></li>
{% endfor %}
</ul></nav>
<main>
{% for section in sections %}
<section id="{{ section.anchor }}">
<h2>{{ section.title }}</h2>
{% for block in section.blocks %}
{% if block is block("Text") %}
<p>{{ block.text }}</p>
{% elif block is block("Tiles") %}
{{ tiles(block) }}
{%- elif block is block("Table") %}
{{ table(block) }}
{%- elif block is block("Plot") %}
{{ plot(block) }}
{%- else %}
{{ sheet(block) }}
{%- endif %}
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""
)
