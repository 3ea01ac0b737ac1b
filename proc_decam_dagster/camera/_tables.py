"""Reading this package's data files: comma-separated text with ``#`` comments."""

import csv
from importlib import resources


def read(name: str) -> list[dict[str, str]]:
    """Return the rows of ``data/<name>`` as dictionaries of text."""
    text = (resources.files(__package__) / "data" / name).read_text()
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
