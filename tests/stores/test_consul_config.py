"""Which agent a URL and the variables of Consul's tools lead to; no server is needed."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from incumbent.errors import ConfigError
from incumbent.stores import open_store
from incumbent.stores.api import StoreURL, redact
from incumbent.stores.consul import config

SECRET = "b1gs92f3-token"


def load(url: str, **environ: str) -> config.Settings:
    return config.load(StoreURL.parse(url), environ)


@pytest.mark.parametrize(
    ("url", "environ", "server", "prefix"),
    [
        ("consul://", {}, "http://127.0.0.1:8500", "incumbent"),
        ("consul:///", {}, "http://127.0.0.1:8500", "incumbent"),
        ("consul:///apps/one/", {}, "http://127.0.0.1:8500", "apps/one"),
        ("consul://there", {}, "http://there:8500", "incumbent"),
        ("consul://[::1]:85/x", {}, "http://[::1]:85", "x"),
        ("consul://there?tls=true", {}, "https://there:8501", "incumbent"),
        ("consul://there:9/?tls=1", {}, "https://there:9", "incumbent"),
        ("consul://there", {"CONSUL_HTTP_ADDR": "else:1"}, "http://there:8500", "incumbent"),
        ("consul://there", {"CONSUL_HTTP_SSL": "true"}, "https://there:8501", "incumbent"),
        (
            "consul://there?tls=false",
            {"CONSUL_HTTP_SSL": "true"},
            "http://there:8500",
            "incumbent",
        ),
        ("consul://", {"CONSUL_HTTP_ADDR": "agent:1"}, "http://agent:1", "incumbent"),
        ("consul://", {"CONSUL_HTTP_ADDR": "http://agent:1/"}, "http://agent:1", "incumbent"),
        ("consul:///p", {"CONSUL_HTTP_ADDR": "https://agent"}, "https://agent", "p"),
        (
            "consul://",
            {"CONSUL_HTTP_ADDR": "https://a.b/consul"},
            "https://a.b/consul",
            "incumbent",
        ),
        (
            "consul://",
            {"CONSUL_HTTP_ADDR": "http://agent:1", "CONSUL_HTTP_SSL": "1"},
            "https://agent:1",
            "incumbent",
        ),
        ("consul://there", {"CONSUL_CACERT": "unread"}, "http://there:8500", "incumbent"),
    ],
)
def test_where_the_agent_is(url: str, environ: dict[str, str], server: str, prefix: str) -> None:
    settings = load(url, **environ)
    assert (settings.server, settings.prefix) == (server, prefix)
    assert (settings.tls is not None) == server.startswith("https:")
    assert settings.url.startswith("consul://")


@pytest.mark.parametrize(
    ("url", "environ", "complaint"),
    [
        ("consul://:8500", {}, "a port and no host"),
        ("consul://there?tls=perhaps", {}, "write true or false"),
        ("consul://there?ssl=true", {}, "does not know the option 'ssl'"),
        ("consul://there?cafile=/x&tls=false", {}, "cafile is for TLS"),
        ("consul://there?cafile=/not/there", {}, "certificates to speak with Consul"),
        ("consul://there?tls=true&keyfile=/x", {}, "no certificate to it"),
        ("consul://there/a//b", {}, "prefix of our keys"),
        ("consul://there/a/../b", {}, "prefix of our keys"),
        ("consul://there/a%20b", {}, "prefix of our keys"),
        (f"consul://there/{'x' * 201}", {}, "prefix of our keys"),
        ("consul://there?dc=a%26b", {}, "name of a datacenter"),
        (f"consul://me:{SECRET}@there", {}, "one token and no user"),
        ("consul://a%0Ab@there", {}, "no token has"),
        ("consul://", {"CONSUL_HTTP_ADDR": "unix:///run/consul.sock"}, "HOST:PORT"),
        ("consul://", {"CONSUL_HTTP_ADDR": f"http://{SECRET}@there:1"}, "HOST:PORT"),
        ("consul://", {"CONSUL_HTTP_ADDR": "there:many"}, "HOST:PORT"),
        ("consul://", {"CONSUL_HTTP_SSL": "yes please"}, "write true or false"),
        ("consul://", {"CONSUL_HTTP_TOKEN": "a b"}, "no token has"),
        ("consul://", {"CONSUL_HTTP_TOKEN_FILE": "/not/there"}, "cannot read"),
    ],
)
def test_what_cannot_be_used_is_said(url: str, environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as refusal:
        load(url, **environ)
    assert SECRET not in str(refusal.value)


def test_who_we_are(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n", encoding="utf-8")
    assert load("consul://there").token.value == ""
    assert load(f"consul://{SECRET}@there").token.value == SECRET
    assert load(f"consul://:{SECRET}@there").token.value == SECRET
    assert load("consul://", CONSUL_HTTP_TOKEN=SECRET).token.value == SECRET
    both = {"CONSUL_HTTP_TOKEN": "other", "CONSUL_HTTP_TOKEN_FILE": str(file)}
    assert load("consul://", **both).token.value == SECRET
    assert load("consul://first@there", **both).token.value == "first"
    assert load("consul://", CONSUL_HTTP_AUTH="a:b").authorization == "Basic YTpi"


def test_a_token_is_replaced_only_where_there_is_another(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one", encoding="utf-8")
    token = config.Token(path=file)
    assert not token.renew()
    file.write_text("two", encoding="utf-8")
    assert token.renew()
    assert token.value == "two"
    file.write_text("", encoding="utf-8")
    assert not token.renew()
    file.unlink()
    assert not token.renew()
    assert token.value == "two"
    assert not config.Token("fixed").renew()


def test_whom_we_trust() -> None:
    strict = load("consul://there?tls=true").tls
    assert strict is not None
    assert (strict.check_hostname, strict.verify_mode) == (True, ssl.CERT_REQUIRED)
    lax = load("consul://there?tls=true", CONSUL_HTTP_SSL_VERIFY="false").tls
    assert lax is not None
    assert lax.verify_mode is ssl.CERT_NONE
    named = load("consul://there?tls=true", CONSUL_TLS_SERVER_NAME="server.dc1.consul")
    assert named.tls_name == "server.dc1.consul"


def test_no_message_shows_a_token() -> None:
    settings = load(f"consul://{SECRET}@there/x?dc=east", CONSUL_HTTP_AUTH=f"me:{SECRET}")
    assert settings.url == "consul://there:8500/x?dc=east"
    for text in (repr(settings), settings.url, repr(StoreURL.parse(f"consul://:{SECRET}@there"))):
        assert SECRET not in text
    assert redact(f"consul://{SECRET}@there") == "consul://***@there"
    assert redact(f"consul://:{SECRET}@there") == "consul://:***@there"
    assert redact("consul://there/x") == "consul://there/x"
    with pytest.raises(ConfigError) as refusal:
        open_store(f"consul://{SECRET}@there#part")
    assert SECRET not in str(refusal.value)
