"""Runs remembered: a database of what was computed, from which configuration, where and how long it took."""

from woodfisher_core.store.records import Metric, RunRecord, Status
from woodfisher_core.store.store import Store

__all__ = ["Metric", "RunRecord", "Status", "Store"]
