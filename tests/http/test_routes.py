"""Declared routes: what is read from them, and handlers that are called without a server."""

from collections.abc import Callable
from importlib import import_module
from pkgutil import walk_packages
from typing import Any, cast

import attrs
import orjson
import pytest
import pytest_twisted

import imgservice.api
from imgservice.api.middleware.public import UnlessPublic
from imgservice.api.openapi import OpenApiRoutes
from imgservice.api.v2.actions import ActionRoutes
from imgservice.api.v2.info import InfoRoutes, StoreInfo
from imgservice.api.v2.json_schemas.image_schemas import ImageSchemas
from imgservice.api.v2.schemas import FIXED, SchemaRoutes
from imgservice.api.v2.table import NOUNS, ROUTES
from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, NotFound
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from imgservice.http.route import NO_ROUTE, Body, Route, handlers_of, routes_of, serves, shows
from imgservice.http.routing import ApiApp, RouteMap, Tasks, url_map
from imgservice.policy.defaults import DefaultRules
from imgservice.policy.table import RULES
from imgservice.service.images import ImageService
from imgservice.service.quota import QuotaService
from tests.http.offline import offline_request, passed
from tests.http.serving import Serving, Wire, echo

Serve = Callable[..., Serving]
ABOUT = shows("Show a thing.")


def result(answering: Any) -> Response:
    """Return what a handler that waits for nothing answers, or raise its error."""
    response = passed(lambda _: answering, offline_request())
    assert response is not None
    return response


# -- declarations ---------------------------------------------------------------------------------


class Things:
    @serves(Route("GET", "/things/<thing_id>", ABOUT))
    async def show_thing(self, request: StreamingRequest, thing_id: str) -> Response:
        return Response(200, thing_id.encode())

    @serves(
        Route("GET", "/small", ABOUT, "show_small", arguments={"size": "small"}),
        Route("GET", "/large", ABOUT, "show_large", arguments={"size": "large"}),
    )
    async def show_size(self, request: StreamingRequest, size: str) -> Response:
        return Response(200, size.encode())

    async def no_route(self) -> None:
        """Is left alone."""


def test_routes_come_in_the_order_of_the_code_and_have_names() -> None:
    assert [route.name for route in routes_of([Things])] == [
        "show_thing",
        "show_small",
        "show_large",
    ]


def test_handlers_are_bound() -> None:
    for route, handler in handlers_of(Things()):
        variables = dict.fromkeys(route.variables, "7")
        assert result(handler(offline_request(), **variables, **route.arguments)).status == 200


def test_two_routes_need_two_names() -> None:
    with pytest.raises(ValueError, match="two routes of the name show_thing"):
        ApiApp(Tasks(), [Things(), Things()], json_limit=1)


def test_equal_routes_are_compiled_once() -> None:
    first, second = (ApiApp(Tasks(), [Things()], json_limit=limit) for limit in (1, 2))
    assert first.url_map is second.url_map
    assert url_map(ROUTES) is url_map(reversed(ROUTES)) is not first.url_map


def test_a_template_has_braces() -> None:
    route = Route("GET", "/a/<one>/b/<path:two>", ABOUT)
    assert (route.template, route.variables) == ("/a/{one}/b/{two}", ["one", "two"])


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "images", "list_images"),
        ("HEAD", "images", "list_images"),
        ("POST", "images", "create_image"),
        ("PUT", "images/1/tags/x", "add_tag"),
        ("GET", "schemas/metadefs/tag", "schema_metadefs_tag"),
        ("PUT", "images", None),
        ("GET", "images/", None),
        ("GET", "nothing", None),
        ("GET", "", None),
    ],
)
def test_routes_are_found_before_they_are_routed(method: str, path: str, name: str | None) -> None:
    found = RouteMap(ROUTES).find(offline_request("/" + path, method=method))
    assert (found and found.name) == name


def test_a_request_has_no_route_at_first() -> None:
    assert offline_request().route is NO_ROUTE


