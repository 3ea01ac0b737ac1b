"""When a night is processed by itself: once what it is made from is there, and again when its files change."""

import dagster as dg
import pytest

from proc_decam_dagster.definitions import defs
from proc_decam_dagster.partitions import add_nights

NIGHT, OLD = "20190401", "20190301"
REFERENCES = ("curated_calibs", "skymap", "defects", "refcats")


class Survey:
    """A Dagster instance, and ticks of the sensor on it; runs are made up by what they would report."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.cursor = instance, None
        self.definitions = defs

    def made(self, *assets: str, night: str | None = None) -> None:
        """Report materialisations."""
        for name in assets:
            self.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=night))

    def tick(self) -> dict[str, set[str]]:
        """Return what a tick requests: asset → nights."""
        names = ("bias", "flat", "calexps")
        result = dg.evaluate_automation_conditions(
            self.definitions, self.instance, asset_selection=dg.AssetSelection.assets(*names), cursor=self.cursor
        )
        self.cursor = result.cursor
        asked = {name: set(result.get_requested_partitions(dg.AssetKey(name))) for name in names}
        return {name: nights for name, nights in asked.items() if nights}


@pytest.fixture
def survey():
    with dg.DagsterInstance.ephemeral() as instance:
        survey = Survey(instance)
        survey.made(*REFERENCES)
        add_nights(instance, [OLD])
        survey.made("raws", night=OLD)
        assert survey.tick() == {}  # what was there before waits for a person
        yield survey


def test_a_night_whose_raws_come_is_processed_in_one_run(survey):
    add_nights(survey.instance, [NIGHT])
    assert survey.tick() == {}
    survey.made("raws", night=NIGHT)
    assert survey.tick() == {"bias": {NIGHT}, "flat": {NIGHT}, "calexps": {NIGHT}}
    assert survey.tick() == {}


def test_science_waits_for_the_calibrations(survey):
    add_nights(survey.instance, [NIGHT])
    survey.made("raws", night=NIGHT)
    survey.tick()
    survey.made("bias", night=NIGHT)  # the run failed at the flat
    assert survey.tick() == {}
    survey.made("flat", night=NIGHT)  # made by a person
    assert survey.tick() == {"calexps": {NIGHT}}
    survey.made("calexps", night=NIGHT)
    assert survey.tick() == {}


def test_references_that_are_missing_are_waited_for_and_fakes_are_not(survey):
    survey.instance.wipe_assets([dg.AssetKey("refcats")])
    add_nights(survey.instance, [NIGHT])
    survey.made("raws", night=NIGHT)
    assert survey.tick() == {"bias": {NIGHT}, "flat": {NIGHT}}
    survey.made("bias", "flat", night=NIGHT)
    assert survey.tick() == {}
    survey.made("refcats")
    assert survey.tick() == {"calexps": {NIGHT}}


def test_new_references_start_no_night(survey):
    survey.made("bias", "flat", "calexps", night=OLD)
    survey.tick()
    survey.made(*REFERENCES)
    assert survey.tick() == {}


def test_late_files_start_a_night_again(survey):
    survey.made("bias", "flat", "calexps", night=OLD)
    survey.tick()
    survey.made("raws", night=OLD)
    assert survey.tick() == {"bias": {OLD}, "flat": {OLD}, "calexps": {OLD}}


def test_the_team_switches_it_on():
    sensor = next(s for s in defs.sensors if s.name == "process_ready_nights")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    chosen = sensor.asset_selection.resolve(defs.resolve_asset_graph())
    assert chosen == {dg.AssetKey(name) for name in ("bias", "flat", "calexps")}
