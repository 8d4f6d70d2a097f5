"""Who may ask, as a home's files say: what is refused before Envoy hears of it."""

import json
import stat

import pytest

from core.errors import UserError
from core.home import Home
from titrate.stack.access import access, add_key, allow_insecure, api_keys, remove_key


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def write(home, **policy):
    (home.root / "edge.json").write_text(json.dumps(policy))


def test_a_home_without_files_is_open_on_the_loopback_address(home):
    found = access(home)
    assert (str(found.policy.address), found.keys, found.certificate) == ("127.0.0.1", {}, "")


def test_an_open_address_needs_keys_or_tokens_or_force(home):
    write(home, address="0.0.0.0")
    with pytest.raises(UserError, match="titrate keys add NAME"):
        access(home)
    add_key(home, "app")
    assert list(access(home).keys) == ["app"]
    with pytest.raises(UserError, match="open to others"):
        remove_key(home, "app")
    assert list(api_keys(home)) == ["app"], "a key that still works is not shown as removed"
    allow_insecure(home)
    remove_key(home, "app")
    assert json.loads((home.root / "edge.json").read_text()) == {"address": "0.0.0.0", "insecure": True}
    assert access(home).policy.insecure


def test_a_key_is_made_once_and_kept_for_the_owner_alone(home):
    key = add_key(home, "app")
    assert len(key) >= 43
    assert access(home).keys == {"app": key}
    assert stat.S_IMODE((home.keys / "api-keys.json").stat().st_mode) == 0o600
    assert key not in repr(api_keys(home)) and key not in repr(access(home))
    with pytest.raises(UserError, match="has a key already"):
        add_key(home, "app")
    with pytest.raises(UserError, match="did you mean 'app'"):
        remove_key(home, "apq")
    for name in ("", " ", "a\nb", "ü"):
        with pytest.raises(UserError, match="no name of a key"):
            add_key(home, name)


def test_keys_that_others_may_read_are_refused(home):
    add_key(home, "app")
    (home.keys / "api-keys.json").chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        access(home)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"adress": "127.0.0.1"}, "did you mean 'address'"),
        ({"address": "localhost"}, "address = 'localhost'"),
        ({"rate": {"per_second": 0, "burst": 1}}, "rate.per_second = 0"),
        ({"tls": {"certificate": "c.pem"}}, "belong together"),
        ({"tls": {"certificate": "c.pem", "private_key": "k.pem"}}, "cannot read 'c.pem'"),
        ({"jwt": {"issuer": "i", "audiences": [], "jwks": "j"}}, "jwt.audiences"),
        ({"jwt": {"issuer": "i", "audiences": ["a"], "jwks": "nowhere.json"}}, "cannot read 'nowhere.json'"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(home, policy, message):
    write(home, **policy)
    with pytest.raises(UserError, match=message):
        access(home)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": []}', '{"keys": [{"kty": "x"}]}'])
def test_a_file_that_is_no_key_set_is_refused(home, text):
    (home.root / "jwks.json").write_text(text)
    write(home, jwt={"issuer": "i", "audiences": ["a"], "jwks": str(home.root / "jwks.json")})
    with pytest.raises(UserError, match="no JSON Web Key Set"):
        access(home)


def test_a_certificate_is_made_once_and_a_wrong_pair_is_refused(home, tmp_path):
    write(home, tls={})
    first = access(home)
    assert access(home) == first
    assert first.certificate.startswith("-----BEGIN CERTIFICATE-----")
    other = Home(tmp_path / "other")
    other.root.mkdir()
    write(other, tls={})
    pair = {"certificate": str(home.keys / "edge-cert.pem"), "private_key": access(other).private_key}
    write(home, tls=pair)
    with pytest.raises(UserError, match="no pair that can be used"):
        access(home)
