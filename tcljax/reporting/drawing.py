"""Figures: one look, and what those of a report are written as: SVG for the page, PNG, JSON.

The colors are those of Okabe and Ito, which the color-blind can tell apart. In the SVG each is a
variable of CSS, so that the page has them light and dark.
"""

import dataclasses
import html
import io
import re
import unicodedata
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1b1f24", "#59636e", "#d8dde3", "#ffffff"
BLUE, VERMILLION, GREEN, PINK, ORANGE, SKY = COLORS = (
  *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
)
# By color its variable, and its value where the page is dark.
THEME = {
  INK: ("ink", "#e6e9ee"),
  MUTED: ("muted", "#a3adb8"),
  GRID: ("grid", "#38414b"),
  PAPER: ("paper", "#14181d"),
  BLUE: ("blue", "#4fb0ea"),
  VERMILLION: ("vermillion", "#f4894a"),
  GREEN: ("green", "#2cc79b"),
  PINK: ("pink", "#e2a5c7"),
  ORANGE: ("orange", "#e6a817"),
  SKY: ("sky", "#8fd0f5"),
}
WIDTH = 4.1  # inches; a figure fills a narrow screen, where its text is as large as that around it
_STYLE: Any = {
  "figure.facecolor": PAPER,
  "axes.facecolor": "none",
  "axes.edgecolor": MUTED,
  "axes.labelcolor": INK,
  "axes.titlecolor": INK,
  "axes.titlesize": 10,
  "axes.labelsize": 10,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.axisbelow": True,
  "axes.prop_cycle": "cycler('color', ['" + "', '".join(COLORS) + "'])",
  "font.family": "sans-serif",
  "font.size": 10,
  "grid.color": GRID,
  "grid.linewidth": 0.7,
  "legend.fontsize": 9,
  "legend.frameon": False,
  "legend.labelcolor": INK,
  "lines.linewidth": 1.8,
  "svg.fonttype": "none",  # text stays text
  "svg.hashsalt": "tcljax",  # the same figure has the same bytes
  "text.color": INK,
  "text.parse_math": False,  # a class may be called $x$
  "xtick.color": MUTED,
  "xtick.labelcolor": INK,
  "xtick.labelsize": 9,
  "ytick.color": MUTED,
  "ytick.labelcolor": INK,
  "ytick.labelsize": 9,
}
_MARKS = "osD^vP*"
DPI = 150


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
  """A figure.

  Attributes:
    name: of its files.
    figure: of matplotlib.
    data: what it shows, as JSON holds it.
    alt: what is to be seen in it, for those who do not see it.
    wide: whether it is as wide as the page, and may be moved sideways on a narrow screen.
  """

  name: str
  figure: "Figure"
  data: Any
  alt: str
  wide: bool = False


def styled() -> Any:
  """The context in which figures are made and written."""
  import matplotlib

  return matplotlib.rc_context(_STYLE)


def new_figure(height: float, width: float = WIDTH, layout: Any = "constrained") -> "Figure":
  """An empty figure, in inches."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), layout=layout)
  FigureCanvasAgg(figure)
  return figure


def curve_style(number: int) -> dict[str, Any]:
  """Color, mark and line of a curve by its number from the last one, which is 0 and blue.

  Curves beyond the seventh have a color again, with another mark and dotted.
  """
  colors = (*COLORS, MUTED)
  again, which = divmod(number, len(colors))
  return {
    "color": colors[which],
    "marker": _MARKS[(number + again) % len(_MARKS)],
    "linestyle": ":" if again else "-",
  }


def time_axis(axes: Any, time_steps: Sequence[int]) -> None:
  """Makes the horizontal axis one of time steps, with these named."""
  axes.set_xscale("log", base=2)
  axes.set_xticks(time_steps, [str(t) for t in time_steps])
  axes.minorticks_off()
  axes.set_xlabel("time steps T")


def clean(text: Any) -> str:
  """Text without characters that no page may hold or that are not seen."""
  return "".join(
    c if unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for c in str(text)
  )


def label(text: Any, most: int = 22) -> str:
  """A name in a figure, cut in the middle where it is long."""
  text = clean(text)
  if len(text) <= most:
    return text
  return f"{text[: most // 2]}…{text[len(text) - most + most // 2 + 1 :]}"


def written(drawn: Drawn) -> tuple[str, bytes]:
  """The figure as SVG that stands in a page, and as PNG."""
  vector, pixels = io.StringIO(), io.BytesIO()
  with styled(), warnings.catch_warnings():
    warnings.filterwarnings(
      "ignore", message=r"Glyph \d+.*missing from font"
    )  # names in any script
    drawn.figure.savefig(pixels, format="png", dpi=DPI)
    drawn.figure.set_layout_engine("none")  # all is in its place
    drawn.figure.savefig(vector, format="svg", facecolor="none", metadata={"Date": None})
  return _inline(vector.getvalue(), drawn), pixels.getvalue()


def _inline(svg: str, drawn: Drawn) -> str:
  """SVG of matplotlib as a part of a page: no address in it, names and colors of the page."""
  name, alt = f"figure-{drawn.name}", html.escape(clean(drawn.alt))
  svg = svg[svg.index("<svg") :]
  svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
  svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
  box = re.search(r'viewBox="([^"]+)"', svg)
  head = (
    f'<svg viewBox="{box[1] if box else ""}" role="img" aria-labelledby="{name}-title">'
    f'<title id="{name}-title">{alt}</title>'
  )
  svg = head + svg[svg.index(">") + 1 :]
  svg = svg.replace("xlink:href=", "href=")
  svg = re.sub(rf'(\sid="|href="#|url\(#)(?!{name}-title")', rf"\g<1>{name}-", svg)
  svg = re.sub(r'style="[^"]*"', lambda style: _themed(style[0]), svg)
  return re.sub(r"\s*\n\s*", " ", svg)


def _themed(style: str) -> str:
  style = re.sub(r"font-family: [^;\"]+;? ?", "", style)

  def variable(found):
    known = THEME.get(found[0])
    return f"var(--{known[0]})" if known else found[0]

  return re.sub(r"#[0-9a-f]{6}\b", variable, style)
