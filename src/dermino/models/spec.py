"""How an encoder is named on every command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dermino.models.encoder_file import FILE_NAME
from dermino.models.named import named_encoders

SPEC_HELP = (
    "A run folder, a weights file (.safetensors, .pth), a name that dermino encoders lists, "
    "timm:NAME, hf:ID or open_clip:NAME/TAG; random:NAME is untrained. NAME=FILE reads a local "
    "file as that encoder. Otherwise NAME= in front chooses how results call it."
)
_SCHEMES = ("timm", "random", "hf", "open_clip")


@dataclass(frozen=True)
class Spec:
    """A parsed encoder name: how results call it, what it is, and the local file to read."""

    alias: str
    what: str
    file: str | None = None


def parse_spec(spec: str) -> Spec:
    """Split ``ALIAS=WHAT=FILE``, of which ALIAS and FILE may be absent.

    ``NAME=PATH`` is a file to read as NAME where NAME is a named encoder or has a scheme
    (``timm:...``), else a path called NAME.
    """
    alias, address = "", spec
    while not Path(address).exists():
        head, separator, rest = address.partition("=")
        if not separator:
            break
        named = head in named_encoders() and not _is_name(rest)
        if named or scheme_of(head):
            return Spec(alias or head.rpartition(":")[2], head, rest)
        if alias or not head:
            break
        alias, address = head, rest
    if alias:
        return Spec(alias, address)
    path = Path(address)
    if path.name == FILE_NAME:
        path = path.parent
    return Spec((path.stem if path.is_file() else path.name) or address, address)


def scheme_of(address: str) -> str:
    """Return what stands before the colon where it is a known scheme, else nothing."""
    scheme, _, rest = address.partition(":")
    return scheme if scheme in _SCHEMES and rest else ""


def _is_name(address: str) -> bool:
    return bool(scheme_of(address)) or (address in named_encoders() and not Path(address).exists())
