"""The HTML templates of all pages and the frame they share, ``layout.html``."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def html_templates(package: str = "dermino.report") -> Environment:
    """Return the templates in a package's folder; they may extend ``layout.html``.

    What is put into them is escaped, and a name that was not given is an error.
    """
    places = dict.fromkeys((package, "dermino.report"))
    return Environment(
        loader=ChoiceLoader([PackageLoader(place, ".") for place in places]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
