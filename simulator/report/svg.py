"""Drawings as inline SVG: the same bytes every time, styled by the page, and told to people who cannot see them."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from simulator.report.palette import CSS_OF_MARKER, INK, MUTED, RULE

_STYLE: Any = {
    "svg.fonttype": "none",  # real text: searchable, readable aloud, set in the page's font
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "path.simplify": True,
    "path.simplify_threshold": 0.2,
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """An inline SVG with the sentence that says what it shows."""

    svg: str
    caption: str


@contextmanager
def house_style(name: str) -> Iterator[None]:
    """Draw in the style of the report; `name` is unique on the page, so that references inside never clash."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        yield


def to_drawing(figure: Figure, title: str, caption: str) -> Drawing:
    """Return `figure` as a drawing; `title` and `caption` are what a screen reader says. Call within `house_style`."""
    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas: Any = FigureCanvasSVG(figure)  # matplotlib's printing methods are not annotated
    canvas.print_svg(text, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    for marker, css in CSS_OF_MARKER.items():
        svg = svg.replace(marker, css)
    return Drawing(_labelled(svg, title, caption), caption)


def _labelled(svg: str, title: str, caption: str) -> str:
    """Replace the size in points, so that the drawing scales, and say what it shows."""
    head, body = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box
    words = html.escape(f"{title}. {caption}", quote=True)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box[0]} role="img" aria-label="{words}">{body.strip()}'
