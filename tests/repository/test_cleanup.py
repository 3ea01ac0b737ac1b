"""Clean-up: what is superseded goes, what is in use stays, and everything comes back as it was."""

import threading

import pytest
from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import bring_back, cleanup, empty_trash, find_rubbish, remove, trash, update_chain

NIGHT = "20190401"
OLD, NEW = (f"{NIGHT}/bias/bias/step1/20190402T00000{n}Z" for n in (1, 2))
FRAME = ("instrument", "exposure", "detector")


@pytest.fixture
def runs(night, put):
    """Two RUNs of a chain: the newer one has detector 1 again, the older one alone has detector 25."""
    for run in (OLD, NEW):
        night.butler(writeable=True).collections.register(run)
    old = [put(night, "product", OLD, FRAME, exposure=845001, detector=d) for d in (1, 25)]
    config = put(night, "step_config", OLD, ())
    new = put(night, "product", NEW, FRAME, exposure=845001, detector=1)
    put(night, "step_config", NEW, ())
    update_chain(night, "bias", NIGHT)
    return {"superseded": old[0], "only": old[1], "config": config, "new": new}


def products(repo) -> set:
    return set(repo.butler().query_datasets("product", [OLD, NEW], find_first=False, explain=False))


def test_only_what_is_superseded_goes(night, runs):
    (rubbish,) = find_rubbish(night)
    # The older RUN still has a product in use, so its configuration tells how that was made.
    assert rubbish.chain == f"{NIGHT}/bias" and rubbish.refs == [runs["superseded"]] and rubbish.kept == 0
    assert rubbish.bytes > 0 and len(products(night)) == 3  # looking changes nothing


def test_it_comes_back_as_it_was(night, runs):
    butler = night.butler(writeable=True)
    before = {ref: butler.get(ref) for ref in products(night)}
    thrown = remove(night, find_rubbish(night))
    assert products(night) == {runs["only"], runs["new"]} and not find_rubbish(night)
    assert [t.name for t in trash(night)] == [thrown.name] and trash(night)[0].datasets == thrown.datasets == 1
    assert bring_back(night, thrown.name) == 1
    assert {ref: butler.get(ref) for ref in products(night)} == before and not trash(night)


def test_a_run_of_which_nothing_is_in_use_goes_with_its_configuration(night, runs, put):
    put(night, "product", NEW, FRAME, exposure=845001, detector=25)
    (rubbish,) = find_rubbish(night)
    assert set(rubbish.refs) == {runs["superseded"], runs["only"], runs["config"]}


def test_what_a_collection_holds_stays(night, runs):
    butler = night.butler(writeable=True)
    butler.collections.register("mine", CollectionType.TAGGED)
    butler.registry.associate("mine", [runs["superseded"]])
    (rubbish,) = find_rubbish(night)
    assert not rubbish.refs and rubbish.kept == 1
    with pytest.raises(SurveyError, match="nothing to remove"):
        remove(night, [rubbish])


def test_products_asked_for_by_name_go_altogether(night, runs):
    (rubbish,) = find_rubbish(night, f"{NIGHT}/*", ["product"])
    assert set(rubbish.refs) == products(night)
    remove(night, [rubbish])
    assert not products(night)
    assert [t.datasets for t in empty_trash(night)] == [3] and not trash(night)


def test_two_within_a_second_and_what_a_stopped_one_left(night, runs, put, monkeypatch):
    monkeypatch.setattr(cleanup, "STAMP", "20240101T000000Z")
    assert remove(night, find_rubbish(night)).name == "20240101T000000Z"
    put(night, "product", NEW, FRAME, exposure=845001, detector=25)
    monkeypatch.setattr(type(night.butler(writeable=True)), "export", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        remove(night, find_rubbish(night))
    monkeypatch.undo()
    assert [(t.name, t.datasets) for t in trash(night)][1:] == [("20240101T000000Z_2.part", 0)]
    with pytest.raises(SurveyError, match="no clean-up"):
        bring_back(night, "20240101T000000Z_2.part")
    monkeypatch.setattr(cleanup, "STAMP", "20240101T000000Z")
    assert remove(night, find_rubbish(night)).name == "20240101T000000Z_3"
    assert len(empty_trash(night)) == 3 and not trash(night)


def test_mistakes_are_named(night, runs):
    for wrong, said in ((("2020*",), "no processing chain"), (("*", ["produkt"]), "produkt")):
        with pytest.raises(SurveyError, match=said):
            find_rubbish(night, *wrong)
    with pytest.raises(SurveyError, match="no clean-up x"):
        bring_back(night, "x")


def test_a_chain_that_is_worked_on_is_left_alone(night, runs):
    rubbish = find_rubbish(night)
    held, done = threading.Event(), threading.Event()

    def work():
        with night.lock(f"{NIGHT}/bias"):
            held.set()
            done.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    held.wait(30)
    try:
        with pytest.raises(SurveyError, match=f"{NIGHT}/bias"):
            remove(night, rubbish)
    finally:
        done.set()
        thread.join()
    assert len(products(night)) == 3 and not trash(night)
