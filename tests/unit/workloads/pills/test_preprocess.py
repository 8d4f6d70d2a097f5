"""Decode, resize, normalise: every kind of image a user sends, and every kind of damage."""

import ast
import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from workloads.pills import preprocess
from workloads.pills.preprocess import BadImage, decode, decode_full, normalise, probe, resize


def picture(width: int = 48, height: int = 36) -> Image.Image:
    """A smooth picture whose four corners differ: red, green, blue, yellow."""
    corners = np.array([[[220, 30, 30], [30, 200, 30]], [[30, 30, 210], [230, 220, 40]]], dtype=np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


SAMPLES = {
    "jpeg": encoded(picture(), "JPEG", quality=95),
    "progressive": encoded(picture(), "JPEG", quality=95, progressive=True),
    "grey jpeg": encoded(picture().convert("L"), "JPEG"),
    "cmyk": encoded(picture().convert("CMYK"), "JPEG"),
    "turned jpeg": encoded(picture(), "JPEG", exif=with_orientation(6)),
    "png": encoded(picture(), "PNG"),
    "turned png": encoded(picture(), "PNG", exif=with_orientation(8)),
    "palette": encoded(picture().convert("P"), "PNG", transparency=3),
    "bilevel": encoded(picture().convert("1"), "PNG"),
    "grey and alpha": encoded(picture().convert("LA"), "PNG"),
    "16 bits": encoded(Image.fromarray(np.arange(48 * 36, dtype=np.uint16).reshape(36, 48) * 37), "PNG"),
    "webp": encoded(picture(), "WEBP", quality=95),
    "lossless webp": encoded(picture(), "WEBP", lossless=True),
    "turned webp": encoded(picture(), "WEBP", exif=with_orientation(6)),
    "webp with alpha": encoded(picture().convert("RGBA"), "WEBP"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_kind_becomes_a_square_of_rgb_and_the_same_one_each_time(name: str) -> None:
    first = decode(SAMPLES[name], 32)
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, decode(SAMPLES[name], 32))


@pytest.mark.parametrize("name", ["jpeg", "progressive", "cmyk", "png", "webp", "lossless webp", "webp with alpha"])
def test_colours_survive(name: str) -> None:
    difference = decode_full(SAMPLES[name]).astype(int) - np.asarray(picture()).astype(int)
    assert np.abs(difference).mean() < 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied_as_pil_does(orientation: int, kind: str) -> None:
    from PIL import ImageOps

    content = encoded(picture(), kind, exif=with_orientation(orientation), **({} if kind == "PNG" else {"quality": 95}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")).astype(int)
    assert probe(content).orientation == orientation
    result = decode_full(content)
    assert result.shape == expected.shape
    assert np.abs(result - expected).mean() < 4


def test_transparency_becomes_white() -> None:
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    half = Image.new("RGBA", (20, 20), (0, 0, 0, 128))
    assert (decode(encoded(clear, "PNG"), 8) == 255).all()
    assert abs(int(decode(encoded(half, "PNG"), 8).mean()) - 127) <= 1


def test_sixteen_bits_keep_their_high_byte() -> None:
    grey = np.full((16, 16), 0x80FF, dtype=np.uint16)
    assert (decode(encoded(Image.fromarray(grey), "PNG"), 16) == 0x80).all()


def test_aspect_is_kept_and_the_edge_continues() -> None:
    wide = np.zeros((10, 40, 3), dtype=np.uint8)
    wide[:5], wide[5:] = 50, 200
    result = resize(wide, 40)
    assert (result[:15] == 50).all()  # the upper edge, continued
    assert (result[25:] == 200).all()
    assert (result[16:19] == 50).all()


@pytest.mark.parametrize("shape", [(8, 8), (1, 1), (1, 3000), (3000, 1), (37, 53), (96, 96), (500, 96)])
@pytest.mark.parametrize("size", [8, 32, 96])
def test_any_shape_fits(shape: tuple[int, int], size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert resize(image, size).shape == (size, size, 3)


def test_a_tiny_image_is_enlarged_smoothly() -> None:
    ramp = np.repeat(np.linspace(0, 255, 8).astype(np.uint8)[None, :, None], 8, axis=0).repeat(3, axis=2)
    steps = np.diff(resize(ramp, 64)[32, :, 0].astype(int))
    assert steps.min() >= -1
    assert steps.max() <= 8  # nearest-neighbour would jump by 36


def test_a_large_jpeg_scaled_in_the_dct_matches_the_full_decode() -> None:
    large = picture(1000, 750)
    lossless = resize(np.asarray(large), 96)
    scaled = decode(encoded(large, "JPEG", quality=95), 96)
    assert decode_full(encoded(large, "JPEG"), 96).shape[1] == 125  # 1/8
    assert np.abs(scaled.astype(int) - lossless.astype(int)).max() <= 10


def test_normalise_is_the_formula() -> None:
    batch = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    expected = (batch / 255 - preprocess.MEAN) / preprocess.STD
    result = normalise(batch)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert np.allclose(result, expected.transpose(0, 3, 1, 2), atol=1e-6)
    assert np.array_equal(result[1:2], normalise(batch[1:2]))  # a batch changes nothing


def code_of(content: bytes, **options: int) -> str:
    with pytest.raises(BadImage) as caught:
        decode(content, 32, **options)
    assert caught.value.reason
    return caught.value.code


def test_each_fault_has_its_code() -> None:
    frames = [picture(), picture().rotate(90)]
    assert code_of(b"") == "empty"
    assert code_of(b"hello, I am a text file") == "not_an_image"
    for kind in ("GIF", "PNG", "WEBP"):
        assert code_of(encoded(frames[0], kind, save_all=True, append_images=frames[1:])) == "animated"
    for kind in ("GIF", "TIFF", "BMP"):
        assert code_of(encoded(picture(), kind)) == "unsupported"
    assert code_of(b"\0\0\0\x1cftypavif" + bytes(50)) == "unsupported"


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_cut_file_is_truncated(name: str, share: float) -> None:
    content = SAMPLES[name]
    assert code_of(content[: int(len(content) * share)]) in ("truncated", "not_an_image")
    if share == 0.9:
        assert code_of(content[: int(len(content) * share)]) == "truncated"


def test_a_pixel_bomb_is_refused_by_its_header_alone() -> None:
    bomb = b"\x89PNG\r\n\x1a\n" + png_header(50_000, 50_000) + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    assert code_of(bomb) == "too_large"
    assert code_of(SAMPLES["jpeg"], max_pixels=48 * 36 - 1) == "too_large"
    assert decode(SAMPLES["jpeg"], 32, max_pixels=48 * 36).shape == (32, 32, 3)


@pytest.mark.parametrize("side", [30, 9_000, 12_000, 50_000])
def test_a_second_header_with_another_size_is_refused(side: int) -> None:
    body = zlib.compress(bytes(30 * (1 + 3 * 30)))
    liar = png_header(20, 20) + png_header(side, side) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    assert code_of(b"\x89PNG\r\n\x1a\n" + liar) == "truncated"


@pytest.mark.parametrize(
    "chunk",
    [
        (b"iCCP", b"name\0y"),
        (b"gAMA", b"1"),
        (b"iCCP", b"name\0"),
        (b"pHYs", b""),
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(3_000_000))),
    ],
)
@pytest.mark.parametrize("behind_the_pixels", [False, True])
def test_a_png_with_a_broken_chunk_is_decoded_or_bad(chunk: tuple[bytes, bytes], behind_the_pixels: bool) -> None:
    content = SAMPLES["png"]
    at = content.index(b"IEND" if behind_the_pixels else b"IDAT") - 4
    survives_or_is_bad(content[:at] + png_chunk(*chunk) + content[at:])


def test_a_wrong_checksum_is_damage() -> None:
    content = bytearray(SAMPLES["png"])
    content[content.index(b"IDAT") + 20] ^= 1
    assert code_of(bytes(content)) == "truncated"


def test_transparency_that_is_said_behind_the_pixels_counts() -> None:
    content = encoded(Image.new("P", (8, 8)), "PNG")
    at = content.index(b"IEND") - 4
    late = content[:at] + png_chunk(b"tRNS", b"\0\x80") + content[at:]
    assert decode(late, 8).shape == (8, 8, 3)


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    content = SAMPLES["progressive"]
    assert code_of(content[:-2] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 200 + b"\xff\xd9") == "unsupported"


def test_garbage_after_or_between_segments_that_viewers_ignore_is_ignored() -> None:
    content = SAMPLES["jpeg"]
    clean = decode_full(content).astype(int)
    assert np.array_equal(decode_full(content + b"trailing garbage"), clean)
    blemished = content[:-2] + b"\0\0\0" + content[-2:]
    assert np.abs(decode_full(blemished) - clean).mean() < 4


def test_probe_reports_what_validation_lists() -> None:
    assert (probe(SAMPLES["cmyk"]).mode, probe(SAMPLES["16 bits"]).bits) == ("CMYK", 16)
    assert probe(SAMPLES["turned jpeg"]).has_exif
    assert not probe(SAMPLES["jpeg"]).has_exif
    assert probe(SAMPLES["webp with alpha"]).mode in ("RGBA", "RGB")  # an opaque alpha may be dropped
    for name, content in SAMPLES.items():
        header = probe(content)
        assert (header.width, header.height, header.frames) == (48, 36, 1), name


def test_the_error_crosses_process_borders() -> None:
    copy = pickle.loads(pickle.dumps(BadImage("empty", "no bytes")))  # what multiprocessing does
    assert (copy.code, copy.reason) == ("empty", "no bytes")


def test_the_file_stands_alone() -> None:
    tree = ast.parse(Path(preprocess.__file__).read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    roots = {str(name).split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert roots == {"numpy", "simplejpeg", "cv2", "PIL"}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), name=st.sampled_from(sorted(SAMPLES)))
def test_nothing_but_bad_image_leaves_decode(data: st.DataObject, name: str) -> None:
    content = bytearray(SAMPLES[name])
    spots = st.integers(0, len(content) - 1)
    for spot in data.draw(st.lists(spots | st.integers(0, 99), max_size=6)):
        content[spot] = data.draw(st.integers(0, 255))
    at = data.draw(spots)
    content[at:at] = data.draw(st.binary(max_size=8))
    survives_or_is_bad(bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"GIF89a"]), st.binary(max_size=200)
)
def test_random_bytes_are_bad_images(magic: bytes, rest: bytes) -> None:
    survives_or_is_bad(magic + rest)


def survives_or_is_bad(content: bytes) -> None:
    try:
        assert decode(content, 16, max_pixels=100_000).shape == (16, 16, 3)
    except BadImage as error:
        assert error.code in ("empty", "not_an_image", "truncated", "too_large", "animated", "unsupported")


def test_decoding_is_1_75_times_as_fast_as_pil() -> None:
    root = Path(preprocess.__file__).parents[2]
    command = [sys.executable, str(root / "benchmarks" / "decode.py"), "--quick"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, check=False, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
