"""The rules of the Images API as data: names, checks in the policy language, and what they guard.

The names and the checks are those of Glance, so that policy files for it mean the same here.
"""

from collections.abc import Mapping, Sequence

import attrs

ADMIN = "rule:context_is_admin"
SERVICE = "rule:service_api"
OPEN = "rule:default"
MEMBER = "role:member and project_id:%(project_id)s"
READER = "role:reader and project_id:%(project_id)s"
JOINED = "project_id:%(member_id)s"
PUBLIC = "'public':%(visibility)s"
OFFERED = f"{JOINED} or 'community':%(visibility)s or {PUBLIC} or 'shared':%(visibility)s"
ADMIN_OR_MEMBER = f"{ADMIN} or ({MEMBER})"
ADMIN_OR_READER = f"{ADMIN} or ({READER})"
ADMIN_OR_DOWNLOADER = f"{ADMIN} or (role:member and (project_id:%(project_id)s or {OFFERED}))"
ADMIN_OR_VIEWER = f"{ADMIN} or (role:reader and (project_id:%(project_id)s or {OFFERED}))"
ADMIN_OR_CONCERNED = f"{ADMIN} or role:reader and (project_id:%(project_id)s or {JOINED})"
ADMIN_OR_NAMESPACE_READER = f"{ADMIN} or (role:reader and (project_id:%(project_id)s or {PUBLIC}))"
CACHE = "rule:manage_image_cache"
METADEF_ADMIN = "rule:metadef_admin"
METADEF_OPEN = "rule:metadef_default"


@attrs.frozen
class Rule:
    """One rule with what holds where no policy file says otherwise."""

    name: str
    check: str
    about: str
    operations: Sequence[str] = ()
    """Methods and paths that it guards."""
    deprecated: str | None = None
    """The check of former releases, which holds beside the other until new defaults are wanted."""
    writes: bool = False
    """Whether it lets somebody change something, which those who may only look never do."""
    scoped: bool = True
    """Whether it asks for a token of a project."""


_IMAGE = "/v2/images/{image_id}"
_PATCH = f"PATCH {_IMAGE}"
_FILE = f"{_IMAGE}/file"
_TAG = f"{_IMAGE}/tags/{{tag}}"
_LOCATIONS = f"{_IMAGE}/locations"
_MEMBERS = f"{_IMAGE}/members"
_MEMBER = f"{_MEMBERS}/{{member_id}}"
_CACHE = "/v2/cache"
_SPACES = "/v2/metadefs/namespaces"
_SPACE = f"{_SPACES}/{{namespace_name}}"


def _changes(name: str, about: str, *operations: str, check: str = ADMIN_OR_MEMBER) -> Rule:
    return Rule(name, check, about, operations, deprecated=OPEN, writes=True)


def _reads(name: str, about: str, *operations: str, check: str) -> Rule:
    return Rule(name, check, about, operations, deprecated=OPEN)


_GENERAL = (
    Rule("default", "", "What rules without a check of their own refer to.", deprecated=ADMIN,
         scoped=False),
    Rule("context_is_admin", "role:admin", "Who counts as an administrator.", scoped=False),
    Rule("service_api", "role:service or role:admin", "Who counts as another service.",
         scoped=False),
)  # fmt: skip

