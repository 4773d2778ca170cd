"""Step 5: blocks."""

from app.charts.learn import block_accuracy
from app.learning.step import Shown, Step, Try
from app.words import gap_words, percent, share
from woodfisher_core.evaluation import CONFIDENT, paired_standard_error
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.lesson_fisher import block_runs, block_sizes
from woodfisher_core.memory import gib

# A network of the size the paper prunes.
LARGE = 25_000_000


def show(space: Workspace, config: PruneConfig) -> Shown:
    found = block_sizes(space, config)
    table, problem = found.table, space.problem(config)
    magnitude = space.evaluation(
        config.replace(method="magnitude", update=None, update_scale=1.0, pattern=None, stages=1)
    )
    smallest, layer = table.iloc[0], table[table["block"] == "layer"].iloc[0]
    total = problem.parameters.num_prunable
    idea = (
        f"All of $F$ is a {total:,} × {total:,} matrix, {gib(found.full)}; for {LARGE:,} weights it would be "
        f"{gib(4 * LARGE**2)}. So the paper cuts it into **blocks** on the diagonal and forgets what lies "
        "between "
        f"them: weights of different blocks no longer help each other. Blocks of one weight keep {share(smallest['share'])} of "
        f"$F$'s squared entries and {percent(smallest['accuracy'], 1)} accuracy; one block a layer keeps "
        f"{share(layer['share'])} and **{percent(layer['accuracy'], 1)}** (magnitude: {percent(magnitude.accuracy, 1)}). "
        "With the closed "
        "form of the step before, no block is ever written down: even the whole network can be one."
    )
    numbers = (
        rf"\text{{all of }}F:\ 4d^2=\text{{{gib(found.full)}}},\qquad\text{{one block a layer: }}"
        rf"4\sum_bB_b^2=\text{{{gib(layer['bytes'])}}},"
        rf"\qquad\text{{diagonal: }}4d=\text{{{gib(smallest['bytes'])}}}",
    )
    best = table.loc[table["accuracy"].idxmax()]
    sentence = (
        f"Best is block size {best['block']} with {percent(best['accuracy'], 1)}, worst "
        f"{table.loc[table['accuracy'].idxmin()]['block']} with "
        f"{percent(table['accuracy'].min(), 1)}. Joint update; whiskers: 95 % noise of the test images."
    )
    network, own = found.results["network"], found.results["layer"]
    gap, noise = network.accuracy - own.accuracy, paired_standard_error(network, own)
    verdict = gap_words(gap, noise, 1)
    between = 1.0 - layer["share"]
    answer = (
        f"Between the layers lie {share(between)} of $F$'s squared entries. Yet the block over the network gives "
        f"{percent(network.accuracy, 1)}, one a layer {percent(own.accuracy, 1)}: {verdict} (noise "
        f"±{CONFIDENT * noise:.1f} points). What lies "
        f"between the layers is estimated from the same {config.num_samples:,} images as the rest, over far more entries."
    )
    figure = block_accuracy(table, magnitude.accuracy, problem.dense.accuracy)
    return Shown(idea, numbers, figure, sentence, table, answer)


STEP = Step(
    name="blocks",
    title="How much of that matrix is needed?",
    short="Blocks",
    minutes=2,
    equation=r"F\;\approx\;\begin{pmatrix}F_1&&\\&\ddots&\\&&F_b\end{pmatrix},\qquad "
    r"F^{-1}\;\approx\;\begin{pmatrix}F_1^{-1}&&\\&\ddots&\\&&F_b^{-1}\end{pmatrix}",
    question="One block over the network throws nothing away. Is it better than one a layer?",
    show=show,
    runs=block_runs,
    tries=(
        Try("With 100 samples only", {"samples": 100}),
        Try("Less damping", {"damping": "1e-5"}),
    ),
)
