"""Dataset type names, one constant each: a move to other names is a change of this module alone.

Pure constants, so the engine's task connections import them too.
"""

# Camera and calibrations
RAW = "raw"
CROSSTALK = "crosstalk"
LINEARIZER = "linearizer"
FRINGE = "fringe"
DEFECTS = "defects"
SUSPECT_MASK = "suspectMask"
BIAS = "bias"
FLAT = "flat"
SKYMAP = "skyMap"
FAKES = "fakes_table"
REFCAT_PHOTOMETRY = "ps1_pv3_3pi_20170110"
REFCAT_ASTROMETRY = "gaia_dr3_20230707"
REFCAT_GAIA_DR2 = "gaia_dr2_20200414"
REFCATS = {"ps1": REFCAT_PHOTOMETRY, "gaia_dr3": REFCAT_ASTROMETRY, "gaia_dr2": REFCAT_GAIA_DR2}

# Calibration construction
RAW_STATISTICS = "rawStatistics"
CROSSTALK_SOURCES = "crosstalkSources"
FLAT_ISR_STATISTICS = "cpFlatIsrStatistics"
FLAT_STATISTICS = "cpFlatStatistics"
FLAT_SCALES = "cpFlatScales"

# Single visits
POST_ISR = "postISRCCD"
POST_ISR_MASKED = POST_ISR + "_masked"
CALEXP = "calexp"
SRC = "src"
CALEXP_SUMMARY = "calexpSummary"
PRE_SOURCE_TABLE = "preSourceTable"
PRE_SOURCE_TABLE_VISIT = "preSourceTable_visit"
PRE_VISIT_SUMMARY = "preVisitSummary"
ISOLATED_STARS = "isolated_star_cat"
FINALIZED_SOURCES = "finalized_src_table"
VISIT_SUMMARY = "finalVisitSummary"
INJECTED = "injected_"
INJECTED_CALEXP = INJECTED + CALEXP
INJECTED_CATALOG = "injected_calexp_catalog"
INJECTED_SOURCE_TABLE = INJECTED + "sourceTable"
SOURCE_TABLE = "sourceTable"
SOURCE_TABLE_VISIT = "sourceTable_visit"
VISIT_TABLE = "visitTable"
CCD_VISIT_TABLE = "ccdVisitTable"

# Coadds; `{coadd}` is the warp coadd name
COADD_NAME = "deep"
DIRECT_WARP = "{coadd}Coadd_directWarp"
PSF_MATCHED_WARP = "{coadd}Coadd_psfMatchedWarp"
COADD = "{coadd}Coadd"
COADD_NIMAGE = "{coadd}Coadd_nImage"
COADD_SOURCES = "{coadd}Coadd_sources"
OBJECT_TABLE = "objectTable"
OBJECT_TABLE_TRACT = "objectTable_tract"

# Differences; on injected science images every name is prefixed with `INJECTED`
TEMPLATE = "{coadd}Diff_templateExp"
DIFFERENCE = "{coadd}Diff_differenceExp"
DIFFERENCE_SUMMARY = "{coadd}Diff_differenceSummary"
DIA_SOURCES_DETECTED = "{coadd}Diff_candidateDiaSrc"
DIA_SOURCE_TABLE = "{coadd}Diff_diaSrcTable"
DIA_SOURCE_TABLE_VISIT = "diaSourceTable_visit"
DIA_SOURCE_ASSOCIATED = "{coadd}Diff_assocDiaSrcTable"
TRACKLETS = "{coadd}Diff_trackletTable"
DIA_OBJECTS = "{coadd}Diff_diaObjTable"
DIA_OBJECTS_CALCULATED = "{coadd}Diff_fullDiaObjTable"
FORCED_ON_DIFFERENCE = "forced_diff"
FORCED_ON_DIA_OBJECT = "forced_diff_diaObject"

WARP_TASK = "makeDirectWarp"
"""Label of the task that makes warps."""
COADD_INPUTS = (DIRECT_WARP, PSF_MATCHED_WARP, PRE_SOURCE_TABLE_VISIT, FINALIZED_SOURCES, VISIT_SUMMARY)
"""What `coadd` tags into `{coadd_subset}/{template_type}/coadd/inputs`."""


def named(name: str, coadd: str = COADD_NAME) -> str:
    """Return a dataset type name with its coadd name filled in."""
    return name.format(coadd=coadd)
