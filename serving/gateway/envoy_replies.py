"""Envoy's own answers in the form that each client reads.

`/v1` gets problem documents with the codes of problems.py, V2 REST its JSON error, gRPC the bare text as its status
message. What may be tried again says when.
"""

from serving.gateway.edge import Json
from serving.gateway.problems import MEDIA_TYPE, TYPE, Code

TEXT = "%LOCAL_REPLY_BODY%"
CODES = (
    Code.BAD_REQUEST,
    Code.UNAUTHORIZED,
    Code.FORBIDDEN,
    Code.UNKNOWN_PATH,
    Code.SLOW_UPLOAD,
    Code.TOO_LARGE,
    Code.TOO_MANY_REQUESTS,
    Code.OVERLOADED,
    Code.DEADLINE,
)
"""What Envoy answers by itself; one for each status."""
AGAIN = (Code.TOO_MANY_REQUESTS, Code.OVERLOADED)


def replies() -> Json:
    """Envoy's LocalReplyConfig; the first mapper that fits is used."""
    grpc = {
        "filter": _header("content-type", "application/grpc"),
        "body_format_override": {"text_format_source": {"inline_string": TEXT}},
    }
    return {
        "mappers": [grpc, *map(_problem, CODES), *map(_again, AGAIN)],
        "body_format": {"json_format": {"error": TEXT}, "content_type": "application/json"},
    }


def _problem(code: Code) -> Json:
    status, title = code.value
    document = {
        "type": TYPE + code.slug,
        "title": title,
        "status": status,
        "detail": TEXT,
        "code": code.slug,
        "request_id": "%REQ(X-REQUEST-ID)%",
    }
    return {
        "filter": {"and_filter": {"filters": [_header(":path", "/v1/"), _status(code)]}},
        "body_format_override": {"json_format": document, "content_type": MEDIA_TYPE},
        **(_RETRY if code in AGAIN else {}),
    }


def _again(code: Code) -> Json:
    return {"filter": _status(code), **_RETRY}


def _header(name: str, prefix: str) -> Json:
    return {"header_filter": {"header": {"name": name, "string_match": {"prefix": prefix}}}}


def _status(code: Code) -> Json:
    value = {"default_value": code.value[0], "runtime_key": f"titrate.{code.slug}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


_RETRY: Json = {"headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}]}
