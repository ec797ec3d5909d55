"""The golden table: what Kubernetes 1.36.3 makes of some thousand selectors, and how it is made.

`python tests/kube/cel/golden.py` asks Kubernetes' own Go code (sandbox/tools/celgolden) and rewrites golden.jsonl.
The cases are the lines of expressions.txt (each for the device `gpu`, unless it begins with `@` and another one's
name) and what grammar.py makes of fixed seeds.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.kube.cel.grammar import Writer

HERE = Path(__file__).parent
TABLE = HERE / "golden.jsonl"
SEEDS = range(1, 2001)
TRIES = 8
DEVICES: dict[str, Any] = json.loads((HERE / "devices.json").read_text())

Row = dict[str, Any]


def cases() -> Iterator[Row]:
    """Yield the cases, in order and once each."""
    seen: set[tuple[str, str]] = set()
    for case in [*_written(), *_made(SEEDS)]:
        key = (case["expression"], case["device"])
        if key not in seen:
            seen.add(key)
            yield case


def _written() -> Iterator[Row]:
    for line in (HERE / "expressions.txt").read_text().splitlines():
        if not line or line.startswith("# "):
            continue
        device, expression = "gpu", line
        if line.startswith("@") and line[1:].partition(" ")[0] in DEVICES:
            device, _, expression = line[1:].partition(" ")
        yield {"expression": expression, "device": device}


def _made(seeds: Iterable[int]) -> Iterator[Row]:
    devices = [name for name in DEVICES if name != "lists"]
    for seed in seeds:
        yield {"expression": Writer(seed).expression(), "device": devices[seed % len(devices)]}


def ask(program: Path, asked: Iterable[Row]) -> list[Row]:
    """Return cases with Kubernetes' answers, less what depends on the random order of Go's maps."""
    rows = list(asked)
    answers = {id(row): _stable(tries) for lists in (False, True) for row, tries in _tries(program, rows, lists=lists)}
    return [{**row, **answer} for row in rows if (answer := answers[id(row)]) is not None]


def _tries(program: Path, rows: list[Row], *, lists: bool) -> Iterator[tuple[Row, list[Row]]]:
    """Ask several times, in a process of its own for each set of features, as they leak from one to the other."""
    chosen = [row for row in rows if DEVICES[row["device"]].get("lists", False) == lists]
    lines = [json.dumps({"expression": row["expression"], **DEVICES[row["device"]]}) for row in chosen]
    runs = [
        subprocess.run([program], input="\n".join(lines), capture_output=True, text=True, check=True)
        for _ in range(TRIES)
    ]
    answers = [[json.loads(line) for line in run.stdout.splitlines()] for run in runs]
    return ((row, list(tries)) for row, *tries in zip(chosen, *answers, strict=True))


def _stable(tries: list[Row]) -> Row | None:
    """Return an answer without its cost where that varies, and None where the answer itself does."""
    costs = {answer.pop("cost", None) for answer in tries}
    for answer in tries:
        if "fault" in answer:
            answer["fault"] = answer["fault"][:100]
        if "refused" in answer:
            answer["refused"] = answer["refused"].splitlines()[0][:100]
    if any(answer != tries[0] for answer in tries):
        return None
    return {**tries[0], **({"cost": costs.pop()} if len(costs) == 1 and None not in costs else {})}


def table() -> list[Row]:
    """Return the rows of the committed table."""
    return [json.loads(line) for line in TABLE.read_text().splitlines()]


def main() -> None:
    """Make the table anew."""
    from sandbox import tools

    program = tools.provide(["celgolden"])["celgolden"]
    rows = ask(program, cases())
    TABLE.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
    main()
