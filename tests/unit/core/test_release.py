"""A release is exactly what was signed, or it is refused."""

from pathlib import Path

import pytest

from core.errors import PermanentError, UserError
from core.release import FILES, repository_digest, seal, verify
from core.signing import PUBLIC_KEY, ensure_keys


@pytest.fixture
def sealed(tmp_path: Path) -> tuple[Path, str, Path]:
    folder = tmp_path / "release"
    (folder / "pills" / "1").mkdir(parents=True)
    (folder / "pills" / "config.pbtxt").write_text("name: 'pills'")
    (folder / "pills" / "1" / "network.onnx").write_bytes(bytes(range(256)) * 40)
    (folder / "card.md").write_text("# card")
    private, public = ensure_keys(tmp_path / "keys")
    return folder, seal(folder, private), public


def test_untouched_release_verifies(sealed: tuple[Path, str, Path]) -> None:
    folder, digest, public = sealed
    verify(folder, digest, public)
    assert repository_digest(folder) == digest


def test_one_flipped_byte_is_refused_and_named(sealed: tuple[Path, str, Path]) -> None:
    folder, digest, public = sealed
    network = folder / "pills" / "1" / "network.onnx"
    content = bytearray(network.read_bytes())
    content[5000] ^= 1
    network.write_bytes(content)
    with pytest.raises(PermanentError, match=r"'pills/1/network.onnx' was changed"):
        verify(folder, digest, public)


@pytest.mark.parametrize(("name", "what"), [("card.md", "is missing"), ("pills/1/model.pkl", "was added")])
def test_missing_and_added_files_are_refused(sealed: tuple[Path, str, Path], name: str, what: str) -> None:
    folder, digest, public = sealed
    if what == "was added":
        (folder / name).write_bytes(b"x")
    else:
        (folder / name).unlink()
    with pytest.raises(PermanentError, match=f"'{name}' {what}"):
        verify(folder, digest, public)


def test_another_key_does_not_verify(sealed: tuple[Path, str, Path], tmp_path: Path) -> None:
    folder, digest, _ = sealed
    _, other = ensure_keys(tmp_path / "other")
    with pytest.raises(PermanentError, match="does not verify"):
        verify(folder, digest, other)


def test_a_rewritten_listing_does_not_help(sealed: tuple[Path, str, Path]) -> None:
    folder, digest, public = sealed
    (folder / FILES).write_text("{}")
    with pytest.raises(PermanentError, match=r"files\.json was changed"):
        verify(folder, digest, public)


def test_a_valid_listing_with_a_foreign_signature_is_refused(sealed: tuple[Path, str, Path], tmp_path: Path) -> None:
    folder, _, public = sealed
    (folder / "card.md").write_text("# forged")
    private, _ = ensure_keys(tmp_path / "forger")
    forged = seal(folder, private)
    with pytest.raises(PermanentError, match="signature"):
        verify(folder, forged, public)


def test_keys_are_made_once_and_the_private_one_is_private(tmp_path: Path) -> None:
    private, public = ensure_keys(tmp_path)
    before = private.read_bytes()
    assert ensure_keys(tmp_path)[0].read_bytes() == before
    assert private.stat().st_mode & 0o077 == 0
    public.unlink()
    with pytest.raises(UserError, match=PUBLIC_KEY):
        ensure_keys(tmp_path)
