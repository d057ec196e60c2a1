"""`imgservice convert-config`, on files as operators of Glance have them."""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg, iniparser

from imgservice.cli import main
from imgservice.config.loader import parse
from imgservice.config.sections import Config
from imgservice.config.sections.api import ApiOptions
from imgservice.config.sections.formats import FormatsOptions
from imgservice.config.sections.limits import LimitsOptions
from imgservice.glance_config import ini
from tests.examples import examples
from tests.keystone import PASSWORD, Keystone
from tests.process.certificates import write_certificate
from tests.real.client import Client
from tests.real.commands import run_command
from tests.real.service import IMGSERVICE, Service

PASTE = """
[composite:glance-api]
paste.composite_factory = glance.api:root_app_factory
/: api
/healthcheck: healthcheck
[composite:glance-api-mine]
paste.composite_factory = glance.api:root_app_factory
/: api
[composite:api]
paste.composite_factory = glance.api:pipeline_factory
default = cors http_proxy_to_wsgi versionnegotiation unauthenticated-context rootapp
mine = cors versionnegotiation authtoken context audit rootapp
[pipeline:glance-api-people]
pipeline = cors people context
    rootapp
[pipeline:glance-api-small]
pipeline = cors smaller people context rootapp
[filter:smaller]
paste.filter_factory = glance.api.middleware.gzip:GzipMiddleware.factory
[filter:people]
paste.filter_factory = oslo_middleware.basic_auth:BasicAuthMiddleware.factory
http_basic_auth_user_file = /etc/glance/htpasswd
[filter:unauthenticated-context]
paste.filter_factory = glance.api.middleware.context:UnauthenticatedContextMiddleware.factory
[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
delay_auth_decision = true
username = of-the-filter
[filter:audit]
paste.filter_factory = keystonemiddleware.audit:filter_factory
[app:healthcheck]
paste.app_factory = oslo_middleware:Healthcheck.app_factory
backends = disable_by_file
disable_by_file_path = /etc/glance/off
"""
LEAST = """
[DEFAULT]
bind_host = 127.0.0.1
[database]
connection = sqlite:////var/lib/glance/glance.db
[paste_deploy]
flavor = keystone
[keystone_authtoken]
auth_url = https://keystone.example:5000
username = glance
password = made-up-secret
"""
"""What every Glance has; all of it can be converted."""


@attrs.frozen
class Lab:
    """A directory with Glance's files."""

    path: Path

    def write(self, name: str, text: str) -> Path:
        (self.path / name).write_text(text)
        return self.path / name

    def run(self, text: str, *more: object) -> Result:
        return run(self.write("glance-api.conf", text), *more)

    def convert(self, text: str, *more: object, code: int = 0) -> Any:
        """Convert what every Glance has and `text`; return what our file says."""
        found = self.run(LEAST + text, *more)
        assert found.exit_code == code, found.stderr
        return yaml.safe_load(found.stdout)

    def mistakes(self, text: str, *more: object) -> str:
        found = self.run(LEAST + text, *more)
        assert found.exit_code == 1, found.stdout
        assert found.stdout == ""
        return found.stderr.replace(str(self.path), "")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["convert-config", *map(str, arguments)])


def comments(result: Result) -> str:
    return "\n".join(line for line in result.stdout.splitlines() if line.startswith("#"))


# -- options and their keys -----------------------------------------------------------------------


def test_database(lab: Lab) -> None:
    found = lab.convert(
        "[database]\nconnection = mysql+pymysql://glance:pw@db/glance?charset=utf8\n"
        "max_pool_size = 20\nmax_overflow = 30\npool_timeout = 12\nmax_retries = -1\n"
    )
    url = "mysql+pymysql://glance:pw@db/glance?charset=utf8"
    assert found["database"] == {"url": url, "pool": 20, "pool_timeout": 12}


@pytest.mark.parametrize(
    ("size", "overflow", "pool"), [(1, 1000, 10), (2, 1, 3), (0, 50, 10), (30, -1, 30)]
)
def test_no_more_connections_than_glance_has(lab: Lab, size: int, overflow: int, pool: int) -> None:
    found = lab.convert(f"[database]\nmax_pool_size = {size}\nmax_overflow = {overflow}\n")
    assert found["database"]["pool"] == pool


@pytest.mark.parametrize("flavor", ["keystone", "keystone+caching", "keystone+cachemanagement"])
def test_flavor_with_keystone(lab: Lab, flavor: str) -> None:
    found = lab.run(f"{LEAST}[paste_deploy]\nflavor = {flavor}\n")
    assert yaml.safe_load(found.stdout)["auth"]["mode"] == "keystone"
    assert ("the filter cache." in comments(found)) == ("cach" in flavor)


def test_flavor_without_authentication(lab: Lab) -> None:
    found = lab.run("[database]\nconnection = sqlite:////glance.db\n")
    assert found.exit_code == 3
    assert yaml.safe_load(found.stdout)["auth"] == {"mode": "none"}
    assert "not converted: Glance authenticated nobody." in found.stderr


def test_what_the_service_would_refuse_is_told(lab: Lab) -> None:
    found = lab.run("[DEFAULT]\nbind_host = 0.0.0.0\n[database]\nconnection = sqlite:////g.db\n")
    assert yaml.safe_load(found.stdout)["server"]["listen"] == ["tcp:9292:interface=0.0.0.0"]
    assert "the service would not start with this configuration: server.listen[0]: " in found.stderr


