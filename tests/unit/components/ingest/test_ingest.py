import contextlib
import errno
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from components.ingest import ingest as module
from components.ingest.image import Refused, read
from components.ingest.ingest import ingest
from components.ingest.report import IngestReport
from core.dataset import Dataset
from core.errors import DataError, TitrateError, UserError
from core.objects import Store
from core.step import reporting_errors


def pixels(seed: int, size: int = 24) -> Any:
    rough = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(rough).resize((size, size), Image.Resampling.BICUBIC))


def image(seed: int = 0, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(seed)).save(out, form, **options)
    return out.getvalue()


def folder(root: Path, classes: int = 2, each: int = 3) -> Path:
    """Class folders with distinct images."""
    for label in range(classes):
        for number in range(each):
            put(root / f"class {label}" / f"{number}.png", image(1000 * label + number))
    return root


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run" / "dataset"


def quarantined(out: Path) -> dict[str, tuple[str, str]]:
    lines = (out / "quarantine.jsonl").read_text().splitlines()
    return {row["path"]: (row["code"], row["reason"]) for row in map(json.loads, lines)}


def test_a_folder_becomes_a_dataset_and_its_images_blobs(tmp_path: Path, store: Store, out: Path) -> None:
    report = ingest("pills", folder(tmp_path / "data"), store, out)
    dataset = Dataset.read(out)
    assert dataset.labels == ["class 0", "class 1"] and dataset.info.rows == report.good == 6
    assert dataset.info.digest == report.dataset and dataset.info.source == "data" and not dataset.info.synthetic
    assert dataset.info.image_size == 32  # the least: the images have 24 pixels
    first = dataset.samples[0]
    assert (first.id, first.width, first.height, first.split) == ("class 0/0.png", 24, 24, None)
    assert store.blob(first.sha256) == image(0)
    assert IngestReport.from_file(out / "ingest.json") == report and quarantined(out) == {}


def test_a_sample_without_a_group_is_its_own_whatever_it_is_called(tmp_path: Path, store: Store, out: Path) -> None:
    data = folder(tmp_path / "data")
    before = {ingest("pills", data, store, out).dataset: {s.group for s in Dataset.read(out).samples}}
    for path in sorted(data.rglob("*.png")):
        path.rename(path.with_stem(f"renamed {path.stem}"))
    report = ingest("pills", data, store, out)
    assert report.dataset not in before
    assert [{s.group for s in Dataset.read(out).samples}] == list(before.values())


def test_originals_stay_and_the_copies_know_nothing_of_the_camera(tmp_path: Path, store: Store, out: Path) -> None:
    tags = Image.Exif()
    tags[0x0112], tags[0x0110] = 6, "Camera of Jane Doe"
    original = image(1, "JPEG", exif=tags.tobytes())
    data = folder(tmp_path / "data")
    path = put(data / "class 0" / "turned.jpg", original)
    stamp = path.stat().st_mtime_ns
    report = ingest("pills", data, store, out)
    assert path.read_bytes() == original and path.stat().st_mtime_ns == stamp
    assert report.changes == {"none": 6, "turned": 1}
    sample = next(s for s in Dataset.read(out).samples if s.id.endswith("turned.jpg"))
    assert b"Exif" not in store.blob(sample.sha256) and b"Jane" not in store.blob(sample.sha256)


def test_duplicates_are_kept_and_counted(tmp_path: Path, store: Store, out: Path) -> None:
    data = folder(tmp_path / "data")
    put(data / "class 1" / "again.png", image(0))
    report = ingest("pills", data, store, out)
    assert report.good == 7 and report.duplicates == 1
    assert report.bytes_stored < report.bytes_read


