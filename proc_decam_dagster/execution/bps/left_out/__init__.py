"""Modules that fail to import, in the path of BPS and what it starts: what stands here is left out."""
