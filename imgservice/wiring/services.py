"""From the configuration to the services."""

from collections.abc import Callable

import attrs
from twisted.logger import Logger

from imgservice.concurrency.digests import Digests
from imgservice.concurrency.threads import Threads
from imgservice.config.sections import Config
from imgservice.db.engine.database import Database
from imgservice.db.repositories.images import Images
from imgservice.db.repositories.members import Members
from imgservice.domain.access import Access
from imgservice.domain.formats import FormatRules
from imgservice.domain.limits import LARGEST_SIZE, ImageLimits
from imgservice.domain.locations import LocationRules
from imgservice.domain.nodes import Nodes
from imgservice.domain.protections import PropertyRules
from imgservice.process.lease_owner import ProcessLeaseOwner
from imgservice.service.data import DataRules, DataService
from imgservice.service.images import ImageService
from imgservice.service.locations import LocationOptions, LocationService
from imgservice.service.members import MemberService
from imgservice.service.ports import LimitSource
from imgservice.service.quota import QuotaService
from imgservice.service.reading import ReadingService
from imgservice.store.choose import Stores

_log = Logger()


@attrs.frozen
class Services:
    """What the routes call."""

    images: ImageService
    members: MemberService
    data: DataService
    reading: ReadingService
    locations: LocationService
    quotas: QuotaService


def make_services(
    config: Config,
    database: Database,
    stores: Stores,
    threads: Threads,
    access: Access,
    property_rules: Callable[[], PropertyRules],
    limit_source: LimitSource | None,
    nodes: Nodes,
) -> Services:
    images, limits = Images(database), image_limits(config)
    quotas = QuotaService(images, limit_source)
    data = DataService(
        images,
        stores,
        ProcessLeaseOwner(),
        _data_rules(config),
        lambda window, algorithm: Digests(threads, algorithm or config.hash.algorithm, window),
        access,
        quotas,
        lambda text: _log.warn("{text}", text=text),
        nodes.url,
    )
    locations = LocationService(
        images,
        data,
        stores,
        LocationRules(config.hash.algorithm, limits),
        LocationOptions(config.locations.show, config.locations.secure_hash, _image_size(config)),
        access,
        quotas,
    )
    return Services(
        images=ImageService(images, data, limits, locations, access, quotas, property_rules, nodes),
        members=MemberService(images, Members(database), limits, access),
        data=data,
        reading=ReadingService(images, stores, access),
        locations=locations,
        quotas=quotas,
    )


def image_limits(config: Config) -> ImageLimits:
    limits = config.limits
    return ImageLimits(
        limits.properties,
        limits.tags,
        limits.members,
        limits.locations,
        limits.property_value,
        limits.patch_operations,
    )


def _image_size(config: Config) -> int:
    return min(config.limits.image_size, LARGEST_SIZE)


def _data_rules(config: Config) -> DataRules:
    formats = config.formats
    return DataRules(
        image_size=_image_size(config),
        formats=FormatRules(
            formats.require_match,
            formats.vmdk_types,
            formats.gpt_safety_checks_nonfatal,
            formats.raw_must_be_raw,
        ),
        window=config.transfer.window,
        memory=config.transfer.memory,
    )
