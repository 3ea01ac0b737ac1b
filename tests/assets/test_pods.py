"""The pods that Kubernetes is asked for: as the table says for each asset, and nothing that a server refuses."""

import json

import dagster as dg
import kubernetes_validate
import pytest
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job, get_user_defined_k8s_config
from kubernetes.client import ApiClient

from proc_decam_dagster.assets.pods import PODS, SMALL, TAG, executor, pod_tags
from proc_decam_dagster.definitions import build_definitions
from proc_decam_dagster.errors import SurveyError

VERSION = "1.33"


def job_of(tags: dict) -> dict:
    """Return the job that dagster-k8s makes of a step's tags, as it is sent to the server."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in tags.items()}
    config = DagsterK8sJobConfig(
        job_image="proc-decam", dagster_home="/opt/dagster/dagster_home", instance_config_map="instance",
        service_account_name="proc-decam", image_pull_policy="IfNotPresent",
    )  # fmt: skip
    job = construct_dagster_k8s_job(
        config, ["dagster", "api", "execute_step", "{}"], "dagster-step-0", get_user_defined_k8s_config(texts),
        component="step_worker",
    )  # fmt: skip
    return ApiClient().sanitize_for_serialization(job)


def test_every_row_is_an_asset_and_every_asset_has_its_pod():
    repository = build_definitions().get_repository_def()
    assets = {key.path[-1]: d for d in repository.assets_defs_by_key.values() for key in d.keys}
    assert set(PODS) <= set(assets)
    for name, definition in assets.items():
        assert json.loads(definition.op.tags[TAG]) == pod_tags(name)[TAG], name


@pytest.mark.parametrize("asset", [*PODS, "exposures"])
def test_a_server_takes_the_job_of_each_asset(asset):
    job = job_of(pod_tags(asset))
    kubernetes_validate.validate(job, VERSION, strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    pod = PODS.get(asset, SMALL)
    assert container["resources"]["requests"] == {"cpu": str(pod.cores), "memory": f"{pod.memory}Gi"}
    assert {"name": "J", "value": str(pod.cores)} in container["env"]


def test_what_a_server_would_refuse_is_found():
    job = job_of(pod_tags("bias"))
    job["spec"]["template"]["spec"]["containers"][0]["resourcez"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSION, strict=True)


def test_a_site_may_choose_other_sizes(monkeypatch):
    monkeypatch.setenv("PROC_DECAM_PODS", "calexps=4x16, bias=2x8")
    assert pod_tags("calexps")[TAG]["container_config"]["env"] == [{"name": "J", "value": "4"}]
    for wrong in ("calexp=4x16", "calexps=4", "calexps=0x16"):
        monkeypatch.setenv("PROC_DECAM_PODS", wrong)
        with pytest.raises(SurveyError, match="expected ASSET=CORESxGIB"):
            pod_tags("bias")


def test_the_executor_is_that_of_one_process_unless_it_is_asked_for(monkeypatch):
    assert executor() is dg.in_process_executor
    monkeypatch.setenv("PROC_DECAM_EXECUTOR", "k8s")
    assert executor().name == "k8s"
    repository = build_definitions().get_repository_def()
    assert repository.get_implicit_global_asset_job_def().executor_def.name == "k8s"
    monkeypatch.setenv("PROC_DECAM_EXECUTOR", "kubernetes")
    with pytest.raises(SurveyError, match="in_process or k8s"):
        executor()
