"""The tables of the camera package, and `SOURCES.md`, which says where each comes from."""