def bomb() -> bytes:
    """A PNG of 50,000 x 50,000 pixels, whole: 312 MB of zeros behind 300 kB."""
    packer = zlib.compressobj(9)
    row = bytes(6251)
    data = b"".join(packer.compress(row * 500) for _ in range(100)) + packer.flush()
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    chunks = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def animated(form: str) -> bytes:
    frames = [Image.fromarray(pixels(seed)) for seed in range(3)]
    out = io.BytesIO()
    frames[0].save(out, form, save_all=True, append_images=frames[1:])
    return out.getvalue()


BAD = {
    "empty.png": (b"", "empty"),
    "text.jpg": (b"this is no image at all", "not_an_image"),
    "html.png": (b"<!doctype html><title>404</title>", "not_an_image"),
    "cut.jpg": (image(1, "JPEG")[:500], "truncated"),
    "cut.png": (image(1)[:300], "truncated"),
    "cut.webp": (image(1, "WEBP")[:60], "truncated"),
    "flipped.png": (image(1)[:200] + b"\xff" * 20 + image(1)[220:], "truncated"),
    "head.jpg": (image(1, "JPEG")[:20], "truncated"),
    "still.gif.png": (image(1, "GIF"), "unsupported"),
    "moving.gif.png": (animated("GIF"), "animated"),
    "moving.webp": (animated("WEBP"), "animated"),
    "moving.png": (animated("PNG"), "animated"),
    "bitmap.png": (image(1, "BMP"), "unsupported"),
    "tiff.jpg": (image(1, "TIFF"), "unsupported"),
    "heif.jpg": (b"\0\0\0\x18ftypheic" + bytes(40), "unsupported"),
    "bomb.png": (bomb(), "too_large"),
}


def test_each_bad_image_is_quarantined_with_its_reason(tmp_path: Path, store: Store, out: Path) -> None:
    data = folder(tmp_path / "data")
    for name, (content, _) in BAD.items():
        put(data / "class 0" / name, content)
    began = time.monotonic()
    report = ingest("pills", data, store, out)
    assert time.monotonic() - began < 20  # no minute of inflating the bomb
    assert {path: code for path, (code, _) in quarantined(out).items()} == {
        f"class 0/{name}": code for name, (_, code) in BAD.items()
    }
    assert all(reason for _, reason in quarantined(out).values())
    assert report.good == 6 and report.quarantined == len(BAD) == sum(report.reasons.values())
    assert Dataset.read(out).info.quarantined == len(BAD)


def test_cmyk_and_sixteen_bit_images_are_converted_and_counted(tmp_path: Path, store: Store, out: Path) -> None:
    data = folder(tmp_path / "data")
    deep = io.BytesIO()
    Image.fromarray(pixels(5)[..., 0].astype(np.uint16) * 257).save(deep, "PNG")
    cmyk = io.BytesIO()
    Image.fromarray(pixels(6)).convert("CMYK").save(cmyk, "JPEG")
    put(data / "class 0" / "deep.png", deep.getvalue())
    put(data / "class 0" / "print.jpg", cmyk.getvalue())
    assert ingest("pills", data, store, out).changes == {"converted": 2, "none": 6}


def test_when_every_image_is_bad_the_answer_is_left_to_validation(tmp_path: Path, store: Store, out: Path) -> None:
    data = tmp_path / "data"
    for label in "ab":
        put(data / label / "1.png", b"no")
    report = ingest("pills", data, store, out)
    assert report.good == 0 and report.quarantined == 2 and Dataset.read(out).samples == []


def test_an_empty_folder_is_the_users_error(tmp_path: Path, store: Store, out: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="data"):
        ingest("pills", tmp_path / "data", store, out)
    assert not out.exists()


def test_names_with_blanks_quotes_and_any_script_work(tmp_path: Path, store: Store, out: Path) -> None:
    labels = ["50 \"mg\" 'forte'", "アスピリン <b>&amp;", "ß-Carotin $(id) `x`; --help"]
    for seed, label in enumerate(labels):
        put(tmp_path / "my data" / label / " a 'b' \"c\" é.png", image(seed))
    report = ingest("pills", tmp_path / "my data", store, out)
    assert report.good == 3 and Dataset.read(out).labels == sorted(labels)


