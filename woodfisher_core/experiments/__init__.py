"""Whole runs on registered models and data: one frozen config, one workspace that runs it, shared by every face."""

from woodfisher_core.experiments.config import ENGINE_VERSION, PruneConfig
from woodfisher_core.experiments.results import CurvePoint, RunReport
from woodfisher_core.experiments.workspace import Workspace

__all__ = ["ENGINE_VERSION", "CurvePoint", "PruneConfig", "RunReport", "Workspace"]
