"""What stands for the stack's images and tables on disk: dictionaries in JSON files, by the stack's storage classes."""

from contract.classes import contract
from lsst.daf.butler import StorageClassDelegate
from lsst.daf.butler.formatters.json import JsonFormatter
from lsst.utils.introspection import get_full_type_name


class Frame(dict):
    """Stands for an exposure."""

    @property
    def maskedImage(self) -> "Frame":
        """Itself: `planes` are those of its mask."""
        return self


class Boxes(dict):
    """Stands for defects."""

    def maskPixels(self, image: Frame, plane: str) -> None:
        """Take note of the plane that is marked, and with which boxes."""
        image |= {"planes": sorted({*image.get("planes", ()), plane}), "epoch": self["epoch"]}


class Parts(StorageClassDelegate):
    """Any component of a frame is another dictionary."""

    def getComponent(self, composite, componentName):
        return Frame(component=componentName)

    def assemble(self, components, pytype=None):
        return components


class DictionaryFormatter(JsonFormatter):
    """A dictionary as a file; any component of it is another dictionary."""

    def read_from_uri(self, uri, component=None, expected_size=-1):
        whole = super().read_from_uri(uri, None, expected_size)
        return Frame(component=component) if component else self.file_descriptor.storageClass.pytype(whole)


def storage_classes() -> dict[str, dict]:
    """Return the storage classes of all connections; each holds a dictionary here."""
    members = [m for row in contract()["connections"].values() for m in row["members"].values()]
    types = {"Exposure": Frame, "ExposureF": Frame, "Defects": Boxes}
    names = sorted({member[2] for member in members} | types.keys())
    found = {name: {"pytype": get_full_type_name(types.get(name, dict))} for name in names}
    for name in ("Exposure", "ExposureF"):
        found[name]["delegate"] = get_full_type_name(Parts)
    return found


def formatters() -> dict[str, str]:
    """Return the formatter of each storage class."""
    return dict.fromkeys(storage_classes(), get_full_type_name(DictionaryFormatter))
