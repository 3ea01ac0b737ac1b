"""The proc-type table: chains, inputs and steps, as the reference has them."""

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.proc_types import PROC_TYPES, TEMPLATE_TYPES, of_obs_type, proc_type

FULL = {"subset": "20190401", "coadd_subset": "2019", "template_type": "meanclip"}


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("bias", "DECam/calib 20190401/bias/raw"),
        ("flat", "20190401/calib/bias DECam/calib 20190401/flat/raw"),
        (
            "drp",
            "fakes refcats skymaps 20190401/calib/flat 20190401/calib/bias "
            "DECam/calib_bpm DECam/calib 20190401/drp/raw",
        ),
        ("coadd", "2019/meanclip/coadd/inputs skymaps refcats"),
        ("diff_drp", "2019/meanclip/coadd 20190401/drp"),
    ],
)
def test_input_collections_in_the_reference_order(name, inputs):
    assert proc_type(name).input_collections(**FULL) == inputs.split()


@pytest.mark.parametrize(
    ("name", "steps"),
    [("bias", "1 2"), ("flat", "0 1 2 3"), ("drp", "0 1 2a 2b 2c 2d 2e 2f 3a"), ("coadd", "3b 3c 3d"),
     ("diff_drp", "4a 4b 4c 4d 4e")],
)  # fmt: skip
def test_steps_of_the_reference(name, steps):
    assert list(proc_type(name).steps) == [f"step{s}" for s in steps.split()]


def test_chain_uses_the_parts_of_its_proc_type_only():
    assert proc_type("bias").chain(**FULL) == "20190401/bias"
    assert proc_type("coadd").chain(**FULL) == "2019/meanclip/coadd"


def test_science_is_drp():
    assert proc_type("science") is PROC_TYPES["drp"]


def test_unknown_proc_type_names_the_known():
    with pytest.raises(SurveyError, match="bias, flat, drp, coadd, diff_drp"):
        proc_type("dark")


def test_missing_part_names_the_option():
    with pytest.raises(SurveyError, match="--coadd-subset, --template-type"):
        proc_type("diff_drp").chain("20190401")


@pytest.mark.parametrize("name", ["my/sub", "2019*", "[ab]", "a b", "/"])
def test_a_part_that_would_name_other_collections_is_refused(name):
    with pytest.raises(SurveyError, match=r"coadd subset .* is no name; expected letters, digits"):
        proc_type("coadd").chain(coadd_subset=name, template_type="meanclip")
    with pytest.raises(SurveyError, match="subset .* is no name"):
        proc_type("diff_drp").chain(name, "2019", "meanclip")


def test_unknown_template_type():
    with pytest.raises(SurveyError, match=", ".join(TEMPLATE_TYPES)):
        proc_type("coadd").chain(coadd_subset="2019", template_type="max")


def test_steps_with_and_without_the_word_come_in_pipeline_order():
    assert proc_type("drp").select_steps("2a,step1 0") == ["step0", "step1", "step2a"]
    assert proc_type("drp").select_steps("") == list(proc_type("drp").steps)
    assert proc_type("drp").select_steps(None) == list(proc_type("drp").steps)


def test_unknown_step():
    with pytest.raises(SurveyError, match="step4a"):
        proc_type("bias").select_steps("1,4a")


def test_every_template_type_has_its_pipeline():
    assert [proc_type("coadd").pipeline_name(t) for t in TEMPLATE_TYPES] == [
        f"{t}-template.yaml" for t in TEMPLATE_TYPES
    ]


@pytest.mark.parametrize(("obs_type", "name"), [("zero", "bias"), ("dome flat", "flat"), ("object", "drp")])
def test_proc_type_of_an_archive_observation_type(obs_type, name):
    assert of_obs_type(obs_type).name == name


def test_unknown_observation_type():
    with pytest.raises(SurveyError, match="zero, dome flat, object"):
        of_obs_type("standard")
