"""Butler formatters of our storage classes: thin, the files' own modules do the work."""

import json
from typing import Any, ClassVar

import numpy as np
from lsst.daf.butler import FormatterV2
from lsst.resources import ResourcePath

from proc_decam_dagster.errors import SurveyError


class RawFormatter(FormatterV2):
    """Reads one detector of a raw file as a `proc_decam_dagster.instrument.raw.RawImage`."""

    can_read_from_local_file = True
    default_extension = ".fits.fz"
    supported_extensions: ClassVar = frozenset({".fits", ".fits.fz", ".fz"})

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        from proc_decam_dagster.instrument.raw import read_raw

        return read_raw(path, self.data_id["detector"])


class MaskedImageFormatter(FormatterV2):
    """Reads and writes a `proc_decam_dagster.pixels.image.MaskedImage`, whole, by component or in part."""

    can_read_from_local_file = True
    default_extension = ".fits"

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        from proc_decam_dagster.instrument.image_file import read_image

        parameters = self.file_descriptor.parameters or {}
        return read_image(path, component, parameters.get("bbox"))

    def write_local_file(self, in_memory_dataset: Any, uri: ResourcePath) -> None:
        from proc_decam_dagster.instrument.image_file import write_image

        write_image(uri.ospath, in_memory_dataset)


class FitsTableFormatter(FormatterV2):
    """Reads and writes an `astropy.table.Table` of plain columns as a FITS table."""

    can_read_from_local_file = True
    default_extension = ".fits"

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        return read_table(path)

    def write_local_file(self, in_memory_dataset: Any, uri: ResourcePath) -> None:
        in_memory_dataset.write(uri.ospath, format="fits", overwrite=True)


class RefcatFormatter(FitsTableFormatter):
    """Reads a reference-catalogue shard in LSST format (afw ``SimpleCatalog``) as an `astropy.table.Table`."""


def read_table(path: str) -> Any:
    """Return the first table of a FITS file, its packed flags expanded.

    LSST catalogues pack all their booleans into one bit column, ``flags``, and name the bits in TFLAGn cards; each
    becomes a boolean column of its own. Arrays come back in native byte order. Header cards that are not structure
    are kept in ``meta``.

    Raises
    ------
    SurveyError
        Raised if the file cannot be read as a FITS table.
    """
    from astropy.io import fits
    from astropy.table import Table

    try:
        with fits.open(path, memmap=False) as hdus:
            hdu = next(each for each in hdus if isinstance(each, fits.BinTableHDU))
            table = Table.read(hdu)
            flags = {int(key[5:]) - 1: str(value) for key, value in hdu.header.items() if key.startswith("TFLAG")}
            if flags and "flags" in table.colnames:
                bits = np.asarray(hdu.data["flags"])
                table.remove_column("flags")
                for bit, name in sorted(flags.items()):
                    table[name] = bits[:, bit]
    except (OSError, StopIteration, TypeError, ValueError, KeyError) as error:
        raise SurveyError(f"{path} cannot be read as a FITS table: {error}", "", "fetch the file again") from error
    for name in table.colnames:
        if table[name].dtype.byteorder == ">":
            table[name] = table[name].astype(table[name].dtype.newbyteorder("="))
    for key in [key for key in table.meta if key.startswith(("TFLAG", "TFDOC", "TDOC", "TCCLS", "comments"))]:
        del table.meta[key]
    return table


class SkyMapFormatter(FormatterV2):
    """Reads and writes a `proc_decam_dagster.pixels.skymap.SkyMap` as JSON."""

    can_read_from_uri = True
    default_extension = ".json"

    def read_from_uri(self, uri: ResourcePath, component: str | None = None, expected_size: int = -1) -> Any:
        from proc_decam_dagster.pixels.skymap import SkyMap

        return SkyMap.from_dict(json.loads(uri.read()))

    def to_bytes(self, in_memory_dataset: Any) -> bytes:
        return json.dumps(in_memory_dataset.to_dict(), indent=1).encode()
