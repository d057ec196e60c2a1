"""Routes of an image's members: /v2/images/{id}/members."""

from typing import Any

from imgservice.domain.errors import Invalid
from imgservice.domain.member import Member
from imgservice.domain.storable import LONGEST_NAME
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response, json_response, no_content
from imgservice.http.route import NOTHING, RouteInfo, json_of
from imgservice.http.routing import ApiApp
from imgservice.service.members import MemberService

LIST = RouteInfo("List the projects that an image is shared with.", {200: json_of("members")})
ADD = RouteInfo(
    "Share an image with a project.",
    {200: json_of("member")},
    errors=(409, 413),
    body={
        "application/json": {
            "type": "object",
            "properties": {"member": {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}},
            "required": ["member"],
        }
    },
)
SHOW = RouteInfo("Show what a project thinks of an image shared with it.", {200: json_of("member")})
DECIDE = RouteInfo(
    "Accept or reject an image shared with one's project.",
    {200: json_of("member")},
    body={
        "application/json": {
            "type": "object",
            "properties": {"status": {"enum": ["pending", "accepted", "rejected"]}},
            "required": ["status"],
        }
    },
)
REMOVE = RouteInfo("Share an image with a project no more.", {204: NOTHING})


def routes(app: ApiApp, members: MemberService, largest_body: int) -> None:
    @app.route("/images/<image_id>/members", methods=["GET"], about=LIST)
    async def list_members(request: StreamingRequest, image_id: str) -> Response:
        found = await members.list(request.context, image_id)
        document = {
            "members": [member_document(member) for member in found],
            "schema": "/v2/schemas/members",
        }
        return json_response(200, document)

    @app.route("/images/<image_id>/members", methods=["POST"], takes_body=True, about=ADD)
    async def add_member(request: StreamingRequest, image_id: str) -> Response:
        project = new_member(await request.body.json(largest_body))
        member = await members.add(request.context, image_id, project)
        return json_response(200, member_document(member))

    @app.route("/images/<image_id>/members/<member_id>", methods=["GET"], about=SHOW)
    async def show_member(request: StreamingRequest, image_id: str, member_id: str) -> Response:
        member = await members.show(request.context, image_id, member_id)
        return json_response(200, member_document(member))

    @app.route(
        "/images/<image_id>/members/<member_id>", methods=["PUT"], takes_body=True, about=DECIDE
    )
    async def update_member(request: StreamingRequest, image_id: str, member_id: str) -> Response:
        status = new_status(await request.body.json(largest_body))
        member = await members.decide(request.context, image_id, member_id, status)
        return json_response(200, member_document(member))

    @app.route("/images/<image_id>/members/<member_id>", methods=["DELETE"], about=REMOVE)
    async def delete_member(request: StreamingRequest, image_id: str, member_id: str) -> Response:
        await members.remove(request.context, image_id, member_id)
        return no_content()


def member_document(member: Member) -> dict[str, Any]:
    return {
        "member_id": member.project,
        "image_id": member.image_id,
        "status": member.status,
        "created_at": member.created_at,
        "updated_at": member.updated_at,
        "schema": "/v2/schemas/member",
    }


def new_member(document: Any) -> Any:
    """Read `{"member": PROJECT}`; whether that is one, the service looks at."""
    if not isinstance(document, dict):
        raise Invalid('Expected a member in the form: {"member": "image_id"}')
    if "member" not in document:
        raise Invalid("Member to be added not specified")
    return document["member"]


def new_status(document: Any) -> Any:
    """Read `{"status": STATUS}`; what it is, the service looks at."""
    if not isinstance(document, dict):
        raise Invalid('Expected a status in the form: {"status": "status"}')
    if "status" not in document:
        raise Invalid("Status not specified")
    return document["status"]
