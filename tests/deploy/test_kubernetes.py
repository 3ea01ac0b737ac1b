"""The values for the official chart: what dagster-k8s and a server take; what the chart takes, where there is one."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import dagster
import jsonschema
import kubernetes_validate
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.storage.dagster_run import DagsterRun
from dagster._utils.merger import deep_merge_dicts
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import construct_dagster_k8s_job, get_user_defined_k8s_config
from kubernetes.client import ApiClient
from lsst.utils.db_auth import DbAuth

from proc_decam_dagster.archive.credentials import find_credentials
from proc_decam_dagster.assets.pods import PODS, pod_tags

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
VALUES = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())
(CODE,) = VALUES["dagster-user-deployments"]["deployments"]
LAUNCHER = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
VERSION = "1.33"


def snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def launcher_config() -> dict[str, Any]:
    """Return the launcher's part of dagster.yaml, as the chart's template writes it of the values."""
    raw = {snake(name): value for name, value in LAUNCHER.items()}
    raw["run_k8s_config"] = {snake(name): value for name, value in LAUNCHER["runK8sConfig"].items()}
    release = {
        "job_namespace": "survey", "service_account_name": "release-dagster",
        "instance_config_map": "release-dagster-instance",
        "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
        "dagster_home": VALUES["global"]["dagsterHome"],
    }  # fmt: skip
    return release | raw


def code_context() -> dict[str, Any]:
    """Return what the chart passes on to runs, with `includeConfigInLaunchedRuns`, of the code server's values.

    Not its user, but its resources, which go before those of the launcher.
    """
    assert CODE["includeConfigInLaunchedRuns"] == {"enabled": True}
    subchart = "release-dagster-user-deployments"
    return {
        "image_pull_policy": CODE["image"]["pullPolicy"], "namespace": "survey", "env": CODE["env"],
        "service_account_name": f"{subchart}-user-deployments",
        "env_config_maps": [f"{subchart}-{CODE['name']}-user-env"],
        "env_secrets": [secret["name"] for secret in CODE["envSecrets"]],
        "volumes": CODE["volumes"], "volume_mounts": CODE["volumeMounts"], "resources": CODE["resources"],
        "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
    }  # fmt: skip


KUBECONFIG = {
    "apiVersion": "v1", "kind": "Config", "current-context": "nowhere", "users": [{"name": "nobody", "user": {}}],
    "clusters": [{"name": "nowhere", "cluster": {"server": "https://127.0.0.1:1"}}],
    "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}],
}  # fmt: skip
"""A cluster that is never asked for anything: the launcher cannot be made without one."""


@pytest.fixture(scope="module")
def launcher(tmp_path_factory) -> K8sRunLauncher:
    """The launcher that the values configure."""
    done = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), launcher_config())
    assert done.success, done.errors
    assert done.value["load_incluster_config"]
    file = tmp_path_factory.mktemp("kube") / "config"
    file.write_text(json.dumps(KUBECONFIG))
    return K8sRunLauncher(**done.value | {"load_incluster_config": False, "kubeconfig_file": str(file)})


def job_of(launcher: K8sRunLauncher, tags: dict[str, Any]) -> dict[str, Any]:
    """Return the job that the launcher (or, with a step's tags, the executor) makes of a run, as a server gets it."""
    image = "{repository}:{tag}".format(**CODE["image"])
    repository = RepositoryPythonOrigin(
        "python", ModuleCodePointer("proc_decam_dagster.definitions", "defs"), image, ["dagster"],
        {"k8s": code_context()},
    )  # fmt: skip
    run = DagsterRun(job_name="__ASSET_JOB", job_code_origin=JobPythonOrigin("__ASSET_JOB", repository))
    step = get_user_defined_k8s_config({name: json.dumps(value) for name, value in tags.items()})
    whole = K8sContainerContext.create_for_run(run, launcher, include_run_tags=True)
    whole = whole.merge(K8sContainerContext(run_k8s_config=step))
    config = whole.get_k8s_job_config(image, launcher)
    job = construct_dagster_k8s_job(config, ["dagster", "api"], "dagster-run-0", whole.run_k8s_config)
    return ApiClient().sanitize_for_serialization(job)


@pytest.mark.parametrize("asset", [None, *PODS])
def test_a_server_takes_the_pods_of_runs_and_steps(launcher, asset):
    job = job_of(launcher, pod_tags(asset) if asset else {})
    kubernetes_validate.validate(job, VERSION, strict=True)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"] == CODE["podSecurityContext"]
    assert container["securityContext"] == CODE["securityContext"]
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/srv/survey"}
    assert {"secretRef": {"name": "proc-decam-credentials"}} in container["envFrom"]
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400
    environment = {e["name"]: e.get("value") for e in container["env"]}
    assert environment["PROC_DECAM_EXECUTOR"] == "k8s" and environment["PROC_DECAM_REPO"] == "/srv/survey/repo"
    memory = f"{PODS[asset].memory}Gi" if asset else "4Gi"
    assert container["resources"]["limits"]["memory"] == memory
    assert environment.get("J") == (str(PODS[asset].cores) if asset else None)


def test_a_server_takes_the_manifests_and_they_have_what_the_values_name():
    manifests = list(yaml.safe_load_all((DEPLOY / "helm" / "survey.yaml").read_text()))
    for manifest in manifests:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    named = {(m["kind"], m["metadata"]["name"]): m for m in manifests}
    for volume in CODE["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in named
    (credentials,) = CODE["envSecrets"]
    assert ("Secret", credentials["name"]) in named
    assert "postgresql-password" in named["Secret", VALUES["global"]["postgresqlSecretName"]]["stringData"]


def test_butler_and_archive_find_their_credentials_in_the_secrets_variables(monkeypatch):
    (text,) = (
        m["stringData"]
        for m in yaml.safe_load_all((DEPLOY / "helm" / "survey.yaml").read_text())
        if m["metadata"]["name"] == CODE["envSecrets"][0]["name"]
    )
    for name, value in text.items():
        monkeypatch.setenv(name, value)
    found = DbAuth().getAuth("postgresql", "proc_decam", "survey-postgres", 5432, "proc_decam_registry")
    assert found == ("proc_decam", "put it here")
    assert find_credentials().source == "the environment"


def test_values_say_what_the_instance_of_the_units_says():
    """What the chart leaves out or has otherwise: the instance's class, slots of dead runs, retries."""
    units = yaml.safe_load((DEPLOY / "postgres" / "dagster.yaml").read_text())
    more, daemon = VALUES["additionalInstanceConfig"], VALUES["dagsterDaemon"]
    assert more == {name: units[name] for name in ("instance_class", "nux")}
    freed = units["run_monitoring"]["free_slots_after_run_end_seconds"]
    assert daemon["runMonitoring"]["freeSlotsAfterRunEndSeconds"] == freed
    again = units["run_retries"]["retry_on_asset_or_op_failure"]
    assert daemon["runRetries"]["retryOnAssetOrOpFailure"] is again
    assert VALUES["retention"]["schedule"]["purgeAfterDays"] == units["retention"]["schedule"]["purge_after_days"]
    assert VALUES["retention"]["sensor"]["purgeAfterDays"] == units["retention"]["sensor"]["purge_after_days"]


def test_the_web_server_is_asked_whether_it_is_ready_where_it_listens():
    server = VALUES["dagsterWebserver"]
    assert server["readinessProbe"]["httpGet"]["port"] == server["service"]["port"]


def test_the_chart_is_that_of_the_library_and_the_code_server_that_of_the_units():
    first = (DEPLOY / "helm" / "values.yaml").read_text()
    assert f"--version {dagster.__version__} " in first
    unit = (DEPLOY / "dagster" / "proc-decam-code.service").read_text()
    assert " ".join(CODE["dagsterApiGrpcArgs"]) in unit and f"-p {CODE['port']} " in unit


@pytest.fixture(scope="module")
def chart() -> Path:
    """The chart's folder: `helm pull dagster/dagster --version … --untar`, and its folder in the variable."""
    folder = os.environ.get("PROC_DECAM_DAGSTER_CHART")
    if not folder:
        pytest.skip("the chart is not here: PROC_DECAM_DAGSTER_CHART names no folder of it")
    return Path(folder)


def test_the_chart_takes_the_values(chart):
    defaults = yaml.safe_load((chart / "values.yaml").read_text())
    schema = yaml.safe_load((chart / "values.schema.json").read_text())
    # What the schema takes from Kubernetes by address is what the tests above check.
    local = _without_addresses(schema)
    jsonschema.validate(deep_merge_dicts(defaults, VALUES), local)


@pytest.fixture(scope="module")
def rendered(chart) -> dict[tuple[str, str], Any]:
    """The chart's manifests with the values, by kind and name."""
    if not (helm := shutil.which("helm")):
        pytest.skip("helm is not installed")
    # Helm would fetch the schema's definitions from their addresses.
    options = ["--skip-schema-validation", "--namespace", "survey", "-f", DEPLOY / "helm" / "values.yaml"]
    done = subprocess.run([helm, "template", "release", chart, *options], capture_output=True, text=True, check=True)
    return {(m["kind"], m["metadata"]["name"]): m for m in yaml.safe_load_all(done.stdout) if m}


def test_a_server_takes_what_the_chart_renders(rendered):
    for manifest in rendered.values():
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    pod = rendered["Deployment", "release-dagster-webserver"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["port"] == container["ports"][0]["containerPort"]


def test_the_rendered_instance_is_what_the_tests_above_take_it_for(rendered, tmp_path, monkeypatch):
    text = rendered["ConfigMap", "release-dagster-instance"]["data"]["dagster.yaml"]
    (tmp_path / "dagster.yaml").write_text(text)
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "x")
    instance = InstanceRef.from_dir(str(tmp_path))
    assert instance.custom_instance_class_data.class_name == "SurveyInstance"
    assert instance.run_storage_data.class_name == "PostgresRunStorage"
    assert instance.settings["concurrency"]["runs"]["max_concurrent_runs"] == 8
    assert instance.settings["run_monitoring"]["free_slots_after_run_end_seconds"] == 30
    assert yaml.safe_load(text)["run_launcher"]["config"] == launcher_config()
    pod = rendered["Deployment", f"release-dagster-user-deployments-{CODE['name']}"]["spec"]["template"]["spec"]
    environment = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
    assert json.loads(environment["DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT"]) == {"k8s": code_context()}


def _without_addresses(schema: Any) -> Any:
    if isinstance(schema, dict):
        away = str(schema.get("$ref", "")).startswith("http")
        return {k: _without_addresses(v) for k, v in schema.items() if not (away and k == "$ref")}
    return [_without_addresses(v) for v in schema] if isinstance(schema, list) else schema
