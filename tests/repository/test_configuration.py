"""A repository's configuration: read once while its file stays as it is."""

import pytest
import yaml
from lsst.daf.butler import Butler

from proc_decam_dagster.repository.configuration import CONFIG, read_configuration, registry_configuration


@pytest.fixture
def root(tmp_path):
    Butler.makeRepo(str(tmp_path / "repo"))
    return tmp_path / "repo"


def change(root, **more):
    file = root / CONFIG
    written = yaml.safe_load(file.read_text()) | more
    file.with_suffix(".part").write_text(yaml.safe_dump(written))
    file.with_suffix(".part").rename(file)  # another file in its place, perhaps within a tick of the clock


def test_it_is_read_once_and_anew_when_it_has_changed(root):
    first = read_configuration(root)
    assert read_configuration(root) is first
    assert registry_configuration(root)["db"].startswith("sqlite")
    storage = {"storageClasses": {"OfOurOwn": {"pytype": "dict"}}}
    change(root, **storage)
    assert "OfOurOwn" in read_configuration(root)["storageClasses"]
    assert "OfOurOwn" not in first["storageClasses"]


def test_a_butler_made_of_it_leaves_it_as_it_is(root):
    before = str(read_configuration(root))
    with Butler.from_config(read_configuration(root), writeable=True) as butler:
        butler.collections.register("one")
    assert str(read_configuration(root)) == before
    with Butler.from_config(read_configuration(root)) as butler:
        assert set(butler.collections.query("*")) == {"one"}


def test_without_a_file_the_butler_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_configuration(tmp_path / "none")
