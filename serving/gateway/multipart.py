"""multipart/form-data over a complete body (RFC 2046, RFC 7578): every part is one image, whatever its name.

The body is in memory anyway (its images become one message), so that the parts are found with `bytes.find`, at the
speed of C: a tenth of the time of a streaming parser.
"""

import re

from serving.gateway.problems import Code, ProblemError

_BOUNDARY = re.compile(r"""boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))""", re.IGNORECASE)


def boundary(content_type: str) -> bytes:
    """The boundary that a Content-Type header names; raises ProblemError."""
    found = _BOUNDARY.search(content_type)
    if not found:
        raise ProblemError(Code.BAD_MULTIPART, "the Content-Type names no boundary")
    return (found[1] or found[2]).encode("latin-1")


def parts(body: bytes, mark: bytes, most: int) -> list[bytes]:
    """The contents of at most `most` parts between delimiters of the boundary `mark`; raises ProblemError."""
    delimiter = b"\r\n--" + mark
    if not body.startswith(delimiter[2:]):
        raise ProblemError(Code.BAD_MULTIPART, "the body does not begin with the boundary that its Content-Type names")
    at = len(delimiter) - 2
    found: list[bytes] = []
    while body[at : at + 2] != b"--":
        if len(found) == most:
            raise ProblemError(Code.TOO_MANY_IMAGES, f"one request may have {most} images")
        line_end = body.find(b"\r\n", at)
        if line_end < 0 or body[at:line_end].strip(b" \t"):
            raise ProblemError(Code.BAD_MULTIPART, f"part {len(found)}: its delimiter line does not end")
        head_end = body.find(b"\r\n\r\n", line_end)
        if head_end < 0 or body.find(delimiter, line_end, head_end + 2 + len(delimiter)) >= 0:
            raise ProblemError(Code.BAD_MULTIPART, f"part {len(found)}: no empty line after its headers")
        at = _after(body, delimiter, head_end + 4)
        found.append(body[head_end + 4 : at - len(delimiter)])
    return found


def _after(body: bytes, delimiter: bytes, start: int) -> int:
    """Where the next delimiter ends."""
    at = body.find(delimiter, start)
    if at < 0:
        raise ProblemError(Code.BAD_MULTIPART, "the closing delimiter is missing; was the body cut off?")
    return at + len(delimiter)
