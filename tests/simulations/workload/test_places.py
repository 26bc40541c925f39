import numpy as np
import pytest

from commonlore.simulations.experiment.models import NetworkModel
from commonlore.simulations.workload.arrivals import Stream, generator
from commonlore.simulations.workload.places import _distance_km, draw_latencies


def test_great_circles():
    homes = np.radians([[51.5, -0.1], [40.7, -74.0], [-33.9, 151.2]])
    assert _distance_km(homes[0], homes) == pytest.approx([0, 5_570, 16_990], rel=0.01)


def test_the_globe_is_wider_than_a_town():
    globe = NetworkModel(placement="globe", latency_ms=20, gateways=2)
    drawn = np.array(draw_latencies(globe, generator(1, Stream.PLACES), 500)) / 1000
    assert drawn.shape == (2, 500)
    assert drawn.min() >= 4
    assert 60 < np.median(drawn) < 150
    assert drawn.max() < 300
