"""The table of status codes for domain errors, and the bodies of error responses."""

import math
from html import escape

import orjson
from twisted.logger import Logger
from twisted.python.failure import Failure
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.http import parse_accept_header

from imgservice.domain import errors
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, error_object, title

STATUS: dict[type[errors.ImageServiceError], int] = {
    errors.Invalid: 400,
    errors.BodyAborted: 400,
    errors.BodyTooSlow: 408,
    errors.NotAuthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.ImageGone: 410,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.UnsupportedContent: 415,
    errors.RangeNotSatisfiable: 416,
    errors.TooManyRequests: 429,
    errors.HeaderTooLong: 431,
    errors.Unavailable: 503,
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The order in which Allow lists them."""
NOT_FOUND = "The resource could not be found."
SERVER_ERROR = "The server has either erred or is incapable of performing the requested operation."
RETRY_AFTER = "5"
LONGEST_ACCEPT = 512
"""Parsing an Accept header takes time quadratic in its length; browsers send about 200 bytes."""
JSON = "application/json"
_FORMS = ("text/html", JSON, "text/plain")
"""The media types of errors; of those that a client prefers equally, the first is used."""

_log = Logger()


def status_of(error: errors.ImageServiceError) -> int:
    """Return the status of the nearest base class in the table."""
    return next(STATUS[class_] for class_ in type(error).__mro__ if class_ in STATUS)


def error_response(request: StreamingRequest, failure: Failure) -> Response:
    """Turn an error into a response; unexpected errors are logged and not shown."""
    error = failure.value
    if isinstance(error, errors.ImageServiceError):
        return _known(request, error)
    if isinstance(error, HTTPException):
        return _routing(request, error)
    _log.failure("{method} {path} failed", failure, method=request.method, path=request.path)
    return error_body(request, 500, SERVER_ERROR)


def _known(request: StreamingRequest, error: errors.ImageServiceError) -> Response:
    headers: dict[str, str] = {}
    if isinstance(error, errors.UnsupportedPatch):
        headers["accept-patch"] = error.accepted
    elif isinstance(error, errors.RangeNotSatisfiable):
        headers["content-range"] = f"bytes */{error.size}"
    elif isinstance(error, errors.Unavailable):
        headers["retry-after"] = RETRY_AFTER
    elif isinstance(error, errors.TooManyRequests):
        headers["retry-after"] = str(max(1, math.ceil(error.wait)))
    elif isinstance(error, errors.NotAuthenticated) and error.challenge:
        headers["www-authenticate"] = error.challenge
    return error_body(request, status_of(error), error.message, headers)


def _routing(request: StreamingRequest, error: HTTPException) -> Response:
    if isinstance(error, MethodNotAllowed):
        allowed = [method for method in METHODS if method in (error.valid_methods or ())]
        method = request.method.decode("ascii", "replace")
        message = f"The method {method} is not allowed for this resource."
        return error_body(request, 405, message, {"allow": ", ".join(allowed)})
    return error_body(request, error.code or 500, NOT_FOUND)


def error_body(
    request: StreamingRequest, status: int, message: str, headers: dict[str, str] | None = None
) -> Response:
    """Write an error in a form whose message the client shows to its user.

    A client that names JSON gets Glance's object. One that names no type gets Keystone's, because
    python-glanceclient, which names none, fails on Glance's; openstacksdk reads both.
    """
    phrase = title(status)
    head = f"{status} {phrase}"
    form = _form(request.header("accept"))
    if form == "text/html":
        body = _page(head, message)
    elif form == "text/plain":
        body = f"{head}\n\n{message}\n".encode()
    elif form == JSON:
        body = orjson.dumps({"message": message, "code": head, "title": phrase})
    else:
        body = error_object(status, message)
    kind = JSON if form == "*/*" else form
    return Response(status, body, kind if kind == JSON else f"{kind}; charset=UTF-8", headers or {})


def _page(head: str, message: str) -> bytes:
    page = (
        f"<html>\n <head>\n  <title>{head}</title>\n </head>\n <body>\n  <h1>{head}</h1>\n"
        f"  {escape(message)}\n </body>\n</html>"
    )
    return page.encode()


def _form(accept: str | None) -> str:
    """Return the form that the client names and prefers, `*/*` when it names none."""
    if not accept or len(accept) > LONGEST_ACCEPT:
        return "*/*"
    offered = [
        (kind.partition(";")[0].strip().lower(), quality)
        for kind, quality in parse_accept_header(accept, MIMEAccept)
    ]
    named = [(quality, -_FORMS.index(kind), kind) for kind, quality in offered if kind in _FORMS]
    quality, _, kind = max(named, default=(0, 0, "*/*"))
    return kind if quality > 0 else "*/*"
