"""HTML pages from templates that lie beside their modules: escaped, and a name that is missing is an error."""

from collections.abc import Callable
from pathlib import Path

import jinja2


def template(beside: Path, name: str, **filters: Callable[..., object]) -> jinja2.Template:
    """The template `name` in the folder of the module `beside` (its `__file__`), with filters of its own."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(beside.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(name)
