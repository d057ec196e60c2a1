"""The JSON schemas of tasks."""

from imgservice.api.v2.json_schemas.fields import (
    READ_ONLY_TEXT,
    UUID,
    Fields,
    Schema,
    described,
    whole_list,
)

_BLOB = ("null", "object")
_FIELDS: Fields = {
    "id": described("string", "An identifier for the task", pattern=UUID),
    "type": described(
        "string",
        "The type of task represented by this content",
        enum=["import", "api_image_import", "location_import"],
    ),
    "status": described(
        "string",
        "The current status of this task",
        enum=["pending", "processing", "success", "failure"],
    ),
    "input": described(_BLOB, "The parameters required by task, JSON blob"),
    "result": described(_BLOB, "The result of current task, JSON blob"),
    "owner": described("string", "An identifier for the owner of this task"),
    "message": described(
        "string",
        "Human-readable informative message only included when appropriate (usually on failure)",
    ),
    "image_id": described("string", "Image associated with the task"),
    "request_id": described("string", "Human-readable informative request-id"),
    "user_id": described("string", "User associated with the task"),
    "expires_at": described(
        ("null", "string"), "Datetime when this resource would be subject to removal"
    ),
    "created_at": described("string", "Datetime when this resource was created"),
    "updated_at": described("string", "Datetime when this resource was updated"),
    "self": READ_ONLY_TEXT,
    "schema": READ_ONLY_TEXT,
}
_NOT_IN_LISTS = ("input", "result", "message")

TASK: Schema = {"name": "task", "properties": _FIELDS}
TASKS = whole_list(
    "tasks",
    {
        "name": "task",
        "properties": {name: field for name, field in _FIELDS.items() if name not in _NOT_IN_LISTS},
    },
)
