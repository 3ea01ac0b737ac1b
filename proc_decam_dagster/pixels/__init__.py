"""The embedded engine's algorithms on plain arrays: no Butler, no files.

Pixel coordinates are 0-based ``(x, y)`` = (column, row), integers at pixel centres; arrays are ``[y, x]``.
"""
