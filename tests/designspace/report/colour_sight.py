"""How colours look to people, by published formulas: WCAG's contrast, Machado's colour blindness, and CIEDE2000."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Colours = NDArray[np.float64]  # [n, 3]

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SIGHTS: dict[str, Colours] = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(hexes: list[str]) -> Colours:
    """Return `#rrggbb` colours in linear RGB, [n, 3] in 0 to 1."""
    encoded = np.array([[int(hue[at : at + 2], 16) / 255 for at in (1, 3, 5)] for hue in hexes])
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Return WCAG's contrast of two colours, 1 to 21."""
    low, high = sorted((linear([one, other]) @ _XYZ[1]).tolist())
    return float((high + 0.05) / (low + 0.05))


def lab(rgb: Colours) -> Colours:
    """Return linear RGB as CIELAB under D65, [n, 3]."""
    ratio = np.clip(rgb, 0, 1) @ _XYZ.T / _XYZ.sum(axis=1)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def ciede2000(one: Colours, other: Colours) -> Colours:
    """Return the differences of CIELAB colours, [n]; after Sharma, Wu and Dalal (2005)."""
    (l1, a1, b1), (l2, a2, b2) = one.T, other.T
    mean_c7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    g = 1 + 0.5 * (1 - np.sqrt(mean_c7 / (mean_c7 + 25.0**7)))
    c1, c2 = np.hypot(g * a1, b1), np.hypot(g * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, g * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180
    grey = c1 * c2 == 0
    d_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(np.where(grey, 0, turn)) / 2)
    h = np.where(grey, h1 + h2, (h1 + turn / 2) % 360)
    lightness, c = (l1 + l2) / 2, (c1 + c2) / 2
    t = 1 - 0.17 * _cos(h - 30) + 0.24 * _cos(2 * h) + 0.32 * _cos(3 * h + 6) - 0.2 * _cos(4 * h - 63)
    s_l = 1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2)
    s_c, s_h = 1 + 0.045 * c, 1 + 0.015 * c * t
    rotation = 60 * np.exp(-(((h - 275) / 25) ** 2))
    r = -2 * np.sqrt(c**7 / (c**7 + 25.0**7)) * np.sin(np.radians(rotation))
    parts = (l2 - l1) / s_l, (c2 - c1) / s_c, d_h / s_h
    return np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2 + r * parts[1] * parts[2])


def closest(hexes: list[str], sight: str) -> tuple[float, str, str]:
    """Return the smallest difference of any two colours as one kind of sight has them, and which two they are."""
    seen = lab(np.clip(linear(hexes) @ SIGHTS[sight].T, 0, 1))
    first, second = np.triu_indices(len(hexes), 1)
    apart = ciede2000(seen[first], seen[second])
    at = int(apart.argmin())
    return float(apart[at]), hexes[first[at]], hexes[second[at]]


def _cos(degrees: Colours) -> Colours:
    return np.cos(np.radians(degrees))
