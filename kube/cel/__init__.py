"""CEL device selectors (Kubernetes 1.36): the same answers and the same errors as the API server's, proved by a table."""

from kube.cel.errors import CostExceeded, SelectorFault, SelectorSyntaxError
from kube.cel.selector import Selector, compile  # noqa: A004

__all__ = ["CostExceeded", "Selector", "SelectorFault", "SelectorSyntaxError", "compile"]