_IMAGES = (
    _changes(
        "add_image",
        "Create an image; the target has its owner and its visibility only.",
        "POST /v2/images",
        check=f"{ADMIN} or ({MEMBER} and project_id:%(owner)s)",
    ),
    _changes("delete_image", "Delete an image and its data.", f"DELETE {_IMAGE}"),
    _reads("get_image", "Know that an image exists, and show it.", f"GET {_IMAGE}",
           check=ADMIN_OR_VIEWER),
    _reads("get_images", "List images; each of them is asked about with get_image.",
           "GET /v2/images", check=ADMIN_OR_READER),
    _changes("modify_image", "Change fields, properties and tags of an image.", _PATCH,
             f"PUT {_TAG}", f"DELETE {_TAG}"),
    Rule("publicize_image", ADMIN, "Make an image public.", ("POST /v2/images", _PATCH),
         writes=True),
    _changes("communitize_image", "Offer an image to everybody without listing it.",
             "POST /v2/images", _PATCH),
    _reads("download_image", "Download the data of an image.", f"GET {_FILE}",
           check=ADMIN_OR_DOWNLOADER),
    Rule("download_from_store", ADMIN_OR_DOWNLOADER, "Choose the store to download from.",
         (f"GET {_FILE}",)),
    _changes("upload_image", "Upload the data of an image.", f"PUT {_FILE}"),
    _changes("delete_image_location", "Take a location from an image.", _PATCH,
             "DELETE /v2/stores/{store_id}/{image_id}", check=ADMIN),
    _reads("get_image_location", "Have an image's data removed from one of its stores.",
           "DELETE /v2/stores/{store_id}/{image_id}", check=ADMIN_OR_READER),
    _changes("set_image_location", "Add and replace locations by patches.", _PATCH),
    Rule("add_image_location", f"{SERVICE} or ({MEMBER} and project_id:%(owner)s)",
         "Give a queued image data that lies elsewhere.", (f"POST {_LOCATIONS}",), writes=True),
    Rule("fetch_image_location", SERVICE, "Show where the data of an image lies.",
         (f"GET {_LOCATIONS}",)),
    _changes("add_member", "Share an image with a project.", f"POST {_MEMBERS}"),
    _changes("delete_member", "Share an image with a project no more.", f"DELETE {_MEMBER}"),
    _reads("get_member", "Show a member of an image.", f"GET {_MEMBER}",
           check=ADMIN_OR_CONCERNED),
    _reads("get_members", "List the members of an image.", f"GET {_MEMBERS}",
           check=ADMIN_OR_CONCERNED),
    _changes("modify_member", "Accept or reject an image that is shared.", f"PUT {_MEMBER}",
             check=f"{ADMIN} or (role:member and {JOINED})"),
    Rule("manage_image_cache", ADMIN, "Manage the cache, where no finer rule is set.",
         writes=True),
    _changes("deactivate", "Keep others than administrators from downloading an image.",
             f"POST {_IMAGE}/actions/deactivate"),
    _changes("reactivate", "Let an image be downloaded again.",
             f"POST {_IMAGE}/actions/reactivate"),
    Rule("copy_image", ADMIN, "Copy an image to other stores.", (f"POST {_IMAGE}/import",),
         writes=True),
    Rule("list_cached_nodes", ADMIN, "List the nodes that have an image in their cache.",
         ("GET /v2/cache/nodes/{image_id}",)),
)  # fmt: skip

_CACHED = (
    Rule("cache_image", ADMIN, "Queue an image for the cache.", (f"PUT {_CACHE}/{{image_id}}",),
         CACHE, writes=True),
    Rule("cache_list", ADMIN, "Show what is in the cache.", (f"GET {_CACHE}",), CACHE),
    Rule("cache_delete", ADMIN, "Take images from the cache or its queue.",
         (f"DELETE {_CACHE}", f"DELETE {_CACHE}/{{image_id}}"), CACHE, writes=True),
    Rule("cache_clean", ADMIN, "Remove what is broken or stalled from the cache.",
         (f"POST {_CACHE}/clean",), writes=True),
    Rule("cache_prune", ADMIN, "Shrink the cache to its size.", (f"POST {_CACHE}/prune",),
         writes=True),
)  # fmt: skip

_DISCOVERY = (
    Rule("stores_info_detail", f"{ADMIN} or {SERVICE}", "See the details of the stores.",
         ("GET /v2/info/stores/detail",), ADMIN),
)  # fmt: skip

_TASKS = (
    Rule("get_task", OPEN, "Show a task, beside tasks_api_access.", ("GET /v2/tasks/{task_id}",)),
    Rule("get_tasks", OPEN, "List tasks, beside tasks_api_access.", ("GET /v2/tasks",)),
    Rule("add_task", OPEN, "Create a task, beside tasks_api_access.", ("POST /v2/tasks",),
         writes=True),
    Rule("modify_task", OPEN, "Not used.", ("DELETE /v2/tasks/{task_id}",), writes=True),
    Rule("tasks_api_access", ADMIN, "Use the API of tasks at all.",
         ("GET /v2/tasks", "GET /v2/tasks/{task_id}", "POST /v2/tasks",
          "DELETE /v2/tasks/{task_id}")),
)  # fmt: skip


