"""The configuration file: `Config`, and a module for each of its sections."""

from collections.abc import Iterator, Mapping

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
from imgservice.domain.options import Mistake, option, section
from imgservice.store import registry
from imgservice.store.file.config import FileConfig


def _default_stores() -> Mapping[str, StoreEntry]:
    return {"local": StoreEntry("file", FileConfig(path="var/images"))}


@attrs.frozen(kw_only=True)
class Config:
    """The whole file."""

    server: ServerOptions = section(
        ServerOptions, "Addresses to listen on, connections, processes and timeouts."
    )
    node: NodeOptions = section(
        NodeOptions, "Other nodes, of Glance or imgservice, that share the database."
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
        "The steps that each request passes through, in this order. One more can be added: gzip,"
        " before version, compresses JSON responses for clients that accept it.",
    )
    cors: CorsOptions = section(CorsOptions, "Cross-origin requests of browsers.")
    auth: AuthOptions = section(AuthOptions, "How callers authenticate.")
    policy: PolicyOptions = section(PolicyOptions, "Who may do what.")
    database: DatabaseOptions = section(DatabaseOptions, "The database of images.")
    stores: Mapping[str, StoreEntry] = section(
        _default_stores, "Where image data is stored. Choose any names; each store has a type."
    )
    default_store: str = option("local", "The store for new images.")
    single_store: bool = option(
        False,
        "Hide stores from clients, as a Glance without enabled_backends does: documents, headers"
        " and versions name none, clients cannot choose one, and locations are matched to stores by"
        " their URLs.",
    )
    api: ApiOptions = section(ApiOptions, "The Images API.")
    locations: LocationsOptions = section(LocationsOptions, "URLs of image data.")
    import_: ImportOptions = section(ImportOptions, "Data that is fetched from other servers.")
    limits: LimitsOptions = section(LimitsOptions, "Limits of images, quotas and rate limits.")
    formats: FormatsOptions = section(
        FormatsOptions, "Accepted image formats, and the inspection of uploaded data."
    )
    hash: HashOptions = section(HashOptions, "The hash of image data, beside MD5.")
    transfer: TransferOptions = section(TransferOptions, "Memory and threads for image data.")
    healthcheck: HealthcheckOptions = section(
        HealthcheckOptions, "GET /healthcheck, for load balancers."
    )
    logging: LoggingOptions = section(LoggingOptions, "The log.")

    def contradictions(self) -> Iterator[Mistake]:
        if self.default_store not in self.stores:
            known = ", ".join(self.stores) or "none"
            yield (
                ["default_store"],
                f"there is no store {self.default_store!r} (stores: {known})",
            )
        elif registry.driver(self.stores[self.default_store].type).read_only:
            yield ["default_store"], f"the store {self.default_store!r} is read-only"
        if self.transfer.accel is not None and not self.server.trusted_proxies:
            yield (
                ["transfer", "accel"],
                "needs server.trusted_proxies, which is empty",
            )
