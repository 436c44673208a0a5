# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics as Prometheus reads them: in a file for node_exporter, or pushed to a Pushgateway."""

from __future__ import annotations

import http.client
import os
import re
import tempfile
import typing as t
import urllib.error
from importlib.util import find_spec
from urllib.parse import urlsplit

from ..errors import OpenAICredsError, missing_package, quoted
from ..store.base import Data
from .gauges import Metric

if t.TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: node_exporter runs as another user, and there is no secret in it.
_MODE = 0o644
_TIMEOUT_SECONDS = 30
#: What Python makes no request with.
_NOT_IN_URLS = re.compile(r"[\0- \x7f]")


def as_data(mount_name: str, metrics: t.Iterable[Metric]) -> Data:
    """Return metrics as JSON data, by their names."""
    return {
        metric.name: [
            {"labels": {"mount": mount_name, **sample.labels}, "value": sample.value} for sample in metric.samples
        ]
        for metric in metrics
    }


def write_textfile(path: str, mount_name: str, metrics: t.Sequence[Metric]) -> None:
    """Put metrics into a file that others may read, whole or not at all."""
    from prometheus_client import generate_latest

    content = generate_latest(_registry(mount_name, metrics))
    folder, name = os.path.split(path)
    temporary = ""
    try:
        # node_exporter reads no file with another ending.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
        with open(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), _MODE)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.lexists(temporary):
            os.unlink(temporary)
        raise OpenAICredsError(f"textfile: cannot write {path}: {error.strerror}") from None


def push(gateway: str, job: str, mount_name: str, metrics: t.Sequence[Metric]) -> None:
    """Push metrics to a Pushgateway, in the place of those that this mount has pushed for the job before."""
    from prometheus_client import push_to_gateway

    host = check_gateway(gateway)
    registry = _registry(mount_name, metrics)
    try:
        push_to_gateway(gateway, job, registry, grouping_key={"mount": mount_name}, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        raise OpenAICredsError(f"pushgateway: {host} refused the metrics with status {error.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise OpenAICredsError(f"pushgateway: the metrics could not be pushed to {host}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return why metrics could not be pushed."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, str):
        return reason
    if isinstance(reason, OSError):
        return reason.strerror or type(reason).__name__
    return "what answers there is not HTTP" if isinstance(reason, http.client.HTTPException) else type(reason).__name__


def check_gateway(gateway: str) -> str:
    """Return the host and port of a Pushgateway; raises OpenAICredsError if this is no address of one."""
    try:
        parts = urlsplit(gateway if "://" in gateway else f"http://{gateway}")
        port = parts.port
    except ValueError:
        parts, port = None, None
    is_web = parts is not None and parts.scheme in ("http", "https")
    if parts is None or not is_web or not parts.hostname or "@" in parts.netloc or _NOT_IN_URLS.search(gateway):
        raise OpenAICredsError(
            f"pushgateway: {quoted(gateway.rpartition('@')[2])} is not an address such as localhost:9091 or "
            "https://pushgateway.example.com, without user and password"
        )
    return f"{parts.hostname}:{port}" if port else parts.hostname


def check_prometheus_client(option: str) -> None:
    """Raise OpenAICredsError if the package that an option needs is not there."""
    if find_spec("prometheus_client") is None:
        raise OpenAICredsError(missing_package("prometheus-client", f"{option}: openai_metrics"))


class _Collector:
    def __init__(self, mount_name: str, metrics: t.Sequence[Metric]) -> None:
        self._mount_name, self._metrics = mount_name, metrics

    def collect(self) -> t.Iterator[t.Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for metric in self._metrics:
            kind = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=["mount", *metric.labels])
            for sample in metric.samples:
                family.add_metric([self._mount_name, *(sample.labels[label] for label in metric.labels)], sample.value)
            yield family


def _registry(mount_name: str, metrics: t.Sequence[Metric]) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    registry.register(t.cast(t.Any, _Collector(mount_name, metrics)))
    return registry