def test_flavor_of_a_paste_file(lab: Lab) -> None:
    paste = lab.write("paste.ini", PASTE)
    found = lab.convert("[paste_deploy]\nflavor = people\n", paste)
    assert found["auth"]["mode"] == "basic"
    assert found["auth"]["basic"] == {"file": "/etc/glance/htpasswd"}


def test_options_of_filters_win_and_unknown_filters_are_told(lab: Lab) -> None:
    paste = lab.write("paste.ini", PASTE)
    found = lab.run(f"{LEAST}[paste_deploy]\nflavor = mine\n", paste)
    assert found.exit_code == 3
    assert yaml.safe_load(found.stdout)["auth"]["keystone"]["username"] == "of-the-filter"
    assert "not converted: The filter audit of Glance's pipeline is not known." in found.stderr


def test_keystone(lab: Lab) -> None:
    found = lab.convert(
        "[keystone_authtoken]\nauth_type = v3password\nproject_name = services\n"
        "user_domain_name = Users\nproject_domain_id = 17\nwww_authenticate_uri = https://k/\n"
        "cafile = /etc/ssl/ca.pem\nhttp_connect_timeout = 7\ntoken_cache_time = -1\n"
        "service_token_roles = service,admin\nservice_token_roles_required = False\n"
        "memcached_servers = one:11211,two:11211\ndelay_auth_decision = true\n"
    )
    assert found["auth"]["keystone"] == {
        "url": "https://keystone.example:5000",
        "username": "glance",
        "password": "made-up-secret",
        "project": "services",
        "user_domain": "Users",
        "project_domain_id": "17",
        "www_authenticate_uri": "https://k/",
        "ca_file": "/etc/ssl/ca.pem",
        "timeout": 7,
        "cache_time": 0,
        "service_token_roles": ["service", "admin"],
        "service_token_roles_required": False,
    }


def test_keystone_with_an_application_credential_in_another_section(lab: Lab) -> None:
    found = lab.convert(
        "[keystone_authtoken]\nauth_section = elsewhere\n"
        "[elsewhere]\nauth_type = v3applicationcredential\nauth_url = https://other.example\n"
        "application_credential_id = abc\napplication_credential_secret = hush\n"
    )
    keystone = found["auth"]["keystone"]
    assert keystone["url"] == "https://other.example"
    assert keystone["application_credential_id"] == "abc"
    assert keystone["application_credential_secret"] == "hush"


def test_keystone_domains_and_scopes(lab: Lab) -> None:
    found = lab.convert(
        "[keystone_authtoken]\nsystem_scope = all\ndefault_domain_id = d\nuser_domain_name = U\n"
    )
    keystone = found["auth"]["keystone"]
    assert keystone["project"] is None
    assert (keystone["user_domain"], keystone["project_domain_id"]) == ("U", "d")


def test_gzip(lab: Lab) -> None:
    paste = lab.write("paste.ini", PASTE)
    found = lab.convert("[paste_deploy]\nflavor = small\n", paste)
    assert found["pipeline"] == ["gzip", *Config().pipeline]


def test_keystone_in_ways_that_we_do_not_know(lab: Lab) -> None:
    found = lab.run(f"{LEAST}user_id = 1234\nauth_type = v3kerberos\n")
    assert found.exit_code == 3
    assert "[keystone_authtoken] auth_type: Keystone is asked with" in found.stderr
    assert "[keystone_authtoken] auth_type = v3kerberos" in comments(found)


def test_stores(lab: Lab) -> None:
    found = lab.convert(
        "[DEFAULT]\nenabled_backends = fast:file, big.one:file, web:http\n"
        "[glance_store]\ndefault_backend = fast\nstores = file\n"
        "[fast]\nfilesystem_store_datadir = /srv/fast\nfilesystem_store_file_perm = 640\n"
        "filesystem_thin_provisioning = true\nstore_description = All flash\nweight = 7\n"
        "[big.one]\nfilesystem_store_datadirs = /srv/a:200\nfilesystem_store_datadirs = /srv/b\n"
        "[web]\nhttps_insecure = true\n"
    )
    assert found["default_store"] == "fast"
    assert "single_store" not in found
    assert found["stores"] == {
        "fast": {
            "type": "file",
            "description": "All flash",
            "weight": 7,
            "path": "/srv/fast",
            "file_mode": "0640",
            "thin": True,
        },
        "big.one": {"type": "file", "paths": {"/srv/a": 200, "/srv/b": 0}},
        "web": {"type": "http", "verify": False},
    }


def test_stores_without_names(lab: Lab) -> None:
    assert lab.convert("")["stores"] == {
        "file": {"type": "file", "path": "/var/lib/glance/images"},
        "http": {"type": "http", "verify": True},
    }
    found = lab.convert("[glance_store]\nstores = filesystem\nfilesystem_store_datadir = /srv/i\n")
    assert found["stores"] == {"file": {"type": "file", "path": "/srv/i"}}
    assert (found["default_store"], found["single_store"]) == ("file", True)
    assert lab.convert("[DEFAULT]\nenabled_backends =\n")["single_store"] is True


