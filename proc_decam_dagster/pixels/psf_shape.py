"""A smooth shape under a pixel-grid PSF: what the stars' noise must not write into the model."""

import numpy as np
from scipy.optimize import least_squares

_STEPS = np.array([0.01, 0.01, 0.01, 0.02])
"""Steps of the derivatives with respect to log width, both ellipticities and the Moffat exponent."""

_EXPONENT = 3

SURE_CHANGE, SURE_RING = 4.0, 2.0
"""Squared significance below which a change of the profile over the detector, and a ring of residuals, are noise.

Left free, the exponent follows the noise of the few stars in each corner, and with it all fluxes there by a per cent.
"""


def moffat(size: int, fwhm: float, beta: float, e1: float = 0.0, e2: float = 0.0, over: int = 3) -> np.ndarray:
    """Return a pixel-integrated elliptical Moffat profile of unit total flux, (size, size)."""
    half = size // 2
    offset = (np.arange(over) - (over - 1) / 2) / over
    c = (np.arange(-half, half + 1)[:, None] + offset).ravel()
    x, y = c[None, :], c[:, None]
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    area = np.sqrt(max(1 - e1**2 - e2**2, 0.05))
    radius2 = ((1 - e1) * x**2 + (1 + e1) * y**2 - 2 * e2 * x * y) / area / alpha**2
    fine = (1 + radius2) ** -beta
    return fine.reshape(size, over, size, over).mean((1, 3)) * (beta - 1) / (np.pi * alpha**2)


def fit_moffat(stamp: np.ndarray, error: np.ndarray, fwhm: float) -> tuple[float, np.ndarray, float]:
    """Return amplitude, parameters (log FWHM, e1, e2, β) and pedestal of the Moffat profile nearest to a stamp."""
    size = len(stamp)
    pixel = 1 / stamp.size

    def residual(p: np.ndarray) -> np.ndarray:
        return ((p[0] * moffat(size, np.exp(p[1]), p[4], p[2], p[3]) + pixel * p[5] - stamp) / error).ravel()

    fit = least_squares(
        residual, x0=(stamp.sum(), np.log(fwhm), 0.0, 0.0, 2.8, 0.0),
        bounds=((0.0, np.log(fwhm) - 1, -0.7, -0.7, 1.6, -0.1), (np.inf, np.log(fwhm) + 1, 0.7, 0.7, 10.0, 0.1)),
        x_scale=(1, 0.1, 0.1, 0.1, 1, 0.01), max_nfev=40,
    )  # fmt: skip
    return float(fit.x[0]), fit.x[1:5], float(pixel * fit.x[5])


def _shrink(
    residual: np.ndarray, variance: np.ndarray, radius: np.ndarray, fwhm: float, strength: float = 1.0
) -> np.ndarray:
    """Return a residual image scaled down ring by ring by the share of its power that is noise (James & Stein)."""
    out = np.zeros_like(residual)
    for inner in np.arange(0, radius.max() + 1, 0.5 * fwhm):
        ring = (radius >= inner) & (radius < inner + 0.5 * fwhm)
        if ring.any():
            power = np.mean(residual[ring] ** 2)
            out[ring] = residual[ring] * max(0.0, 1 - strength * np.mean(variance[ring]) / max(power, 1e-30))
    return out


def _fit(scaled: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the parameters of a linear fit of (n, pixels) templates, in units of the noise, and their variances."""
    covariance = np.linalg.inv(scaled @ scaled.T)
    return covariance @ (scaled @ data), covariance.diagonal()


def _certain(change: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return what part of a fitted change to keep: none below two standard deviations, 94 % at four."""
    significance = np.maximum(change**2 / variance, 1e-30)
    return np.clip(1 - (SURE_CHANGE / significance) ** 2, 0, 1)


def denoise(coefficients: np.ndarray, variance: np.ndarray, fwhm: float) -> np.ndarray:
    """Return the coefficients of a pixel-grid PSF with their noise reduced.

    Parameters
    ----------
    coefficients : `numpy.ndarray`, (n_terms, size, size)
        Fitted polynomial coefficients of each pixel.
    variance : `numpy.ndarray`, (n_terms, size, size)
        Noise variance of each coefficient.
    fwhm : `float`
        Approximate seeing, pixels.

    Notes
    -----
    The mean PSF is split into a Moffat profile and a residual; its variation over the detector into changes of
    that profile's width, ellipticity and exponent, and a residual. Residuals are scaled down by the share of noise in
    them, so with many bright stars the model is the pixel grid's own, with few the smooth one's.
    """
    size = coefficients.shape[-1]
    half = size // 2
    dy, dx = np.mgrid[-half : half + 1, -half : half + 1]
    radius = np.hypot(dx, dy)
    first = coefficients[0]
    error = np.sqrt(variance[0] + (0.01 * np.abs(first)) ** 2)
    amplitude, shape, pedestal = fit_moffat(first, error, fwhm)
    first = first - pedestal

    def profile(p: np.ndarray) -> np.ndarray:
        return amplitude * moffat(size, np.exp(p[0]), p[3], p[1], p[2])

    base = profile(shape)
    templates = []
    for step in np.diag(_STEPS):
        templates.append((profile(shape + step) - profile(shape - step)) / (2 * step.sum()))
    templates = np.stack([*templates, np.ones_like(base)]).reshape(len(_STEPS) + 1, -1)
    out = [base + _shrink(first - base, variance[0], radius, fwhm)]
    for term, noise in zip(coefficients[1:], variance[1:]):
        weight = 1 / np.sqrt(noise.ravel())
        scaled, data = templates * weight, term.ravel() * weight
        # The exponent is the least certain, and width follows it: the others are fitted again at what is kept of it.
        exponent, uncertainty = _fit(scaled, data)
        kept = exponent[_EXPONENT] * _certain(exponent[_EXPONENT], uncertainty[_EXPONENT])
        others = np.delete(scaled, _EXPONENT, 0)
        change, uncertainty = _fit(others, data - kept * scaled[_EXPONENT])
        change[:-1] *= _certain(change[:-1], uncertainty[:-1])
        change = np.insert(change, _EXPONENT, kept)
        smooth = (change[:-1] @ templates[:-1]).reshape(size, size)
        term = term - change[-1]
        out.append(smooth + _shrink(term - smooth, noise, radius, fwhm, SURE_RING))
    return np.stack(out)
