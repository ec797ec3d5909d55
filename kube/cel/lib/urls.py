"""URLs, read and written as Go's net/url does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

from kube.cel import types
from kube.cel.compare import register_equality
from kube.cel.errors import SelectorFault
from kube.cel.lib.net import parse_any_address
from kube.cel.values import KubernetesValue, Map, Value, register

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_ASCII_ESCAPE = re.compile(r"%(?!25)[0-7]")
_HOST = re.compile(r"[A-Za-z0-9\-_.~!$&'()*+,;=:\[\]<>\"%\u0080-\U0010ffff]*")
_USER = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
_PORT = re.compile(r"(?::[0-9]*)?")
_PATH_PLAIN = "/$&+,:;=@-_.~"
_PATH_VALID = re.compile(r"[A-Za-z0-9\-_.~!$&'()*+,;=:@\[\]%/]*")
MAX_PARAMETERS = 10_000


@dataclass(frozen=True, slots=True)
class URL(KubernetesValue):
    """The parts of a URL that functions return, and its text for comparison."""

    scheme: str
    host: str
    raw_path: str
    query: str
    text: str


def parse(text: str) -> URL:
    """Read an absolute URL or path. Raises SelectorFault."""
    check(text, request=True)
    return check(text.partition("#")[0], request=False, fragment=text.partition("#")[2])


def check(text: str, *, request: bool, fragment: str = "") -> URL:
    """Read a URL without fragment, by the rules for requests or the laxer general ones. Raises SelectorFault."""
    if _CONTROL.search(text.encode(errors="replace")):
        raise _wrong(text, "net/url: invalid control character in URL")
    if not text and request:
        raise _wrong(text, "empty url")
    if text == "*":
        return URL("", "", "*", "", "*")
    if text.startswith(":"):
        raise _wrong(text, "missing protocol scheme")
    found = _SCHEME.fullmatch(text)
    scheme, rest = (found[1].lower(), found[2]) if found else ("", text)
    rest, mark, query = rest.partition("?")
    tail = f"{mark}{query}" + (f"#{fragment}" if fragment else "")
    if not rest.startswith("/"):
        if scheme:
            return URL(scheme, "", "", query, f"{scheme}:{rest}{tail}")
        if request:
            raise _wrong(text, "invalid URI for request")
        if ":" in rest.partition("/")[0]:
            raise _wrong(text, "first path segment in URL cannot contain colon")
    authority = ""
    named_authority = bool(scheme or not (request or rest.startswith("///"))) and rest.startswith("//")
    if named_authority:
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
    user, at, host = authority.rpartition("@")
    host = _host(host, text)
    _check_user(user, text)
    for part in (rest, fragment):
        if found := _BAD_ESCAPE.search(part):
            raise _wrong(text, f"invalid URL escape {part[found.start() : found.start() + 3]!r}")
    slashes = "//" if authority or (named_authority and rest) else ""
    head = f"{scheme}:" if scheme else ""
    return URL(scheme, host, rest, query, f"{head}{slashes}{user}{at}{host}{_escaped(rest)}{tail}")


def _wrong(text: str, reason: str) -> SelectorFault:
    return SelectorFault(f'parse "{text}": {reason}')


def _check_user(user: str, text: str) -> None:
    if not _USER.fullmatch(user) or _BAD_ESCAPE.search(user):
        raise _wrong(text, "net/url: invalid userinfo")


def _host(host: str, text: str) -> str:
    opened = host.rfind("[")
    port = ""
    if opened > 0:
        raise _wrong(text, "invalid IP-literal")
    if opened == 0:
        closed = host.rfind("]")
        if closed < 0:
            raise _wrong(text, "missing ']' in host")
        port = host[closed + 1 :]
    elif ":" in host:
        first, last = host.find(":"), host.rfind(":")
        if first != last:
            raise _wrong(text, "too many colons in host")
        port = host[last:]
    if not _PORT.fullmatch(port):
        raise _wrong(text, f'invalid port "{port}" after host')
    zone = host.find("%25") if opened == 0 else -1
    plain = host if zone < 0 else host[:zone]
    if not _HOST.fullmatch(plain) or _BAD_ESCAPE.search(host) or _ASCII_ESCAPE.search(plain):
        raise _wrong(text, "invalid character in host name")
    if opened == 0:
        _check_literal(_decoded(host[1 : host.rfind("]")]), text)
    return _decoded(host)


def _check_literal(inner: str, text: str) -> None:
    try:
        version = parse_any_address(inner).version
    except ValueError:
        raise _wrong(text, "invalid host: unable to parse IP") from None
    if version == 4:
        raise _wrong(text, "invalid IP-literal")


def _decoded(text: str) -> str:
    return unquote_to_bytes(text).decode(errors="replace")


def _split_host(host: str) -> tuple[str, str]:
    port = ""
    colon = host.rfind(":")
    if colon >= 0 and _PORT.fullmatch(host[colon:]):
        host, port = host[:colon], host[colon + 1 :]
    return (host[1:-1] if host.startswith("[") and host.endswith("]") else host), port


def _escaped(path: str) -> str:
    if _PATH_VALID.fullmatch(path):
        return path
    return quote_from_bytes(unquote_to_bytes(path), safe=_PATH_PLAIN)


def _query(url: URL) -> Map:
    found: dict[str, tuple[str, ...]] = {}
    if url.query.count("&") + 1 > MAX_PARAMETERS:
        return Map()
    for part in url.query.split("&"):
        if not part or ";" in part or _BAD_ESCAPE.search(part):
            continue
        key, _, value = part.replace("+", " ").partition("=")
        found[_decoded(key)] = (*found.get(_decoded(key), ()), _decoded(value))
    return Map(found.items())


def _is_url(text: str) -> bool:
    try:
        check(text, request=True)
    except SelectorFault:
        return False
    return True


def _equal(one: Value, two: Value) -> bool:
    if type(two) is not URL:
        raise SelectorFault("no such overload: == of a URL and something else")
    return bool(one.text == two.text)


register(URL, types.URL)
register_equality(URL, _equal)

BY_OVERLOAD: dict[str, Callable[..., Value]] = {
    "string_to_url": parse,
    "is_url_string": _is_url,
    "url_get_scheme": lambda url: url.scheme,
    "url_get_host": lambda url: url.host,
    "url_get_hostname": lambda url: _split_host(url.host)[0],
    "url_get_port": lambda url: _split_host(url.host)[1],
    "url_get_escaped_path": lambda url: _escaped(url.raw_path),
    "url_get_query": _query,
}
