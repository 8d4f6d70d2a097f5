"""The copy of an image that is kept: the same picture without what tells who took it, where, when and with what.

Metadata is cut out of the file without touching the pixels' code: EXIF, GPS, XMP, IPTC, comments, text, time, colour
profiles (nothing here reads them, and they name cameras), thumbnails, and whatever follows the end of the image. Only
an image that is stored turned, or that is not 8-bit grey or RGB, is encoded anew: what a server decodes from the
original and what training decodes from the copy are then the same picture.
"""

import io
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any, Literal

import simplejpeg
from PIL import Image

Change = Literal["none", "stripped", "turned", "converted"]

JPEG_QUALITY = 95  # without chroma subsampling: about 45 dB against the original
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # not a stuffed zero, not a restart marker
_SOI, _EOI, _SOS, _APP0, _APP14, _APP15, _COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE, 0xEF, 0xFE
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"sRGB", b"gAMA", b"cHRM", b"sBIT"}
_WEBP_KEPT = {b"VP8X", b"ALPH", b"VP8 ", b"VP8L"}
_WEBP_METADATA = 0x20 | 0x08 | 0x04  # ICC, EXIF, XMP in the flags of VP8X (RFC 9649, 2.7)


def stored_copy(content: bytes, header: Any, decode: Callable[[bytes], Any]) -> tuple[bytes, Change]:
    """The bytes to keep, and what was done to get them.

    `header` is what the workload's `preprocess.probe` said of `content`; `decode` gives it as uint8 [h, w, 3] RGB,
    upright. A turned JPEG becomes a JPEG again; everything else that is encoded anew becomes a PNG, pixel for pixel.
    """
    if header.bits > 8 or header.mode == "CMYK":
        return _png_of(decode(content)), "converted"
    if header.orientation != 1:
        pixels = decode(content)
        return _jpeg_of(pixels) if header.format == "jpeg" else _png_of(pixels), "turned"
    copy = without_metadata(content, header.format)
    return copy, "none" if copy == content else "stripped"


def without_metadata(content: bytes, form: str) -> bytes:
    """`content` (`jpeg`, `png` or `webp`) with nothing in it but the picture; damage is passed on to the decoder."""
    cut = {"jpeg": _jpeg, "png": _png, "webp": _webp}[form]
    return b"".join(cut(content))


def _jpeg(content: bytes) -> Iterator[bytes]:
    """The segments that a decoder needs (ITU-T T.81, annex B), and the entropy-coded data behind each scan header."""
    yield content[:2]
    at, marker = 2, _SOI
    while found := _MARKER.search(content, at):
        if marker == _SOS:
            yield content[at : found.start()]
        marker = found[1][0]
        at = found.end()
        if marker == _EOI:
            yield b"\xff\xd9"
            return
        if marker not in (0x01, _SOI):
            length = int.from_bytes(content[at : at + 2], "big")
            yield _segment(marker, content[at + 2 : at + length])
            at += max(2, length)
    if marker == _SOS:
        yield content[at:]


def _segment(marker: int, body: bytes) -> bytes:
    """One segment, or nothing: of APPn only JFIF (less its thumbnail) and Adobe's colour transform are kept."""
    if marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        body = body[:12] + b"\0\0"
    elif marker == _COM or (_APP0 <= marker <= _APP15 and not (marker == _APP14 and body.startswith(b"Adobe"))):
        return b""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def _png(content: bytes) -> Iterator[bytes]:
    """The chunks that pixels and their colour depend on (PNG, third edition, section 11)."""
    yield content[:8]
    at = 8
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind in _PNG_KEPT:
            yield content[at : at + 12 + length]
        if kind == b"IEND":
            return
        at += 12 + length


def _webp(content: bytes) -> Iterator[bytes]:
    """The chunks of the picture (RFC 9649, 2.7), with the sizes and flags that then hold."""
    kept = list(_webp_chunks(content))
    yield b"RIFF" + struct.pack("<I", 4 + sum(map(len, kept))) + b"WEBP"
    yield from kept


def _webp_chunks(content: bytes) -> Iterator[bytes]:
    at, end = 12, min(len(content), 8 + struct.unpack_from("<I", content, 4)[0])
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", content, at)
        chunk = content[at : at + 8 + length + length % 2]
        if kind == b"VP8X":
            chunk = chunk[:8] + bytes((chunk[8] & ~_WEBP_METADATA,)) + chunk[9:]
        if kind in _WEBP_KEPT:
            yield chunk
        at += 8 + length + length % 2


def _jpeg_of(pixels: Any) -> bytes:
    encoded: bytes = simplejpeg.encode_jpeg(pixels, JPEG_QUALITY, colorspace="RGB", colorsubsampling="444")
    return encoded


def _png_of(pixels: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
