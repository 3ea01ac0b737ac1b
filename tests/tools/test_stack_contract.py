"""The extractor: what it reads from sources, and that the committed contract is what it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "stack_contract"
CONTRACT = ROOT / "tests" / "contract" / "v30.json"
SOURCES = "PROC_DECAM_STACK_SOURCES"

BASE = '''
import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
from lsst.pipe.base import connectionTypes as cT

NAMES = ["a", "b"]

class SubConfig(pexConfig.Config):
    size = pexConfig.RangeField(dtype=int, default=3, min=1)

class SubTask(pipeBase.Task):
    ConfigClass = SubConfig

class OtherTask(SubTask):
    """Inherits its configuration."""

class BaseConnections(pipeBase.PipelineTaskConnections, dimensions=("instrument", "visit"),
                      defaultTemplates={"kind": "deep"}):
    image = cT.Input("doc", name="{kind}_image", storageClass="ExposureF", dimensions=("instrument", "visit"))
    mask = cT.PrerequisiteInput(name="mask", storageClass="Mask", dimensions=["instrument"], isCalibration=True,
                                minimum=0)

class BaseConfig(pipeBase.PipelineTaskConfig, pipelineConnections=BaseConnections):
    names = pexConfig.ListField(dtype=str, default=NAMES, doc="names")
    mode = pexConfig.ChoiceField(dtype=str, default="x", allowed={"x": "one", "y": "two"}, doc="mode")
    sub = pexConfig.ConfigurableField(target=SubTask, doc="subtask")
    table = pexConfig.DictField(keytype=str, itemtype=float, default={"g": 1.0}, doc="table")
    computed = pexConfig.Field(dtype=str, default=open.__name__, doc="default that code makes")
    plugins = registry.makeField(default=["one"])

    def setDefaults(self):
        super().setDefaults()
        self.sub.size = 5
        self.names.append("c")
        self.sub.retarget(OtherTask)
        self.names = compute()
        if something:
            self.mode = "y"
'''
TASK = """
from .base import *
from . import base

class MyConnections(base.BaseConnections):
    table = cT.Output(name="table", storageClass="ArrowAstropy", dimensions=("instrument", "visit"), multiple=True)

    def __init__(self, *, config=None):
        super().__init__(config=config)
        if not config.useMask:
            self.prerequisiteInputs.remove("mask")
        else:
            del self.table
        match self.config.mode:
            case "x":
                self.dimensions.add("detector")
            case other if "z" in other:
                self.image = dataclasses.replace(self.image, dimensions=config.names)

class MyConfig(BaseConfig, pipelineConnections=MyConnections):
    useMask = pexConfig.Field[bool](default=False, doc="switch", optional=True)

class MyTask(pipeBase.PipelineTask):
    ConfigClass = MyConfig
    _DefaultName = "my"
"""
PIPELINE = """
instrument: lsst.obs.toy.Toy
tasks:
  first:
    class: lsst.toy.MyTask
    config:
      file: $TOY_DIR/config/first.py
      names: [d]
      python: |
        from lsst.toy.base import OtherTask
        config.sub.retarget(OtherTask)
        config.table.update({"r": 2.0})
        print("nothing that a configuration keeps")
subsets:
  step1: [first]
