"""CEL device selectors, with the answers and the errors of the API server (Kubernetes 1.36)."""

from kube.cel.errors import CostExceeded, SelectorFault, SelectorSyntaxError
from kube.cel.selector import Selector, compile  # noqa: A004

__all__ = ["CostExceeded", "Selector", "SelectorFault", "SelectorSyntaxError", "compile"]
