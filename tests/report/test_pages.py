"""The static pages: what they tell of a failure and of a night with nothing, their size, what they never hold."""

import json
import re
from html.parser import HTMLParser

import pytest
from dagster import AssetKey, DagsterInstance, RunConfig, materialize
from toy.repository import ToyRepository

from proc_decam_dagster.assets.pages import ASSETS, PageConfig
from proc_decam_dagster.execution.attempts import FailedQuantum
from proc_decam_dagster.execution.causes import Cause
from proc_decam_dagster.execution.status import Cell
from proc_decam_dagster.partitions import NIGHTS
from proc_decam_dagster.report.pages import make_pages
from proc_decam_dagster.report.pages.rendering import without_secrets
from proc_decam_dagster.report.pages.states import (
    BEGUN,
    EXCLUDED,
    FAILED,
    NONE,
    OK,
    TODO,
    WARNED,
    Stage,
    SurveyStates,
    survey_states,
)
from proc_decam_dagster.report.pages.survey import strip, survey_page
from proc_decam_dagster.repository.exclusions import exclude
from proc_decam_dagster.resources import ButlerRepository
from proc_decam_dagster.survey.collections import Chain

NIGHT, EMPTY = "20190401", "20190402"
ELSEWHERE = re.compile(r"""(?:src|href|action)=["'](?!data:|#|nights/|\.\./|\d{8}\.html)|url\(|@import|//[a-z]""")


class Text(HTMLParser):
    """The elements of a page, and its text as a person reads it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said, self.tags, self.links, self._silent = "", [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._silent = tag in ("style", "script")
        self.links += [v for k, v in attrs if k == "href"]

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        self.said += "" if self._silent else data


@pytest.fixture(scope="module")
def made(failed_night, tmp_path_factory):
    return make_pages(failed_night, tmp_path_factory.mktemp("pages"))


def test_each_ccd_stands_as_the_ledger_and_the_list_say(failed_night):
    states = survey_states(failed_night)
    bias = states.nights[NIGHT]["bias"]
    assert bias.units == {"1": BEGUN, "2": FAILED, "3": BEGUN, "4": BEGUN} and bias.state is WARNED
    assert set(states.nights[EMPTY]["bias"].units.values()) == {TODO}
    assert states.nights[EMPTY]["bias"].advice.endswith(f"night {failed_night.root} {EMPTY} --proc-type bias")
    assert states.nights[NIGHT]["drp"].state is NONE
    exclude(failed_night, "dead", detectors=[2], nights=EMPTY)
    assert survey_states(failed_night).nights[EMPTY]["bias"].units["2"] is EXCLUDED


def test_a_nights_page_shows_the_cause_and_the_next_command(made, failed_night):
    page = made.nights[NIGHT].read_text()
    text = Text(page)
    assert "RuntimeError: toy failure" in text.said and "detector 2 exposure 101-103" in text.said
    command = f"proc-decam execute {failed_night.root} {NIGHT}/bias --pipeline pipelines/bias.yaml#step1"
    assert f"{command} --retry-failed" in text.said
    assert "<title>CCD 2: failed</title>" in page and "../index.html" in text.links


def test_the_surveys_page_has_a_cell_a_stage_with_its_cause(made):
    page = made.index.read_text()
    text = Text(page)
    assert text.links.count(f"nights/{NIGHT}.html") > 3 and not [x for x in text.links if EMPTY in x]
    (causes,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    (cause,) = json.loads(causes)
    assert cause["title"] == "RuntimeError: toy failure"
    assert [c for c in cause["chains"][f"{NIGHT}/bias"] if "--retry-failed" in c]
    assert re.search(rf'data-c="{NIGHT}/bias"[^>]*data-i="0"', page)
    assert "1 failed: 2" in page and "3 begun: 1 3 4" in page


def test_only_nights_that_changed_are_made_again_and_one_with_nothing_if_asked_for(made, failed_night):
    folder = made.index.parent
    assert list(made.nights) == [NIGHT] and list(make_pages(failed_night, folder).nights) == []
    assert list(make_pages(failed_night, folder, [EMPTY]).nights) == [EMPTY]
    said = Text((folder / "nights" / f"{EMPTY}.html").read_text()).said
    assert "not started" in said and "Nothing failed." in said and "Figures" not in said
    (folder / "nights" / f"{NIGHT}.json").write_text("half a li")
    assert list(make_pages(failed_night, folder).nights) == [NIGHT]
    assert not [path for path in folder.rglob("*") if path.suffix == ".part"]


def test_pages_take_nothing_from_elsewhere(made):
    for page in (made.index, *made.nights.values()):
        assert not ELSEWHERE.findall(page.read_text()), page
        assert "default-src 'none'" in page.read_text()


class ToyResource(ButlerRepository):
    """The toy repository, whose instrument no engine of ours knows."""

    def open(self):
        return ToyRepository(self.path)


def test_the_assets_make_the_same_pages(failed_night, tmp_path):
    options = {"resources": {"repository": ToyResource(root=str(failed_night.root))}}
    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(NIGHTS.name, [NIGHT])

        def run(name, **more):
            config = RunConfig({name: PageConfig(folder=str(tmp_path))})
            return materialize(ASSETS, selection=name, run_config=config, instance=instance, **options, **more)

        whole, night = run("survey_page"), run("night_page", partition_key=NIGHT)
        assert instance.get_materialized_partitions(AssetKey("night_page")) == {NIGHT}
    (event,) = night.asset_materializations_for_node("night_page")
    assert event.metadata["bias/certified"].value == 0
    event = whole.asset_materializations_for_node("survey_page")[-1]
    assert event.metadata["nights"].value == 2 and event.metadata["file"].path == str(tmp_path / "index.html")
    by_hand = make_pages(failed_night, tmp_path / "by_hand", [NIGHT]).index
    ours, theirs = (re.sub("made 20.* UTC", "", p.read_text()) for p in (by_hand, tmp_path / "index.html"))
    assert ours == theirs


HOSTILE = (
    """</script><script>alert(1)</script><img src=x onerror=alert(2)>"' {{ 7 * 7 }} postgresql://me:geheim@host/db"""
)


