"""Where the Triton server of the `nvidia-pytriton` wheel is, and what must stand beside it before it starts.

The wheel holds the real `tritonserver` with its Python backend, but the backend's stub (the process that runs a
model's Python) lies apart from it. `prepare` puts both into one folder of the home, so that site-packages may be
read-only. server.py starts what is found here.
"""

import importlib.metadata
import importlib.util
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from core.errors import UserError

WHEEL = "nvidia-pytriton"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = f"libpython{PYTHON}.so.1.0"


def server_folder() -> Path:
    """The wheel's `tritonserver` folder; raises UserError when the wheel is missing or has no stub for this Python."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise UserError(f"the package {WHEEL!r} is not installed; `make setup` installs the locked environment")
    folder = Path(spec.origin).parent / "tritonserver"
    if not _stub(folder).is_file():
        raise UserError(f"{WHEEL} {version()} has no Triton stub for Python {PYTHON}; use Python 3.11")
    return folder


def version() -> str:
    """Version of the installed wheel."""
    return importlib.metadata.version(WHEEL)


def server_binary() -> Path:
    """The `tritonserver` executable; raises UserError."""
    return server_folder() / "bin" / "tritonserver"


def library_path() -> str:
    """`LD_LIBRARY_PATH` of server and stub: the wheel's own libraries, and libpython; raises UserError."""
    libraries = server_folder().parents[1] / "nvidia_pytriton.libs"
    return f"{libraries}:{libpython().parent}"


def libpython() -> Path:
    """The shared library of this Python, which the stub is linked to; raises UserError that names the package."""
    configured = [sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix) / "lib"]
    multiarch = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    folders = [*configured, f"/usr/lib/{multiarch}", "/usr/lib64", "/usr/local/lib"]
    for folder in folders:
        if folder and (Path(folder) / LIBRARY).is_file():
            return Path(folder) / LIBRARY
    raise UserError(
        f"Triton needs {LIBRARY}, which is in none of {', '.join(str(f) for f in folders if f)}; "
        f"on Debian or Ubuntu install the package 'libpython{PYTHON}', or use a Python built with --enable-shared"
    )


def prepare(cache: Path) -> Path:
    """A backend folder for Triton below `cache`, one for each version of the wheel; made once."""
    source = server_folder()
    target = cache / "triton-backend" / f"{version()}-py{PYTHON}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=target.parent) as scratch:
        draft = Path(scratch) / "backends"
        shutil.copytree(source / "backends" / "python", draft / "python")
        stub = draft / "python" / _stub(source).name
        shutil.copyfile(_stub(source), stub)
        stub.chmod(0o755)
        try:
            draft.rename(target)
        except OSError:
            if not target.exists():  # another process was first: its copy is the same
                raise
    return target


def _stub(server: Path) -> Path:
    return server / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
