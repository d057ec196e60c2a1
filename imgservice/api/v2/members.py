"""Routes of an image's members: /v2/images/{id}/members."""

import attrs

from imgservice.domain.documents import Json
from imgservice.domain.errors import Invalid
from imgservice.domain.member import Member
from imgservice.domain.storable import LONGEST_NAME
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Document, Response, json_response, no_content
from imgservice.http.route import (
    NOTHING,
    Body,
    Cost,
    Documentation,
    Route,
    json_object,
    json_of,
    serves,
)
from imgservice.http.routing import read_json
from imgservice.service.members import MemberService

LIST = Documentation("List the projects that an image is shared with.", {200: json_of("members")})
ADD = Documentation(
    "Share an image with a project.",
    {200: json_of("member")},
    errors=(409, 413),
    body=json_object(
        "member", member={"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}
    ),
)
SHOW = Documentation("Show a member of an image.", {200: json_of("member")})
DECIDE = Documentation(
    "Accept or reject an image that is shared with the caller's project.",
    {200: json_of("member")},
    body=json_object("status", status={"enum": ["pending", "accepted", "rejected"]}),
)
REMOVE = Documentation("Remove a project from an image's members.", {204: NOTHING})
MEMBERS = "/images/<image_id>/members"
MEMBER = "/images/<image_id>/members/<member_id>"


@attrs.frozen
class MemberRoutes:
    """Lists, adds, shows, changes and removes members."""

    _members: MemberService

    @serves(Route("GET", MEMBERS, LIST, rules=("get_members",)))
    async def list_members(self, request: StreamingRequest, image_id: str) -> Response:
        found = await self._members.list(request.context, image_id)
        document = {
            "members": [member_document(member) for member in found],
            "schema": "/v2/schemas/members",
        }
        return json_response(200, document)

    @serves(Route("POST", MEMBERS, ADD, rules=("add_member",), body=Body.JSON, cost=Cost.CREATE))
    async def add_member(self, request: StreamingRequest, image_id: str) -> Response:
        project = new_member(await read_json(request))
        member = await self._members.add(request.context, image_id, project)
        return json_response(200, member_document(member))

    @serves(Route("GET", MEMBER, SHOW, rules=("get_member",)))
    async def show_member(
        self, request: StreamingRequest, image_id: str, member_id: str
    ) -> Response:
        member = await self._members.show(request.context, image_id, member_id)
        return json_response(200, member_document(member))

    @serves(Route("PUT", MEMBER, DECIDE, rules=("modify_member",), body=Body.JSON))
    async def update_member(
        self, request: StreamingRequest, image_id: str, member_id: str
    ) -> Response:
        status = new_status(await read_json(request))
        member = await self._members.decide(request.context, image_id, member_id, status)
        return json_response(200, member_document(member))

    @serves(Route("DELETE", MEMBER, REMOVE, rules=("delete_member",)))
    async def delete_member(
        self, request: StreamingRequest, image_id: str, member_id: str
    ) -> Response:
        await self._members.remove(request.context, image_id, member_id)
        return no_content()


def member_document(member: Member) -> Document:
    return {
        "member_id": member.project,
        "image_id": member.image_id,
        "status": member.status,
        "created_at": member.created_at,
        "updated_at": member.updated_at,
        "schema": "/v2/schemas/member",
    }


def new_member(document: Json) -> Json:
    """Read `{"member": PROJECT}`; the service checks the value."""
    if not isinstance(document, dict):
        raise Invalid('Expected a member in the form: {"member": "image_id"}')
    if "member" not in document:
        raise Invalid("Member to be added not specified")
    return document["member"]


def new_status(document: Json) -> Json:
    """Read `{"status": STATUS}`; the service checks the value."""
    if not isinstance(document, dict):
        raise Invalid('Expected a status in the form: {"status": "status"}')
    if "status" not in document:
        raise Invalid("Status not specified")
    return document["status"]
