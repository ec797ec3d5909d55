"""What kube-scheduler is told of pods that cannot be placed.

Few texts, the same for unchanged state: kube-scheduler joins equal ones into one line of the pod's event, and a text
that differs each time would wake the pod again. Numbers and names are for `dovetail explain`.
"""

from __future__ import annotations

NOT_LEADING = "dovetail: this replica has not taken over yet; the pod is tried again"
NO_DEVICES = "dovetail: no devices free for the claims of the pod (dovetail explain pod says which and why)"
BOUND = "dovetail: no devices were found within the bounds of the search; simpler claims are decided for certain"
ALLOCATED_ELSEWHERE = "dovetail: a claim of the pod has its devices on another node"


def faulty(fault: str) -> str:
    """Return why a pod is refused on all nodes whose selector failed, as kube-scheduler does, or that is miswritten."""
    return f"dovetail: {fault}"


def tied_elsewhere(node: str) -> str:
    """Return why a pod cannot be bound to another node than the one it is being bound to."""
    return f"dovetail: the pod is being bound to node {node}"


def no_longer_free(node: str) -> str:
    """Return why a pod that was not promised anything cannot be bound."""
    return f"dovetail: no devices free any more on node {node}; another node is chosen"


NO_SHARES = (
    "dovetail: devices that several claims may share are not used beside Kubernetes 1.36.0 and 1.36.1, whose scheduler "
    "gives them away twice; update to 1.36.2 or later"
)
ONLY_SCORES = "dovetail: mode score binds nothing; remove bindVerb from the extender's configuration"


def needs_match(claim: str, request: str, attribute: str) -> str:
    """Return why a link wish is not served where kube-scheduler allocates."""
    return (
        f"dovetail: claim {claim}, request {request} requires links, which kube-scheduler does not know: "
        f"add the constraint matchAttribute {attribute}"
    )


def no_least_bandwidth(claim: str, request: str) -> str:
    """Return why a least bandwidth is not served where kube-scheduler allocates."""
    return (
        f"dovetail: claim {claim}, request {request} has minGBps, which no constraint can ask of kube-scheduler: "
        "select the product instead"
    )
