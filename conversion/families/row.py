"""An official checkpoint: what a row of the table of variants says of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Variant:
    """One official checkpoint, or the recipe of one where none is published.

    Attributes:
        name: of its own; also the pytest id.
        family: the folder under ``conversion/families/`` that knows how to convert it.
        spec: keyword arguments of the family's spec: widths, depth, number of heads, features.
        files: role (``"checkpoint"``, and that of a head in a file of its own) to download URL; a mere
            file name where nothing is published.
        hub_name: the official converted model's name on the Hub, without namespace; empty if there is none.
        hub_namespace: of whoever published it there.
        entry: of the official checkpoint, the one that the model on the Hub is of; None if the file is the model.
        backbone: name of the variant that this one is verified beside, as a classifier whose ``"checkpoint"`` file is
            that one's; itself of all others.
        slow: its proof takes minutes; tests of it carry the ``slow`` marker.
        license: of the official weights, as the Hub names it.
        datasets: on the Hub, that they have seen, if they are there.
    """

    name: str
    family: str
    spec: Mapping[str, object]
    files: Mapping[str, str]
    hub_name: str
    backbone: str
    entry: str | None = None
    hub_namespace: str = "facebook"
    slow: bool = False
    license: str = "apache-2.0"
    datasets: tuple[str, ...] = ()

    @property
    def hub_repository(self) -> str:
        """Where the official converted model is on the Hub; empty if there is none."""
        return f"{self.hub_namespace}/{self.hub_name}" if self.hub_name else ""

    @property
    def is_published(self) -> bool:
        """Whether its files can be downloaded."""
        return all(url.startswith("https:") for url in self.files.values())


def build_row(
    name: str, family: str, spec: Mapping[str, object], files: Mapping[str, str], backbone: str = "", **others: Any
) -> Variant:
    """Build a row that cannot be changed; it is verified by itself unless the name of a backbone is given."""
    frozen, kept = MappingProxyType(dict(spec)), MappingProxyType(dict(files))
    return Variant(name=name, family=family, spec=frozen, files=kept, backbone=backbone or name, **others)