def survey(nights: int, detectors: int, message: str = "no stars") -> SurveyStates:
    """Return how a survey stands of which every night failed in three CCDs."""
    names = [str(n + 1) for n in range(detectors)]
    made = SurveyStates("/survey/repo", ["bias", "flat", "drp", "2019/mean/diff_drp"], names)
    quanta = []
    for n in range(nights):
        night = str(20190001 + n)
        made.nights[night] = {}
        for column in made.columns:
            parts = column.split("/")
            chain = Chain(parts[-1], night, *parts[:2] if len(parts) > 1 else ())
            units = {d: FAILED if int(d) % 20 == n % 20 else OK for d in names}
            cell = Cell("partial", detectors - 3, detectors, units={d: s is OK for d, s in units.items()})
            made.nights[night][column] = Stage(chain, WARNED, detectors - 3, detectors, units, [0], "", cell)
            quanta.append(FailedQuantum("isr", {"detector": 3}, "NoStars", message, False, 1, chain=str(chain)))
    commands = [f"mend the cause, then: proc-decam execute /survey/repo {q.chain} --retry-failed" for q in quanta]
    made.causes = [Cause("NoStars", message, "permanent", message, quanta, commands)]
    return made


def test_hostile_text_is_shown_as_it_is_and_passwords_are_not():
    page = survey_page(survey(2, 4, HOSTILE), {}, made="now", name="<i>{{ 7 * 7 }}")
    text = Text(page)
    assert text.tags.count("script") == 2 and "img" not in text.tags  # the page's own two
    assert "<img src=x onerror=alert(2)>" in text.said and "{{ 7 * 7 }}" in text.said and "49" not in text.said
    (causes,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert json.loads(causes)[0]["title"].endswith("postgresql://me:…@host/db")
    assert "geheim" not in page


@pytest.mark.parametrize(
    "text", ["Authorization: Bearer abc.geheim", "password=geheim", "https://me:geheim@host", "token: 'geheim'"]
)
def test_a_secret_in_a_message_is_left_out(text):
    assert "geheim" not in without_secrets(text)
    assert without_secrets("no stars in detector 3 at 12:30") == "no stars in detector 3 at 12:30"


def test_a_page_of_a_thousand_nights_stays_small():
    figures = {str(20190001 + n): {"seeing_arcsec": 1 + n / 1000, "depth_5sigma": float("nan")} for n in range(1000)}
    page = survey_page(survey(1000, 62), figures, made="now", name="large")
    assert len(page) < 4e6
    assert page.count('data-i="0"') == 4000 and "1.00 to 2.00 arcsec" in page and "nan" not in Text(page).said


def test_many_chains_of_differences_share_a_column():
    states = survey(1, 4)
    stage = states.nights["20190001"]["2019/mean/diff_drp"]
    for n in range(20):
        states.columns.append(f"s{n}/mean/diff_drp")
        states.nights["20190001"][states.columns[-1]] = Stage(stage.chain, NONE, 0, 0, {}, [], "", Cell())
    text = Text(survey_page(states, {}, made="now", name="many"))
    assert "differences" in text.said and "s7/mean" not in text.said and "0/1" in text.said


def test_neighbours_of_one_state_are_one_band():
    assert strip([OK] * 62) == ""
    assert strip([OK, OK, FAILED, OK]) == (
        "linear-gradient(90deg,var(--ok) 0% 50%,var(--failed) 50% 75%,var(--ok) 75% 100%)"
    )


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("focal_plane", "focal plane"),
        ("focal_plane_r", "focal plane, r"),
        ("change_r", "change since the night before, r"),
        ("new_sources", "the best new sources: science, template, difference"),
    ],
)
def test_a_picture_has_a_caption(name, caption):
    from proc_decam_dagster.report.pages.night import _caption

    assert _caption(name) == caption
