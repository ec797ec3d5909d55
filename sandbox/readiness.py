"""Health endpoints of programs on loopback."""

from __future__ import annotations

from pathlib import Path

import urllib3

ANSWER_S = 2.0


def answers(url: str, authority: Path) -> bool | str:
    """Return True when a GET answers 200; else what it answers, in one line."""
    with urllib3.PoolManager(ca_certs=str(authority)) as pool:
        try:
            answer = pool.request("GET", url, timeout=ANSWER_S, retries=False)
        except urllib3.exceptions.HTTPError as fault:
            return f"{url}: {type(fault).__name__}"
    if answer.status == 200:
        return True
    return f"{url}: {answer.status} {answer.data[:200].decode(errors='replace')}".replace("\n", " ")
