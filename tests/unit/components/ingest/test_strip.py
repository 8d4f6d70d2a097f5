import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from components.ingest.strip import stored_copy, without_metadata
from workloads.pills import preprocess

Pixels = NDArray[np.uint8]
SECRET = b"Jane Doe, room 7, 48.8584 N 2.2945 E"


def scene(height: int = 40, width: int = 56, channels: int = 3) -> Pixels:
    """A smooth picture, different in each corner."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 4, y * 6, 255 - x * 2 - y, 128 + y][:channels]
    return np.stack(planes, axis=2).clip(0, 255).astype(np.uint8)


def exif(orientation: int = 1) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = SECRET.decode()  # the camera's maker
    tags[0x8769] = {0x9003: "2024:01:01 10:00:00", 0x927C: SECRET}
    return tags.tobytes()


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + SECRET


def encoded(form: str, pixels: Pixels | None = None, orientation: int = 1, **options: Any) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(scene() if pixels is None else pixels)
    if form == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Author", SECRET.decode())
        text.add_itxt("Comment", SECRET.decode(), zip=False)
        options = {"pnginfo": text, **options}
    image.save(out, form, exif=exif(orientation), icc_profile=profile(), **options)
    return out.getvalue()


def jpeg_with_everything(**options: Any) -> bytes:
    """A JPEG with a comment, XMP, a JFIF thumbnail and something behind its end, besides EXIF and a profile."""
    content = encoded("JPEG", comment=SECRET, quality=90, **options)
    jfif = b"JFIF\0\1\2\0\0\1\0\1\2\1" + SECRET[:6]  # a thumbnail of 2 x 1 pixels
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x>" + SECRET + b"</x>"
    extra = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
        for marker, body in ((0xE0, jfif), (0xE1, xmp), (0xED, b"Photoshop 3.0\0" + SECRET))
    )
    return content[:2] + extra + content[2:] + b"\0\0\0\x18ftypmp42" + SECRET


def copy_of(content: bytes) -> tuple[bytes, str]:
    return stored_copy(content, preprocess.probe(content), preprocess.decode_full)


CARRIERS = {
    "jpeg": jpeg_with_everything(),
    "progressive jpeg": jpeg_with_everything(progressive=True),
    "jpeg with restart markers": jpeg_with_everything(restart_marker_rows=1),
    "grey jpeg": jpeg_with_everything(pixels=scene()[..., 0]),
    "png": encoded("PNG") + SECRET,
    "png with alpha": encoded("PNG", scene(channels=4)),
    "webp": encoded("WEBP"),
    "lossless webp": encoded("WEBP", lossless=True),
    "webp with alpha": encoded("WEBP", scene(channels=4)),
}


@pytest.mark.parametrize("name", CARRIERS)
def test_the_copy_has_the_same_pixels_and_nothing_else(name: str) -> None:
    content = CARRIERS[name]
    assert SECRET in content
    copy, change = copy_of(content)
    assert change == "stripped"
    for trace in (SECRET, SECRET[:6], b"Exif", b"ICC", b"iCCP", b"http", b"tEXt", b"eXIf"):
        assert trace not in copy
    assert np.array_equal(preprocess.decode_full(copy), preprocess.decode_full(content))
    with Image.open(io.BytesIO(copy)) as image:
        assert not image.getexif() and not set(image.info) & {"icc_profile", "exif", "xmp", "comment", "Author"}


@pytest.mark.parametrize("name", CARRIERS)
def test_a_clean_image_is_kept_as_it_is(name: str) -> None:
    copy, _ = copy_of(CARRIERS[name])
    assert copy_of(copy) == (copy, "none")


@pytest.mark.parametrize("name", [name for name in CARRIERS if "webp" in name])
def test_a_webp_does_not_announce_what_was_cut(name: str) -> None:
    copy, _ = copy_of(CARRIERS[name])
    assert copy[12:16] == b"VP8X" and copy[20] & 0b101100 == 0  # ICC, EXIF, XMP (RFC 9649, 2.7)
    assert struct.unpack("<I", copy[4:8])[0] == len(copy) - 8


def test_transparency_of_a_palette_is_kept() -> None:
    image = Image.fromarray(scene()).quantize(16)
    out = io.BytesIO()
    image.save(out, "PNG", transparency=3, exif=exif())
    copy, change = copy_of(out.getvalue())
    assert change == "stripped" and b"tRNS" in copy
    assert np.array_equal(preprocess.decode_full(copy), preprocess.decode_full(out.getvalue()))


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_turned_image_is_stored_upright(form: str, orientation: int) -> None:
    content = encoded(form, orientation=orientation, **({"quality": 95} if form == "JPEG" else {}))
    copy, change = copy_of(content)
    shown, stored = preprocess.decode_full(content), preprocess.decode_full(copy)
    assert change == "turned" and preprocess.probe(copy).orientation == 1 and SECRET not in copy
    assert stored.shape == shown.shape == ((56, 40, 3) if orientation > 4 else (40, 56, 3))
    error = float(((shown.astype(float) - stored) ** 2).mean())
    assert error == 0 or (form == "JPEG" and 10 * np.log10(255**2 / error) > 40)  # dB


def test_cmyk_and_sixteen_bits_become_eight_bit_rgb() -> None:
    cmyk = io.BytesIO()
    Image.fromarray(scene()).convert("CMYK").save(cmyk, "JPEG")
    deep = io.BytesIO()
    Image.fromarray(scene()[..., 0].astype(np.uint16) * 257).save(deep, "PNG")
    for content in (cmyk.getvalue(), deep.getvalue()):
        copy, change = copy_of(content)
        assert change == "converted" and preprocess.probe(copy).mode == "RGB" and preprocess.probe(copy).bits == 8
        assert np.array_equal(preprocess.decode_full(copy), preprocess.decode_full(content))


def test_a_jpeg_cut_in_its_scan_stays_cut() -> None:
    content = jpeg_with_everything()
    cut = content[: content.index(b"\xff\xda") + 60]
    with pytest.raises(preprocess.BadImage) as caught:
        preprocess.decode_full(without_metadata(cut, "jpeg"))
    assert caught.value.code == "truncated"


def test_a_png_cut_in_its_pixels_stays_cut() -> None:
    content = encoded("PNG")
    cut = content[: content.index(b"IDAT") + 40]
    with pytest.raises(preprocess.BadImage):
        preprocess.decode_full(without_metadata(cut, "png"))


def test_a_small_bomb_is_not_inflated_by_stripping() -> None:
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    content = b"\x89PNG\r\n\x1a\n" + chunk
    assert without_metadata(content, "png") == content


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(CARRIERS)), data=st.data())
def test_damage_never_leads_to_anything_but_an_image_or_a_bad_image(name: str, data: st.DataObject) -> None:
    content = bytearray(CARRIERS[name])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        copy, _ = copy_of(bytes(content))
        preprocess.decode_full(copy)
    except preprocess.BadImage:
        return
    assert len(copy) > 0
