"""Static pages of a survey and of its nights: each file holds all that it shows, and is read without a server."""

from proc_decam_dagster.report.pages.making import FOLDER, Made, make_pages

__all__ = ["FOLDER", "Made", "make_pages"]
