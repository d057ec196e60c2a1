"""The rules of the API as data: names, default conditions, and what they guard.

The names and the conditions are those of Glance, so that policy files for it mean the same here.
"""

from collections.abc import Mapping, Sequence

import attrs

from imgservice.domain.access import Owned, owns
from imgservice.domain.context import Context
from imgservice.policy.conditions import (
    ADMIN,
    BY_DEFAULT,
    CREATOR,
    EVERYBODY,
    LISTER,
    METADEF_ADMIN,
    OFFERED,
    OWNER,
    OWNER_OR_PUBLIC,
    OWNER_OR_SHARED,
    SERVED,
    SERVICE,
    SHARED,
    Condition,
    Decide,
    admin_or_role_and,
    either,
    role,
    role_and,
)

ADMIN_OR_MEMBER = admin_or_role_and("member", OWNER)
ADMIN_OR_READER = admin_or_role_and("reader", OWNER)
ADMIN_OR_CREATOR = admin_or_role_and("member", CREATOR)
ADMIN_OR_DOWNLOADER = admin_or_role_and("member", OFFERED)
ADMIN_OR_VIEWER = admin_or_role_and("reader", OFFERED)
ADMIN_OR_SHARER = admin_or_role_and("member", SHARED)
ADMIN_OR_CONCERNED = admin_or_role_and("reader", OWNER_OR_SHARED, grouped=False)
ADMIN_OR_NAMESPACE_READER = admin_or_role_and("reader", OWNER_OR_PUBLIC)
SERVICE_OR_CREATOR = either(SERVED, role_and("member", CREATOR), grouped=True)
OPEN = BY_DEFAULT.text
CACHE = "rule:manage_image_cache"
METADEF_OPEN = "rule:metadef_default"


@attrs.frozen
class Rule:
    """One rule with what holds where no policy file says otherwise."""

    name: str
    condition: Condition
    about: str
    operations: Sequence[str] = ()
    """Methods and paths that it guards."""
    deprecated: str | None = None
    """The check of former releases, which holds beside the other until new defaults are wanted."""
    writes: bool = False
    """Whether it allows changes, which a caller without an identity never makes."""
    scoped: bool = True
    """Whether it needs a token for a project."""
    has_target: bool = True
    """Whether it is asked about something, and not about the caller alone."""
    limit: Decide = EVERYBODY.holds
    """Whom a file can allow it, among callers who see the target; administrators always."""
    former_limit: Decide | None = None
    """The limit while the checks of former releases hold, where it is another one."""

    @property
    def check(self) -> str:
        """The default in the policy language."""
        return self.condition.text


def _is_of_project(context: Context, target: Owned) -> bool:
    return target.owner == context.project


def _is_of_another_project(context: Context, target: Owned) -> bool:
    return target.owner != context.project


def _owns_or_serves(context: Context, target: Owned) -> bool:
    return "service" in context.roles or owns(context, target)


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


def _changes(
    name: str,
    about: str,
    *operations: str,
    condition: Condition = ADMIN_OR_MEMBER,
    limit: Decide = EVERYBODY.holds,
    former_limit: Decide | None = None,
) -> Rule:
    return Rule(name, condition, about, operations, deprecated=OPEN, writes=True, limit=limit,
                former_limit=former_limit)  # fmt: skip


def _reads(name: str, about: str, *operations: str, condition: Condition) -> Rule:
    return Rule(name, condition, about, operations, deprecated=OPEN)


def _general(
    name: str,
    condition: Condition,
    about: str,
    *operations: str,
    deprecated: str | None = None,
    writes: bool = False,
    scoped: bool = True,
) -> Rule:
    return Rule(name, condition, about, operations, deprecated, writes, scoped, has_target=False)


_GENERAL = (
    _general("default", EVERYBODY, "The default that other rules refer to.",
             deprecated=ADMIN.text, scoped=False),
    _general("context_is_admin", role("admin"), "Who counts as an administrator.", scoped=False),
    _general("service_api", either(role("service"), role("admin")),
             "Who counts as another service.", scoped=False),
)  # fmt: skip