def test_stores_that_are_not_supported(lab: Lab) -> None:
    found = lab.run(
        f"{LEAST}[DEFAULT]\nenabled_backends = ceph:rbd, disk:file\n"
        "[glance_store]\ndefault_backend = ceph\n[ceph]\nrbd_store_pool = images\n"
    )
    assert found.exit_code == 3
    assert yaml.safe_load(found.stdout)["default_store"] == "disk"
    assert "[ceph] rbd_store_pool = images" in comments(found)
    assert "new images go to the store ceph" in found.stderr
    only = lab.run(f"{LEAST}[glance_store]\nstores = cinder\ncinder_store_password = hush\n")
    assert only.exit_code == 3
    assert "None of Glance's stores can take data here." in only.stderr
    assert "[glance_store] cinder_store_password = hush" in comments(only)


def test_stores_in_s3(lab: Lab) -> None:
    authorities = lab.path / "ca.pem"
    write_certificate(authorities, lab.path / "key.pem")
    found = lab.run(
        f"{LEAST}[DEFAULT]\nenabled_backends = near:s3, far:s3\n"
        "[glance_store]\ndefault_backend = near\n"
        "[near]\ns3_store_host = https://s3.example:9000\ns3_store_access_key = AKIA\n"
        "s3_store_secret_key = hush\ns3_store_bucket = images\ns3_store_region_name = eu-west-1\n"
        "s3_store_create_bucket_on_put = true\ns3_store_bucket_url_format = path\n"
        "s3_store_large_object_size = 50\ns3_store_large_object_chunk_size = 6000\n"
        "s3_store_thread_pools = 200\ns3_store_cacert =\n"
        "s3_store_enable_data_integrity_protection = true\n"
        "s3_store_request_checksum_calculation = when_supported\n"
        "s3_store_something_new = 1\n"
        "[far]\ns3_store_host = s3-eu-west-1.amazonaws.com\ns3_store_access_key = AKIA\n"
        "s3_store_secret_key = hush\ns3_store_bucket = other\ns3_store_large_object_size = 0\n"
        f"s3_store_cacert = {authorities}\ns3_store_request_checksum_calculation = when_supported\n"
    )
    converted = yaml.safe_load(found.stdout)
    assert converted["default_store"] == "near"
    assert converted["stores"] == {
        "near": {
            "type": "s3",
            "host": "https://s3.example:9000",
            "access_key": "AKIA",
            "secret_key": "hush",
            "bucket": "images",
            "region": "eu-west-1",
            "create_bucket": True,
            "addressing": "path",
            "multipart_from": "50MiB",
            "part_size": "5120MiB",
            "connections": 100,
            "checksums": {"request": "when_supported"},
        },
        "far": {
            "type": "s3",
            "host": "https://s3-eu-west-1.amazonaws.com",
            "access_key": "AKIA",
            "secret_key": "hush",
            "bucket": "other",
            "multipart_from": 0,
            "ca_file": str(authorities),
        },
    }
    assert "set legacy_uri: true" in found.stderr
    assert "[near] s3_store_something_new = 1" in comments(found)
    missing = lab.run(f"{LEAST}[glance_store]\nstores = s3\ns3_store_host = http://s3.example\n")
    assert "[glance_store] s3_store_bucket: is not set" in missing.stderr


def test_staging(lab: Lab) -> None:
    found = lab.run(
        f"{LEAST}[DEFAULT]\nnode_staging_uri = file:///srv/staging\n"
        "worker_self_reference_url = http://one:9292\n"
    )
    assert found.exit_code == 0
    assert "[DEFAULT] node_staging_uri = file:///srv/staging" in comments(found)
    assert yaml.safe_load(found.stdout)["node"] == {"url": "http://one:9292"}


@pytest.mark.parametrize(("methods", "code"), [("[]", 0), ("[glance-direct,web-download]", 3)])
def test_import_methods(lab: Lab, methods: str, code: int) -> None:
    found = lab.run(f"{LEAST}[DEFAULT]\nenabled_import_methods = {methods}\n")
    assert found.exit_code == code
    assert f"enabled_import_methods = {methods}" in comments(found)


def test_import_filter(lab: Lab) -> None:
    found = lab.convert(
        "[import_filtering_opts]\nallowed_schemes = [https]\ndisallowed_schemes = []\n"
        'allowed_hosts = [a.example, "b.example"]\ndisallowed_hosts =\n'
        "allowed_ports = 443,8443\ndisallowed_ports = [22]\n"
    )
    assert found["import"]["filter"] == {
        "allowed_schemes": ["https"],
        "disallowed_schemes": [],
        "allowed_hosts": ["a.example", "b.example"],
        "disallowed_hosts": [],
        "allowed_ports": [443, 8443],
        "disallowed_ports": [22],
    }


def test_import_plugins(lab: Lab) -> None:
    more = lab.write(
        "glance-image-import.conf",
        "[image_import_opts]\nimage_import_plugins = [image_conversion]\n"
        "[image_conversion]\noutput_format = raw\n"
        "[inject_metadata_properties]\ninject = a:b\nignore_user_roles = admin\n",
    )
    found = lab.run(LEAST, more)
    assert found.exit_code == 3
    assert f"{more}:2: [image_import_opts] image_import_plugins" in found.stderr
    assert "[image_conversion] output_format = raw" in comments(found)
    assert "[inject_metadata_properties] inject = a:b" in comments(found)


def test_parallel_stores(lab: Lab) -> None:
    found = lab.run(f"{LEAST}[DEFAULT]\nmax_parallel_stores = 3\n")
    assert "[DEFAULT] max_parallel_stores = 3" in comments(found)


