"""Turns what users have (a path, encoded bytes, an array) into an encoded image."""

import struct
import zlib
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Image = str | PathLike[str] | bytes | NDArray[np.uint8]
"""A file's path, the bytes of a jpg, png or webp, or uint8 [h, w, 3] RGB (or [h, w] grey)."""


def encoded(image: Image) -> bytes:
    """The bytes of a jpg, png or webp; an array becomes a PNG, which loses nothing. Raises TypeError, OSError."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, np.ndarray):
        return png(image)
    return Path(image).read_bytes()


def png(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 [h, w, 3] or [h, w] -> PNG (W3C PNG, sections 5 and 11; filter 0, zlib level 1)."""
    if pixels.dtype != np.uint8 or pixels.ndim not in {2, 3} or pixels.shape[2:] not in {(), (3,)} or not pixels.size:
        raise TypeError(f"an array must be uint8 [h, w, 3] or [h, w]; got {pixels.dtype} {list(pixels.shape)}")
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # the first byte of each row is its filter
    rows[:, 1:] = pixels.reshape(height, -1)
    colour = 2 if pixels.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
