"""Who may do what."""

from typing import Literal

import attrs

from imgservice.domain.options import option


@attrs.frozen(kw_only=True)
class PropertyProtectionsOptions:
    file: str | None = option(
        None, "Who may create, read, update and delete which custom properties; null: everybody."
    )
    format: Literal["roles", "policies"] = option(
        "roles", "Whether that file names roles, or each time one rule of the policy."
    )


@attrs.frozen(kw_only=True)
class PolicyOptions:
    file: str | None = option(
        None, "Rules that differ from the defaults: Glance's policy.yaml or policy.json as it is."
    )
    dirs: tuple[str, ...] = option(
        (), "Directories with more such files, which override it in the order of their names."
    )
    enforce_new_defaults: bool = option(
        True, "false: what the defaults of former releases allowed is allowed as well."
    )
    enforce_scope: bool = option(
        True, "Whether whoever asks for a domain, or for the whole cloud, is turned away."
    )
    property_protections: PropertyProtectionsOptions = option(
        PropertyProtectionsOptions,
        "Custom properties that are not for everybody; Glance's file works.",
    )
