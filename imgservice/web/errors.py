"""The one table from domain errors to status codes, and the bodies that clients parse."""

import math
from html import escape

import orjson
from twisted.logger import Logger
from twisted.python.failure import Failure
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.http import parse_accept_header

from imgservice.domain import errors
from imgservice.web.respond import Answer, title
from imgservice.web.streaming import StreamingRequest

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

_log = Logger()


def status_of(error: errors.ImageServiceError) -> int:
    """Return the status of the nearest class that the table knows."""
    return next(STATUS[class_] for class_ in type(error).__mro__ if class_ in STATUS)


def error_answer(request: StreamingRequest, failure: Failure) -> Answer:
    """Turn whatever went wrong into an answer; what nobody expected is logged and not shown."""
    error = failure.value
    if isinstance(error, errors.ImageServiceError):
        return _known(request, error)
    if isinstance(error, HTTPException):
        return _routing(request, error)
    _log.failure("{method} {path} failed", failure, method=request.method, path=request.path)
    return error_body(request, 500, SERVER_ERROR)


def _known(request: StreamingRequest, error: errors.ImageServiceError) -> Answer:
    status = status_of(error)
    headers: dict[str, str] = {}
    message, detail = error.message, ""
    if isinstance(error, errors.UnsupportedPatch):
        headers["accept-patch"] = error.accepted
    if isinstance(error, errors.UnsupportedContent):
        declared = request.header("content-type")
        message, detail = (
            f"The request media type {declared} is not supported by this server.",
            message,
        )
    elif isinstance(error, errors.RangeNotSatisfiable):
        headers["content-range"] = f"bytes */{error.size}"
        message, detail = "The Range requested is not available.", message
    elif isinstance(error, errors.Unavailable):
        headers["retry-after"] = RETRY_AFTER
    elif isinstance(error, errors.TooManyRequests):
        headers["retry-after"] = str(max(1, math.ceil(error.wait)))
    elif isinstance(error, errors.NotAuthenticated) and error.challenge:
        headers["www-authenticate"] = error.challenge
    return error_body(request, status, message, detail, headers)


def _routing(request: StreamingRequest, error: HTTPException) -> Answer:
    if isinstance(error, MethodNotAllowed):
        allowed = [method for method in METHODS if method in (error.valid_methods or ())]
        method = request.method.decode("ascii", "replace")
        message = f"The method {method} is not allowed for this resource. "
        return error_body(request, 405, message, headers={"allow": ", ".join(allowed)})
    return error_body(request, error.code or 500, NOT_FOUND)


def error_body(
    request: StreamingRequest,
    status: int,
    message: str,
    detail: str = "",
    headers: dict[str, str] | None = None,
) -> Answer:
    """Write the error as JSON, HTML or text, whichever the client accepts."""
    head = f"{status} {title(status)}"
    accepted = _accepted(request)
    if accepted == "application/json":
        text = f"{message}<br /><br />\n{detail}\n\n"
        document = {"message": text, "code": head, "title": title(status)}
        return Answer(status, orjson.dumps(document), accepted, headers or {})
    if accepted == "text/html":
        body = (
            f"<html>\n <head>\n  <title>{head}</title>\n </head>\n <body>\n  <h1>{head}</h1>\n"
            f"  {escape(message)}<br /><br />\n{escape(detail)}\n\n\n </body>\n</html>"
        )
    else:
        body = f"{head}\n\n{message}\n\n{detail}   "
    return Answer(status, body.encode(), f"{accepted}; charset=UTF-8", headers or {})


def _accepted(request: StreamingRequest) -> str:
    accept = request.header("accept")
    if not accept:
        return "text/plain"
    offered = parse_accept_header(accept, MIMEAccept)
    return offered.best_match(("text/html", "application/json"), "text/plain")
