"""What an HTTP request asks of an API server, in the words of RBAC. Pure.

The rules are those of the API server itself (k8s.io/apiserver, pkg/endpoints/request/requestinfo.go).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
NAMESPACE_SUBRESOURCES = ("status", "finalize")
NAME_SELECTOR = "metadata.name="


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """One request. For paths that are no resource's, such as /healthz, `resource` is empty and `verb` is HTTP's."""

    verb: str
    """get, list, watch, create, update, patch, delete or deletecollection."""
    path: str
    """Without the query."""
    group: str = ""
    """API group; empty for the core group."""
    resource: str = ""
    """Such as "pods" or, with its subresource, "pods/binding"."""
    namespace: str = ""
    name: str = ""
    """Empty for a list, and for a create, whose name is in the body."""
    user_agent: str = ""

    def __str__(self) -> str:
        place = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.verb} {self.resource or self.path} {place}".rstrip()


def parse(method: str, target: str, user_agent: str = "") -> ApiRequest:
    """Read a request line: its method and its target, such as "/api/v1/pods?watch=true"."""
    split = urlsplit(target)
    query = parse_qs(split.query)
    path = unquote(split.path)
    parts = [part for part in path.split("/") if part]
    other = ApiRequest(verb=method.lower(), path=path, user_agent=user_agent)
    prefix = {"api": 2, "apis": 3}.get(parts[0]) if parts else None
    if prefix is None or len(parts) <= prefix or method not in VERBS:
        return other
    group = parts[1] if parts[0] == "apis" else ""
    verb, parts = VERBS[method], parts[prefix:]
    if parts[0] == "watch":  # the old way to ask for a watch
        verb, parts = "watch", parts[1:]
    namespace = ""
    if len(parts) > 1 and parts[0] == "namespaces":
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    if not parts:
        return other
    resource, name = parts[0], parts[1] if len(parts) > 1 else ""
    if len(parts) > 2:
        resource = f"{resource}/{parts[2]}"
    if not name:
        verb = _of_many(verb, query)
        name = _selected_name(query)
    return ApiRequest(
        verb=verb, path=path, group=group, resource=resource, namespace=namespace, name=name, user_agent=user_agent
    )


def _of_many(verb: str, query: dict[str, list[str]]) -> str:
    """Return the verb of a request that names no object."""
    if verb == "get":
        return "watch" if query.get("watch", ["false"])[0].lower() in {"true", "1"} else "list"
    return "deletecollection" if verb == "delete" else verb


def _selected_name(query: dict[str, list[str]]) -> str:
    """Return the name that a list or watch selects by its field selector, if it does."""
    for term in ",".join(query.get("fieldSelector", [])).split(","):
        if term.startswith(NAME_SELECTOR):
            return term.removeprefix(NAME_SELECTOR).removeprefix("=")
    return ""
