"""Who may do what."""

from typing import Literal

import attrs

from imgservice.domain.options import option, section


@attrs.frozen(kw_only=True)
class PropertyProtectionsOptions:
    file: str | None = option(
        None,
        "File of rules for who may create, read, update and delete which custom properties. null:"
        " no rules.",
    )
    format: Literal["roles", "policies"] = option(
        "roles", "Whether that file names roles or policy rules."
    )


@attrs.frozen(kw_only=True)
class PolicyOptions:
    file: str | None = option(
        None,
        "File of rules that differ from the defaults. Glance's policy.yaml and policy.json work"
        " unchanged.",
    )
    dirs: tuple[str, ...] = option(
        (), "Directories with more such files, read in alphabetical order. Later rules win."
    )
    enforce_new_defaults: bool = option(
        True, "false: also allow what the defaults of older releases allowed."
    )
    enforce_scope: bool = option(
        True, "Refuse tokens that are scoped to a domain or to the system."
    )
    property_protections: PropertyProtectionsOptions = section(
        PropertyProtectionsOptions,
        "Custom properties that only some callers may use, as in Glance.",
    )
