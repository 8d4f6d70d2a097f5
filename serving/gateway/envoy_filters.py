"""Envoy's filters of the public listener: keys, tokens, rates, sizes; and its transport (TLS 1.3).

A request carries an API key (`x-api-key`) or a token (`authorization`); what a token names as its user, or the key's
name, goes on as `x-titrate-user`, which no client can set.
"""

from pathlib import Path
from typing import Any

from serving.gateway.access import Access, Rate
from serving.gateway.edge import TYPE, Json

API_KEY, TOKEN, USER = "x-api-key", "authorization", "x-titrate-user"
KEY_FILTER, TOKEN_FILTER = "envoy.filters.http.api_key_auth", "envoy.filters.http.jwt_authn"
USERS = 10_000
"""Buckets of rates that are kept; the one not used for longest makes room."""


def filters(access: Access) -> list[Json]:
    """What stands before the body is read, in order.

    Tokens come before keys, since their filter drops a user that an earlier one named; the token stays until the key's
    filter has seen that there is one.
    """
    found = []
    if access.policy.jwt:
        found.append(_tokens(access))
    if access.keys:
        found.append(_keys(access))
    if access.policy.jwt:
        kind, removed = "header_mutation.v3.HeaderMutation", {"request_mutations": [{"remove": TOKEN}]}
        found.append(filter_("envoy.filters.http.header_mutation", kind, mutations=removed))
    if access.policy.rate or access.policy.rates:
        found.append(_rates(access))
    return found


def filter_(name: str, kind: str, **settings: Any) -> Json:
    """An HTTP filter as Envoy writes it."""
    return {"name": name, "typed_config": {"@type": f"{TYPE}.extensions.filters.http.{kind}", **settings}}


def guard() -> Json:
    """What Triton 2.51 dies of is refused after the body was read, on both listeners: a retry would kill it again."""
    source = (Path(__file__).parent / "guard.lua").read_text()
    return filter_("envoy.filters.http.lua", "lua.v3.Lua", default_source_code={"inline_string": source})


def open_to_all() -> Json:
    """For a route that needs neither key nor token: probes of load balancers, the page."""
    off = {"@type": f"{TYPE}.config.route.v3.FilterConfig", "is_optional": True, "disabled": True}
    return {"typed_per_filter_config": {KEY_FILTER: off, TOKEN_FILTER: off}}


def forget_users() -> Json:
    """Removes what a client claims to be, before anything looks at it."""
    kind = "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    typed = {"@type": f"{TYPE}.{kind}", "mutations": [{"remove": USER}]}
    return {"name": "envoy.http.early_header_mutation.header_mutation", "typed_config": typed}


def transport(access: Access) -> Json:
    """TLS 1.3 and nothing older (C05); empty without a certificate."""
    if not access.certificate:
        return {}
    pair = {
        "certificate_chain": {"inline_string": access.certificate},
        "private_key": {"filename": access.private_key},
    }
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [pair],
        "alpn_protocols": ["h2", "http/1.1"],
    }
    typed = {
        "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": common,
    }
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": typed}}


def _keys(access: Access) -> Json:
    credentials = [{"key": key, "client": name} for name, key in sorted(access.keys.items())]
    checked = filter_(
        KEY_FILTER,
        "api_key_auth.v3.ApiKeyAuth",
        credentials=credentials,
        key_sources=[{"header": API_KEY}],
        forwarding={"header": USER, "hide_credentials": True},
    )
    if access.policy.jwt is None:
        return checked
    skip = {"name": "skip", "typed_config": {"@type": f"{TYPE}.extensions.filters.common.matcher.action.v3.SkipFilter"}}
    has_token = {
        "single_predicate": {
            "input": {
                "name": "request-headers",
                "typed_config": {"@type": f"{TYPE}.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": TOKEN},
            },
            "value_match": {"safe_regex": {"google_re2": {}, "regex": ".*"}},
        }
    }
    delegate = {
        "@type": f"{TYPE}.extensions.common.matching.v3.ExtensionWithMatcher",
        "extension_config": checked,
        "xds_matcher": {"matcher_list": {"matchers": [{"predicate": has_token, "on_match": {"action": skip}}]}},
    }
    return {"name": KEY_FILTER, "typed_config": delegate}


def _tokens(access: Access) -> Json:
    """Where there are keys too, a request without a token is left to its key."""
    jwt = access.policy.jwt
    if jwt is None:
        raise ValueError("the policy has no jwt")
    provider = {
        "issuer": jwt.issuer,
        "audiences": list(jwt.audiences),
        "local_jwks": {"inline_string": access.jwks},
        "require_expiration": True,
        "forward": True,
        "claim_to_headers": [{"header_name": USER, "claim_name": jwt.user_claim}],
    }
    match: Json = {"prefix": "/"}
    if access.keys:
        match["headers"] = [{"name": TOKEN, "present_match": True}]
    rules = [{"match": match, "requires": {"provider_name": "issuer"}}]
    return filter_(TOKEN_FILTER, "jwt_authn.v3.JwtAuthentication", providers={"issuer": provider}, rules=rules)


def _rates(access: Access) -> Json:
    """A token bucket for each user; above it 429 with Retry-After."""
    policy = access.policy
    if access.keys or policy.jwt:
        key, action = "user", {"request_headers": {"header_name": USER, "descriptor_key": "user"}}
    else:
        key, action = "remote_address", {"remote_address": {}}
    buckets = [
        {"entries": [{"key": key, "value": name}], "token_bucket": _bucket(rate)} for name, rate in policy.rates.items()
    ]
    if policy.rate:
        buckets.append({"entries": [{"key": key}], "token_bucket": _bucket(policy.rate)})
    everything = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return filter_(
        "envoy.filters.http.local_ratelimit",
        "local_ratelimit.v3.LocalRateLimit",
        stat_prefix="rate",
        filter_enabled=everything,
        filter_enforced=everything,
        descriptors=buckets,
        rate_limits=[{"actions": [action]}],
        max_dynamic_descriptors=USERS,
        rate_limited_as_resource_exhausted=True,
    )


def _bucket(rate: Rate) -> Json:
    return {"max_tokens": rate.burst, "tokens_per_fill": rate.per_second, "fill_interval": "1s"}
