"""From the bytes of one image to the tensor of the network: decode, resize, normalise.

Training and serving run this very file: it is copied into every release beside the model, so it imports only the
standard library, numpy, simplejpeg, cv2 and PIL. Equal bytes give equal tensors: no randomness, no state. Whatever is
wrong with an image is a `BadImage`.
"""

import io
import struct
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Code = Literal["empty", "not_an_image", "truncated", "too_large", "animated", "unsupported"]

MAX_PIXELS = 40_000_000  # 120 MB as RGB: the largest decode a 2 GB server can hold several of
MAX_SCANS = 100  # a progressive JPEG has about 10; each further scan costs a pass over all coefficients
MEAN = (0.485, 0.456, 0.406)  # of ImageNet, in RGB: what torchvision's weights were trained with
STD = (0.229, 0.224, 0.225)

OTHER_FORMATS = (
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
)
PNG_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
# What libjpeg warns of and every viewer ignores.
HARMLESS = ("extraneous bytes", "Invalid SOS parameters", "unknown JFIF revision", "Unknown Adobe color transform")
# What PIL raises on bytes that lie about themselves (found by fuzzing), beside warning of segments nobody asked for.
PIL_ERRORS = (
    *(OSError, SyntaxError, ValueError, IndexError, struct.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
PIL_WARNS_OF = (b"Exif\0\0", b"MPF\0")


class BadImage(ValueError):  # noqa: N818 - it says what the image is, not what the program did
    """An image that cannot be used: a stable `code` for programs, a `reason` for people."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason

    def __reduce__(self) -> tuple[type["BadImage"], tuple[Code, str]]:
        return (BadImage, (self.code, self.reason))  # it crosses process borders in loaders


class ImageHeader(NamedTuple):
    """What the first bytes say; pixels are not decoded. `width` and `height` are as stored, before the orientation."""

    format: str
    width: int
    height: int
    mode: str
    frames: int = 1
    has_exif: bool = False
    bits: int = 8
    orientation: int = 1
    whole: bool = True
    """False when a PNG ends before its end chunk; in the other formats the decoder finds out."""


def decode(content: bytes, size: int, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The image as uint8 [size, size, 3] RGB, upright, transparency on white; raises BadImage."""
    return resize(decode_full(content, size, max_pixels), size)


def decode_full(content: bytes, least: int = MAX_PIXELS, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The image as uint8 [h, w, 3] RGB, upright; a JPEG may come smaller, its longer side at `least` or more."""
    header = check(probe(content), max_pixels)
    pixels = _decode_jpeg(content, header, least) if header.format == "jpeg" else _decode_by_pil(content, header)
    return upright(pixels, header.orientation)


def check(header: ImageHeader, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """The same header; raises BadImage when it promises what is not decoded."""
    if header.width < 1 or header.height < 1:
        raise BadImage("truncated", f"the header says {header.width} x {header.height} pixels")
    if header.width * header.height > max_pixels:
        raise BadImage(
            "too_large", f"{header.width} x {header.height} pixels are more than {max_pixels:,}: send a smaller copy"
        )
    if not header.whole:
        raise BadImage("truncated", "the file ends before its last chunk")
    if header.frames > 1:
        raise BadImage("animated", f"an animated {header.format}: send one frame as jpg, png or webp")
    if header.format == "gif":
        raise BadImage("unsupported", "GIF is not read: convert it to jpg, png or webp")
    return header


def resize(image: Pixels, size: int) -> Pixels:
    """uint8 [h, w, 3] -> uint8 [size, size, 3]: the longer side fills the square, the image's own edge fills the rest.

    Why so: a stretch turns round pills oval, a crop cuts the rim and the subject of wide photographs, a black border
    is a shape of its own.
    """
    height, width = image.shape[:2]
    if height == size and width == size:
        return image
    scale = size / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    result: Any = image
    steps = int(1 / scale)
    if steps >= 2 and min(height, width) >= steps:  # whole steps by their mean: 2 to 3 times as fast as one
        whole = image[: height // steps * steps, : width // steps * steps]
        result = cv2.resize(whole, (width // steps, height // steps), interpolation=cv2.INTER_AREA)
    if result.shape[1::-1] != inner:  # less than a factor of 2 is left: no neighbour is skipped
        result = cv2.resize(result, inner, interpolation=cv2.INTER_LINEAR if scale < 1 else cv2.INTER_CUBIC)
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    right, bottom = size - inner[0] - left, size - inner[1] - top
    framed: Pixels = cv2.copyMakeBorder(result, top, bottom, left, right, cv2.BORDER_REPLICATE)
    return framed


def normalise(batch: Pixels) -> NDArray[np.float32]:
    """uint8 [n, s, s, 3] -> float32 [n, 3, s, s], each channel (x / 255 - MEAN) / STD."""
    result = np.empty((batch.shape[0], 3, *batch.shape[1:3]), dtype=np.float32)
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        plane = result[:, channel]
        np.multiply(batch[..., channel], np.float32(1 / (255 * std)), out=plane)
        plane -= np.float32(mean / std)
    return result


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """The image turned as EXIF's orientation (1 to 8; Exif 2.32, table 4.6.4) says it is to be shown."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def probe(content: bytes) -> ImageHeader:
    """What the header says, in microseconds; raises BadImage when it is missing, cut or of no format that is read."""
    if not content:
        raise BadImage("empty", "the file has no bytes")
    try:
        if content[:2] == b"\xff\xd8":
            return _probe_jpeg(content)
        if content[:8] == b"\x89PNG\r\n\x1a\n":
            return _probe_png(content)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _probe_webp(content)
        if content[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack_from("<HH", content, 6)
            frames = max(
                1, content.count(b"\0\x21\xf9\x04"), content.count(b"\0\x2c\0\0\0\0")
            )  # a good guess: refused anyway
            return ImageHeader("gif", width, height, "P", frames)
    except (struct.error, IndexError) as error:
        raise BadImage("truncated", "the file ends inside its header") from error
    for magic, name in OTHER_FORMATS:
        if content.startswith(magic):
            raise BadImage("unsupported", f"{name} is not read: convert it to jpg, png or webp")
    if content[4:12] in (b"ftypavif", b"ftypheic", b"ftypmif1", b"ftypheix"):
        raise BadImage("unsupported", "HEIF and AVIF are not read: convert it to jpg, png or webp")
    raise BadImage("not_an_image", f"starts with {content[:8]!r}: not jpg, png or webp")


def _probe_jpeg(content: bytes) -> ImageHeader:
    """Walk the segments up to the frame header (ITU-T T.81, annex B)."""
    at, orientation, has_exif = 2, 1, False
    while True:
        if content[at] != 0xFF:
            raise BadImage("truncated", "the JPEG is damaged before its frame header")
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = struct.unpack_from(">BHHB", content, at + 4)
            break
        elif marker in (0xD9, 0xDA):
            raise BadImage("truncated", "the JPEG has no frame header")
        else:
            if marker == 0xE1 and content[at + 4 : at + 10] == b"Exif\0\0":
                has_exif, orientation = True, _orientation(content[at + 10 : at + 66_000])
            at += 2 + (content[at + 2] << 8 | content[at + 3])
    if bits != 8 or channels not in JPEG_MODES:
        raise BadImage("unsupported", f"a JPEG of {channels} channels with {bits} bits: convert it to 8-bit RGB")
    if marker == 0xC2 and content.count(b"\xff\xda") > MAX_SCANS:
        raise BadImage("unsupported", f"a JPEG of more than {MAX_SCANS} scans: save it again")
    return ImageHeader("jpeg", width, height, JPEG_MODES[channels], 1, has_exif, bits, orientation)


def _probe_png(content: bytes) -> ImageHeader:
    """The IHDR chunk, and which chunks stand before and after the pixels (PNG, third edition, sections 5 and 11)."""
    width, height, bits, colour = struct.unpack_from(">IIBB", content, 16)
    if content[12:16] != b"IHDR" or colour not in PNG_MODES:
        raise BadImage("truncated", "the PNG's header is damaged")
    at, frames, exif, kind = 8, 1, b"", b""
    while kind != b"IEND" and at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind == b"acTL":
            frames = struct.unpack_from(">I", content, at + 8)[0] or 2  # none is illegal
        elif kind == b"eXIf":
            exif = content[at + 8 : at + 8 + length]
        at += 12 + length
    orientation, whole = _orientation(exif), kind == b"IEND"
    return ImageHeader("png", width, height, PNG_MODES[colour], frames, bool(exif), bits, orientation, whole)


def _probe_webp(content: bytes) -> ImageHeader:
    """The first chunk: VP8 (RFC 6386, 9.1), VP8L (its specification, 3) or VP8X (RFC 9649, 2.7)."""
    kind = content[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return ImageHeader("webp", width & 0x3FFF, height & 0x3FFF, "RGB")
    if kind == b"VP8L":
        packed = struct.unpack_from("<I", content, 21)[0]
        alpha = "RGBA" if packed >> 28 & 1 else "RGB"
        return ImageHeader("webp", (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, alpha)
    if kind != b"VP8X":
        raise BadImage("truncated", "the WebP's header is damaged")
    flags, low, high = struct.unpack_from("<IIH", content, 20)
    width, height = (low & 0xFFFFFF) + 1, (low >> 24 | high << 8) + 1
    frames = content.count(b"ANMF") if flags & 2 else 1
    start = content.rfind(b"EXIF") if flags & 8 else -1
    exif = content[start + 8 :].removeprefix(b"Exif\0\0") if start >= 0 else b""
    mode = "RGBA" if flags & 16 else "RGB"
    return ImageHeader("webp", width, height, mode, frames, bool(exif), 8, _orientation(exif))


def _orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory, 1 when there is none or the block is damaged (TIFF 6.0, section 2)."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            return 1
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == 0x0112:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _decode_jpeg(content: bytes, header: ImageHeader, least: int) -> Pixels:
    """By libjpeg-turbo, scaled inside the DCT; what it merely warns of is left to PIL, which tells blemish from cut."""
    if header.mode == "CMYK":
        return _decode_by_pil(content, header)
    longer, shrink = max(header.width, header.height), 1
    while (
        shrink < 8 and longer >= 2 * shrink * least
    ):  # halvings have fast code, the sevenths and fifths between have not
        shrink *= 2
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(
            content,
            "RGB",
            fastdct=True,
            fastupsample=True,
            min_height=-(-header.height // shrink),
            min_width=-(-header.width // shrink),
        )
    except ValueError as error:
        if any(warning in str(error) for warning in HARMLESS):
            return _decode_by_pil(content, header)
        raise BadImage("truncated", f"the JPEG is cut short or damaged: {error}") from error
    return pixels


def _decode_by_pil(content: bytes, header: ImageHeader) -> Pixels:
    """PNG, WebP and rare JPEGs -> uint8 [h, w, 3]; 16 bits lose their low byte."""
    for segment in PIL_WARNS_OF if header.format == "jpeg" else ():
        content = content.replace(segment, b"Skip\0\0"[: len(segment)])
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP")) as image:
            image.load()  # first: some chunks stand behind the pixels
            if image.size != (header.width, header.height):
                raise BadImage("truncated", "two headers in it disagree about its size")
            return _rgb(image)
    except BadImage:
        raise
    except PIL_ERRORS as error:
        raise BadImage("truncated", f"the image is cut short or damaged ({type(error).__name__})") from error


def _rgb(image: Any) -> Pixels:
    """Any mode of PIL -> uint8 [h, w, 3]."""
    if image.mode in ("I", "I;16", "I;16B"):  # 16-bit grey; PIL would clip it at 255
        grey = (np.asarray(image).astype(np.int32) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(image.convert("RGB"))
