"""Figures from plain tables: no Streamlit and no torch inside, so that notebooks draw the very same ones."""

from app.charts.accuracy import accuracy_curve
from app.charts.classes import class_accuracy, flipped_examples
from app.charts.comparison import comparison
from app.charts.compensate import (
    EFFECTS,
    independent_against_joint,
    layer_moves,
    survivors_that_move,
    update_effects,
    with_and_without,
)
from app.charts.confusion import confusion
from app.charts.damping import damping_frames
from app.charts.epochs import loss_curves, saw_tooth, schedule_levels
from app.charts.layer_image import input_images, layer_mask, layer_weights
from app.charts.layers import layer_sparsity
from app.charts.learn import (
    block_accuracy,
    fisher_against_hessian,
    ladder_bars,
    recursion_lines,
    removal_bars,
    taylor_path,
    update_curves,
)
from app.charts.loss import loss_change
from app.charts.measures import AXES, MEASURES, Axis, Levels, Measure
from app.charts.pareto import pareto
from app.charts.pinned import add_pinned
from app.charts.plane import COLOURS, heat_map
from app.charts.runs import add_baseline, runs_curve, runs_layers
from app.charts.saliency import saliency_histograms
from app.charts.slices import ALONG, slices
from app.charts.small_multiples import layer_panels
from app.charts.spectrum import curvature_map, curvature_scale, spectrum_frames
from app.charts.speed import kernel_lines, latency_bars, size_bars, work_and_time
from app.charts.trust import loss_growth, predicted_measured, step_path
from app.charts.two_weights import CONTOURS, pair_plane, two_weights_frames
from app.charts.weights import weight_moves, weight_scatter

__all__ = [
    "ALONG",
    "AXES",
    "COLOURS",
    "CONTOURS",
    "EFFECTS",
    "MEASURES",
    "Axis",
    "Levels",
    "Measure",
    "accuracy_curve",
    "add_baseline",
    "add_pinned",
    "block_accuracy",
    "class_accuracy",
    "comparison",
    "confusion",
    "curvature_map",
    "curvature_scale",
    "damping_frames",
    "fisher_against_hessian",
    "flipped_examples",
    "heat_map",
    "independent_against_joint",
    "input_images",
    "kernel_lines",
    "ladder_bars",
    "latency_bars",
    "layer_mask",
    "layer_moves",
    "layer_panels",
    "layer_sparsity",
    "layer_weights",
    "loss_change",
    "loss_curves",
    "loss_growth",
    "pair_plane",
    "pareto",
    "predicted_measured",
    "recursion_lines",
    "removal_bars",
    "runs_curve",
    "runs_layers",
    "saliency_histograms",
    "saw_tooth",
    "schedule_levels",
    "size_bars",
    "slices",
    "spectrum_frames",
    "step_path",
    "survivors_that_move",
    "taylor_path",
    "two_weights_frames",
    "update_curves",
    "update_effects",
    "weight_moves",
    "weight_scatter",
    "with_and_without",
    "work_and_time",
]
