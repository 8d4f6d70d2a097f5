"""Object storage through one fsspec door: a folder on the laptop (`file://`), a bucket on the cluster (`s3://`).

Two shapes are kept: blobs, named by the digest of their bytes, and folders, visible only when they are complete: the
file `COMPLETE` is uploaded last, and a reader looks at nothing without it.
"""

import posixpath
from pathlib import Path

import fsspec

from core.errors import PermanentError, UserError
from core.files import new_folder, sha256_bytes, write_atomic

COMPLETE = "COMPLETE"


class Store:
    """The objects below one URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri if "://" in uri else f"file://{Path(uri).absolute()}"
        self._fs, self._root = fsspec.core.url_to_fs(self.uri)
        self._local = self.uri.startswith("file://")

    def _path(self, *parts: str) -> str:
        path = posixpath.normpath(posixpath.join(self._root, *parts))
        if not path.startswith(self._root.rstrip("/") + "/"):
            raise UserError(f"object name {'/'.join(parts)!r} leaves the store {self.uri!r}")
        return path

    def put_blob(self, content: bytes) -> str:
        """Store `content` under its SHA-256 (which it returns); a blob that is there is not written again."""
        digest = sha256_bytes(content)
        path = self._path("blobs", digest[:2], digest)
        if not self._fs.exists(path):
            self._write(path, content)
        return digest

    def has_blob(self, digest: str) -> bool:
        """Whether the store holds the blob; its bytes are not checked."""
        return bool(self._fs.exists(self._path("blobs", digest[:2], digest)))

    def blob(self, digest: str) -> bytes:
        """The bytes of a blob; raises PermanentError when it is missing or was changed."""
        path = self._path("blobs", digest[:2], digest)
        try:
            content: bytes = self._fs.cat_file(path)
        except FileNotFoundError as error:
            raise PermanentError(f"blob {digest[:12]} is not in the store {self.uri!r}") from error
        if sha256_bytes(content) != digest:
            raise PermanentError(f"blob {digest[:12]} in the store {self.uri!r} was changed")
        return content

    def publish(self, folder: Path, name: str) -> str:
        """Upload the files of `folder` as `name/...`, the marker last; returns the URI. Twice is harmless."""
        if not self.exists(name):
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                self._write(self._path(name, file.relative_to(folder).as_posix()), file.read_bytes())
            self._write(self._path(name, COMPLETE), b"")
        return f"{self.uri.rstrip('/')}/{name}"

    def fetch(self, name: str, target: Path) -> Path:
        """Copy the complete folder `name` to `target` (replaced as a whole); raises UserError when it is not there."""
        if not self.exists(name):
            raise UserError(f"{name!r} is not in the store {self.uri!r}, or not completely published")
        prefix = self._path(name)
        with new_folder(target) as draft:
            for path in self._fs.find(prefix):
                relative = posixpath.relpath(path, prefix)
                if relative != COMPLETE:
                    write_atomic(draft / relative, self._fs.cat_file(path))
        return target

    def exists(self, name: str) -> bool:
        """Whether the folder `name` was published completely."""
        return bool(self._fs.exists(self._path(name, COMPLETE)))

    def names(self, prefix: str) -> list[str]:
        """The complete folders directly below `prefix`, sorted, without it."""
        self._fs.invalidate_cache()
        if not self._fs.exists(self._path(prefix)):
            return []
        found = (posixpath.basename(path.rstrip("/")) for path in self._fs.ls(self._path(prefix), detail=False))
        return sorted(name for name in found if self.exists(f"{prefix}/{name}"))

    def remove(self, name: str) -> None:
        """Remove the folder `name`, its marker first, so that no reader sees a part of it."""
        if self.exists(name):
            self._fs.rm_file(self._path(name, COMPLETE))
        if self._fs.exists(self._path(name)):
            self._fs.rm(self._path(name), recursive=True)

    def _write(self, path: str, content: bytes) -> None:
        if self._local:
            write_atomic(Path(path), content)
        else:
            self._fs.pipe_file(path, content)
