"""The sensor with which a team switches on that nights process themselves."""

import dagster as dg

from proc_decam_dagster.assets.lineage import asset_key

process_ready_nights = dg.AutomationConditionSensorDefinition(
    "process_ready_nights",
    target=dg.AssetSelection.assets(*(asset_key(name) for name in ("bias", "flat", "calexps"))),
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=60,
    description="Makes bias, flat and calexps of a night whose files have come, each when what it is made from is "
    "there. Nights that were there when it is switched on wait for a new file or a person.",
)
