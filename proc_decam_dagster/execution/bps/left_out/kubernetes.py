"""The client of Kubernetes: where Dagster has brought it, all of Parsl's programs would read its thousand files."""

raise ImportError("left out of BPS, whose sites do not use it")
