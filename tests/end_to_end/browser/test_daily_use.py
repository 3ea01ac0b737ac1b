"""What a survey team does in the Dagster UI, step by step in a real browser."""

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster_services import until
from playwright.sync_api import expect
from sample_survey import certified_detectors

from proc_decam_dagster.assets.processing import POOL
from proc_decam_dagster.definitions import defs
from proc_decam_dagster.partitions import NIGHTS

from .conftest import COADD_SUBSET, TEMPLATE_TYPE, report_what_is_there

STATES = dg.DagsterRunStatus
PAGE = dg.AssetKey("night_page")
WITHOUT_RAWS = "20180101"
ENDED = {STATES.SUCCESS, STATES.FAILURE, STATES.CANCELED}


def newest(instance: dg.DagsterInstance) -> dg.DagsterRun:
    return instance.get_runs(limit=1)[0]


def ended(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    """Wait for the end of a run."""
    run = until(lambda: (r := instance.get_run_by_id(run_id)) and r.status in ENDED and r, f"run {run_id} ends")
    return run.status


def test_the_graph_reads_like_the_survey(ui):
    graph = defs.resolve_asset_graph()
    nodes = [graph.get(key) for key in graph.materializable_asset_keys]
    groups = sorted({node.group_name for node in nodes})
    with ui.graph(groups):
        for group in groups:
            ui.sees(group)
        for node in nodes:
            drawn = ui.page.get_by_text(node.key.path[-1], exact=True)
            expect(drawn.first).to_be_attached()


def test_an_assets_page_says_what_it_is_whose_it_is_and_where_its_code_is(ui):
    node = defs.resolve_asset_graph().get(dg.AssetKey("calexps"))
    what, chain, *_ = node.description.split("\n\n")
    ui.go("/assets/calexps?view=overview")
    for words in (what, chain.split("`")[1], node.group_name, node.owners[0].removeprefix("team:"), *node.kinds):
        ui.sees(words)
    ui.sees("astrometric scatter")  # what the figures are, and their units
    (code,) = node.metadata["dagster/code_references"].code_references
    link = ui.page.locator(f"a[href$='{code.file_path}:{code.line_number}']")
    expect(link).to_contain_text("calexps")  # Dagster splits the words around an asset's name


def test_what_runs_by_itself_says_what_it_does_and_how_many_runs_share_the_machine(ui):
    ui.go("/automation")
    for automation in (*defs.sensors, *defs.schedules):
        ui.sees(automation.name)
    for sensor in defs.sensors:
        ui.go(f"/locations/proc_decam/sensors/{sensor.name}")
        ui.sees(sensor.description.split("\n")[0])
    for pool in (POOL, "archive"):
        ui.go(f"/deployment/concurrency/{pool}")
        expect(ui.page.locator("tr").filter(has_text="Limit")).to_contain_text("1")


def test_a_sensor_registers_a_night_and_says_what_a_late_exposure_makes_stale(ui, instance, survey):
    night = survey.nights[-1]
    until(lambda: night in instance.get_dynamic_partitions(NIGHTS.name), "the sensor registers the night")
    wanted = dg.RunsFilter(tags={"dagster/partition": night, "dagster/sensor_name": "new_downloads"})
    (run,) = until(lambda: instance.get_runs(filters=wanted), "the sensor requests its raws")
    assert ended(instance, run.run_id) is STATES.SUCCESS
    ui.partition("raws", night)
    ui.sees("Materialized")
    ui.go("/locations/proc_decam/sensors/new_downloads")
    ui.sees("Requested")
    ui.go("/assets/raws?view=checks")
    ui.sees("nothing_stale")
    (check,) = [
        e.asset_check_evaluation_data for e in (record.event_log_entry.dagster_event for record in
        instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records)
        if e.asset_check_evaluation_data.check_name == "nothing_stale"
    ]  # fmt: skip
    assert not check.passed and check.severity is dg.AssetCheckSeverity.WARN
    assert f"{night}/bias | 1 | came after it was processed" in check.metadata["stale"].value
    report_what_is_there(instance, [night])


@pytest.mark.parametrize(
    ("asset", "more"),
    [
        ("flat", {"calibrations": "own", "partial": False}),
        (f"{TEMPLATE_TYPE}/coadds", {}),
        (f"{TEMPLATE_TYPE}/diffs", {"science": "clean"}),
    ],
)
def test_a_form_comes_up_with_defaults_that_process_all(ui, asset, more):
    form = ui.launchpad(asset)["ops"][asset.replace("/", "__")]["config"]
    wanted = {"detectors": "", "where": "", "steps": [], "tolerated_failures": "none", "retry_failed": False} | more
    assert form.items() >= wanted.items()


@pytest.mark.parametrize(
    ("asset", "wrong"),
    [
        ("bias", "tolerated_failures: many"),
        ("bias", "partial: perhaps"),
        ("bias", "wheer: detector=1"),
        (f"{TEMPLATE_TYPE}/coadds", "steps: [step1]"),
        (f"{TEMPLATE_TYPE}/diffs", "science: dirty"),
    ],
)
def test_a_wrong_value_is_refused_before_launch(ui, instance, asset, wrong):
    before = instance.get_runs_count()
    ui.materialise(asset)
    ui.configure(f"ops:\n  {asset.replace('/', '__')}:\n    config:\n      {wrong}\n")
    expect(ui.button("Save config")).to_be_disabled()
    ui.sees(wrong.split(":")[0])
    assert instance.get_runs_count() == before


def test_a_night_is_materialised_and_shows_figures_and_a_picture(ui, instance, survey):
    night = survey.nights[0]
    ui.materialise("bias", night)
    ui.launch()
    run = newest(instance)
    assert run.tags["dagster/partition"] == night
    assert ended(instance, run.run_id) is STATES.SUCCESS
    ui.partition("bias", night)
    ui.sees("Materialized")
    ui.sees(f"{night}/bias")
    ui.sees("cpBiasCombine")
    assert ui.picture().evaluate("image => image.naturalWidth") > 100
    ui.go("/assets/bias?view=checks")
    ui.sees("bias_certified")
    ui.sees("Passed")


def test_a_backfill_in_which_a_failed_night_stops_no_other(ui, instance, survey):
    instance.add_dynamic_partitions(NIGHTS.name, [WITHOUT_RAWS])
    ui.materialise("bias")
    ui.launch()
    (backfill,) = instance.get_backfills()
    until(
        lambda: instance.get_backfill(backfill.backfill_id).status is BulkActionStatus.COMPLETED_FAILED,
        "the backfill is complete",
    )
    runs = instance.get_runs(filters=dg.RunsFilter.for_backfill(backfill.backfill_id))
    outcomes = {run.tags["dagster/partition"]: run.status for run in runs}
    assert outcomes == dict.fromkeys(survey.nights, STATES.SUCCESS) | {WITHOUT_RAWS: STATES.FAILURE}
    ui.go(f"/runs/b/{backfill.backfill_id}")
    ui.sees("Failed")
    instance.delete_dynamic_partition(NIGHTS.name, WITHOUT_RAWS)


def test_a_backfill_of_what_is_missing_makes_the_pages_that_are_not_there(ui, instance, survey):
    first, *others = survey.nights
    ui.materialise("night_page", first)
    ui.launch()
    assert ended(instance, newest(instance).run_id) is STATES.SUCCESS
    ui.materialise("night_page")
    ui.only_what_is_missing()
    ui.launch()
    until(lambda: instance.get_materialized_partitions(PAGE) == set(survey.nights), "the pages are made")
    made = instance.fetch_materializations(PAGE, limit=10).records
    assert sorted(record.partition_key for record in made) == survey.nights
    ui.partition("night_page", first)
    ui.sees("bias/certified")


def test_the_surveys_page_is_read_without_dagster(ui, instance, survey):
    ui.materialise_at_once("survey_page")
    assert ended(instance, newest(instance).run_id) is STATES.SUCCESS
    asked = []
    ui.page.on("request", lambda request: asked.append(request.url))
    index = survey.repository / "proc_decam" / "pages" / "index.html"
    ui.page.goto(index.as_uri())
    cell = ui.page.locator(f"a[data-c='{survey.nights[-1]}/flat']")
    cell.focus()
    ui.page.keyboard.press("Enter")
    told = ui.page.get_by_role("dialog")
    expect(told).to_contain_text(f"{survey.nights[-1]}/flat")
    told.get_by_role("link", name="the night's page").click()
    expect(ui.page.get_by_role("heading", name=f"Night {survey.nights[-1]}")).to_be_visible()
    assert ui.page.locator("figure img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    ui.page.get_by_role("link", name="all nights").click()
    cell.click()
    ui.page.keyboard.press("Escape")
    expect(told).to_be_hidden()
    expect(cell).to_be_focused()
    assert {url.split(":")[0] for url in asked} <= {"file", "data"}


def test_termination_stops_the_work_and_it_goes_on_when_executed_again(ui, instance, survey):
    night = survey.nights[-1]
    ui.materialise("flat", night)
    ui.launch()
    run = newest(instance)
    ui.go(f"/runs/{run.run_id}")
    ui.sees("building the first graph")
    ui.button("Terminate").click()
    ui.page.get_by_role("dialog").get_by_role("button", name="Terminate").click()
    assert ended(instance, run.run_id) is STATES.CANCELED
    assert certified_detectors(survey.repository, night, "flat") == set()

    ui.go(f"/runs/{run.run_id}")
    ui.button("Re-execute").click()
    again = until(lambda: (r := newest(instance)).parent_run_id == run.run_id and r, "the run is executed again")
    assert ended(instance, again.run_id) is STATES.SUCCESS
    first = certified_detectors(survey.repository, survey.nights[0], "flat")
    assert first and certified_detectors(survey.repository, night, "flat") == first


def test_a_coadds_page_shows_which_nights_went_in(ui, instance, survey):
    from proc_decam_dagster.repository import coadd_nights, open_repository

    ui.materialise(f"{TEMPLATE_TYPE}/coadds", COADD_SUBSET)
    ui.launch()
    assert ended(instance, newest(instance).run_id) is STATES.SUCCESS
    repository = open_repository(survey.repository)
    nights = coadd_nights(repository, COADD_SUBSET, TEMPLATE_TYPE)
    repository.close()
    ui.partition(f"{TEMPLATE_TYPE}/coadds", COADD_SUBSET)
    ui.sees(f"{COADD_SUBSET}/{TEMPLATE_TYPE}/coadd")
    assert nights
    for night in nights:
        ui.sees(night)
    assert ui.picture().evaluate("image => image.naturalWidth") > 100


def test_a_difference_is_materialised_and_shows_new_sources(ui, instance, survey):
    night = survey.nights[-1]
    ui.materialise(f"{TEMPLATE_TYPE}/diffs", COADD_SUBSET, night)
    ui.launch()
    run = newest(instance)
    assert run.tags["dagster/partition"] == f"{COADD_SUBSET}|{night}"
    assert ended(instance, run.run_id) is STATES.SUCCESS
    ui.partition(f"{TEMPLATE_TYPE}/diffs", f"{COADD_SUBSET}%7C{night}")
    ui.sees(f"{night}/{COADD_SUBSET}/{TEMPLATE_TYPE}/diff_drp")
    ui.sees("new_sources")
    assert ui.picture().evaluate("image => image.naturalWidth") > 100
