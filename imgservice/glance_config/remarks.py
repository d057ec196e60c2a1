"""Options that have no key here, and why not."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import attrs

from imgservice.glance_config.conversion import Conversion
from imgservice.glance_config.ini import Assignment

_NO = ("", "false", "0", "off", "no", "none")


@attrs.frozen
class Topic:
    """Some options, by `group/name`; what it says of them, and the section where it says it."""

    options: Sequence[str]
    said: str
    section: str = ""
    """Where it is said; of no use for what is not needed, all of which stands together."""
    matters: bool = False
    unless: Sequence[str] = ()
    """Values with which it makes no difference."""

    def has(self, one: Assignment) -> bool:
        name = "/".join(one.key)
        return any(fnmatchcase(name, pattern) for pattern in self.options)


_LATER: Sequence[Topic] = (
    Topic(["DEFAULT/config_source", "DEFAULT/config_dir", "DEFAULT/config_file"],
          "only the files that are given are read", "server", matters=True),
    Topic(["cors/allow_methods", "cors/allow_headers", "cors/expose_headers"],
          "these lists are fixed here, they are what the API needs", "cors"),
    Topic(["keystone_authtoken/enforce_token_bind"], "tokens that are bound are not supported",
          "auth", matters=True, unless=("disabled", "permissive")),
    Topic(["keystone_authtoken/service_type"], "access rules are those for the service image",
          "auth", unless=("", "image")),
    Topic(["oslo_policy/remote_*"], "rules that ask another server have no options here",
          "policy"),
    Topic(["oslo_policy/policy_default_rule"], "the rule for rules that are not there has no other"
          " name here", "policy", matters=True, unless=("", "default")),
    Topic(["database/slave_connection", "database/asyncio_*connection"],
          "not supported, a second database for reading", "database"),
    Topic(["oslo_limit/*"], "limits are asked for with the credentials of auth.keystone", "limits"),
    Topic(["DEFAULT/http_retries"], "not supported, more tries where a location is read once",
          "locations"),
    Topic(["DEFAULT/metadata_encryption_key"], "encrypted locations are not supported", "locations",
          matters=True, unless=("",)),
    Topic(["DEFAULT/enabled_import_methods"], "not supported yet, importing images", "import",
          matters=True, unless=("", "[]")),
    Topic(["image_import_opts/image_import_plugins"],
          "not supported yet, what is done to imported images", "import", matters=True,
          unless=("", "[]", "[no_op]", "['no_op']", '["no_op"]')),
    Topic(["DEFAULT/node_staging_uri", "image_import_opts/*",
           "import_filtering_opts/*", "image_conversion/*", "inject_metadata_properties/*",
           "glance_download_properties/*", "glance_download_opts/*", "os_glance_staging_store/*",
           "os_glance_tasks_store/*", "DEFAULT/max_parallel_stores"],
          "not supported yet, importing images", "import"),
    Topic(["task/*", "taskflow_executor/*", "wsgi/task_pool_threads", "DEFAULT/task_*"],
          "not supported yet, tasks", "import"),
    Topic(["DEFAULT/delayed_delete"], "not supported yet, deleting data later", "stores",
          matters=True, unless=_NO),
    Topic(["DEFAULT/scrub_*", "DEFAULT/wakeup_time", "DEFAULT/daemon", "DEFAULT/restore",
           "DEFAULT/cleanup_scrubber*"],
          "not supported yet, deleting data later", "stores"),
    Topic(["DEFAULT/image_cache_*", "DEFAULT/cache_prefetcher_interval"],
          "not supported yet, the cache of images", "transfer"),
    Topic(["oslo_messaging_notifications/driver", "DEFAULT/notification_driver"],
          "not supported yet, notifications", "logging", matters=True, unless=("", "noop")),
    Topic(["DEFAULT/transport_url", "DEFAULT/rpc_*", "DEFAULT/control_exchange",
           "DEFAULT/disabled_notifications", "DEFAULT/default_publisher_id",
           "DEFAULT/executor_thread_pool_size", "DEFAULT/notification_topics",
           "oslo_messaging_*/*"],
          "not supported yet, notifications", "logging"),
    Topic(["profiler/*", "profiler_*/*", "oslo_middleware_tracing/*"], "not supported yet, tracing",
          "logging"),
    Topic(["healthcheck/*"], "not supported, other health checks", "healthcheck",
          unless=("disable_by_file", *_NO)),
    Topic(["oslo_middleware/max_request_body_size"], "api.max_body is something else: it limits"
          " JSON documents", "api"),
    Topic(["DEFAULT/use_syslog", "DEFAULT/use_journal", "DEFAULT/use_eventlog"],
          "there are other ways to the journal: log to standard output under systemd", "logging",
          unless=_NO),
    Topic(["DEFAULT/log*", "DEFAULT/syslog_*", "DEFAULT/use_stderr", "DEFAULT/default_log_levels",
           "DEFAULT/max_logfile_*", "DEFAULT/instance*_format", "DEFAULT/rate_limit_*",
           "DEFAULT/publish_errors", "DEFAULT/fatal_deprecations", "DEFAULT/verbose"],
          "logs have one form here", "logging"),
)  # fmt: skip

_NOT_NEEDED: Sequence[Topic] = (
    Topic(["keystone_authtoken/memcache*"], "each process remembers tokens by itself"),
    Topic(["keystone_authtoken/cache", "keystone_authtoken/delay_auth_decision",
           "keystone_authtoken/include_service_catalog", "keystone_authtoken/http_request_*",
           "keystone_authtoken/auth_version"], "is not needed"),
    Topic(["keystone_authtoken/interface", "keystone_authtoken/region_name"],
          "Keystone is asked at auth.keystone.url"),
    Topic(["database/*"], "is not needed: connections are kept, tried and renewed anyway"),
    Topic(["oslo_concurrency/*"], "there are no files with locks"),
    Topic(["oslo_reports/*"], "is not needed"),
    Topic(["paste_deploy/*"], "is what was given"),
    Topic(["*/filesystem_store_chunk_size", "*/filesystem_store_thread*"],
          "is not needed: transfer.* holds for all stores"),
    Topic(["DEFAULT/digest_algorithm", "DEFAULT/pydev_worker_debug_*", "wsgi/python_interpreter",
           "DEFAULT/owner_is_tenant", "DEFAULT/enable_v1_*", "DEFAULT/enable_v2_*",
           "DEFAULT/enable_v3_*", "DEFAULT/data_api", "DEFAULT/registry_*"],
          "is not needed"),
)  # fmt: skip


def keep_the_rest(conversion: Conversion) -> None:
    """Keep every option that was not converted as a comment."""
    owner = conversion.given.find("DEFAULT/owner_is_tenant")
    if owner is not None and owner.text.lower() in _NO:
        conversion.wrong(owner, "images belong to projects, and not to users; in Glance, too")
    elif owner is not None:
        conversion.ignore(owner, "is always so")
    rest = list(conversion.given.rest())
    for topic in _LATER:
        mine = [one for one in rest if topic.has(one)]
        rest = [one for one in rest if one not in mine]
        changing = [one for one in mine if one.text.lower() not in topic.unless]
        for one in mine:
            if one not in changing:
                conversion.ignore(one, "is the same here")
        conversion.keep(topic.section, changing, topic.said, topic.matters)
    for topic in _NOT_NEEDED:
        for one in [one for one in rest if topic.has(one)]:
            conversion.ignore(one, topic.said)
            rest.remove(one)
    _keep_unknown(conversion, rest)
    _write_ignored(conversion)


def _keep_unknown(conversion: Conversion, rest: Sequence[Assignment]) -> None:
    conversion.keep("logging", rest, "not known, or of no effect in Glance either")


def _write_ignored(conversion: Conversion) -> None:
    overridden = [(one, f"is overridden by {by.place}") for one, by in conversion.given.overridden]
    conversion.ignored += overridden
    for one, reason in conversion.ignored:
        conversion.quote("logging", "Not needed here:", one, f"{reason}; ")
