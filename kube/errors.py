"""What calls of the API server raise. Faults of the libraries below are wrapped in these, their cause chained.

ClusterError
  ConflictError         409: the object has moved on, or exists already
  NotFoundError         404
  ForbiddenError        401, 403
  InvalidObjectError    400, 413, 415, 422: the same request will never do
  GoneError             410: the resourceVersion is too old; list again
  UnavailableError      429, 5xx, no answer, a broken connection: worth another try
  MalformedObjectError  an object of the API server that is not what its kind says
"""

from __future__ import annotations


class ClusterError(Exception):
    """A call of the API server failed. `status` is the HTTP code, 0 where none came; `reason` the server's word."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class ConflictError(ClusterError):
    """The object was changed by someone else, or one of its name exists. `reason` tells: Conflict or AlreadyExists."""


class NotFoundError(ClusterError):
    """No such object, or no such kind."""


class ForbiddenError(ClusterError):
    """The user is not known, or may not do this; the text has the verb and the resource."""


class InvalidObjectError(ClusterError):
    """The API server refused what was sent; the text names the fields."""


class GoneError(ClusterError):
    """The resourceVersion, or the token to continue a list, is too old."""


class UnavailableError(ClusterError):
    """The API server did not do it now. `retry_after_s` is its own wish, None where it said nothing.

    After a write that got no answer (`status` 0) nobody knows whether it was done.
    """

    def __init__(self, message: str, *, status: int = 0, reason: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, status=status, reason=reason)
        self.retry_after_s = retry_after_s


class MalformedObjectError(ClusterError):
    """An object does not decode. `field` is its path as in `$.spec.pool.generation`."""

    def __init__(self, kind: str, namespace: str, name: str, fault: str, field: str) -> None:
        place = f"{namespace}/{name}" if namespace else name
        super().__init__(f"{kind} {place or '(no name)'}: {fault} at {field}")
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.field = field


BY_STATUS: dict[int, type[ClusterError]] = {
    400: InvalidObjectError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: InvalidObjectError,
    415: InvalidObjectError,
    422: InvalidObjectError,
}
"""HTTP code -> what it raises; 429 and 5xx are UnavailableError, any other a plain ClusterError."""
