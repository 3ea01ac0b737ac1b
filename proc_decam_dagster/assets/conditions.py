"""When the processing of a night starts by itself: conditions, which a team switches on with their sensor."""

import dagster as dg

from proc_decam_dagster.assets.lineage import asset_key

OF_THE_NIGHT = dg.AssetSelection.assets(*(asset_key(name) for name in ("raws", "bias", "flat")))
OPTIONAL = dg.AssetSelection.assets(asset_key("fakes"))
"""What a survey may never materialise."""

NIGHT_READY = (
    (
        dg.AutomationCondition.newly_missing()
        # Only of the night itself: a reference catalogue that is made anew must not start a thousand nights.
        | dg.AutomationCondition.any_deps_updated().allow(OF_THE_NIGHT)
    ).since_last_handled()
    & ~dg.AutomationCondition.any_deps_missing().ignore(OPTIONAL)
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
).with_label("the night's files and calibrations are complete")
"""A night's files, or masters, are new, and all that the asset is made from is there.

A night that failed waits for a person, or for another file: `since_last_handled` forgets what it was launched for.
Where several assets of a night become ready at once, one run makes them in order, and blocking checks hold in it.
"""