def test_locations(lab: Lab) -> None:
    found = lab.convert(
        "[DEFAULT]\nshow_image_direct_url = yes\nshow_multiple_locations = 1\n"
        "do_secure_hash = off\n"
    )
    assert found["locations"] == {"direct_url": True, "show": True, "secure_hash": False}


def test_public_url(lab: Lab) -> None:
    found = lab.convert("[DEFAULT]\npublic_endpoint = https://images.example\n")
    assert found["server"]["public_url"] == "https://images.example"


def test_proxies_must_be_listed(lab: Lab) -> None:
    found = lab.run(f"{LEAST}[oslo_middleware]\nenable_proxy_headers_parsing = true\n")
    assert found.exit_code == 3
    assert "list your proxies in server.trusted_proxies" in found.stderr


def test_limits(lab: Lab) -> None:
    found = lab.convert(
        "[DEFAULT]\nimage_size_cap = 1000\nuser_storage_quota = 5GB\nimage_member_quota = 1\n"
        "image_property_quota = -5\nimage_tag_quota = 3\nimage_location_quota = 0\n"
    )
    assert found["limits"] == {
        "image_size": 1000,
        "user_storage": "5GiB",
        "members": 1,
        "properties": -1,
        "tags": 3,
        "locations": 0,
    }


def test_limits_of_keystone(lab: Lab) -> None:
    found = lab.convert(
        "[DEFAULT]\nuse_keystone_limits = True\nuser_storage_quota = 5GB\n"
        "[oslo_limit]\nendpoint_id = abc\nendpoint_service_name = glance\n"
        "endpoint_region_name = North\nauth_url = https://keystone.example\npassword = hush\n"
    )
    keystone = {"enabled": True, "endpoint_id": "abc", "service": "glance", "region": "North"}
    assert found["limits"] == {"keystone": keystone}


def test_pages(lab: Lab) -> None:
    found = lab.convert("[DEFAULT]\nlimit_param_default = 5\napi_limit_max = 50\n")
    assert found["api"] == {"page_default": 5, "page_max": 50}
    cut = lab.convert("[DEFAULT]\napi_limit_max = 10\n")
    assert cut["api"] == {"page_default": 10, "page_max": 10}


def test_hash(lab: Lab) -> None:
    found = lab.run(f"{LEAST}[DEFAULT]\nhashing_algorithm = sha256\nhttp_retries = 9\n")
    assert yaml.safe_load(found.stdout)["hash"] == {"algorithm": "sha256"}
    assert "[DEFAULT] http_retries = 9" in comments(found)


def test_formats(lab: Lab) -> None:
    found = lab.convert(
        "[DEFAULT]\ndisk_formats = raw\n[image_format]\ncontainer_formats = bare,docker\n"
        "require_image_format_match = false\nvmdk_allowed_types = streamOptimized\n"
        "gpt_safety_checks_nonfatal = mbr\n"
    )
    assert found["formats"] == {
        "disk": ["raw"],
        "container": ["bare", "docker"],
        "require_match": False,
        "vmdk_types": ["streamOptimized"],
        "gpt_safety_checks_nonfatal": ["mbr"],
    }


def kept(lab: Lab, text: str, code: int) -> None:
    """See that every option of the text is a comment, under the right exit code."""
    found = lab.run(LEAST + text)
    assert found.exit_code == code
    for line in text.splitlines():
        assert line.startswith("[") or line in comments(found)


def test_cache(lab: Lab) -> None:
    kept(
        lab,
        "[DEFAULT]\nimage_cache_dir = /srv/cache\nimage_cache_max_size = 10\n"
        "image_cache_stall_time = 60\nimage_cache_driver = sqlite\n",
        code=0,
    )


@pytest.mark.parametrize(("delayed", "code"), [("True", 3), ("False", 0)])
def test_scrubber(lab: Lab, delayed: str, code: int) -> None:
    more = "scrub_time = 5\nscrub_pool_size = 2\nwakeup_time = 300\n"
    kept(lab, f"[DEFAULT]\ndelayed_delete = {delayed}\n{more}", code)


def test_tasks(lab: Lab) -> None:
    kept(
        lab,
        "[task]\ntask_time_to_live = 48\nwork_dir = /w\n[taskflow_executor]\nmax_workers = 10\n"
        "[wsgi]\ntask_pool_threads = 16\n",
        code=0,
    )


def test_property_protections(lab: Lab) -> None:
    rules = lab.write("protections.conf", "[.*]\ncreate = @\nread = @\nupdate = @\ndelete = @\n")
    found = lab.convert(
        "[DEFAULT]\nproperty_protection_file = protections.conf\n"
        "property_protection_rule_format = policies\n"
    )
    wanted = {"format": "policies", "file": str(rules)}
    assert found["policy"]["property_protections"] == wanted


def test_policies(lab: Lab) -> None:
    rules = lab.write("rules.yaml", "{}")
    (lab.path / "more.d").mkdir()
    found = lab.convert(
        "[oslo_policy]\npolicy_file = rules.yaml\npolicy_dirs = more.d\npolicy_dirs = none.d\n"
        "enforce_scope = false\nenforce_new_defaults = False\n"
    )
    assert found["policy"] == {
        "enforce_new_defaults": False,
        "enforce_scope": False,
        "file": str(rules),
        "dirs": [str(lab.path / "more.d")],
    }


