"""Figures from plain tables: no Streamlit and no torch inside, so that notebooks draw the very same ones."""

from app.charts.accuracy import accuracy_curve
from app.charts.classes import class_accuracy, flipped_examples
from app.charts.comparison import comparison
from app.charts.damping import damping_frames
from app.charts.epochs import saw_tooth, schedule_levels
from app.charts.layers import layer_sparsity
from app.charts.loss import loss_change
from app.charts.plane import AXES, MEASURES, Axis, Levels, Measure, heat_map, slices
from app.charts.runs import add_baseline, runs_curve, runs_layers
from app.charts.saliency import saliency_histograms

__all__ = [
    "AXES",
    "MEASURES",
    "Axis",
    "Levels",
    "Measure",
    "accuracy_curve",
    "add_baseline",
    "class_accuracy",
    "comparison",
    "damping_frames",
    "flipped_examples",
    "heat_map",
    "layer_sparsity",
    "loss_change",
    "runs_curve",
    "runs_layers",
    "saliency_histograms",
    "saw_tooth",
    "schedule_levels",
    "slices",
]