@pytest_twisted.ensureDeferred
async def test_a_request_knows_the_route_that_serves_it(serve: Serve) -> None:
    serving = serve(echo)

    def ask(wire: Wire) -> None:
        for path in ("/bodyless", "/any/thing"):
            wire.ask("GET", path)
            assert wire.reply().status == 200

    await serving.talk(ask)
    assert [one.route.template for one in serving.site.logged] == ["/bodyless", "/{_}"]


# -- the routes of v2 -----------------------------------------------------------------------------


def test_names_and_operations_are_unique() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert len({(route.method, route.template) for route in ROUTES}) == len(ROUTES)


def test_the_table_has_every_class_with_routes() -> None:
    modules = [
        import_module(found.name)
        for found in walk_packages(imgservice.api.__path__, "imgservice.api.")
    ]
    classes = {
        one
        for module in modules
        for one in vars(module).values()
        if isinstance(one, type) and any(routes_of([one]))
    }
    assert classes == set(NOUNS)


def operation(route: Route) -> str:
    return f"{route.method} /v2{route.template}"


@pytest.mark.parametrize("route", ROUTES, ids=operation)
def test_rules_are_those_that_the_policy_table_says_guard_it(route: Route) -> None:
    guarding = {rule.name for rule in RULES.values() if operation(route) in rule.operations}
    assert set(route.rules) == guarding


@pytest.mark.parametrize("route", ROUTES, ids=operation)
def test_a_documented_body_is_one_that_is_read(route: Route) -> None:
    assert bool(route.documentation.body) == (route.body in (Body.JSON, Body.DATA))


def test_only_the_description_of_the_api_is_public() -> None:
    assert [route.path for route in ROUTES if route.is_public] == ["/openapi.json"]


def test_public_paths_have_no_variables() -> None:
    with pytest.raises(ValueError, match="has a variable"):
        UnlessPublic(cast(Any, None), [Route("GET", "/a/<b>", ABOUT, is_public=True)])


# -- handlers by themselves -----------------------------------------------------------------------


@attrs.frozen
class Recorder:
    """Stands for a service: notes the calls, and answers with nothing."""

    calls: list[tuple[object, ...]] = attrs.field(factory=list)

    async def deactivate(self, *arguments: object) -> None:
        self.calls.append(arguments)


def test_an_action() -> None:
    images = Recorder()
    actions = ActionRoutes(cast(ImageService, images))
    request = offline_request()
    assert result(actions.deactivate(request, "an-id")).status == 204
    assert images.calls == [(request.context, "an-id")]


def schemas() -> ImageSchemas:
    return ImageSchemas(["raw"], ["bare"])


def test_schemas() -> None:
    shown = SchemaRoutes(schemas)
    for path, schema in FIXED.items():
        response = result(shown.show_fixed_schema(offline_request(), path))
        assert orjson.loads(response.body) == orjson.loads(orjson.dumps(schema))
    image = orjson.loads(result(shown.show_image_schema(offline_request(), "image")).body)
    assert image["properties"]["disk_format"]["enum"] == [None, "raw"]


def test_stores() -> None:
    access = Access(DefaultRules())
    stores = [StoreInfo("fast", "file", is_default=True, weight=3)]
    info = InfoRoutes(stores, access, cast(QuotaService, None))
    expected = {"stores": [{"id": "fast", "default": "true"}]}
    assert orjson.loads(result(info.list_stores(offline_request())).body) == expected
    with pytest.raises(Forbidden):
        result(info.list_stores_in_detail(offline_request()))
    request = offline_request()
    request.context = Context(is_admin=True)
    (detail,) = orjson.loads(result(info.list_stores_in_detail(request)).body)["stores"]
    assert detail["weight"] == 3
    with pytest.raises(NotFound):
        result(InfoRoutes(None, access, cast(QuotaService, None)).list_stores(offline_request()))


def test_the_document_is_made_anew_when_the_schemas_change() -> None:
    current = [schemas()]
    routes = OpenApiRoutes(lambda: current[0], ROUTES)
    first = result(routes.show_openapi(offline_request()))
    assert result(routes.show_openapi(offline_request())) is first
    current[0] = schemas()
    assert result(routes.show_openapi(offline_request())) is not first