def test_files_that_glance_reads_without_being_told(lab: Lab) -> None:
    rules, schema = lab.write("policy.yaml", "{}"), lab.write("schema-image.json", "{}")
    found = lab.convert("")
    assert found["policy"]["file"] == str(rules)
    assert found["api"]["schema_file"] == str(schema)


@pytest.mark.parametrize(("driver", "code"), [("messagingv2", 3), ("noop", 0)])
def test_notifications(lab: Lab, driver: str, code: int) -> None:
    kept(
        lab,
        f"[oslo_messaging_notifications]\ndriver = {driver}\n[DEFAULT]\n"
        "transport_url = rabbit://a:b@c//\ndisabled_notifications = image.update\n"
        "default_publisher_id = image.one\n[oslo_messaging_rabbit]\nrabbit_quorum_queue = true\n",
        code,
    )


def test_cors_health_and_profiler(lab: Lab) -> None:
    text = (
        "[cors]\nallowed_origin = https://a.example,https://b.example\nallow_credentials = false\n"
        "max_age = 60\n[healthcheck]\ndisable_by_file_path = /srv/off\n"
    )
    found = lab.convert(text)
    origins = ["https://a.example", "https://b.example"]
    cors = {"allowed_origins": origins, "allow_credentials": False, "max_age": 60}
    assert found["cors"] == cors
    assert found["healthcheck"] == {"disable_by_file": "/srv/off"}
    kept(lab, "[profiler]\nenabled = true\nhmac_keys = a\n[healthcheck]\ndetailed = true\n", 0)


def test_health_check_of_the_paste_file(lab: Lab) -> None:
    paste = lab.write("paste.ini", PASTE)
    found = lab.run("[database]\nconnection = sqlite:////glance.db\n", paste)
    assert yaml.safe_load(found.stdout)["healthcheck"] == {"disable_by_file": "/etc/glance/off"}


def test_anonymous_access_and_the_rest(lab: Lab) -> None:
    found = lab.convert("[DEFAULT]\nallow_anonymous_access = true\nmax_request_id_length = 99\n")
    assert found["auth"]["anonymous_read"] is True
    assert found["api"] == {"max_request_id": 99}
    kept(lab, "[glance_download_properties]\nextra_properties = [hw_]\n", 0)


def test_server(lab: Lab) -> None:
    found = lab.convert(
        "[DEFAULT]\nbind_host = ::1\nbind_port = 9999\nbacklog = 5\ntcp_keepidle = 60\n"
        "max_header_line = 32768\nclient_socket_timeout = 30\ncert_file = /c\nkey_file = /k\n"
        "ca_file = /a\nworkers = 3\numask = 022\nhttp_keepalive = false\n"
    )
    assert found["server"] == {
        "listen": [r"tcp6:9999:interface=\:\:1"],
        "tls": {"certificate": "/c", "key": "/k", "client_ca": "/a"},
        "backlog": 5,
        "tcp_keepidle": 60,
        "max_header_line": 32768,
        "idle_timeout": 30,
        "workers": 3,
        "keepalive": False,
        "umask": "022",
    }
    assert lab.convert("[DEFAULT]\nworkers = 0\n")["server"]["workers"] == 0


def test_logging(lab: Lab) -> None:
    found = lab.convert(
        "[DEFAULT]\ndebug = true\nuse_json = true\nlog_dir = /l\nlog_file = g.log\n"
    )
    assert found["logging"] == {"level": "debug", "format": "json", "file": "/l/g.log"}


# -- what has to hold for all options -------------------------------------------------------------


def test_later_files_and_directories_win(lab: Lab) -> None:
    (lab.path / "conf.d").mkdir()
    lab.write("conf.d/b.conf", "[DEFAULT]\napi-limit-max = 300\n")
    lab.write("conf.d/a.conf", "[default]\napi_limit_max = 200\n")
    lab.write("conf.d/c.txt", "[DEFAULT]\napi_limit_max = 400\n")
    second = lab.write("second.conf", "[DEFAULT]\napi_limit_max = 100\nimage_tag_quota = 1\n")
    text = f"{LEAST}[DEFAULT]\nimage_tag_quota = 2\n"
    found = lab.run(text, second, "--config-dir", lab.path / "conf.d")
    assert yaml.safe_load(found.stdout)["api"]["page_max"] == 300
    assert yaml.safe_load(found.stdout)["limits"]["tags"] == 1
    assert f"api_limit_max = 100  (is overridden by {lab.path}/conf.d/b.conf:2" in comments(found)


