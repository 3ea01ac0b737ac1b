"""The storage classes of the embedded engine and their formatters, as the seed of a repository's configuration.

Their names are our own: the science stack's (``ExposureF``, …) are never redefined. Tables written by tasks use the
middleware's ``ArrowAstropy``, small dictionaries its ``StructuredDataDict``.
"""

from lsst.daf.butler import Config

FORMATTERS = "proc_decam_dagster.instrument.formatters."

STORAGE_CLASSES = {
    "DecamRaw": {"pytype": "proc_decam_dagster.instrument.raw.RawImage"},
    "DecamImage": {
        "pytype": "proc_decam_dagster.pixels.image.MaskedImage",
        "parameters": ["bbox"],
        "derivedComponents": {
            "image": "NumpyArray",
            "variance": "NumpyArray",
            "mask": "NumpyArray",
            "wcs": "DecamWcs",
            "psf": "DecamPsf",
            "metadata": "StructuredDataDict",
        },
    },
    "DecamWcs": {"pytype": "astropy.wcs.WCS"},
    "DecamPsf": {"pytype": "proc_decam_dagster.pixels.psf_model.PsfModel"},
    "DecamRefcat": {"pytype": "astropy.table.Table"},
    "DecamDefects": {"pytype": "astropy.table.Table"},
    "DecamSkyMap": {"pytype": "proc_decam_dagster.pixels.skymap.SkyMap"},
}

STORAGE_FORMATTERS = {
    "DecamRaw": FORMATTERS + "RawFormatter",
    "DecamImage": FORMATTERS + "MaskedImageFormatter",
    "DecamRefcat": FORMATTERS + "RefcatFormatter",
    "DecamDefects": FORMATTERS + "FitsTableFormatter",
    "DecamSkyMap": FORMATTERS + "SkyMapFormatter",
}


def butler_seed_config() -> Config:
    """Return the configuration with which a repository of the embedded engine is made (``Butler.makeRepo``)."""
    config = Config()
    for name, definition in STORAGE_CLASSES.items():
        config["storageClasses", name] = definition
    config["datastore", "formatters"] = STORAGE_FORMATTERS
    return config
