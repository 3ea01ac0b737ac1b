"""Writes and reads with a class's own ``writeFits`` and ``readFits``."""

from lsst.daf.butler import FormatterV2


class FitsGenericFormatter(FormatterV2):
    """FITS by the object itself."""

    default_extension = ".fits"
    can_read_from_local_file = True

    def read_from_local_file(self, path, component=None, expected_size=-1):
        return self.file_descriptor.storageClass.pytype.readFits(path)

    def write_local_file(self, in_memory_dataset, uri):
        in_memory_dataset.writeFits(uri.ospath)
