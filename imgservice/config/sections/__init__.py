"""The configuration file: one module for each of its sections."""

from collections.abc import Mapping

import attrs

from imgservice.config.sections.api import ApiOptions
from imgservice.config.sections.auth import AuthOptions
from imgservice.config.sections.cors import CorsOptions
from imgservice.config.sections.database import DatabaseOptions
from imgservice.config.sections.formats import FormatsOptions
from imgservice.config.sections.hash import HashOptions
from imgservice.config.sections.healthcheck import HealthcheckOptions
from imgservice.config.sections.imports import ImportOptions
from imgservice.config.sections.limits import LimitsOptions
from imgservice.config.sections.locations import LocationsOptions
from imgservice.config.sections.logging import LoggingOptions
from imgservice.config.sections.node import NodeOptions
from imgservice.config.sections.policy import PolicyOptions
from imgservice.config.sections.server import ServerOptions
from imgservice.config.sections.stores import StoreEntry
from imgservice.config.sections.transfer import TransferOptions
from imgservice.domain.options import option
from imgservice.store.file.config import FileConfig


@attrs.frozen(kw_only=True)
class Config:
    """The whole file."""

    server: ServerOptions = option(ServerOptions, "Where and how we listen.")
    node: NodeOptions = option(
        NodeOptions, "This node beside others, of Glance or of ours, on one database."
    )
    pipeline: tuple[str, ...] = option(
        (
            "proxy_headers",
            "cors",
            "request_id",
            "address_limit",
            "version",
            "auth_token",
            "context",
            "rate_limit",
        ),
        "What a request passes through, in this order. There is one more step: gzip, before"
        " version, which compresses answers in JSON for clients that accept it.",
    )
    cors: CorsOptions = option(CorsOptions, "Calls from web pages of other origins.")
    auth: AuthOptions = option(AuthOptions, "Who is asking.")
    policy: PolicyOptions = option(PolicyOptions, "Who may do what.")
    database: DatabaseOptions = option(DatabaseOptions, "Where images are recorded.")
    stores: Mapping[str, StoreEntry] = option(
        lambda: {"local": StoreEntry("file", FileConfig(path="var/images"))},
        "Where the bytes of images are kept: names of your choice, each with a type.",
    )
    default_store: str = option("local", "The store that takes new images.")
    single_store: bool = option(
        False,
        "Whether clients see no stores: none in documents, headers and versions, none to choose."
        " Locations are found by their URLs. For clouds whose Glance has no enabled_backends.",
    )
    api: ApiOptions = option(ApiOptions, "The Images API.")
    locations: LocationsOptions = option(
        LocationsOptions, "Where the bytes of images lie, in their documents."
    )
    import_: ImportOptions = option(ImportOptions, "Data that comes from other servers.")
    limits: LimitsOptions = option(LimitsOptions, "How much is too much.")
    formats: FormatsOptions = option(FormatsOptions, "Which images are accepted.")
    hash: HashOptions = option(HashOptions, "The second checksum, beside MD5.")
    transfer: TransferOptions = option(
        TransferOptions, "Memory and threads for the bytes of images."
    )
    healthcheck: HealthcheckOptions = option(
        HealthcheckOptions, "GET /healthcheck, for load balancers."
    )
    logging: LoggingOptions = option(LoggingOptions, "What is logged, and where to.")