"""


@pytest.fixture
def extract(tmp_path, monkeypatch):
    """Return a function that runs the extractor on a toy package."""
    package = tmp_path / "toy"
    python = package / "python" / "lsst" / "toy"
    for folder in (python, package / "pipelines", package / "config"):
        folder.mkdir(parents=True)
    (python / "__init__.py").write_text("from .task import *\n")
    (python / "base.py").write_text(BASE)
    (python / "task.py").write_text(TASK)
    (package / "pipelines" / "toy.yaml").write_text(PIPELINE)
    (package / "config" / "first.py").write_text("config.load('more.py')\nconfig.mode = 'y'\n")
    (package / "config" / "more.py").write_text("config.sub.size = 7\n")
    (package / "config" / "my.py").write_text("config.useMask = True\n")
    monkeypatch.syspath_prepend(str(TOOL))
    wanted = {
        "release": "toy", "packages": {"toy": "v1"}, "pipelines": ["$TOY_DIR/pipelines/toy.yaml"], "tasks": [],
        "overrides": "$TOY_DIR/config",
    }  # fmt: skip

    def run() -> dict:
        code = (
            "import sys, json, runpy; from pathlib import Path; "
            f"tool = runpy.run_path({str(TOOL)!r}, run_name='tool'); "
            f"contract = tool['extract'](Path({str(tmp_path)!r}), json.loads({json.dumps(wanted)!r})); "
            "print(tool['as_text'](contract))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return run


def test_tasks_are_found_by_the_name_that_a_pipeline_gives(extract):
    found = extract()
    assert found["aliases"] == {"lsst.toy.MyTask": "lsst.toy.task.MyTask"}
    assert found["tasks"]["lsst.toy.task.MyTask"] == {"name": "my", "config": "lsst.toy.task.MyConfig"}
    assert found["tasks"]["lsst.toy.base.OtherTask"]["config"] == "lsst.toy.base.SubConfig"


def test_configurations(extract):
    configs = extract()["configs"]
    assert configs["lsst.toy.task.MyConfig"] == {
        "bases": ["lsst.toy.base.BaseConfig"], "connections": "lsst.toy.task.MyConnections",
        "fields": {"useMask": ["field", "bool", "False", {"optional": True}]},
    }  # fmt: skip
    base = configs["lsst.toy.base.BaseConfig"]
    assert base["fields"] == {
        "names": ["list", "str", "['a', 'b']"],
        "mode": ["field", "str", "'x'", {"allowed": ["x", "y"]}],
        "sub": ["task", "lsst.toy.base.SubTask"],
        "table": ["dict", "str,float", "{'g': 1.0}"],
        "computed": ["field", "str", "?"],
        "plugins": ["open"],
    }
    assert base["set"] == [
        ["sub.size", "=", "5"], ["names", "append", "'c'"], ["sub", "retarget", "lsst.toy.base.OtherTask"],
    ]  # fmt: skip


def test_connections(extract):
    connections = extract()["connections"]
    base = connections["lsst.toy.base.BaseConnections"]
    assert (base["dimensions"], base["templates"]) == (["instrument", "visit"], {"kind": "deep"})
    assert base["members"] == {
        "image": ["Input", "{kind}_image", "ExposureF", ["instrument", "visit"], {}],
        "mask": ["PrerequisiteInput", "mask", "Mask", ["instrument"], {"isCalibration": True, "minimum": 0}],
    }
    mine = connections["lsst.toy.task.MyConnections"]
    assert mine["bases"] == ["lsst.toy.base.BaseConnections"]
    assert mine["changes"] == [
        ["remove", "mask", "", "(not config.useMask)"],
        ["remove", "table", "", "(not (not config.useMask))"],
        ["dimensions+", "", "'detector'", "(config.mode == 'x')"],
        ["replace dimensions", "image", "config.names", "(not (config.mode == 'x')) and ('z' in config.mode)"],
    ]


def test_pipelines_and_overrides(extract):
    found = extract()
    assert found["pipelines"]["$TOY_DIR/pipelines/toy.yaml"] == {
        "instrument": "lsst.obs.toy.Toy",
        "tasks": {
            "first": {
                "class": "lsst.toy.MyTask",
                "config": [
                    ["", "file", "$TOY_DIR/config/first.py"], ["names", "yaml", ["d"]],
                    ["sub", "retarget", "lsst.toy.base.OtherTask"], ["table", "update", "{'r': 2.0}"],
                ],
            }
        },
        "subsets": {"step1": ["first"]},
    }  # fmt: skip
    assert found["files"] == {"$TOY_DIR/config/first.py": [["sub.size", "=", "7"], ["mode", "=", "'y'"]]}
    assert found["overrides"] == {"my": [["useMask", "=", "True"]]}


def test_hash_is_of_what_was_read(extract, tmp_path):
    before = extract()["sources"]["toy"]
    assert before["tag"] == "v1"
    (tmp_path / "toy" / "python" / "lsst" / "toy" / "unread.py").write_text("nothing = 1\n")
    assert extract()["sources"]["toy"] == before
    with (tmp_path / "toy" / "config" / "more.py").open("a") as file:
        file.write("# a remark\n")
    assert extract()["sources"]["toy"]["sha256"] != before["sha256"]


def test_package_that_is_not_checked_out_is_named(tmp_path):
    done = subprocess.run([sys.executable, TOOL, tmp_path], capture_output=True, text=True)
    assert done.returncode != 0
    assert "lacks" in done.stderr and "pipe_tasks" in done.stderr and "Traceback" not in done.stderr


def test_committed_contract_is_what_the_tool_writes(tmp_path):
    if not (sources := os.environ.get(SOURCES)):
        pytest.skip(f"{SOURCES} names no folder of the release's sources")
    output = tmp_path / "v30.json"
    subprocess.run([sys.executable, TOOL, sources, "-o", output], check=True, capture_output=True)
    assert output.read_bytes() == CONTRACT.read_bytes()
