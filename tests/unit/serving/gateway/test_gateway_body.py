import asyncio
import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.body import DisconnectedError, Room, images, read
from serving.gateway.problems import Code, ProblemError
from serving.gateway.settings import Settings

SETTINGS = Settings(upstream="x:1", workloads=("pills",), max_image=1000, max_images=3, max_body=5000, upload_time=0.05)


async def fetched(url):
    return f"from {url}".encode()


def take_images(document, kind="application/json"):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return asyncio.run(images(kind, body, SETTINGS, fetched))


def code_of(document, kind="application/json"):
    with pytest.raises(ProblemError) as refused:
        take_images(document, kind)
    return refused.value.code


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=3))
def test_base64_comes_out_as_it_went_in(contents):
    encoded = [base64.b64encode(content).decode() for content in contents]
    assert take_images({"images": encoded}) == contents
    assert take_images({"image": encoded[0]}) == contents[:1]


def test_a_url_is_fetched():
    assert take_images({"url": "http://x/a.jpg"}) == [b"from http://x/a.jpg"]


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", Code.BAD_REQUEST),
        (b"\xff\xfe", Code.BAD_REQUEST),
        (b"[" * 2000, Code.BAD_REQUEST),
        ([], Code.BAD_REQUEST),
        ({}, Code.BAD_REQUEST),
        ({"image": "AAAA", "url": "http://x"}, Code.BAD_REQUEST),
        ({"imagge": "AAAA"}, Code.BAD_REQUEST),
        ({"image": 3}, Code.BAD_REQUEST),
        ({"images": "AAAA"}, Code.BAD_REQUEST),
        ({"images": []}, Code.BAD_REQUEST),
        ({"url": ["http://x"]}, Code.BAD_REQUEST),
        ({"image": "A"}, Code.BAD_BASE64),
        ({"image": "AAAA\n"}, Code.BAD_BASE64),
        ({"image": "AA&AA"}, Code.BAD_BASE64),
        ({"image": "AA==AAAA"}, Code.BAD_BASE64),
        ({"image": "äää="}, Code.BAD_BASE64),
        ({"images": ["AAAA", None]}, Code.BAD_BASE64),
        ({"images": ["AAAA"] * 4}, Code.TOO_MANY_IMAGES),
        ({"image": "A" * 1400}, Code.TOO_LARGE),
    ],
)
def test_what_is_wrong_with_a_json_body_has_its_code(document, code):
    assert code_of(document) is code


@pytest.mark.parametrize("kind", ["", "text/plain", "application/jsonx", "image/jpeg"])
def test_other_content_types_are_refused(kind):
    assert code_of(b"{}", kind) is Code.UNSUPPORTED_MEDIA_TYPE


@given(st.binary(max_size=200), st.sampled_from(["application/json", "multipart/form-data; boundary=b", "x"]))
def test_garbage_is_refused(body, kind):
    assert code_of(body, kind) in {Code.BAD_REQUEST, Code.BAD_MULTIPART, Code.UNSUPPORTED_MEDIA_TYPE}


def receiving(*messages):
    waiting = list(messages)

    async def receive():
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return receive


def chunk(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


def read_body(*messages, length=None, room=None):
    async def run():
        with (room or Room(10_000)).share() as take:
            return await read(receiving(*messages), length, SETTINGS.max_body, SETTINGS.upload_time, take)

    return asyncio.run(run())


def test_a_body_is_read_to_its_end():
    assert read_body(chunk(b"ab"), chunk(b""), chunk(b"c", more=False)) == b"abc"


def test_a_body_beyond_its_limit_is_refused_before_it_is_read():
    with pytest.raises(ProblemError) as refused:
        read_body(length=b"5001")
    assert refused.value.code is Code.TOO_LARGE
    with pytest.raises(ProblemError) as refused:
        read_body(chunk(b"x" * 3000), chunk(b"x" * 2001))
    assert refused.value.code is Code.TOO_LARGE


def test_a_slow_body_is_refused_and_frees_its_room():
    room = Room(10_000)
    with pytest.raises(ProblemError) as refused:
        read_body(chunk(b"x" * 3000), room=room)
    assert refused.value.code is Code.SLOW_UPLOAD
    assert room.used == 0


def test_a_client_that_leaves_is_not_answered():
    with pytest.raises(DisconnectedError):
        read_body(chunk(b"x"), {"type": "http.disconnect"})


def test_uploads_beyond_the_room_are_refused():
    room = Room(4000)
    with room.share() as take:
        take(2000)
        with pytest.raises(ProblemError) as refused:
            read_body(chunk(b"x" * 1500), chunk(b"x" * 1500, more=False), room=room)
        assert refused.value.code is Code.OVERLOADED
        assert room.used == 2000
    assert read_body(chunk(b"x" * 3000, more=False), room=room) == b"x" * 3000
