"""A page of HTML that needs nothing else: its parts, its look, and how it becomes text.

It runs no script and asks for nothing, which its Content-Security-Policy says to the browser.
Whatever a user named passes `escaped`.
"""

import dataclasses
import html
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tcljax.reporting.drawing import THEME, Drawn, clean

_POLICY = (
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
  "form-action 'none'"
)


Draw = Callable[[Drawn], str]  # hands back the HTML of a figure whose files it keeps


class LeftOut(Exception):
  """A section cannot be made of these findings; the message says why."""


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of a page.

  Attributes:
    anchor: its id.
    title: plain text.
    says: a plain sentence on what is to be seen in it.
    parts: HTML.
  """

  anchor: str
  title: str
  says: str
  parts: Sequence[str]


def escaped(text: Any) -> str:
  """Any text as it may stand in a page; a number and its unit are not torn apart."""
  whole = re.sub(r"(?<=\d) (?=%|µJ)", "\N{NO-BREAK SPACE}", clean(text))
  return html.escape(whole)


def paragraph(text: Any) -> str:
  """A paragraph of plain text."""
  return f"<p>{escaped(text)}</p>"


def items(sentences: Iterable[Any], ordered: bool = True) -> str:
  """A list of plain texts, numbered or not."""
  inner = "".join(f"<li>{escaped(one)}</li>" for one in sentences)
  return f"<ol>{inner}</ol>" if ordered else f"<ul>{inner}</ul>"


def preformatted(text: str, name: str) -> str:
  """Lines of text as they are, which can be moved sideways."""
  lines = "\n".join(clean(line) for line in text.splitlines())
  return f'<pre tabindex="0" role="region" aria-label="{escaped(name)}">{html.escape(lines)}</pre>'


def details(summary: str, inner: str) -> str:
  """What is shown when it is asked for."""
  return f"<details><summary>{escaped(summary)}</summary>{inner}</details>"


def figure(name: str, svg: str, wide: bool, alt: str) -> str:
  """A figure with links to its files beside the page."""
  beside = escaped(f"figures/{name}")
  links = f'<a href="{beside}.png">PNG</a> <a href="{beside}.json">numbers</a>'
  scroll = f' tabindex="0" role="region" aria-label="{escaped(alt)}"' if wide else ""
  kind = "box wide" if wide else "box"
  return f'<figure><div class="{kind}"{scroll}>{svg}</div><figcaption>{links}</figcaption></figure>'


def table(titles: Sequence[str], rows: Iterable[Sequence[Any]], name: str) -> str:
  """A table of texts and numbers; the first column names the row."""
  head = "".join(f'<th scope="col">{escaped(title)}</th>' for title in titles)
  body = "".join(
    f'<tr><th scope="row">{escaped(first)}</th>'
    + "".join(f"<td>{escaped(cell)}</td>" for cell in rest)
    + "</tr>"
    for first, *rest in rows
  )
  return (
    f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(name)}"><table>'
    f"<caption>{escaped(name)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    "</table></div>"
  )


def side_by_side(parts: list[str]) -> str:
  """Figures side by side where there is room."""
  return f'<div class="figures">{"".join(parts)}</div>'


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
  """A few numbers, large, each with its name."""
  inner = "".join(f"<div><dt>{escaped(k)}</dt><dd>{escaped(v)}</dd></div>" for k, v in pairs)
  return f'<dl class="tiles">{inner}</dl>'


def page(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
  """The whole page.

  Args:
    title: plain text.
    lead: HTML that stands before all sections.
    sections: in their order.
  """
  links = "".join(f'<li><a href="#{s.anchor}">{escaped(s.title)}</a></li>' for s in sections)
  body = "".join(
    f'<section id="{s.anchor}" aria-labelledby="{s.anchor}-title">'
    f'<h2 id="{s.anchor}-title">{escaped(s.title)}</h2>'
    + (f'<p class="says">{escaped(s.says)}</p>' if s.says else "")
    + "".join(s.parts)
    + "</section>\n"
    for s in sections
  )
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    '<meta name="referrer" content="no-referrer">\n'
    f"<title>{escaped(title)}</title>\n<style>{_style()}</style>\n</head>\n<body>\n"
    '<a class="skip" href="#content">To the content</a>\n'
    f"<header><h1>{escaped(title)}</h1></header>\n"
    f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
    f'<main id="content" tabindex="-1">\n<section class="lead">{"".join(lead)}</section>\n{body}'
    "</main>\n</body>\n</html>\n"
  )


def _style() -> str:
  light = "".join(f"--{name}:{color};" for color, (name, _) in THEME.items())
  dark = "".join(f"--{name}:{color};" for name, color in THEME.values())
  # Printed pages are light, whatever the screen is.
  return (
    f":root{{color-scheme:light dark;{light}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{_RULES}"
  )


_RULES = """
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:1rem}
body{margin:0 auto;padding:0 1rem 4rem;max-width:64rem;background:var(--paper);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
overflow-wrap:break-word}
h1{font-size:1.7rem;line-height:1.25;margin:1.5rem 0 .5rem}
h2{font-size:1.25rem;line-height:1.3;margin:0 0 .25rem}
h3{font-size:1rem;margin:1.25rem 0 .25rem}
section{margin:2.25rem 0;padding-top:1.25rem;border-top:1px solid var(--grid)}
section.lead{border:0;margin:0;padding:0}
p,ol,ul{max-width:46rem}
a{color:var(--blue)}
.says{color:var(--muted);margin-top:0}
.verdict{font-size:1.1rem}
.data{color:var(--muted);margin:.75rem 0 0}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1rem;list-style:none;padding:.5rem 0;margin:0;
max-width:none;border-block:1px solid var(--grid)}
nav a{display:inline-block;padding:.2rem 0}
.skip{position:absolute;left:-99rem}
.skip:focus{left:.5rem;top:.5rem;background:var(--paper);padding:.5rem 1rem;z-index:9}
:focus-visible{outline:3px solid var(--blue);outline-offset:2px}
main:focus{outline:none}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.75rem,1fr));gap:.75rem;
margin:1rem 0}
.tiles div{border:1px solid var(--grid);border-radius:.4rem;padding:.6rem}
.tiles dt{color:var(--muted);font-size:.85rem}
.tiles dd{margin:0;font-size:1.25rem;font-weight:600;font-variant-numeric:tabular-nums}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));
gap:1rem 2rem;align-items:start}
figure{margin:1rem 0}
.box{max-width:30rem}
.box.wide{max-width:none;overflow-x:auto}
.box.wide svg{min-width:38rem;max-width:50rem}
.tall{max-height:80vh;overflow:auto}
svg{display:block;width:100%;height:auto;font-family:inherit}
svg *{stroke-linejoin:round}
svg text{fill:var(--ink)}
figcaption{font-size:.85rem;color:var(--muted)}
figcaption a{display:inline-block;margin-right:.75rem}
.scroll,pre{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;margin:.75rem 0}
caption{text-align:left;color:var(--muted);padding-bottom:.25rem}
th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap;
font-weight:400}
thead th{color:var(--muted);white-space:normal;vertical-align:bottom;min-width:4.5rem}
th:first-child{text-align:left}
pre{font-size:.8rem;line-height:1.4;padding:.75rem;border:1px solid var(--grid);border-radius:.4rem}
summary{cursor:pointer;padding:.4rem 0}
@media(max-width:30rem){h1{font-size:1.4rem}.tiles dd{font-size:1.15rem}}
@media(prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
@media print{nav,.skip,figcaption{display:none}body{max-width:none;padding:0;font-size:10pt}
.figures{display:block}figure,.tiles,tr,.says{break-inside:avoid}h2,h3,.says{break-after:avoid}
.box{max-width:11cm}svg{max-height:22cm}
.box.wide,.tall,.scroll,pre{overflow:visible;max-height:none}.box.wide svg{min-width:0}
pre{white-space:pre-wrap}section{margin:1rem 0}}
""".replace("\n", "")
