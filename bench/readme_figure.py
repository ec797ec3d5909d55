"""Writes docs/images/allocation.svg from a result of `make demo`: the report's own drawing, with its colours fixed.

Run from the repository root after `make demo`: `python bench/readme_figure.py`.
"""

from pathlib import Path

from simulator.report.figures import allocation
from simulator.result import decode_result

ROOT = Path(__file__).parent.parent
XLINK = "http://www.w3.org/1999/xlink"
STYLE = """<style>svg { background: #fdfcf9; font-family: system-ui, sans-serif;
 --paper: #fdfcf9; --ink: #1b1f24; --muted: #5c646e; --rule: #e3e0d8; --s0: #0b5fa5; --s1: #c8501e; --s2: #00805c;
 --s3: #8f3f7c; --s4: #2585b8; --s5: #8a6900; --s6: #767c85; --s7: #3f4650 }</style>"""


def main() -> None:
    result = decode_result((ROOT / "demo-report" / "result.json").read_text())
    svg = allocation("readme", result.runs, "dovetail").svg
    head, rest = svg.split(">", 1)
    (ROOT / "docs" / "images" / "allocation.svg").write_text(
        f'{head} xmlns:xlink="{XLINK}" width="720">{STYLE}{rest}\n'
    )


if __name__ == "__main__":
    main()
