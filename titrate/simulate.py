"""`titrate drift simulate`: what serves is asked about images as a broken camera, or other people, would send them.

The events are real ones: the loop sees them, and may act on them.
"""

import io
import itertools
import time
from pathlib import Path

from core.config import Config
from core.errors import UserError, nearest
from core.home import Home
from titrate.load import Load, in_class_folders
from titrate.stack.state import read_state
from workloads.contract import load

IMAGES = 400
"""Different images at most."""


class Simulated(Config):
    """What is sent."""

    kind: str = "none"
    """none, blur, colour, noise or dark."""
    level: int = 3
    only: tuple[str, ...] = ()
    """Classes; none: all."""
    seconds: float = 30.0
    labels: bool = False


def simulate(home: Home, folder: Path, workload: str, asked: Simulated) -> str:
    """Ask for some seconds; what was sent and answered, in words. Raises UserError."""
    state = read_state(home)
    if state is None or workload not in state.serving:
        raise UserError(f"no release of {workload!r} serves; `titrate stack up` starts the stack")
    images = broken(folder, workload, asked)
    with Load(home, images, workload, labels=asked.labels) as clients:
        time.sleep(asked.seconds)
    answered = clients.answered.total()
    share = clients.right / answered if answered else 0.0
    return f"{answered:,} answers, {share:.3f} of them right; {clients.failed} requests failed"


def broken(folder: Path, workload: str, asked: Simulated) -> list[tuple[bytes, str]]:
    """(JPEG, class) of images below the class folders of `folder`, as asked; raises UserError when there are none."""
    files = sorted(path for kind in ("jpg", "jpeg", "png", "webp") for path in folder.glob(f"*/*.{kind}"))
    classes = sorted({path.parent.name for path in files})
    if unknown := set(asked.only) - set(classes):
        raise UserError(f"no folder of class {min(unknown)!r}; {nearest(min(unknown), classes)}")
    files = [path for path in files if not asked.only or path.parent.name in asked.only]
    if not files:
        raise UserError(f"no images in class folders below {str(folder)!r}")
    chosen = in_class_folders(list(itertools.islice(files, 0, None, max(1, len(files) // IMAGES)))[:IMAGES])
    if asked.kind == "none":
        return chosen
    return [(_taken(content, workload, asked), label) for content, label in chosen]


def _taken(content: bytes, workload: str, asked: Simulated) -> bytes:
    """The image as the broken camera gives it."""
    import numpy as np
    from PIL import Image

    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    stream = io.BytesIO()
    Image.fromarray(load(workload).camera.corrupt(image, asked.kind, asked.level)).save(stream, "JPEG", quality=92)
    return stream.getvalue()
