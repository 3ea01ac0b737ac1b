"""Which reference magnitude stands for each DECam band, and the colour term from Pan-STARRS1 to DECam's own system."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ColourTerm:
    """DECam magnitude = ``primary`` + polynomial of (``blue`` - ``red``), all of Pan-STARRS1.

    Attributes
    ----------
    primary : `str`
        Band of the catalogue that is nearest.
    blue, red : `str`
        Bands of the colour.
    coefficients : `tuple` [`float`, …]
        Of rising powers, mag; empty where no term is known: the primary is taken as it is.
    valid : `tuple` [`float`, `float`]
        Colours for which the polynomial was made: stars of other colours are not used.
    """

    primary: str
    blue: str = "g"
    red: str = "i"
    coefficients: tuple[float, ...] = ()
    valid: tuple[float, float] = (-np.inf, np.inf)

    def offset(self, colour: np.ndarray) -> np.ndarray:
        """Return DECam minus Pan-STARRS1 magnitude; that of the nearest valid colour outside of the valid ones."""
        return np.polynomial.polynomial.polyval(np.clip(colour, *self.valid), self.coefficients or (0.0,))

    def slope(self, colour: np.ndarray) -> np.ndarray:
        """Return the derivative of `offset`."""
        derivative = np.polynomial.polynomial.polyder(self.coefficients or (0.0,))
        return np.polynomial.polynomial.polyval(np.clip(colour, *self.valid), derivative)


_STARS = (0.4, 2.7)

COLOUR_TERMS = {
    # Legacy Surveys, DR9 description: cubic in g - i, from DECam's own observations of Pan-STARRS1 stars.
    "g": ColourTerm("g", "g", "i", (0.00062, 0.03604, 0.01028, -0.00613), _STARS),
    "r": ColourTerm("r", "g", "i", (0.00495, -0.08435, 0.03222, -0.01140), _STARS),
    "i": ColourTerm("i", "g", "i", (0.00904, -0.04171, 0.00566, -0.00829), _STARS),
    "z": ColourTerm("z", "g", "i", (0.02583, -0.07690, 0.02824, -0.00898), _STARS),
    "Y": ColourTerm("y", "g", "i", (0.02332, -0.05992, 0.02840, -0.00572), _STARS),
    # Our own: black bodies of 3,500 to 15,000 K through box passbands (tests/camera/test_colour_terms.py makes them).
    "VR": ColourTerm("r", "g", "r", (0.0083, 0.0528, -0.0514), (-0.25, 1.3)),
    # Rubin's obs_decam: the Pickles stellar library through the filters' transmission (S. Huang).
    "N540": ColourTerm("g", "g", "r", (-0.02635164, -0.50968428, -0.00958104), (-1.0, 1.5)),
    "N708": ColourTerm("r", "r", "i", (-0.01508987, -0.69377675, 0.09079348), (-1.0, 2.0)),
    # No term is known: Pan-STARRS1 has no u, and nobody published the others.
    "u": ColourTerm("g"),
    "N419": ColourTerm("g"),
    "N662": ColourTerm("r"),
    "N673": ColourTerm("r"),
    "N964": ColourTerm("z"),
}
COLOUR_TERMS["y"] = COLOUR_TERMS["Y"]
"""By DECam band."""
