"""From the configuration to the services."""

from collections.abc import Callable, Mapping

import attrs
from twisted.logger import Logger

from imgservice.concurrency.digests import Digests
from imgservice.concurrency.threads import Threads
from imgservice.config.sections import Config
from imgservice.db.engine.database import Database
from imgservice.db.repositories.images import Images
from imgservice.db.repositories.jobs import Jobs
from imgservice.db.repositories.members import Members
from imgservice.domain.access import Access
from imgservice.domain.format_rules import FormatRules
from imgservice.domain.limits import LARGEST_SIZE, ImageLimits
from imgservice.domain.locations import LocationRules
from imgservice.domain.nodes import Nodes
from imgservice.domain.protections import PropertyRules
from imgservice.jobs.engine import JobEngine
from imgservice.jobs.handlers import (
    Handler,
    ImageRemoval,
    LocationCleanup,
    LocationRemoval,
    UploadCleanup,
    handler_table,
)
from imgservice.jobs.lease_owner import ProcessLeaseOwner
from imgservice.service.adoption import AdoptionService
from imgservice.service.events import Events
from imgservice.service.hash_host import HashHost
from imgservice.service.images import ImageService
from imgservice.service.intake import Intakes, UploadRules
from imgservice.service.locations import LocationOptions, LocationService
from imgservice.service.members import MemberService
from imgservice.service.ports import LimitSource
from imgservice.service.process_jobs import ProcessJobs
from imgservice.service.quota import QuotaService
from imgservice.service.reading import ReadingService
from imgservice.service.removal import RemovalService
from imgservice.service.store_copies import StoreCopyService
from imgservice.service.upload_jobs import UploadJobs
from imgservice.service.uploads import UploadService
from imgservice.store.choose import Stores
from imgservice.wiring.formats import FormatChecks
from imgservice.wiring.stores import part_memory

_log = Logger()


@attrs.frozen
class Services:
    """What the routes call, and what goes on with their work."""

    images: ImageService
    members: MemberService
    uploads: UploadService
    reading: ReadingService
    locations: LocationService
    store_copies: StoreCopyService
    quotas: QuotaService
    jobs: JobEngine


def make_services(
    config: Config,
    database: Database,
    stores: Stores,
    threads: Threads,
    access: Access,
    property_rules: Callable[[], PropertyRules],
    limit_source: LimitSource | None,
    nodes: Nodes,
    events: Events,
) -> Services:
    images, limits = Images(database), image_limits(config)
    quotas = QuotaService(images, limit_source)
    repository, owner = Jobs(database), ProcessLeaseOwner()
    jobs = ProcessJobs(repository, owner, _warn)
    hash_host = HashHost(images, nodes.url)
    removal = RemovalService(images, stores, jobs)
    intakes = _make_intakes(config, threads)
    upload_jobs = UploadJobs(images, jobs, intakes, quotas, _warn)
    adoption = AdoptionService(jobs, upload_jobs, intakes, hash_host)
    locations = _make_locations(config, images, adoption, stores, access, quotas, events)
    handlers = _make_handlers(images, stores, repository, removal, hash_host)
    return Services(
        images=ImageService(
            images, removal, limits, locations, access, quotas, property_rules, nodes, events
        ),
        members=MemberService(images, Members(database), limits, access, events),
        uploads=UploadService(images, stores, jobs, upload_jobs, intakes, access, events),
        reading=ReadingService(images, stores, access, events, _warn),
        locations=locations,
        store_copies=StoreCopyService(images, stores, removal, access, events),
        quotas=quotas,
        jobs=JobEngine(handlers, repository, jobs, owner),
    )


def _make_locations(
    config: Config,
    images: Images,
    adoption: AdoptionService,
    stores: Stores,
    access: Access,
    quotas: QuotaService,
    events: Events,
) -> LocationService:
    rules = LocationRules(config.hash.algorithm, image_limits(config))
    shown = config.locations
    options = LocationOptions(shown.show, shown.secure_hash, _image_size(config))
    return LocationService(images, adoption, stores, rules, options, access, quotas, events)


def _make_handlers(
    images: Images,
    stores: Stores,
    repository: Jobs,
    removal: RemovalService,
    hash_host: HashHost,
) -> Mapping[str, Handler]:
    """Make the table of handlers: one for each kind of job."""
    return handler_table(
        [
            UploadCleanup(images, stores),
            LocationCleanup(images, hash_host),
            ImageRemoval(images, removal, repository),
            LocationRemoval(images, removal),
        ]
    )


def _warn(text: str) -> None:
    _log.warn("{text}", text=text)


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


def _make_intakes(config: Config, threads: Threads) -> Intakes:
    return Intakes(
        _upload_rules(config),
        FormatChecks(threads),
        lambda window, algorithm: Digests(threads, algorithm or config.hash.algorithm, window),
    )


def _upload_rules(config: Config) -> UploadRules:
    formats = config.formats
    return UploadRules(
        image_size=_image_size(config),
        formats=FormatRules(
            formats.require_match,
            formats.vmdk_types,
            formats.gpt_safety_checks_nonfatal,
            formats.raw_must_be_raw,
        ),
        window=config.transfer.window,
        memory=config.transfer.memory - part_memory(config),
    )
