"""A simulated survey in the archive's real file format, with its truth, and an archive server that serves it.

Its models of the PSF (Moffat, varying by trigonometric functions), of distortion (TPV with an error that no header
knows) and of noise are its own: it imports neither the engine's algorithms nor its tasks, nor they it, so that a
mistake made in one is seen by the other. Not simulated: brighter-fatter, non-linearity, fringing, refraction.
"""