def test_a_manifest_with_gaps_keeps_what_is_whole(tmp_path: Path, store: Store, out: Path) -> None:
    data = folder(tmp_path / "data", each=2)
    manifest = data / "manifest.csv"
    manifest.write_text(
        "path,label,group,side,split,taken_at\n"
        "class 0/0.png,a,pill 1,front,train,2024-05-01T10:00:00\n"
        "class 0/1.png,,pill 1,,,\n"
        "class 1/0.png,b,,,,\n"
        "class 1/gone.png,b,,,,\n"
    )
    report = ingest("pills", manifest, store, out)
    first, second = Dataset.read(out).samples
    assert (first.group, first.side, first.split, second.split) == ("pill 1", "front", "train", None)
    assert first.taken_at is not None and first.taken_at.year == 2024
    assert report.missing == {"group": 1, "side": 1, "split": 1, "taken_at": 1}
    assert set(quarantined(out)) == {"class 0/1.png", "class 1/gone.png"}


def test_a_path_that_leads_out_of_the_folder_is_not_read(tmp_path: Path, store: Store, out: Path) -> None:
    data = folder(tmp_path / "data")
    put(tmp_path / "secret.png", image(99))
    (data / "class 0" / "link.png").symlink_to(tmp_path / "secret.png")
    with contextlib.suppress(DataError):  # of the workload: either it refuses the source, or the row is quarantined
        ingest("pills", data, store, out)
        assert "class 0/link.png" in quarantined(out)
    for path in ("class 0/link.png", "../secret.png", "class 0/../../secret.png", str(tmp_path / "secret.png")):
        with pytest.raises(Refused) as caught:
            read(data.resolve(), path)
        assert caught.value.code == "outside"
    assert not store.has_blob(Store(str(tmp_path / "other")).put_blob(image(99)))


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder.png").mkdir()
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(300 * 2**20)
    codes = {"pipe": "not_a_file", "folder": "not_a_file", "huge": "too_large", "gone": "missing", "loop": "unreadable"}
    for name, code in codes.items():
        with pytest.raises(Refused) as caught:
            read(tmp_path.resolve(), f"{name}.png")
        assert caught.value.code == code
    for path in ("a\0b.png", "x" * 5000):
        with pytest.raises(Refused):
            read(tmp_path.resolve(), path)


def test_twice_gives_the_same_dataset(tmp_path: Path, store: Store, out: Path) -> None:
    data = folder(tmp_path / "data")
    first = ingest("pills", data, store, out)
    assert ingest("pills", data, store, out) == first
    assert sorted(path.name for path in out.iterdir()) == [
        "dataset.json", "ingest.json", "manifest.jsonl", "quarantine.jsonl",
    ]  # fmt: skip
    assert [path.name for path in out.parent.iterdir()] == ["dataset"]


