"""Figures from plain tables: no Streamlit and no torch inside, so that notebooks draw the very same ones."""

from app.charts.accuracy import accuracy_curve
from app.charts.classes import class_accuracy, flipped_examples
from app.charts.layers import layer_sparsity
from app.charts.loss import loss_change
from app.charts.saliency import saliency_histograms

__all__ = [
    "accuracy_curve",
    "class_accuracy",
    "flipped_examples",
    "layer_sparsity",
    "loss_change",
    "saliency_histograms",
]