def _shows(name: str, about: str, path: str, check: str = ADMIN_OR_NAMESPACE_READER) -> Rule:
    return Rule(name, check, about, (f"GET {path}",), deprecated=METADEF_OPEN)


def _edits(name: str, about: str, operation: str) -> Rule:
    return Rule(name, METADEF_ADMIN, about, (operation,), writes=True)


_METADEFS = (
    Rule("metadef_default", "", "What the reading of definitions once referred to.", scoped=False),
    Rule("metadef_admin", ADMIN, "Who looks after definitions of metadata.", scoped=False),
    _shows("get_metadef_namespace", "Show a namespace.", _SPACE),
    _shows("get_metadef_namespaces", "List namespaces.", _SPACES, ADMIN_OR_READER),
    _edits("modify_metadef_namespace", "Change a namespace.", f"PUT {_SPACE}"),
    _edits("add_metadef_namespace", "Create a namespace.", f"POST {_SPACES}"),
    _edits("delete_metadef_namespace", "Delete a namespace.", f"DELETE {_SPACE}"),
    _shows("get_metadef_object", "Show an object.", f"{_SPACE}/objects/{{object_name}}"),
    _shows("get_metadef_objects", "List the objects of a namespace.", f"{_SPACE}/objects"),
    _edits("modify_metadef_object", "Change an object.", f"PUT {_SPACE}/objects/{{object_name}}"),
    _edits("add_metadef_object", "Create an object.", f"POST {_SPACE}/objects"),
    _edits("delete_metadef_object", "Delete an object.",
           f"DELETE {_SPACE}/objects/{{object_name}}"),
    _shows("list_metadef_resource_types", "List the types of resources.",
           "/v2/metadefs/resource_types"),
    _shows("get_metadef_resource_type", "List the types that a namespace is for.",
           f"{_SPACE}/resource_types"),
    _edits("add_metadef_resource_type_association", "Tie a namespace to a type of resources.",
           f"POST {_SPACE}/resource_types"),
    _edits("remove_metadef_resource_type_association", "Untie a namespace from a type.",
           f"DELETE {_SPACE}/resource_types/{{name}}"),
    _shows("get_metadef_property", "Show a property.", f"{_SPACE}/properties/{{property_name}}"),
    _shows("get_metadef_properties", "List the properties of a namespace.",
           f"{_SPACE}/properties"),
    _edits("modify_metadef_property", "Change a property.",
           f"PUT {_SPACE}/properties/{{property_name}}"),
    _edits("add_metadef_property", "Create a property.", f"POST {_SPACE}/properties"),
    _edits("remove_metadef_property", "Delete a property.",
           f"DELETE {_SPACE}/properties/{{property_name}}"),
    _shows("get_metadef_tag", "Show a tag.", f"{_SPACE}/tags/{{tag_name}}"),
    _shows("get_metadef_tags", "List the tags of a namespace.", f"{_SPACE}/tags"),
    _edits("modify_metadef_tag", "Change a tag.", f"PUT {_SPACE}/tags/{{tag_name}}"),
    _edits("add_metadef_tag", "Create a tag.", f"POST {_SPACE}/tags/{{tag_name}}"),
    _edits("add_metadef_tags", "Set all tags of a namespace.", f"POST {_SPACE}/tags"),
    _edits("delete_metadef_tag", "Delete a tag.", f"DELETE {_SPACE}/tags/{{tag_name}}"),
    _edits("delete_metadef_tags", "Delete all tags of a namespace.", f"DELETE {_SPACE}/tags"),
)  # fmt: skip

RULES: Mapping[str, Rule] = {
    rule.name: rule for rule in _GENERAL + _IMAGES + _CACHED + _DISCOVERY + _TASKS + _METADEFS
}
