"""How figures are called where people read them, with their units. Imports nothing: pages and descriptions share it."""

FIGURES = {
    "calexps": ("calibrated exposures", "", 0), "seeing_arcsec": ("seeing (FWHM)", "arcsec", 2),
    "zero_point": ("zero point", "mag", 3), "depth_5sigma": ("depth, 5 σ", "mag", 2),
    "zero_point_scatter": ("zero-point scatter", "mag", 4), "astrometric_rms_mas": ("astrometric scatter", "mas", 1),
    "sky_e": ("sky", "e⁻", 0), "certified": ("certified masters", "", 0), "median_level": ("level", "", 4),
    "median_scatter": ("pixel scatter", "", 4), "coadds": ("coadds", "", 0),
    "median_inputs": ("visits in a pixel", "", 0), "median_noise_njy": ("noise of a pixel", "nJy", 1),
    "differences": ("difference images", "", 0), "dia_sources": ("sources, positive and negative", "", 0),
    "dia_sources_per_ccd": ("sources a CCD", "", 1),
    "candidates_per_ccd": ("candidates a CCD (positive, reliable, no dipoles)", "", 1),
    "false_per_ccd": ("false candidates a CCD, at most (as many as are negative)", "", 1),
    "dia_objects": ("objects that the sources make up", "", 0),
}  # fmt: skip
"""Figure → how a page calls it, its unit, and its decimal places."""
LEVELS = ("median_level", "median_scatter")
"""Of master calibrations: those of a bias are in ADU, those of a flat relative to 1."""
