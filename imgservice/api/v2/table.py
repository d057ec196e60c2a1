"""The routes of version 2 of the API."""

from imgservice.api.openapi import OpenApiRoutes
from imgservice.api.v2.actions import ActionRoutes
from imgservice.api.v2.data import DataRoutes
from imgservice.api.v2.images import ImageRoutes
from imgservice.api.v2.info import InfoRoutes
from imgservice.api.v2.locations import LocationRoutes
from imgservice.api.v2.members import MemberRoutes
from imgservice.api.v2.schemas import SchemaRoutes
from imgservice.api.v2.stores import StoreRoutes
from imgservice.api.v2.tags import TagRoutes
from imgservice.http.route import routes_of

NOUNS = (
    ImageRoutes,
    DataRoutes,
    LocationRoutes,
    StoreRoutes,
    TagRoutes,
    ActionRoutes,
    MemberRoutes,
    SchemaRoutes,
    InfoRoutes,
    OpenApiRoutes,
)
ROUTES = tuple(routes_of(NOUNS))
