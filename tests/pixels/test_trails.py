"""Trails of satellites: found to their edges on whole CCDs, none where there is none; tails of bleeding columns."""

import numpy as np
import pytest
from ccd_scene import READ_NOISE, scene

from proc_decam_dagster.pixels.cosmic_rays import repair
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import SAT, STREAK
from proc_decam_dagster.pixels.trails import find_trails, mask_bleed_tails

SHAPE = (4096, 2048)


def line(x, y, degrees, peak, sigma):
    """Return a straight trail of Gaussian profile, electrons."""
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32)
    angle = np.radians(degrees)
    distance = (u - x) * -np.sin(angle) + (v - y) * np.cos(angle)
    return (peak * np.exp(-0.5 * (distance / sigma) ** 2)).astype(np.float32)


@pytest.mark.parametrize(
    "trails",
    [
        [(1000, 2000, 33, 200, 2.2)],
        [(900, 700, 3, 40, 2.0), (1000, 2500, 100, 80, 6.0)],
        [(1500, 3500, -60, 3000, 3.0)],
    ],
)
def test_trails_are_found_and_masked_to_where_they_vanish(trails):
    light = np.sum([line(*each) for each in trails], axis=0)
    image = scene(6, extra=light).image
    repair(image)
    found = find_trails(image)
    assert len(found) == len(trails)
    masked = (image.mask & STREAK) != 0
    # To a third of the noise of a pixel all of the trail is masked, and little more than that.
    noise = np.sqrt(2000 + READ_NOISE**2)
    assert masked[light > 0.3 * noise].mean() > 0.999
    assert (masked & (light < 1e-3 * noise)).sum() < 2.5 * (light > 0.3 * noise).sum()
    turned = sorted(np.degrees(np.arctan2(each.dy, each.dx)) % 180 for each in found)
    assert turned == pytest.approx(sorted(each[2] % 180 for each in trails), abs=0.1)


@pytest.mark.parametrize("fwhm", [3.0, 5.0])
def test_no_trail_where_there_is_none(fwhm):
    """Stars, some of them bleeding, galaxies, cosmic rays and a sloping sky make none."""
    image = scene(21, fwhm=fwhm, number=6000, galaxies=800, gradient=0.08).image
    repair(image)
    assert find_trails(image) == []
    assert not (image.mask & STREAK).any()


def test_a_row_of_bright_stars_is_no_trail():
    image = scene(4, number=200).image
    rng = np.random.default_rng(2)
    for x in rng.uniform(20, 2028, 12):
        y = int(300 + 0.8 * x)
        image.image[y - 4 : y + 5, int(x) - 4 : int(x) + 5] += 4000
    repair(image)
    assert find_trails(image) == []


def test_small_or_blank_images_have_no_trails():
    assert find_trails(MaskedImage.blank((100, 100))) == []
    assert find_trails(MaskedImage.blank((1024, 1024))) == []


def test_bleed_tails_below_saturation_are_masked_and_saturated_stars_are_not_lengthened():
    rng = np.random.default_rng(1)
    image = MaskedImage.blank((400, 300))
    image.variance += 2049
    image.image += (2000 + np.sqrt(2049) * rng.standard_normal(image.shape)).astype(np.float32)
    image.mask[150:200, 100] |= SAT  # a trail of 50 rows
    tail = 60000 * np.exp(-np.arange(80) / 15)
    image.image[200:280, 100] += tail
    image.mask[50:60, 200:210] |= SAT  # a star's core
    image.image[60:70, 200:210] += 20000
    masked = mask_bleed_tails(image)
    assert (image.mask[200:200 + int((tail > 5 * 45).sum()), 100] & SAT).all()  # fmt: skip
    assert masked < 100
    assert not (image.mask[60:70, 200:210] & SAT).any()
