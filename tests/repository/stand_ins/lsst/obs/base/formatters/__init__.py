"""Formatters that the middleware's default configuration names."""