_IMAGES = (
    _changes(
        "add_image",
        "Create an image; the target has only its owner and its visibility.",
        "POST /v2/images",
        condition=ADMIN_OR_CREATOR,
        limit=_is_of_project,
    ),
    _changes("delete_image", "Delete an image and its data.", f"DELETE {_IMAGE}", limit=owns),
    _reads("get_image", "Know that an image exists, and show it.", f"GET {_IMAGE}",
           condition=ADMIN_OR_VIEWER),
    _general("get_images", LISTER,
             "List images; get_image is asked about each of them.", "GET /v2/images",
             deprecated=OPEN),
    _changes("modify_image", "Change fields, properties and tags of an image.", _PATCH,
             f"PUT {_TAG}", f"DELETE {_TAG}", limit=owns),
    Rule("publicize_image", ADMIN, "Make an image public.", ("POST /v2/images", _PATCH),
         writes=True),
    _changes("communitize_image", "Offer an image to everybody without listing it.",
             "POST /v2/images", _PATCH),
    _reads("download_image", "Download the data of an image.", f"GET {_FILE}",
           condition=ADMIN_OR_DOWNLOADER),
    Rule("download_from_store", ADMIN_OR_DOWNLOADER, "Choose the store to download from.",
         (f"GET {_FILE}",)),
    _changes("upload_image", "Upload the data of an image.", f"PUT {_FILE}", limit=owns),
    _changes("delete_image_location", "Remove a location from an image.", _PATCH,
             "DELETE /v2/stores/{store_id}/{image_id}", condition=ADMIN, limit=owns),
    _reads("get_image_location", "Remove an image's data from one of its stores.",
           "DELETE /v2/stores/{store_id}/{image_id}", condition=ADMIN_OR_READER),
    _changes("set_image_location", "Add and replace locations by PATCH.", _PATCH, limit=owns),
    Rule("add_image_location", SERVICE_OR_CREATOR,
         "Register the location of existing data for a queued image.", (f"POST {_LOCATIONS}",),
         writes=True, limit=_owns_or_serves),
    Rule("fetch_image_location", SERVED, "Show the locations of an image's data.",
         (f"GET {_LOCATIONS}",)),
    _changes("add_member", "Share an image with a project.", f"POST {_MEMBERS}",
             former_limit=owns),
    _changes("delete_member", "Stop sharing an image with a project.", f"DELETE {_MEMBER}",
             former_limit=owns),
    _reads("get_member", "Show a member of an image.", f"GET {_MEMBER}",
           condition=ADMIN_OR_CONCERNED),
    _reads("get_members", "List the members of an image.", f"GET {_MEMBERS}",
           condition=ADMIN_OR_CONCERNED),
    _changes("modify_member", "Accept or reject a shared image.", f"PUT {_MEMBER}",
             condition=ADMIN_OR_SHARER, former_limit=_is_of_another_project),
    _general("manage_image_cache", ADMIN, "Manage the cache, where no finer rule is set.",
             writes=True),
    _changes("deactivate", "Let only administrators download an image.",
             f"POST {_IMAGE}/actions/deactivate", limit=owns),
    _changes("reactivate", "Let an image be downloaded again.",
             f"POST {_IMAGE}/actions/reactivate", limit=owns),
    Rule("copy_image", ADMIN, "Copy an image to other stores.", (f"POST {_IMAGE}/import",),
         writes=True),
    Rule("list_cached_nodes", ADMIN, "List the nodes that have an image in their cache.",
         ("GET /v2/cache/nodes/{image_id}",)),
)  # fmt: skip

_CACHED = (
    _general("cache_image", ADMIN, "Queue an image for the cache.", f"PUT {_CACHE}/{{image_id}}",
             deprecated=CACHE, writes=True),
    _general("cache_list", ADMIN, "Show what is in the cache.", f"GET {_CACHE}",
             deprecated=CACHE),
    _general("cache_delete", ADMIN, "Remove images from the cache or its queue.",
             f"DELETE {_CACHE}", f"DELETE {_CACHE}/{{image_id}}", deprecated=CACHE, writes=True),
    _general("cache_clean", ADMIN, "Remove broken and stalled entries from the cache.",
             f"POST {_CACHE}/clean", writes=True),
    _general("cache_prune", ADMIN, "Shrink the cache to its size limit.", f"POST {_CACHE}/prune",
             writes=True),
)  # fmt: skip

_DISCOVERY = (
    _general("stores_info_detail", either(ADMIN, SERVICE), "See the details of the stores.",
             "GET /v2/info/stores/detail", deprecated=ADMIN.text),
)  # fmt: skip

_TASK = "/v2/tasks/{task_id}"
_TASKS = (
    _general("get_task", BY_DEFAULT, "Show a task, beside tasks_api_access.", f"GET {_TASK}"),
    _general("get_tasks", BY_DEFAULT, "List tasks, beside tasks_api_access.", "GET /v2/tasks"),
    _general("add_task", BY_DEFAULT, "Create a task, beside tasks_api_access.", "POST /v2/tasks",
             writes=True),
    _general("modify_task", BY_DEFAULT, "Not used.", f"DELETE {_TASK}", writes=True),
    _general("tasks_api_access", ADMIN, "Use the API of tasks at all.", "GET /v2/tasks",
             f"GET {_TASK}", "POST /v2/tasks", f"DELETE {_TASK}"),
)  # fmt: skip


def _shows(
    name: str, about: str, path: str, condition: Condition = ADMIN_OR_NAMESPACE_READER
) -> Rule:
    return Rule(name, condition, about, (f"GET {path}",), deprecated=METADEF_OPEN)


def _edits(name: str, about: str, operation: str) -> Rule:
    return Rule(name, METADEF_ADMIN, about, (operation,), writes=True)


_METADEFS = (
    _general("metadef_default", EVERYBODY, "What the rules for reading definitions referred to.",
             scoped=False),
    _general("metadef_admin", ADMIN, "Who manages metadata definitions.", scoped=False),
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
    _shows("list_metadef_resource_types", "List the resource types.",
           "/v2/metadefs/resource_types"),
    _shows("get_metadef_resource_type", "List the resource types of a namespace.",
           f"{_SPACE}/resource_types"),
    _edits("add_metadef_resource_type_association", "Associate a namespace with a resource type.",
           f"POST {_SPACE}/resource_types"),
    _edits("remove_metadef_resource_type_association",
           "Remove a namespace's association with a resource type.",
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