def test_references(lab: Lab) -> None:
    found = lab.convert(
        "[DEFAULT]\nmine = /srv/${Other.name}$$\n"
        "[other]\nname = $inner\ninner = a\n[glance_store]\n"
        "filesystem_store_datadir = $mine/\\$x\n"
    )
    assert found["stores"]["file"]["path"] == "/srv/a$/$x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[DEFAULT]\nimage_size_cap = much\n", "[DEFAULT] image_size_cap: expected a whole number"),
        ("[DEFAULT]\napi_limit_max = 0\n", "expected a whole number of at least 1, got '0'"),
        ("[DEFAULT]\nshow_image_direct_url = maybe\n", "expected true or false, got 'maybe'"),
        ("[DEFAULT]\nuser_storage_quota = 5 GB\n", "expected a size such as 10GB"),
        ("[DEFAULT]\nhashing_algorithm = crc32\n", "hash.algorithm: expected one of sha512"),
        ("[DEFAULT]\nenabled_backends = a\n", "expected name:value, got 'a'"),
        ("[DEFAULT]\nenabled_backends = a:file,a:http\n", "'a' is there twice"),
        ("[DEFAULT]\nenabled_backends = a:file,b:http\n", "default_backend must name one of them"),
        ("[DEFAULT]\nenabled_backends = os_glance_x:file\n", "os_glance_ are reserved"),
        ("[DEFAULT]\ncert_file = /c\n", "cert_file and key_file need each other"),
        ("[DEFAULT]\nowner_is_tenant = false\n", "images belong to projects"),
        ("[DEFAULT]\npublic_endpoint = $nowhere\n", "refers to $nowhere, which is not set"),
        ("[DEFAULT]\na = $b\nb = $a\npublic_endpoint = $a\n", "which refers back to it"),
        (
            "[DEFAULT]\n" + "".join(f"a{n} = $a{n + 1}\n" for n in range(2000)) + "a2000 = x\n"
            "public_endpoint = $a0\n",
            "refers to others more than 50 deep",
        ),
        (
            "[DEFAULT]\n"
            + "".join(f"a{n} = $a{n + 1}$a{n + 1}\n" for n in range(40))
            + "a40 = x\npublic_endpoint = $a0\n",
            "which is longer than 1048576 characters",
        ),
        ("[glance_store]\ndefault_store = tape\n", "there is no store 'tape' (stores: file, http)"),
        ("[glance_store]\nfilesystem_store_datadir=/a\nfilesystem_store_datadirs=/b\n", "give one"),
        ("[glance_store]\nfilesystem_store_file_perm = 999\n", "expected permissions as in 640"),
        ("[glance_store]\nfilesystem_store_file_perm = 77\n", "the owner could not read files"),
        ("[paste_deploy]\nflavor = sour\n", "the flavor 'sour': is not one of Glance's own"),
        ("[keystone_authtoken]\nauth_url =\n", "needs Keystone, but [keystone_authtoken] auth_url"),
        ("[keystone_authtoken]\ncafile = /a\ninsecure = true\n", "contradicts cafile"),
        (
            "[keystone_authtoken]\nsystem_scope = all\nproject_name = a\n",
            "contradicts project_name",
        ),
        ("[database]\nconnection = oracle://a:hush@b/c\n", "The database URL begins with oracle"),
        ("[import_filtering_opts]\nallowed_ports = [http]\n", "expected a whole number"),
        ("[import_filtering_opts]\nallowed_hosts = [a\n", "expected a list, or one in brackets"),
        ("nonsense\n", "neither a section nor"),
    ],
)
def test_mistakes(lab: Lab, text: str, said: str) -> None:
    told = lab.mistakes(text)
    assert said in told
    assert "imgservice: /glance-api.conf:" in told
    assert "hush" not in told


def test_all_mistakes_are_told_with_their_places(lab: Lab) -> None:
    told = lab.mistakes("[DEFAULT]\nimage_tag_quota = a\nbacklog = b\n").splitlines()
    first = LEAST.count("\n") + 2
    assert told[0].startswith(f"imgservice: /glance-api.conf:{first + 1}: [DEFAULT] backlog: ")
    assert told[1].startswith(f"imgservice: /glance-api.conf:{first}: [DEFAULT] image_tag_quota: ")


def test_parts_of_passwords_are_not_told(lab: Lab) -> None:
    told = lab.mistakes("[keystone_authtoken]\npassword = be$fore\n")
    assert "[keystone_authtoken] password: refers to what is not set" in told
    assert "fore" not in told


def test_secrets_in_the_output_are_told(lab: Lab) -> None:
    found = lab.run(f"{LEAST}[DEFAULT]\ntransport_url = rabbit://a:hush@b//\n")
    assert "contains a secret" in found.stderr
    assert "made-up-secret" in found.stdout
    assert "made-up-secret" not in found.stderr
    assert "hush" not in found.stderr


