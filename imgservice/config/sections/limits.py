"""Limits of images, and quotas of projects."""

from collections.abc import Iterator, Mapping

import attrs

from imgservice.config.sections.rates import RatesOptions, UploadsOptions
from imgservice.domain.options import Mistake, option, section
from imgservice.domain.units import Duration, Size


@attrs.frozen(kw_only=True)
class ProjectLimitsOptions:
    """The quotas of one project, with the names of Keystone's unified limits for images."""

    image_size_total: Size | None = option(
        None,
        "Maximum size of all images together. Every copy counts, and so does what running uploads"
        " may add. null: no limit.",
    )
    image_stage_total: Size | None = option(
        None, "Maximum size of the data that is staged for import or being copied."
    )
    image_count_total: int | None = option(None, "Maximum number of images.", ge=0)
    image_count_uploading: int | None = option(
        None, "Maximum number of images whose data is being uploaded.", ge=0
    )


@attrs.frozen(kw_only=True)
class KeystoneLimitsOptions:
    enabled: bool = option(
        False, "Enforce Keystone's unified limits. auth.keystone has the URL and the credentials."
    )
    endpoint_id: str | None = option(
        None,
        "Id of the endpoint whose service and region the limits are registered for. null: found by"
        " service and region.",
    )
    service: str = option("image", "Type or name of the service in Keystone's catalog.")
    region: str | None = option(None, "Region of the service. null: the only one.")
    cache_time: Duration = option(
        Duration(5), "How long the limits of a project are cached. 0: no cache."
    )


@attrs.frozen(kw_only=True)
class LocalLimitsOptions:
    default: ProjectLimitsOptions = section(
        ProjectLimitsOptions, "Quotas of projects that are not listed in overrides."
    )
    overrides: Mapping[str, ProjectLimitsOptions] = section(
        dict, "Quotas of single projects, by their ids, in place of the default ones."
    )


@attrs.frozen(kw_only=True)
class LimitsOptions:
    image_size: Size = option(Size(1 << 40), "Maximum size of an image.")
    properties: int = option(128, "Maximum number of custom properties of an image. -1: no limit.")
    patch_operations: int = option(
        1000, "Maximum number of operations in a PATCH of an image. -1: no limit."
    )
    property_value: Size = option(
        Size((1 << 16) - 1),
        "Maximum length in bytes of the value of a custom property and of the metadata of a"
        " location. MySQL and MariaDB cannot store more than 65535. Longer values that are stored"
        " already stay. 0: no limit.",
    )
    tags: int = option(128, "Maximum number of tags of an image. -1: no limit.")
    members: int = option(128, "Maximum number of members of an image. -1: no limit.")
    locations: int = option(10, "Maximum number of locations of an image. -1: no limit.")
    rate: RatesOptions = section(
        RatesOptions,
        "Rate limits of each process, as {per_second: average, burst: at once}. Requests beyond"
        " a limit get a 429 response; transfers beyond it are slowed down. null: no limit.",
    )
    uploads: UploadsOptions = section(
        UploadsOptions,
        "Simultaneous uploads in each process, including those that fetch data from a location."
        " null: no limit.",
    )
    user_storage: Size = option(
        Size(0), "Maximum size of the images of each project; every copy counts. 0: no limit."
    )
    keystone: KeystoneLimitsOptions = section(
        KeystoneLimitsOptions, "Quotas that Keystone keeps, in place of those in projects."
    )
    projects: LocalLimitsOptions = section(
        LocalLimitsOptions, "Quotas that are configured here, in place of those in Keystone."
    )

    def contradictions(self) -> Iterator[Mistake]:
        kinds = {
            "user_storage": self.user_storage > 0,
            "keystone": self.keystone.enabled,
            "projects": self.projects != LocalLimitsOptions(),
        }
        first, *others = [name for name, is_there in kinds.items() if is_there] or [""]
        for other in others:
            yield [first], f"limits.{other} is set, too: set only one of them"
