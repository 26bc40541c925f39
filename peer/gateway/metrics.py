"""Figures for Prometheus: counted as asks pass, read off the node when somebody looks.

The registry is this node's own. Prices are token units; a door is `openai` or `control`; an outcome is `ok`,
`left` (the caller went away) or an error's code.
"""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ...protocol.gossip.adverts import AdapterRecord
from ..asking.answers import Transcript
from .node import GatewayNode

MEDIA_TYPE = CONTENT_TYPE_LATEST
TTFT_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class _NodeFigures(Collector):
    """What the node itself knows at the moment."""

    def __init__(self, node: GatewayNode) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        node = self._node
        yield GaugeMetricFamily(
            "commonlore_connected_peers", "Peers with an open connection", len(node.host.connected())
        )
        yield GaugeMetricFamily(
            "commonlore_workers_known", "Workers believed alive", len(node.asker.offers())
        )
        adapters = GaugeMetricFamily(
            "commonlore_adapters_known",
            "Adapters announced, by whether their attribution was measured against retraining",
            labels=["attribution"],
        )
        kinds = Counted(_attribution_of(record) for record in node.catalog.adapters())
        for kind in ("measured", "unmeasured", "none"):
            adapters.add_metric([kind], kinds[kind])
        yield adapters
        yield CounterMetricFamily(
            "commonlore_adapter_fetches", "Adapters pulled from other peers", node.adapter_fetches
        )


def _attribution_of(record: AdapterRecord) -> str:
    if record.index is None:
        return "none"
    return "unmeasured" if record.faithfulness is None else "measured"


class Metrics:
    """Every figure of one node."""

    def __init__(self, node: GatewayNode) -> None:
        self._registry = CollectorRegistry()
        own = self._registry
        own.register(_NodeFigures(node))
        ProcessCollector(registry=own)
        self._asks = Counter("commonlore_asks", "Asks ended", ["door", "outcome"], registry=own)
        self._tokens = Counter(
            "commonlore_tokens",
            "Prompt tokens of receipts, and output tokens delivered",
            ["kind"],
            registry=own,
        )
        self._receipts = Counter("commonlore_receipts", "Receipts verified and paid", registry=own)
        self._price = Counter("commonlore_price", "Token units promised by vouchers", registry=own)
        self._ttft = Histogram(
            "commonlore_ttft_seconds", "Time to the first token", buckets=TTFT_BUCKETS_S, registry=own
        )
        self._running = Gauge("commonlore_asks_in_flight", "Asks under way", registry=own)

    def began(self) -> None:
        """An ask is under way."""
        self._running.inc()

    def first_token(self, seconds: float) -> None:
        """Its first token came after so long."""
        self._ttft.observe(seconds)

    def ended(self, door: str, outcome: str, script: Transcript | None) -> None:
        """It is over; `script` holds what was delivered and paid."""
        self._running.dec()
        self._asks.labels(door, outcome).inc()
        if script is not None:
            self._tokens.labels("prompt").inc(script.prompt_tokens)
            self._tokens.labels("output").inc(len(script.tokens))
            self._receipts.inc(len(script.receipts))
            self._price.inc(script.price)

    def exposition(self) -> bytes:
        """All of it as text (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
        return generate_latest(self._registry)
