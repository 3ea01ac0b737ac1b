"""The domain of a DECam survey, without I/O: nights, proc types, collections, the exposure table."""
