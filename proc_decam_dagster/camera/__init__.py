"""DECam's facts as data: detectors, amplifiers, focal plane, distortion, crosstalk, filters; no Butler, no pixels.

Where each number comes from is written in ``data/SOURCES.md``.
"""