def test_a_failure_while_writing_leaves_the_dataset_that_was_there(
    tmp_path: Path, store: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder(tmp_path / "data")
    first = ingest("pills", data, store, out)
    put(data / "class 0" / "new.png", image(50))

    def full(path: Path, content: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(module, "write_atomic", full)  # the second file of the folder
    with pytest.raises(OSError, match="No space left"):
        ingest("pills", data, store, out)
    assert IngestReport.from_file(out / "ingest.json") == first and Dataset.read(out).info.rows == 6
    assert [path.name for path in out.parent.iterdir() if path.is_dir()] == ["dataset"]


def test_many_processes_make_the_dataset_that_one_makes(
    tmp_path: Path, store: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder(tmp_path / "data", each=40)
    put(data / "class 0" / "bad.png", b"no")
    alone = ingest("pills", data, store, out)
    monkeypatch.setattr(module, "POOL_FROM", 10)
    together = ingest("pills", data, Store(str(tmp_path / "another")), tmp_path / "together" / "dataset")
    assert together == alone and together.quarantined == 1


def test_a_finished_image_is_not_examined_again_unless_it_changed(
    tmp_path: Path, store: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder(tmp_path / "data")
    work = tmp_path / "work"
    examined: list[str] = []

    def interrupted(workload: str, root: Path, store: Store, paths: list[str]) -> Iterator[Any]:
        for number, outcome in enumerate(original(workload, root, store, paths)):
            examined.append(outcome.path)
            if number == fail_at:
                raise KeyboardInterrupt
            yield outcome

    original = module._outcomes
    monkeypatch.setattr(module, "_outcomes", interrupted)
    fail_at = 4
    with pytest.raises(KeyboardInterrupt):
        ingest("pills", data, store, out, work)
    assert not out.exists()
    put(data / "class 0" / "1.png", image(77))
    examined.clear()
    fail_at = -1
    report = ingest("pills", data, store, out, work)
    assert examined == ["class 0/1.png", "class 1/1.png", "class 1/2.png"]
    assert report == ingest("pills", data, Store(str(tmp_path / "fresh")), tmp_path / "fresh" / "dataset")
    assert list(work.iterdir()) == []  # what is finished needs no journal


SCRIPT = """
import sys
from pathlib import Path
from components.ingest import ingest as module
from core.objects import Store
if __name__ == "__main__":
    module.POOL_FROM = 1
    module.CHUNK = 4
    module.ingest("pills", *(kind(text) for kind, text in zip((Path, Store, Path, Path), sys.argv[1:])))
"""


def test_kill_9_leaves_no_dataset_and_no_process_and_the_next_call_goes_on(
    tmp_path: Path, store: Store, out: Path
) -> None:
    data = folder(tmp_path / "data", classes=4, each=50)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    work = tmp_path / "work"
    command = [sys.executable, str(script), str(data), str(tmp_path / "store"), str(out), str(work)]
    environment = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])}
    process = subprocess.Popen(command, env=environment)
    done = wait_until(process, lambda: finished(work))
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < done < 200 and len(children) >= 2 and not out.exists()
    assert psutil.wait_procs(children, timeout=20)[1] == []
    report = ingest("pills", data, store, out, work)
    fresh = ingest("pills", data, Store(str(tmp_path / "fresh")), tmp_path / "fresh" / "dataset")
    assert report == fresh and report.good == 200


def finished(work: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) - 1 for path in work.glob(".ingest-*.jsonl"))


def wait_until(process: "subprocess.Popen[bytes]", count: Callable[[], int]) -> int:
    """What `count` gives as soon as it is 20 or more; fails when the process ends first."""
    deadline = time.monotonic() + 60
    while (number := count()) < 20:
        with contextlib.suppress(subprocess.TimeoutExpired):
            pytest.fail(f"ended with {process.wait(0.02)}")
        assert time.monotonic() < deadline
    return number


def test_a_full_disk_is_named_and_leaves_no_dataset(
    tmp_path: Path, small_disk: Callable[[str], Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = small_disk("192k")
    monkeypatch.setenv("TITRATE_ERROR_FILE", str(tmp_path / "error.json"))
    data = folder(tmp_path / "data", each=60)
    with pytest.raises(UserError, match=r"small/.*No space left"), reporting_errors("ingest"):
        ingest("pills", data, Store(str(place)), out)
    assert not out.exists()
    assert json.loads((tmp_path / "error.json").read_text())["step"] == "ingest"
    assert ingest("pills", data, Store(str(tmp_path / "store")), out).good == 120


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path, small_disk: Callable[[str], Path], out: Path) -> None:
    place = small_disk("192k")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    with pytest.raises(TitrateError, match=r"small/.*(Read-only|denied)"), reporting_errors("ingest"):
        ingest("pills", folder(tmp_path / "data"), Store(str(place)), out)
    assert not out.exists()
