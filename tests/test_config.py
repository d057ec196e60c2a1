"""The configuration file: what it accepts, and what it says when something is wrong."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from imgservice.commands.check import effective
from imgservice.config.errors import ConfigError
from imgservice.config.loader import load, parse
from imgservice.config.reference import reference
from imgservice.config.sample import sample
from imgservice.config.sections import Config
from imgservice.config.sections.rates import UploadsOptions
from imgservice.config.values import parse_size
from imgservice.domain.rates import ByteRate, Rate
from imgservice.wiring.trial import try_build

ROOT = Path(__file__).parents[1]


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        try_build(parse(text, "x.yaml"))
    return str(caught.value)


def test_an_empty_file_is_all_defaults() -> None:
    assert parse("", "x.yaml") == parse("server:\n", "x.yaml") == load(None) == Config()


def test_the_sample_is_current_and_says_the_defaults() -> None:
    written = (ROOT / "conf" / "imgservice.yaml").read_text()
    assert written == sample(), "run `make config`"
    assert parse(written, "x.yaml") == Config()


def test_the_reference_page_is_current_and_has_every_option() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    assert page == reference(), "run `make config`"
    for option in yaml.safe_load(sample())["server"]:
        assert f"`{option}`" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sever: {}", "x.yaml:1: sever: unknown key; did you mean server?"),
        ("server:\n  listen: 5", "x.yaml:2: server.listen: expected a list, got 5"),
        ("server: {listen: []}", "x.yaml:1: server.listen: must have at least one address"),
        ("server:\n  tls: {certificate: /x}", "x.yaml:2: server.tls.key: is required"),
        (
            "server:\n  tls:\n    {certificate: /x, key: /y, client_auth: optional}",
            "x.yaml:3: server.tls.client_auth: optional needs client_ca",
        ),
        (
            "server: {tls: {certificate: /x, key: /y, min_version: 1.1}}",
            "x.yaml:1: server.tls.min_version: expected one of 1.2, 1.3, got 1.1",
        ),
        (
            "server:\n  tls:\n    certificate: /x\n    key: /y\n    more: [{certificate: /z}]",
            "x.yaml:5: server.tls.more[0].key: is required",
        ),
        ("api: {page_max: true}", "x.yaml:1: api.page_max: expected a whole number, got True"),
        ("api: {page_max: '7'}", "x.yaml:1: api.page_max: expected a whole number, got '7'"),
        ("api: {page_default: 2000}", "x.yaml:1: api.page_default: must be at most api.page_max"),
        ("api: 7", "x.yaml:1: api: expected a mapping, got 7"),
        ("auth: {mode: no}", "x.yaml:1: auth.mode: expected one of none, "),
        ("auth: {anonymous_read: 1}", "anonymous_read: expected true or false, got 1"),
        (
            "limits: {user_storage: 1GB, projects: {default: {image_count_total: 1}}}",
            "x.yaml:1: limits.user_storage: limits.projects is set, too: set only one of them",
        ),
        (
            "limits:\n  projects: {overrides: {p: {}}}\n  keystone: {enabled: true}",
            "x.yaml:3: limits.keystone: limits.projects is set, too: set only one of them",
        ),
        (
            "limits: {keystone: {enabled: true}, user_storage: 5}",
            "limits.user_storage: limits.keystone is set, too: set only one of them",
        ),
        ("limits: {keystone: {enabled: true}}", "auth.keystone.url: is needed by limits.keystone"),
        (
            "limits:\n  projects:\n    overrides:\n      p:\n        image_count_total: -1",
            "x.yaml:5: limits.projects.overrides.p.image_count_total: must be at least 0, or null",
        ),
        (
            "limits: {projects: {default: {image_count_uploading: -5}}}",
            "limits.projects.default.image_count_uploading: must be at least 0, or null",
        ),
        (
            "limits: {projects: {default: {image_size_total: -1}}}",
            "limits.projects.default.image_size_total: expected a size such as 10GiB, got -1",
        ),
        (
            "limits: {projects: {default: {image_size: 1}}}",
            "limits.projects.default.image_size: unknown key; did you mean image_size_total?",
        ),
        (
            "limits: {projects: {overrides: {p: {image_count_total: 1GB}}}}",
            "image_count_total: expected a whole number, got '1GB'",
        ),
        (
            "limits: {projects: {overrides: {7: {}}}}",
            "limits.projects.overrides[7]: expected a string, got 7",
        ),
        ("limits: {image_size: big}", "limits.image_size: expected a size such as 10GiB"),
        ("server: {idle_timeout: -1}", "server.idle_timeout: expected a number of seconds"),
        ("pipeline:\n- version\n- 7", "x.yaml:3: pipeline[1]: expected a string, got 7"),
        ("stores: {a: {path: /x}}", "x.yaml:1: stores.a: a store needs a type"),
        ("stores: {a: {type: tape}}", "stores.a: there is no store type 'tape'"),
        ("stores: {a: {type: file, paht: /x}}", "stores.a.paht: unknown key; did you mean path?"),
        ("stores: {a b: {type: memory}}", "store names consist of letters"),
        ("stores: {os_glance_x: {type: memory}}", "os_glance_ are reserved"),
        ("stores: {a: {type: memory}}", "x.yaml:1: default_store: there is no store 'local'"),
        ("stores: {local: {type: http}}", "default_store: the store 'local' is read-only"),
        ("stores: {a: {type: http, ca_file: /nowhere}}", "/nowhere: cannot be read"),
        ("stores: {a: {type: http, verify: no, ca_file: /dev/null}}", "no meaning without verify"),
        ("import: {filter: {cidrs: [10.0.0.1/8]}}", "cidrs[0]: expected a network"),
        ("import: {filter: {allowed_hosts: ['a b']}}", "allowed_hosts[0]: expected a host"),
        ("import: {filter: {allowed_ports: ['80']}}", "allowed_ports[0]: expected a whole number"),
        ("api: {}\napi: {}", "x.yaml:2: not valid YAML: the key 'api' is given twice"),
        ("api: {", "not valid YAML"),
        ("api: !!python/object:os.system {}", "not valid YAML"),
        ("database: {url: {env: NO_SUCH_VARIABLE}}", "NO_SUCH_VARIABLE is not set"),
        ("database: {url: {file: /nowhere/x}}", "database.url: /nowhere/x: cannot be read"),
        ("pipeline: [version, context]", "pipeline[1]: 'context' needs 'auth_token' before it"),
        ("pipeline: [version, auth_token]", "the step 'context' cannot be left out"),
        ("pipeline: [versoin]", "pipeline[0]: unknown step 'versoin'"),
        (
            "server: {trusted_proxies: [example]}",
            "server.trusted_proxies[0]: expected an IP address or a network, got 'example'",
        ),
        ("server: {listen: ['tcp:9292']}", "can be reached from other machines"),
        (
            "limits: {rate: {user: {requests: 5}}}",
            "limits.rate.user.requests: expected {per_second",
        ),
        (
            "limits:\n  rate:\n    user:\n      requests: {per_second: 5}",
            "x.yaml:4: limits.rate.user.requests: expected {per_second: …, burst: …} or null",
        ),
        (
            "limits: {rate: {project: {creates: {per_second: 0, burst: 1}}}}",
            "limits.rate.project.creates: expected per_second above 0 and burst of at least 1",
        ),
        (
            "limits: {rate: {address: {failures: {per_second: 1, burst: 0.5}}}}",
            "limits.rate.address.failures: expected per_second above 0 and burst of at least 1",
        ),
        (
            "limits: {rate: {user: {requests: {per_second: 1k, burst: 5}}}}",
            "limits.rate.user.requests: expected a number, got '1k'",
        ),
        (
            "limits: {rate: {user: {bytes_in: {per_second: fast, burst: 5}}}}",
            "limits.rate.user.bytes_in: expected a size such as 10GiB, got 'fast'",
        ),
        ("limits: {rate: {adress: {}}}", "limits.rate.adress: unknown key; did you mean address?"),
        (
            "limits: {rate: {address: {exempt: [here]}}}",
            "limits.rate.address.exempt[0]: expected an IP address or a network, got 'here'",
        ),
        ("limits: {uploads: {total: 0}}", "limits.uploads.total: must be at least 1, or null"),
        (
            "server: {max_connections: 0}",
            "server.max_connections: must be at least 1, or null",
        ),
        ("server: {min_rate: -1}", "server.min_rate: must be at least 0"),
        ("server: {min_rate_time: 0}", "server.min_rate_time: must be at least 1"),
        ("api: {max_version: '3'}", 'api.max_version: expected a version such as "2.9"'),
        ("server: {workers: 1001}", "server.workers: must be at most 1000"),
        ("server: {workers: many}", "server.workers: expected a whole number or auto, got 'many'"),
        ("server: {umask: '8'}", "server.umask: expected an octal number such as 027, got '8'"),
        (
            "server:\n  trusted_proxies:\n  - 10.0.0.0/8\n  - proxy",
            "x.yaml:4: server.trusted_proxies[1]: expected an IP address or a network, got 'proxy'",
        ),
        ("node: {url: 'node1'}", "node.url: expected a URL such as http://node1:9292, got 'node1'"),
        ("node: {url: 'http://u:word@n/?a'}", "got 'http://u:***@n/?a'"),
        (
            "transfer: {accel: /stored}",
            "transfer.accel: needs server.trusted_proxies, which is empty",
        ),
        ("transfer: {accel: stored}", "transfer.accel: expected a path such as /stored"),
        ("auth: {keystone: {timeout: 0}}", "auth.keystone.timeout: must be more than 0"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, message: str) -> None:
    assert message in complaint(text)


def test_all_mistakes_are_reported_in_the_order_of_the_file() -> None:
    lines = complaint("api: {page_max: x, page_defalt: 1}\nserver:\n  backlog: x").splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "api.page_defalt",
        "api.page_max",
        "server.backlog",
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path)


def test_a_secret_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://user:word@host/db\n")
    monkeypatch.setenv("DATABASE", "postgresql://user:word@host/db")
    for text in (f"{{file: {secret}}}", "{env: DATABASE}"):
        url = parse(f"database: {{url: {text}}}", "x.yaml").database.url
        assert url.reveal() == "postgresql://user:word@host/db"


def test_versions_need_no_quotes() -> None:
    for text in ("1.3", "'1.3'"):
        keys = f"certificate: /x, key: /y, min_version: {text}"
        tls = parse(f"server: {{tls: {{{keys}}}}}", "x.yaml").server.tls
        assert tls is not None
        assert tls.min_version == "1.3"


def test_rates_are_numbers_or_sizes_or_none() -> None:
    rates = parse(
        "limits: {rate: {user: {requests: null, bytes_in: {per_second: 10MiB, burst: 1GiB}},"
        " project: {requests: {per_second: 0.5, burst: 3}}}, uploads: {total: null}}",
        "x.yaml",
    ).limits
    assert rates.rate.user.requests is None
    assert rates.rate.user.bytes_in == ByteRate(10 << 20, 1 << 30)
    assert rates.rate.project.requests == Rate(0.5, 3)
    assert rates.uploads == UploadsOptions(total=None)


def test_effective_options_show_everything_but_secrets() -> None:
    config = parse("database: {url: 'postgresql://user:pass@word@host/db'}", "x.yaml")
    shown = effective(config)
    assert shown["database"]["url"] == "postgresql://user:***@host/db"
    assert shown["stores"]["local"]["type"] == "file"
    assert shown["auth"]["trusted_headers"]["from"] == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("text", "size"),
    [(7, 7), ("7", 7), ("7 KB", 7000), ("7KiB", 7168), ("2G", 2_000_000_000), ("1TiB", 1 << 40)],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@given(st.text())
def test_any_text_is_a_configuration_or_a_complaint(text: str) -> None:
    try:
        parse(text, "x.yaml")
    except ConfigError as error:
        assert str(error).startswith("x.yaml")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["server", "tls", "listen", "stores", "a", "type", "auth"]), inner
            )
        ),
        max_leaves=8,
    )
)
def test_any_document_is_a_configuration_or_a_complaint(document: object) -> None:
    try:
        parse(yaml.safe_dump(document), "x.yaml")
    except ConfigError as error:
        assert str(error).startswith("x.yaml:")
