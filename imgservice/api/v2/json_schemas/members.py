"""The JSON schemas of an image's members."""

from imgservice.api.v2.json_schemas.fields import (
    READ_ONLY_TEXT,
    UUID,
    Schema,
    described,
    whole_list,
)

MEMBER: Schema = {
    "name": "member",
    "properties": {
        "member_id": described("string", "An identifier for the image member (tenantId)"),
        "image_id": described("string", "An identifier for the image", pattern=UUID),
        "created_at": described("string", "Date and time of image member creation"),
        "updated_at": described("string", "Date and time of last modification of image member"),
        "status": described(
            "string",
            "The status of this image member",
            enum=["pending", "accepted", "rejected"],
        ),
        "schema": READ_ONLY_TEXT,
    },
}
MEMBERS = whole_list("members", MEMBER)
