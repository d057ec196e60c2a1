"""The URL filter: which URLs and addresses are allowed, in every notation that attacks used."""

from ipaddress import IPv4Address, ip_address, ip_network
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgservice.domain.errors import Invalid
from imgservice.domain.url_filter import Refused, UrlFilter, read_url

LOOPBACK = [
    "127.0.0.1", "127.255.255.254", "127.1", "127.0.1", "0177.0.0.1", "0177.0.0.01", "017700000001",
    "0x7f.0.0.1", "0x7F.1", "0x7f000001", "2130706433", "127.0.0.1.", "0x7f.0x0.0x0.0x1",
    "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]", "[2002:7f00:1::1]",
]  # fmt: skip
LINK = [
    "169.254.169.254", "169.254.0.1", "0251.0376.0251.0376", "0xa9.0xfe.0xa9.0xfe", "0xa9fea9fe",
    "2852039166", "169.254.43518", "169.16689662", "169.254.169.254.", "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[fe80::1]",
]  # fmt: skip
NOBODY = ["0.0.0.0", "0", "0.1.2.3", "[::]", "[::ffff:0.0.0.0]", "224.0.0.1", "255.255.255.255",
          "240.0.0.1", "[ff02::1]"]  # fmt: skip
METADATA = {
    "Alibaba": ["100.100.100.200", "[fd00:100::100:200]"],
    "Amazon": ["[fd00:ec2::254]", "[fd00:ec2::23]", "[fd00:ec2::253]", "169.254.170.2",
               "169.254.170.23"],
    "Azure": ["168.63.129.16", "0xa83f8110", "2822734096"],
    "Akamai": ["[fd00:a9fe:a9fe::1]", "[fe80::a9fe:a9fe]"],
    "Google": ["[fd20:ce::254]"],
    "Oracle": ["192.0.0.192", "[fd00:c1::a9fe:a9fe]"],
    "Scaleway": ["169.254.42.42", "[fd00:42::42]"],
    "Tencent": ["169.254.0.23", "169.254.10.10"],
}  # fmt: skip
INNER = ["127.0.0.1", "169.254.169.254", "0.0.0.1", "224.0.0.1", "192.0.0.192", "168.63.129.16",
         "100.100.100.200"]  # fmt: skip
"""Refused IPv4 addresses, to be put into IPv6 ones."""
WRAPPED = ["[::{}]", "[::ffff:{}]", "[::ffff:0:{}]", "[64:ff9b::{}]", "[64:ff9b:1::{}]"]
"""Ways to write an IPv4 address as an IPv6 one."""
TUNNELS = ["[::8.8.8.8]", "[::ffff:8.8.8.8]", "[::ffff:0:8.8.8.8]", "[64:ff9b:1::8.8.8.8]",
           "[64:ff9b:1:808:8:800::]", "[2001::1]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
           "[100::1]", "[5f00::1]", "192.88.99.1"]  # fmt: skip
"""Refused whatever is at their other end."""
PRIVATE = ["10.0.0.1", "10.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "0300.0250.1.1",
           "100.64.0.1", "198.18.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1",
           "[fd12:3456::1]", "[fec0::1]", "[2001:db8::1]", "[3fff::1]", "[2001:20::1]",
           "[64:ff9b::10.0.0.1]", "[2002:a00:1::]"]  # fmt: skip
PUBLIC = ["8.8.8.8", "172.32.0.1", "168.63.129.17", "192.0.1.1", "0x08080808",
          "[2606:4700::1111]", "[64:ff9b::8.8.8.8]", "[2002:808:808::1]"]  # fmt: skip


def judge(url: str, rules: UrlFilter) -> None:
    target = read_url(url)
    rules.check(target)
    rules.check_address(target.host)


def wrapped(address: str) -> list[str]:
    """Return every way to write the IPv4 address as an IPv6 one."""
    six_to_four = f"[2002:{int(IPv4Address(address)):08x}"
    return [way.format(address) for way in WRAPPED] + [f"{six_to_four[:10]}:{six_to_four[10:]}::1]"]


@pytest.mark.parametrize(
    "host",
    [*LOOPBACK, *LINK, *NOBODY, *chain(*METADATA.values()), *TUNNELS, *chain(*map(wrapped, INNER))],
)
def test_some_addresses_are_refused_in_every_spelling(host: str) -> None:
    for rules in (UrlFilter(), UrlFilter(private=False)):
        with pytest.raises(Refused) as caught:
            judge(f"http://{host}/", rules)
        assert host.strip("[]") not in caught.value.message


@pytest.mark.parametrize("host", PRIVATE)
def test_private_networks_have_a_switch(host: str) -> None:
    judge(f"http://{host}/", UrlFilter())
    with pytest.raises(Refused):
        judge(f"http://{host}/", UrlFilter(private=False))