def test_secrets_in_files_of_their_own(lab: Lab) -> None:
    folder = lab.path / "secrets"
    text = f"{LEAST}[DEFAULT]\ntransport_url = rabbit://a:hush@b//\nother_password = hushhush\n"
    found = lab.run(text, "--secrets-to", folder)
    assert found.exit_code == 0, found.stderr
    assert "hush" not in found.stdout + found.stderr
    assert "made-up-secret" not in found.stdout + found.stderr
    file = folder / "keystone_authtoken-password"
    assert yaml.safe_load(found.stdout)["auth"]["keystone"]["password"] == {"file": str(file)}
    assert file.read_text() == "made-up-secret\n"
    assert {path.name for path in folder.iterdir()} == {
        "keystone_authtoken-password",
        "database-connection",
        "DEFAULT-transport_url",
        "DEFAULT-other_password",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert lab.run(text, "--secrets-to", folder).exit_code == 0
    file.write_text("somebody else's\n")
    again = lab.run(text, "--secrets-to", folder)
    assert again.exit_code == 1
    assert "is there already, with other content" in again.stderr
    assert file.read_text() == "somebody else's\n"


def test_mistakes_write_no_secrets(lab: Lab) -> None:
    folder = lab.path / "secrets"
    lab.mistakes("[DEFAULT]\nbacklog = b\n", "--secrets-to", folder)
    assert not folder.exists()


def test_unknown_options_are_kept(lab: Lab) -> None:
    found = lab.run(f"{LEAST}[DEFAULT]\nmade_up = a b\n[nobody]\nelse = 1\n   two\n")
    assert found.exit_code == 0
    assert "[DEFAULT] made_up = a b" in comments(found)
    assert '"[nobody] else = 1\\ntwo' in comments(found)


DEFAULTS = """
[DEFAULT]
allow_anonymous_access = False
max_request_id_length = 64
hashing_algorithm = sha512
image_member_quota = 128
image_property_quota = 128
image_tag_quota = 128
image_location_quota = 10
limit_param_default = 25
api_limit_max = 1000
show_image_direct_url = False
show_multiple_locations = False
do_secure_hash = True
image_size_cap = 1099511627776
user_storage_quota = 0
use_keystone_limits = False
property_protection_rule_format = roles
backlog = 4096
tcp_keepidle = 600
max_header_line = 16384
client_socket_timeout = 900
[image_format]
container_formats = ami,ari,aki,bare,ovf,ova,docker,compressed
disk_formats = ami,ari,aki,vhd,vhdx,vmdk,raw,qcow2,vdi,iso,ploop
vmdk_allowed_types = streamOptimized,monolithicSparse
require_image_format_match = True
gpt_safety_checks_nonfatal =
[import_filtering_opts]
allowed_schemes = [http,https]
disallowed_schemes = []
allowed_hosts = []
disallowed_hosts = []
allowed_ports = [80,443]
disallowed_ports = []
[oslo_policy]
enforce_new_defaults = True
enforce_scope = True
[keystone_authtoken]
insecure = False
token_cache_time = 300
service_token_roles = service
service_token_roles_required = True
[cors]
allow_credentials = True
max_age = 3600
"""
"""As Glance 33 has them."""


def test_defaults_of_glance_are_our_defaults(lab: Lab) -> None:
    with_them = lab.run(LEAST + DEFAULTS)
    assert with_them.exit_code == 0
    config = parse(with_them.stdout, "with")
    assert config == parse(lab.run(LEAST).stdout, "without")
    assert (config.limits, config.formats, config.api) == (
        LimitsOptions(),
        FormatsOptions(),
        ApiOptions(),
    )


def test_without_files(lab: Lab) -> None:
    assert run().exit_code == 2
    assert run(lab.path / "nowhere.conf").exit_code == 2


# -- the reader beside that of oslo.config --------------------------------------------------------

LINE = st.one_of(
    st.sampled_from(["[a]", "[A ]", "[]", "[b", "# c", "; c", "", "   ", " more", "=", ":", "k"]),
    st.from_regex(r"[a-c]{1,2} ?[=:] ?['\"]?[a-c$ =:\"'#]{0,6}['\"]?", fullmatch=True),
    st.text(max_size=12),
)


class Theirs(iniparser.BaseParser):
    """oslo.config's parser, with what it adds in its own subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self.section = ""

    def new_section(self, section: str) -> None:
        self.section = section

    def assignment(self, key: str, value: list[str]) -> None:
        if not self.section:
            raise iniparser.ParseError("no section", self.lineno, "")
        self.found.append((self.section, key, "\n".join(value)))


@settings(max_examples=examples(500), deadline=None)
@given(st.lists(LINE, max_size=8))
def test_files_are_read_as_oslo_config_reads_them(lines: list[str]) -> None:
    text = "\n".join(lines).replace("\r", "")
    theirs: Any = Theirs()
    try:
        theirs.parse([f"{line}\n" for line in text.split("\n")])
    except iniparser.ParseError:
        with pytest.raises(ini.IniError, match=r"^f:\d+: "):
            ini.parse(text, "f")
    else:
        ours = [(one.group, one.name, one.text) for one in ini.parse(text, "f")]
        assert ours == theirs.found


VALUE = st.text(alphabet="ab$\\{}. _x", max_size=12)


@settings(max_examples=examples(200), deadline=None)
@given(a=VALUE, b=VALUE, x=VALUE)
def test_references_are_read_as_oslo_config_reads_them(
    tmp_path_factory: pytest.TempPathFactory, a: str, b: str, x: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "references.conf"
    path.write_text(f"[DEFAULT]\na = {a}\nb = {b}\n[x]\nx = {x}\n")
    theirs = cfg.ConfigOpts()
    theirs.register_opts([cfg.StrOpt("a"), cfg.StrOpt("b")])
    theirs.register_opts([cfg.StrOpt("x")], group="x")
    theirs(["--config-file", str(path)])
    given_here = ini.Given(ini.read_files([path], []))
    for group, name in (("DEFAULT", "a"), ("DEFAULT", "b"), ("x", "x")):
        one = given_here.find(f"{group}/{name}")
        assert one is not None
        section = theirs if group == "DEFAULT" else theirs.x
        try:
            wanted = getattr(section, name)
        except Exception:
            with pytest.raises(ini.Unresolved):
                given_here.expand(one)
        else:
            assert given_here.expand(one) == wanted


NAMES = st.sampled_from(
    ["image_size_cap", "enabled_backends", "public_endpoint", "log_file", "made_up", "password",
     "filesystem_store_datadirs", "transport_url", "policy_dirs", "bind_host", "disk_formats"]
)  # fmt: skip
ANYTHING = st.text(max_size=10).filter(lambda text: text.isprintable() or "\n" not in text)


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.tuples(NAMES, ANYTHING), max_size=5))
def test_whatever_is_given_the_output_is_valid_or_there_is_none(
    tmp_path_factory: pytest.TempPathFactory, options: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.conf"
    body = "".join(f"{name} = {value}\n" for name, value in options)
    path.write_text(f"{LEAST}[glance_store]\n{body}[DEFAULT]\n{body}", encoding="utf-8")
    found = run(path)
    assert found.exit_code in (0, 1, 3), found.stderr
    assert isinstance(found.exception, SystemExit | None)
    assert (found.stdout == "") == (found.exit_code == 1)


# -- a whole Glance -------------------------------------------------------------------------------

WHOLE = """
[DEFAULT]
debug = False
bind_host = 127.0.0.1
bind_port = {port}
workers = 2
public_endpoint = https://images.example.org
enabled_backends = local:file, second:file, web:http
image_size_cap = 1000
image_property_quota = 2
image_tag_quota = 3
limit_param_default = 2
api_limit_max = 4
show_image_direct_url = True
show_multiple_locations = True
hashing_algorithm = sha256
enabled_import_methods = []
image_cache_dir = /var/lib/glance/image-cache
transport_url = rabbit://openstack:hush@192.0.2.11:5672//

[database]
connection = sqlite:///{directory}/imgservice.db
connection_recycle_time = 10
max_pool_size = 1
max_overflow = 1000
max_retries = -1

[keystone_authtoken]
www_authenticate_uri = {keystone}
auth_url = {keystone}
memcached_servers = 192.0.2.11:11211
auth_type = password
project_domain_id = default
user_domain_id = default
project_name = service
username = imgservice
password = {password}
service_token_roles_required = True

[paste_deploy]
flavor = keystone

[glance_store]
default_backend = local

[local]
filesystem_store_datadir = {directory}/images

[second]
filesystem_store_datadir = {directory}/second

[os_glance_tasks_store]
filesystem_store_datadir = /var/lib/glance/tasks_work_dir

[image_format]
disk_formats = raw,iso

[oslo_concurrency]
lock_path = /var/lib/glance/tmp

[oslo_messaging_notifications]
driver = noop

[oslo_policy]
policy_file = policy.yaml
"""


@pytest.fixture(scope="module")
def service(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service that runs with what a configuration of Glance's became."""
    directory = tmp_path_factory.mktemp("converted")
    made = Service(directory)
    values: Mapping[str, Any] = {
        "port": made.port,
        "directory": directory,
        "keystone": keystone.auth()["keystone"]["url"],
        "password": PASSWORD,
    }
    glance = directory / "glance-api.conf"
    glance.write_text(WHOLE.format(**values))
    secrets = directory / "secrets"
    found = run_command(IMGSERVICE, "convert-config", glance, "--secrets-to", secrets)
    assert found.returncode == 0, found.stderr
    assert PASSWORD not in found.stdout + found.stderr
    made.config.write_text(found.stdout)
    checked = run_command(IMGSERVICE, "check", "--config", made.config)
    assert checked.returncode == 0, checked.stderr
    try:
        yield made.start()
        made.stop()
    finally:
        made.end()


@pytest.fixture
def admin(keystone: Keystone, service: Service) -> Client:
    return keystone.client(service, "admin")


def test_tokens_are_asked_for(service: Service) -> None:
    assert service.client.get("/v2/images").status == 401


def test_public_endpoint_is_what_links_begin_with(service: Service) -> None:
    [first, *_] = service.client.get("/versions").json()["versions"]
    assert first["links"][0]["href"] == "https://images.example.org/v2/"


def test_sizes_of_pages(admin: Client) -> None:
    ids = {admin.create() for _ in range(5)}
    assert len(admin.get("/v2/images").json()["images"]) == 2
    assert len(admin.get("/v2/images?limit=100").json()["images"]) == 4
    for image_id in ids:
        assert admin.delete(f"/v2/images/{image_id}").status == 204


def test_image_size_cap(admin: Client) -> None:
    image_id = admin.create()
    assert admin.upload(image_id, bytes(1001)).status == 413
    assert admin.upload(image_id, bytes(1000)).status == 204
    shown = admin.get(f"/v2/images/{image_id}").json()
    assert shown["os_hash_algo"] == "sha256"
    assert shown["direct_url"].endswith(f"/images/{image_id}")
    assert shown["locations"][0]["url"] == shown["direct_url"]
    assert shown["stores"] == "local"


def test_quotas(admin: Client) -> None:
    assert admin.post("/v2/images", {"a": "1", "b": "2"}).status == 201
    assert admin.post("/v2/images", {"a": "1", "b": "2", "c": "3"}).status == 413
    assert admin.post("/v2/images", {"tags": ["a", "b", "c", "d"]}).status == 413


def test_disk_formats(admin: Client) -> None:
    document = {"container_format": "bare", "disk_format": "qcow2"}
    assert admin.post("/v2/images", document).status == 400
    assert admin.post("/v2/images", {**document, "disk_format": "iso"}).status == 201


def test_stores_are_glances(admin: Client) -> None:
    stores = admin.get("/v2/info/stores").json()["stores"]
    assert {one["id"] for one in stores} == {"local", "second", "web"}
    assert [one["id"] for one in stores if one.get("default")] == ["local"]
