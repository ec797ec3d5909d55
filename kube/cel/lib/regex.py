"""matches(), find() and findAll(), with RE2: its syntax, its answers, and time linear in the text."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import re2

from kube.cel.arithmetic import no_overload
from kube.cel.errors import SelectorFault
from kube.cel.values import Value

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


@lru_cache(maxsize=512)
def compile_pattern(pattern: str) -> Value:
    """Compile a pattern. Raises SelectorFault for one that Go refuses."""
    try:
        found = re2.compile(pattern, _OPTIONS)
    except re2.error as fault:
        raise SelectorFault(f"illegal regex {pattern!r}: {fault}") from None
    if _has_any_byte(pattern):
        raise SelectorFault(f"illegal regex {pattern!r}: \\C is not supported")
    return found


def _has_any_byte(pattern: str) -> bool:
    r"""Whether `\C` occurs, which RE2 knows and Go does not."""
    at = 0
    while (at := pattern.find("\\", at)) >= 0:
        if pattern[at : at + 2] == "\\C":
            return True
        if pattern[at : at + 2] == "\\Q":
            end = pattern.find("\\E", at)
            at = len(pattern) if end < 0 else end
        at += 2
    return False


def _matches(text: Value, pattern: Value) -> bool:
    if type(text) is not str or type(pattern) is not str:
        raise no_overload("matches", text, pattern)
    return compile_pattern(pattern).search(text) is not None


def _find(text: str, pattern: str) -> str:
    found = compile_pattern(pattern).search(text)
    return "" if found is None else str(found.group())


def _find_all(text: str, pattern: str, limit: int = -1) -> tuple[str, ...]:
    """Return all matches that do not overlap; an empty one right after another does not count."""
    compiled = compile_pattern(pattern)
    found: list[str] = []
    at, last = 0, -1
    while at <= len(text) and (limit < 0 or len(found) < limit):
        match = compiled.search(text, at)
        if match is None:
            break
        start, end = match.span()
        if end > start or start != last:
            found.append(text[start:end])
        last = end
        at = end if end > start else end + 1
    return tuple(found)


def _prepare(run: Callable[..., Value]) -> Callable[[str], Callable[..., Value]]:
    def prepare(pattern: str) -> Callable[..., Value]:
        compile_pattern(pattern)

        def prepared(text: Value, _pattern: Value, *rest: Value) -> Value:
            if type(text) is not str or any(type(more) is not int for more in rest):
                raise no_overload("matches", text, *rest)
            return run(text, pattern, *rest)

        return prepared

    return prepare


BY_OVERLOAD: dict[str, Callable[..., Value]] = {
    "string_find_string": _find,
    "string_find_all_string": _find_all,
    "string_find_all_string_int": _find_all,
}
ANY_OVERLOAD: dict[str, Callable[..., Value]] = {"matches": _matches}
PREPARED = {"matches": _prepare(_matches), "find": _prepare(_find), "findAll": _prepare(_find_all)}
