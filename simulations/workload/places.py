"""How far peers are from each other: one-way latencies in whole microseconds.

`globe`: peers live in metropolitan areas, as often as people do; a message needs half of `latency_ms` at
either end (spread lognormally) and the time of light in glass on a way half again as long as the great
circle.
"""

from __future__ import annotations

import numpy as np

from ..experiment.models import NetworkModel
from .arrivals import Floats, spread

METROPOLES = (
    # latitude, longitude, millions of people (rounded)
    (40.7, -74.0, 20), (34.1, -118.2, 13), (41.9, -87.6, 9), (19.4, -99.1, 22), (-23.6, -46.6, 22),
    (-34.6, -58.4, 15), (51.5, -0.1, 14), (48.9, 2.4, 11), (52.5, 13.4, 4), (40.4, -3.7, 7),
    (55.8, 37.6, 17), (41.0, 29.0, 15), (30.0, 31.2, 20), (6.5, 3.4, 15), (-26.2, 28.0, 10),
    (25.2, 55.3, 3), (19.1, 72.9, 21), (28.6, 77.2, 32), (23.8, 90.4, 22), (-6.2, 106.8, 33),
    (14.6, 121.0, 24), (1.4, 103.8, 6), (31.2, 121.5, 28), (39.9, 116.4, 20), (37.6, 127.0, 25),
    (35.7, 139.7, 37), (-33.9, 151.2, 5),
)  # fmt: skip
EARTH_KM = 6_371.0
GLASS_KM_PER_MS = 200.0
DETOUR = 1.5


def draw_latencies(network: NetworkModel, draw: np.random.Generator, count: int) -> list[list[int]]:
    """From each gateway to each of `count` workers."""
    if network.placement == "lognormal":
        return [
            spread(draw, network.latency_ms * 1000, network.latency_sigma, count)
            for _ in range(network.gateways)
        ]
    gateways, workers = _draw_homes(draw, network.gateways), _draw_homes(draw, count)
    return [_to_all(network, draw, gateway, workers) for gateway in gateways]


def _draw_homes(draw: np.random.Generator, count: int) -> Floats:
    """Latitude and longitude, in radians, of `count` peers."""
    table = np.array(METROPOLES)
    chosen = draw.choice(len(table), count, p=table[:, 2] / table[:, 2].sum())
    homes: Floats = np.radians(table[chosen, :2])
    return homes


def _to_all(network: NetworkModel, draw: np.random.Generator, home: Floats, workers: Floats) -> list[int]:
    glass_us = _distance_km(home, workers) * DETOUR / GLASS_KM_PER_MS * 1000
    ends_us = spread(draw, network.latency_ms * 1000, network.latency_sigma, len(workers))
    return [end + int(way) for end, way in zip(ends_us, glass_us, strict=True)]


def _distance_km(home: Floats, others: Floats) -> Floats:
    """Great-circle distances (haversine)."""
    between = others - home
    half = np.sin(between[:, 0] / 2) ** 2
    half += np.cos(home[0]) * np.cos(others[:, 0]) * np.sin(between[:, 1] / 2) ** 2
    distance: Floats = 2 * EARTH_KM * np.arcsin(np.sqrt(half))
    return distance
