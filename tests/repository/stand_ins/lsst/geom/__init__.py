"""Points, boxes and positions, as far as the engine makes them."""

from dataclasses import dataclass

degrees = "degrees"


@dataclass(frozen=True)
class Point2I:
    """A pixel."""

    x: int
    y: int


@dataclass(frozen=True)
class Extent2I:
    """A width and a height."""

    x: int
    y: int


@dataclass(frozen=True)
class Box2I:
    """A box of pixels: its minimum and its dimensions."""

    minimum: Point2I
    dimensions: Extent2I


@dataclass(frozen=True)
class SpherePoint:
    """A position on the sky."""

    longitude: float
    latitude: float
    units: str
