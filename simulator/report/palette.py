"""How policies look: the same colour and dash in every figure and every report, told apart without colour too.

Figures are drawn with marker colours that the page replaces by CSS variables, so that one drawing serves light and
dark. The values behind the variables (page.css) keep 3:1 contrast and differ for every common kind of colour blindness.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

INK = "#010203"
MUTED = "#010204"
RULE = "#010205"
PAPER = "#010206"
_SERIES = tuple(f"#0102{0x10 + index:02x}" for index in range(8))

CSS_OF_MARKER = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
} | {marker: f"var(--s{index})" for index, marker in enumerate(_SERIES)}

_SOLID = "-"
_DASHED = (0, (5, 1.6))
_DOTTED = (0, (1.2, 1.4))
_DASH_DOT = (0, (6, 1.5, 1.2, 1.5))

SAMPLE_PX_PER_PT = 1.7
"""Scale of the dashes in a key: the drawings show a line of 1.4 points in about this many pixels per unit."""

Dash = str | tuple[int, tuple[float, ...]]

# (index into the series colours, dash). Ours and the baseline stand out; the naive ones are grey.
_LOOKS: dict[str, tuple[int, Dash]] = {
    "dovetail": (0, _SOLID),
    "dovetail-wait": (0, _DASHED),
    "fgd": (1, _SOLID),
    "best-fit": (2, _SOLID),
    "upstream": (3, _SOLID),
    "gpu-packing": (4, _DASHED),
    "gpu-clustering": (5, _DASH_DOT),
    "dot-product": (3, _DASHED),
    "first-fit": (6, _SOLID),
    "worst-fit": (6, _DASHED),
    "spread": (6, _DASH_DOT),
    "random": (6, _DOTTED),
}


@dataclass(frozen=True, slots=True)
class Look:
    """Colour (a marker), its CSS variable, dash and width in points of a policy's line."""

    marker: str
    css: str
    dash: Dash
    width_pt: float

    @property
    def css_sample(self) -> str:
        """A CSS background that shows colour and dash of the line, for keys outside the drawings."""
        if isinstance(self.dash, str):
            return self.css
        edges = [0.0, *accumulate(length * SAMPLE_PX_PER_PT for length in self.dash[1])]
        tones = (self.css if at % 2 == 0 else "transparent" for at in range(len(edges) - 1))
        stops = (f"{tone} {a:.1f}px {b:.1f}px" for tone, (a, b) in zip(tones, pairwise(edges), strict=True))
        return f"repeating-linear-gradient(90deg,{','.join(stops)})"


def look(policy: str, chosen: str) -> Look:
    """Return the look of `policy`; the one the verdict speaks of is drawn strongest."""
    index, dash = _LOOKS.get(policy, (7, _SOLID))
    marker = _SERIES[index]
    return Look(marker, CSS_OF_MARKER[marker], dash, 2.4 if policy == chosen else 1.4)
