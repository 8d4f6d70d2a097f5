import asyncio
import socket
from ipaddress import ip_address, ip_network

import pytest
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from serving.gateway.fetch import Fetcher, allowed, parse
from serving.gateway.problems import Code, ProblemError


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1"),
    ],
)
def test_an_address_that_is_not_public_is_refused_unless_named(address, make_settings):
    assert not allowed(ip_address(address), make_settings())


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_allowed(address, make_settings):
    assert allowed(ip_address(address), make_settings())


def test_a_named_private_network_is_allowed_and_no_other(make_settings):
    settings = make_settings(url_networks=[ip_network("10.1.0.0/16"), ip_network("::1/128")])
    assert allowed(ip_address("10.1.2.3"), settings)
    assert allowed(ip_address("::ffff:10.1.2.3"), settings)
    assert allowed(ip_address("::1"), settings)
    assert not allowed(ip_address("10.2.0.1"), settings)


HOSTS = ("images.example.org", "*.cdn.example.org", "127.0.0.1:9000")


@pytest.mark.parametrize(
    "url",
    [
        *("http://images.example.org/a.jpg", "https://IMAGES.example.org./a", "https://a.b.cdn.example.org/x?y=z"),
        *("http://images.example.org:80/", "https://images.example.org:443/", "http://127.0.0.1:9000/x"),
    ],
)
def test_urls_on_the_allow_list_pass(url):
    parse(url, HOSTS)


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "//images.example.org/", "ftp://images.example.org/", "file:///etc/passwd", "gopher://x"),
        *("http://example.org/", "http://images.example.org.evil.com/", "http://evilimages.example.org/"),
        *("http://cdn.example.org/", "http://evilcdn.example.org/", "http://images.example.org:22/"),
        *("http://images.example.org@evil.com/", "http://evil@images.example.org/", "http://127.0.0.1/"),
        *(
            "http://127.0.0.1:9001/",
            "http://[::1]/",
            "http://2130706433/",
            "http://images.example.org:99999/",
            "http://\0/",
        ),
        *("http://images.example.org\\@evil.com/", "http://images.example.org%00.evil.com/"),
    ],
)
def test_every_other_url_is_refused(url):
    with pytest.raises(ProblemError) as refused:
        parse(url, HOSTS)
    assert refused.value.code is Code.URL_REFUSED


def test_no_host_is_allowed_by_default(make_settings):
    with pytest.raises(ProblemError):
        parse("http://images.example.org/", make_settings().url_hosts)


PAGES = {
    "/ok": lambda: Response(b"picture"),
    "/large": lambda: Response(b"x" * 2000),
    "/gone": lambda: Response(status_code=404),
    "/packed": lambda: Response(b"x", headers={"content-encoding": "gzip"}),
    "/once": lambda: RedirectResponse("/ok"),
    "/for-ever": lambda: RedirectResponse("/for-ever"),
    "/out": lambda: RedirectResponse("http://169.254.169.254/latest/meta-data"),
    "/to-file": lambda: RedirectResponse("file:///etc/passwd"),
}


async def page(request):
    if request.url.path == "/slow":
        await asyncio.sleep(30)
    return PAGES[request.url.path]()


@pytest.fixture
def web(serve):
    return serve(Starlette(routes=[Route("/{name}", page)]))


@pytest.fixture
def fetch(web, make_settings):
    def run(url, **changes):
        async def go():
            port = web.rpartition(":")[2]
            local = {
                "url_hosts": [f"127.0.0.1:{port}", f"localhost:{port}", f"pictures.test:{port}"],
                "url_networks": ["127.0.0.0/8", "::1/128"],
                "url_time": 5.0,
                "max_image": 1000,
            }
            fetcher = Fetcher(make_settings(**local | changes))
            try:
                return await fetcher(url if "://" in url else web + url)
            finally:
                await fetcher.close()

        return asyncio.run(go())

    return run


def code_of(fetch, url, **changes):
    with pytest.raises(ProblemError) as refused:
        fetch(url, **changes)
    return refused.value.code


def test_an_image_is_fetched_also_behind_a_redirect(fetch):
    assert fetch("/ok") == b"picture"
    assert fetch("/once") == b"picture"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/large", Code.TOO_LARGE),
        ("/gone", Code.URL_FAILED),
        ("/packed", Code.URL_FAILED),
        ("/for-ever", Code.URL_FAILED),
        ("/out", Code.URL_REFUSED),
        ("/to-file", Code.URL_REFUSED),
    ],
)
def test_what_cannot_be_fetched_has_its_code(fetch, path, code):
    assert code_of(fetch, path) is code


def test_a_slow_server_is_given_up(fetch):
    assert code_of(fetch, "/slow", url_time=0.2) is Code.URL_FAILED


def test_a_closed_port_is_a_failed_fetch(fetch):
    assert code_of(fetch, "http://127.0.0.1:1/", url_hosts=["127.0.0.1:1"]) is Code.URL_FAILED


def test_an_allowed_name_with_a_private_address_is_refused(fetch):
    assert code_of(fetch, "/ok", url_networks=[]) is Code.URL_REFUSED


def resolving(monkeypatch, *answers):
    """Make every look-up of a name give the next answer; returns the list of names asked."""
    asked = []
    real = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        if host != "pictures.test":
            return real(host, port, *args, **kwargs)
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def test_a_name_is_resolved_once_so_that_rebinding_it_changes_nothing(fetch, web, monkeypatch):
    asked = resolving(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])
    assert fetch(web.replace("127.0.0.1", "pictures.test") + "/ok") == b"picture"
    assert asked == ["pictures.test"]


def test_a_name_with_one_private_address_among_others_is_refused(fetch, web, monkeypatch):
    resolving(monkeypatch, ["127.0.0.1", "10.0.0.1"])
    assert code_of(fetch, web.replace("127.0.0.1", "pictures.test") + "/ok") is Code.URL_REFUSED
