"""What is found in the repository: what a task made the last time, and not what it made before."""

from proc_decam_dagster.repository.queries import find_made, find_refs

FRAME = ("instrument", "visit", "detector")
VISIT = 845005


def test_what_a_task_run_again_has_not_made_again_is_not_found(night, put):
    butler = night.butler(writeable=True)
    old, new = "20190401/drp/DRP/step/20190402T000001Z", "20190401/drp/DRP/step/20190403T000001Z"
    for run, made in ((old, (1, 25)), (new, (1,))):  # the second time there was no work for CCD 25
        butler.collections.register(run)
        for detector in (1, 25):
            put(night, "task_metadata", run, FRAME, visit=VISIT, detector=detector)
        for detector in made:
            put(night, "product", run, FRAME, visit=VISIT, detector=detector)
    assert [(r.dataId["detector"], r.run) for r in find_refs(night, "product", [new, old])] == [(1, new), (25, old)]
    assert [(r.dataId["detector"], r.run) for r in find_made(night, "product", "task", [new, old])] == [(1, new)]
    assert len(find_made(night, "product", "unknown", [new, old])) == 2  # no metadata: whoever made it kept none
