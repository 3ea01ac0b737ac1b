"""Every step of every pipeline is built by the middleware, and each finds what it needs."""

import pytest
from contract import graphs
from contract.graphs import ALL_STEPS, Step, graph_of, outputs, steps

from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES, TEMPLATE_TYPES

EXPOSURE = {"instrument", "exposure", "detector"}
DETECTOR_VISIT = {"instrument", "visit", "detector"}
VISIT = {"instrument", "visit"}
PATCH = {"skymap", "tract", "patch"}
TRACT = {"skymap", "tract"}
DIMENSIONS = {
    ("bias.yaml", "step1"): [EXPOSURE],
    ("bias.yaml", "step2"): [{"instrument", "detector"}],
    ("flat.yaml", "step0"): [EXPOSURE],
    ("flat.yaml", "step1"): [EXPOSURE],
    ("flat.yaml", "step2"): [EXPOSURE, {"instrument", "physical_filter"}],
    ("flat.yaml", "step3"): [{"instrument", "physical_filter", "detector"}],
    ("DRP.yaml", "step0"): [EXPOSURE],
    ("DRP.yaml", "step1"): [EXPOSURE, DETECTOR_VISIT],
    ("DRP.yaml", "step2a"): [VISIT],
    ("DRP.yaml", "step2b"): [{"instrument", *TRACT}],
    ("DRP.yaml", "step2c"): [DETECTOR_VISIT, VISIT],
    # a detector's sources, by the final summary of its visit; the skymap is in the data id of a task that asks for it
    ("DRP.yaml", "step2d"): [DETECTOR_VISIT, DETECTOR_VISIT | {"skymap"}],
    ("DRP.yaml", "step2e"): [VISIT],
    ("DRP.yaml", "step2f"): [{"instrument"}],
    ("DRP.yaml", "step3a"): [PATCH | VISIT],
    ("meanclip-template.yaml", "step3b"): [PATCH | {"band"}],
    ("meanclip-template.yaml", "step3c"): [PATCH | {"band"}, PATCH, TRACT | {"band"}],
    ("meanclip-template.yaml", "step3d"): [TRACT],
    ("DRP.yaml", "step4a"): [DETECTOR_VISIT],
    ("DRP.yaml", "step4b"): [DETECTOR_VISIT, DETECTOR_VISIT | TRACT],
    ("DRP.yaml", "step4c"): [VISIT],
    ("DRP.yaml", "step4d"): [PATCH],
    ("DRP.yaml", "step4e"): [DETECTOR_VISIT | TRACT],
}
"""What each step's quanta are one of: how far it is run in parallel."""


@pytest.mark.parametrize("step", ALL_STEPS, ids=str)
def test_middleware_builds_the_step(step):
    graph = graph_of(step)
    kinds = {frozenset(task.dimensions.required) for task in graph.tasks.values()}
    expected = DIMENSIONS[(step.file, step.name.removesuffix("_injected"))]
    assert kinds == {frozenset(kind) for kind in expected}


@pytest.mark.parametrize("proc_type", PROC_TYPES)
def test_inputs_are_made_by_earlier_steps_or_brought_by_the_chain(proc_type):
    assert graphs.missing_inputs(proc_type) == []


@pytest.mark.parametrize("proc_type", PROC_TYPES)
def test_no_prerequisite_is_left_to_chance(proc_type):
    assert graphs.unmet_options(proc_type) == []


@pytest.mark.parametrize("template_type", TEMPLATE_TYPES)
def test_statistic_of_each_template_type(template_type):
    graph = graph_of(steps("coadd", template_type)[0])
    config = graph.tasks["assembleCoadd"].config
    assert config.statistic == config.assembleStaticSkyModel.statistic == template_type.upper()
    assert config.doInterp == config.assembleStaticSkyModel.doInterp == (template_type != "min")


def test_default_template_is_the_clipped_mean():
    config = graph_of(Step("coadd", "template.yaml", "step3b")).tasks["assembleCoadd"].config
    assert config.statistic == "MEANCLIP"


@pytest.mark.parametrize("proc_type", [name for name, row in PROC_TYPES.items() if row.certifies])
def test_calibration_that_is_certified_is_made(proc_type):
    assert PROC_TYPES[proc_type].certifies in outputs(graph_of(steps(proc_type)[-1]))


@pytest.mark.parametrize(
    ("proc_type", "names"),
    [
        ("bias", [datasets.BIAS]),
        ("flat", [datasets.FLAT, datasets.FLAT_STATISTICS]),
        (
            "drp",
            [
                datasets.POST_ISR, datasets.POST_ISR_MASKED, datasets.CALEXP, datasets.SRC, datasets.PRE_SOURCE_TABLE,
                datasets.PRE_SOURCE_TABLE_VISIT, datasets.FINALIZED_SOURCES, datasets.VISIT_SUMMARY,
                datasets.SOURCE_TABLE, datasets.SOURCE_TABLE_VISIT, datasets.VISIT_TABLE, datasets.CCD_VISIT_TABLE,
                datasets.INJECTED_CALEXP, datasets.INJECTED_SOURCE_TABLE, datasets.DIRECT_WARP,
                datasets.PSF_MATCHED_WARP,
            ],
        ),
        ("coadd", [datasets.COADD, datasets.COADD_NIMAGE, datasets.OBJECT_TABLE, datasets.OBJECT_TABLE_TRACT]),
        (
            "diff_drp",
            [
                prefix + name
                for prefix in ("", datasets.INJECTED)
                for name in (
                    datasets.TEMPLATE, datasets.DIFFERENCE, datasets.DIA_SOURCES_DETECTED, datasets.DIA_SOURCE_TABLE,
                    datasets.DIA_SOURCE_TABLE_VISIT, datasets.DIA_SOURCE_ASSOCIATED, datasets.DIA_OBJECTS,
                    datasets.DIA_OBJECTS_CALCULATED,
                )
            ],
        ),
    ],
)  # fmt: skip
def test_dataset_names_are_those_of_the_one_table(proc_type, names):
    made = set().union(*(outputs(graph_of(step)) for step in steps(proc_type)))
    assert {datasets.named(name) for name in names} <= made


def test_warp_coadd_name_reaches_warps_and_coadds():
    warps = graph_of(Step("drp", "DRP.yaml", "step3a"), coadd_name="other")
    assert {"otherCoadd_directWarp", "otherCoadd_psfMatchedWarp"} <= outputs(warps)
    coadd = graph_of(Step("coadd", "median-template.yaml", "step3b"), coadd_name="other")
    assert {"otherCoadd_directWarp", "otherCoadd_psfMatchedWarp"} <= graphs.inputs(coadd)