@pytest.mark.parametrize("host", PUBLIC)
def test_other_addresses_pass(host: str) -> None:
    judge(f"https://{host}/x", UrlFilter(private=False))


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "//8.8.8.8/", "http:", "http://", "http:///x", "http://[", "http://[::1", "http://]/",
        "http://8.8.8.8:x/", "http://8.8.8.8:70000/", "http://8.8.8.8:-1/", "http://8.8.8.8:0/",
        "http://8.8.8.8:22/", "http://8.8.8.8:8080/",
        "file:///etc/passwd", "ftp://8.8.8.8/", "gopher://8.8.8.8/", "swift+config://x/y",
        "http://8.8.8.8\\@127.0.0.1/", "http:\\\\8.8.8.8/", "http://8.8.8.8/a b", "http://8.8.8.8/\t",
        "http://8.8.8.8/\r\nHost: x", " http://8.8.8.8/", "http://8.8.8.8/\x00", "http://8.8.8.8/\x7f",
        "http://%31%32%37.0.0.1/", "http://127.0.0.256/", "http://1.2.3.4.5/", "http://1.2.3.0x/",
        "http://99999999999/", "http://a..b/", "http://.a/", "http://a../", "http://a b/",
        "http://-a/", "http://a*b/", "http://[fe80::1%25eth0]/", "http://[v1.x]/", "http://[1.2.3.4]/",
        "http://" + "a" * 300 + ".com/", "http://8.8.8.8/" + "a" * 9000,
    ],
)  # fmt: skip
def test_urls_that_are_refused_unasked(url: str) -> None:
    with pytest.raises(Refused):
        UrlFilter().check(read_url(url))


def test_the_url_that_is_used_is_the_one_that_was_judged() -> None:
    target = read_url("HTTP://user:p%40ss@EXAMPLE.com./a%20b?q=ü#fragment")
    assert target.origin == ("http", "example.com", 80)
    assert target.text == "http://example.com:80/a%20b?q=%C3%BC"
    assert target.credentials == "user:p@ss"
    assert "p@ss" not in repr(target)
    assert read_url("http://good.example#@127.0.0.1/").host == "good.example"
    assert read_url("http://good.example?@127.0.0.1/").host == "good.example"
    assert read_url("http://good.example@8.8.8.8/").host == "8.8.8.8"


def test_credentials_stay_with_their_server() -> None:
    target = read_url("http://user:secret@one.example/x")
    assert target.redirected("/y").credentials == "user:secret"
    assert target.redirected("//one.example:80/y").credentials == "user:secret"
    for elsewhere in ("http://two.example/", "https://one.example/", "http://one.example:81/"):
        assert target.redirected(elsewhere).credentials is None


def test_where_there_is_a_list_of_what_is_allowed_the_other_is_not_asked() -> None:
    rules = UrlFilter(
        allowed_hosts=["One.example.", "0x08080808"], disallowed_hosts=["one.example"]
    )
    rules.check(read_url("http://one.example/"))
    rules.check(read_url("http://8.8.8.8/"))
    with pytest.raises(Refused):
        rules.check(read_url("http://two.example/"))


def test_lists_of_what_is_not_allowed() -> None:
    rules = UrlFilter(
        allowed_schemes=(),
        disallowed_schemes=("http",),
        disallowed_hosts=("one.example", "127.1"),
        allowed_ports=(),
        disallowed_ports=(22,),
    )
    rules.check(read_url("https://two.example:8443/"))
    for url in ("http://two.example/", "https://ONE.example./", "https://two.example:22/",
                "https://127.0.0.1/"):  # fmt: skip
        with pytest.raises(Refused):
            rules.check(read_url(url))


def test_exempt_networks_may_be_reached_in_spite_of_all() -> None:
    rules = UrlFilter(private=False, exempt=(ip_network("127.0.0.1/32"), ip_network("10.0.0.0/8")))
    for host in ("127.0.0.1", "10.1.2.3", "[64:ff9b::10.1.2.3]"):
        judge(f"http://{host}/", rules)
    for host in ("127.0.0.2", "[::ffff:127.0.0.1]"):
        with pytest.raises(Refused):
            judge(f"http://{host}/", rules)


def test_an_exempt_tunnel_does_not_exempt_what_it_leads_to() -> None:
    rules = UrlFilter(exempt=(ip_network("64:ff9b:1::/96"),))
    judge("http://[64:ff9b:1::8.8.8.8]/", rules)
    with pytest.raises(Refused):
        judge("http://[64:ff9b:1::127.0.0.1]/", rules)


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("8.8.8.8", ["8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]),
        ("10.1.2.3", ["10.1.2.3"]),
        ("2606:4700::1111", ["2606:4700::1111", "2606:4700:0:0::1111"]),
    ],
)
def test_addresses_of_this_host_are_refused_unless_exempt(address: str, written: list[str]) -> None:
    own = {ip_address(address)}
    everything = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    for text in written:
        UrlFilter().check_address(text)
        UrlFilter(exempt=everything).check_address(text, own)
        with pytest.raises(Refused):
            UrlFilter().check_address(text, own)


@given(st.text(max_size=60))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"http://{text}/", f"http://8.8.8.8/{text}"):
        try:
            target = read_url(url)
        except Invalid:
            continue
        assert read_url(target.text) == read_url(target.text)
        assert read_url(target.text).origin == target.origin
        target.text.encode("ascii")


@given(st.text(max_size=60))
def test_any_redirect_leads_somewhere_or_is_refused(text: str) -> None:
    start = read_url("http://user:secret@one.example/x")
    try:
        target = start.redirected(text)
    except Invalid:
        return
    assert (
        target.credentials is None
        or target.credentials != "user:secret"
        or (target.origin == start.origin)
    )
