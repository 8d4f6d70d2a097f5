import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from titrate_client.images import encoded, png

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9)) | st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))


@given(arrays(np.uint8, SHAPES))
def test_an_array_comes_back_from_its_png_unchanged(pixels):
    with Image.open(io.BytesIO(png(pixels))) as image:
        image.load()
        assert np.array_equal(np.asarray(image), pixels)


def test_a_view_that_is_not_contiguous_is_written_as_it_looks():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)[::-1, ::2]
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_an_array_that_is_no_image_is_refused(pixels):
    with pytest.raises(TypeError, match="uint8"):
        png(pixels)


def test_paths_are_read_and_bytes_pass(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"jpeg")
    assert encoded(tmp_path / "a.jpg") == encoded(str(tmp_path / "a.jpg")) == encoded(b"jpeg") == b"jpeg"
    with pytest.raises(FileNotFoundError):
        encoded(tmp_path / "b.jpg")
