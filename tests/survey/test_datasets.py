"""Dataset type names."""

from proc_decam_dagster.survey import datasets


def test_coadd_name_is_filled_in():
    assert datasets.named(datasets.DIRECT_WARP) == "deepCoadd_directWarp"
    assert datasets.named(datasets.DIRECT_WARP, "goodSeeing") == "goodSeeingCoadd_directWarp"
    assert datasets.named(datasets.BIAS) == "bias"


def test_no_input_of_a_coadd_is_injected():
    assert not any(name.startswith(datasets.INJECTED) for name in datasets.COADD_INPUTS)


def test_catalogues_have_one_dataset_type_each():
    assert len(set(datasets.REFCATS.values())) == len(datasets.REFCATS)
