"""The API server as a test sees it: manifests in, plain dictionaries out, waiting with an account.

A thin cover over the dynamic client of `kubernetes`, which knows the paths; objects stay the dictionaries that the
server sent, so that what is stored can be compared with what was written.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config, dynamic
from kubernetes.client import rest
from kubernetes.dynamic import exceptions

from sandbox.waiting import NotYet, wait_for

Manifest = dict[str, Any]

NotFound = exceptions.NotFoundError
Conflict = exceptions.ConflictError
ApiFault = exceptions.DynamicApiError
"""What a refused call raises: `status` is the HTTP code, `summary()` the server's words."""
Unreachable = urllib3.exceptions.HTTPError
"""What a call raises that gets no answer."""

MERGE_PATCH = "application/merge-patch+json"
EVENTS_SHOWN = 10


class Api:
    """One user's connection to one API server.

    With `timeout_s` no request takes longer, and none is sent twice: else a server that hangs is waited for.
    """

    def __init__(self, kubeconfig: Path, *, timeout_s: float | None = None) -> None:
        facts = client.Configuration()
        facts.proxy = None  # the server is on this machine, where HTTPS_PROXY leads nowhere
        config.load_kube_config(str(kubeconfig), client_configuration=facts)  # type: ignore[no-untyped-call]
        self._client = client.ApiClient(configuration=facts)
        if timeout_s is not None:
            facts.retries = False
            self._client.rest_client = _Impatient(facts, timeout_s)
        with tempfile.TemporaryDirectory() as folder:
            # By default the cache is keyed by address, and another cluster may have had this port.
            self._dynamic = dynamic.DynamicClient(self._client, cache_file=f"{folder}/discovery.json")  # type: ignore[no-untyped-call]

    def create(self, manifest: Manifest, *, subresource: str | None = None) -> Manifest:
        """Create an object, or post one to a subresource such as `binding`. Returns what the server stored."""
        name = manifest["metadata"].get("name") if subresource else None
        return self._call("post", manifest, body=manifest, name=name, subresource=subresource)

    def create_all(self, manifests: Iterable[Manifest]) -> list[Manifest]:
        """Create objects in the given order."""
        return [self.create(manifest) for manifest in manifests]

    def get(self, kind: Manifest) -> Manifest:
        """Read the object that `kind` names: any manifest with apiVersion, kind and metadata. Raises NotFound."""
        return self._call("get", kind, name=kind["metadata"]["name"])

    def find(self, kind: Manifest) -> Manifest | None:
        """`get`, with None for an object that is not there."""
        with contextlib.suppress(NotFound):
            return self.get(kind)
        return None

    def list(self, api_version: str, kind: str, namespace: str | None = None, **selectors: str) -> list[Manifest]:
        """All objects of a kind; `selectors` are label_selector and field_selector."""
        of = {"apiVersion": api_version, "kind": kind, "metadata": {"namespace": namespace}}
        items: list[Manifest] = self._call("get", of, **selectors)["items"]
        return [{"apiVersion": api_version, "kind": kind, **item} for item in items]

    def replace(self, manifest: Manifest, *, subresource: str | None = None) -> Manifest:
        """Write an object under the resourceVersion it carries. Raises Conflict when it has moved on."""
        name = manifest["metadata"]["name"]
        return self._call("put", manifest, body=manifest, name=name, subresource=subresource)

    def patch(self, kind: Manifest, change: Manifest, *, subresource: str | None = None) -> Manifest:
        """Apply a JSON merge patch to the object that `kind` names."""
        name = kind["metadata"]["name"]
        return self._call("patch", kind, body=change, name=name, subresource=subresource, content_type=MERGE_PATCH)

    def apply(self, manifest: Manifest, *, manager: str = "sandbox") -> Manifest:
        """Server-side apply: create the object or make it so."""
        name = manifest["metadata"]["name"]
        body = json.dumps(manifest)
        patch = "application/apply-patch+yaml"
        return self._call("patch", manifest, body=body, name=name, content_type=patch, field_manager=manager)

    def token(self, account: Manifest, *, seconds: int, bound_to: Manifest | None = None) -> str:
        """Ask for a token of a ServiceAccount, as the kubelet does for its pods.

        One bound to a Node (as stored) names that node, and is worth nothing once it is gone.
        """
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        spec: dict[str, Any] = {"expirationSeconds": seconds}
        if bound_to is not None:
            metadata = bound_to["metadata"]
            to = {"apiVersion": bound_to["apiVersion"], "kind": bound_to["kind"]}
            spec["boundObjectRef"] = {**to, "name": metadata["name"], "uid": metadata["uid"]}
        body = {**request, "spec": spec}
        answer = self._call("post", account, body=body, name=account["metadata"]["name"], subresource="token")
        token: str = answer["status"]["token"]
        return token

    def delete(self, kind: Manifest, *, grace_s: int | None = None) -> None:
        """Delete the object that `kind` names; one that is not there is fine."""
        options: Manifest = {"propagationPolicy": "Background"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        with contextlib.suppress(NotFound):
            self._call("delete", kind, body=options, name=kind["metadata"]["name"])

    def delete_all(self, api_version: str, kind: str, namespace: str | None = None, **selectors: str) -> None:
        """Delete every object of a kind, in a namespace or in the cluster."""
        of = {"apiVersion": api_version, "kind": kind, "metadata": {"namespace": namespace}}
        self._call("delete", of, **selectors)

    def wait(
        self,
        kind: Manifest,
        ready: Callable[[Manifest], bool | str],
        *,
        timeout_s: float = 30.0,
        what: str = "",
    ) -> Manifest:
        """Wait until `ready` says True of the object; a text says what it saw. Returns the object.

        The account of a time-out has the object's changes and its events.
        """
        label = named(kind)

        def look() -> Manifest | NotYet:
            stored = self.find(kind)
            if stored is None:
                return NotYet("no such object")
            seen = ready(stored)
            return stored if seen is True else NotYet(str(seen or summary(stored)))

        return wait_for(f"{label} {what}".strip(), look, timeout_s=timeout_s, account=lambda: self.events(kind))

    def wait_gone(self, kind: Manifest, *, timeout_s: float = 30.0) -> None:
        """Wait until an object is deleted."""

        def look() -> bool | NotYet:
            stored = self.find(kind)
            return True if stored is None else NotYet(f"finalizers {stored['metadata'].get('finalizers', [])}")

        wait_for(f"{named(kind)} to go", look, timeout_s=timeout_s, account=lambda: self.events(kind))

    def events(self, kind: Manifest) -> str:
        """Return the last events of an object, one a line."""
        metadata = kind["metadata"]
        selector = f"involvedObject.name={metadata['name']},involvedObject.kind={kind['kind']}"
        events = self.list("v1", "Event", metadata.get("namespace"), field_selector=selector)
        lines = [f"  {event.get('reason')}: {event.get('message')}" for event in events[-EVENTS_SHOWN:]]
        return "\n".join([f"events of {named(kind)}:", *(lines or ["  none"])])

    def raw(self, path: str) -> str:
        """Return the body of a GET of any path, such as /readyz."""
        answer = self._dynamic.request("get", path, serialize=False)
        text: str = answer.data.decode()
        return text

    def close(self) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    def _call(self, method: str, of: Manifest, *, subresource: str | None = None, **parameters: object) -> Manifest:
        resource = self._dynamic.resources.get(api_version=of["apiVersion"], kind=of["kind"])
        name, namespace = parameters.pop("name", None), of["metadata"].get("namespace")
        path = resource.path(name=name, namespace=namespace)
        if subresource:
            path = f"{path}/{subresource}"
        stored: Manifest = self._dynamic.request(method, path, serializer=_plain, **parameters)
        return stored


class _Impatient(rest.RESTClientObject):
    """Gives every request the same time; the dynamic client passes none on when it discovers."""

    def __init__(self, facts: client.Configuration, timeout_s: float) -> None:
        super().__init__(facts)
        self._timeout_s = timeout_s

    def request(self, *words: Any, **options: Any) -> Any:  # noqa: ANN401 - as the base class
        """Send a request."""
        return super().request(*words, **{**options, "_request_timeout": self._timeout_s})  # type: ignore[no-untyped-call]


def _plain(_: object, stored: Manifest) -> Manifest:
    return stored


def named(kind: Manifest) -> str:
    """Kind, namespace and name of an object, for people."""
    metadata = kind["metadata"]
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{kind['kind']} {place}{metadata.get('name', '')}"


def refusal(fault: ApiFault) -> str:
    """Return the server's words of a refused call, in one line."""
    try:
        said = json.loads(fault.body or "")["message"]
    except (ValueError, TypeError, KeyError):
        said = fault.reason
    return f"{fault.status} {said}"[:400].replace("\n", " ")


def summary(stored: Manifest) -> str:
    """Phase and untrue conditions of an object's status, in one line."""
    status = stored.get("status", {})
    parts = [f"phase {status['phase']}"] if "phase" in status else []
    for condition in status.get("conditions") or ():  # null in a CustomResourceDefinition just made
        reason = condition.get("message") or condition.get("reason", "")
        parts.append(f"{condition['type']}={condition['status']} {reason}".strip())
    return "; ".join(parts) or "no status"
