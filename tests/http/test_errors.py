"""What a client sees when something goes wrong."""

import orjson
import pytest
from twisted.logger import LogEvent
from twisted.python.failure import Failure
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.exceptions import NotFound as NoRoute

from imgservice.domain import errors
from imgservice.http.errors import STATUS, error_body, error_response, status_of
from tests.http.offline import offline_request

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def _all_errors(root: type[errors.ImageServiceError]) -> list[type[errors.ImageServiceError]]:
    return [root, *(below for one in root.__subclasses__() for below in _all_errors(one))]


def test_every_error_has_a_status() -> None:
    for one in _all_errors(errors.ImageServiceError)[1:]:
        assert any(class_ in STATUS for class_ in one.__mro__), one


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ImageNotFound("7"), 404),
        (errors.DuplicateImage("7"), 409),
        (errors.StatusConflict("7", "active", "queued"), 409),
        (errors.ImageGone("7"), 410),
        (errors.TooLarge("x"), 413),
    ],
)
def test_status_of_the_nearest_class(error: errors.ImageServiceError, status: int) -> None:
    assert status_of(error) == status


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/json, */*",
        "Application/JSON; charset=utf-8",
        "application/json, text/plain, */*",
        "text/html;q=0.5, application/json",
    ],
)
def test_who_names_json_gets_the_object_of_glance(accept: str) -> None:
    answer = error_body(offline_request("/", ("Accept", accept)), 404, "No image found with ID 7")
    assert answer.content_type == "application/json"
    assert orjson.loads(answer.body) == {
        "message": "No image found with ID 7",
        "code": "404 Not Found",
        "title": "Not Found",
    }


@pytest.mark.parametrize(
    "accept", [None, "", "*/*", "image/png", "application/json;q=0", "\x01", "a;b;c=,,;q=x"]
)
def test_who_names_nothing_gets_the_object_of_keystone(accept: str | None) -> None:
    headers = [] if accept is None else [("Accept", accept)]
    answer = error_body(offline_request("/", *headers), 404, "No image found with ID 7")
    assert answer.content_type == "application/json"
    error = {"message": "No image found with ID 7", "code": 404, "title": "Not Found"}
    assert orjson.loads(answer.body) == {"error": error}


@pytest.mark.parametrize(
    "accept", ["text/html", "text/html, application/json;q=0.5", BROWSER, "TEXT/HTML"]
)
def test_browsers_get_html(accept: str) -> None:
    answer = error_body(offline_request("/", ("Accept", accept)), 404, "<script>")
    assert answer.content_type == "text/html; charset=UTF-8"
    assert b"404 Not Found" in answer.body and b"&lt;script&gt;" in answer.body


def test_text_body() -> None:
    answer = error_body(offline_request("/", ("Accept", "text/plain, */*")), 404, "nothing here")
    assert answer.content_type == "text/plain; charset=UTF-8"
    assert answer.body == b"404 Not Found\n\nnothing here\n"


def test_wrong_method_lists_the_right_ones() -> None:
    request = offline_request("/", method="BREW")
    answer = error_response(request, Failure(MethodNotAllowed(["HEAD", "PATCH", "GET"])))
    assert (answer.status, answer.headers["allow"]) == (405, "GET, PATCH")


def test_no_route() -> None:
    assert error_response(offline_request("/"), Failure(NoRoute())).status == 404


def test_range_tells_the_size() -> None:
    error = errors.RangeNotSatisfiable("no", 100)
    answer = error_response(offline_request("/"), Failure(error))
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */100")


def test_unavailable_says_when_to_come_back() -> None:
    answer = error_response(offline_request("/"), Failure(errors.Unavailable("the store is away")))
    assert answer.status == 503 and int(answer.headers["retry-after"]) > 0


def test_nobody_is_told_about_a_bug(logged: list[LogEvent]) -> None:
    answer = error_response(offline_request("/"), Failure(KeyError("secret")))
    assert answer.status == 500 and b"secret" not in answer.body
    assert len(logged) == 1
    logged.clear()
