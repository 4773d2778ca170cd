"""Step 2: Optimal Brain Surgeon for one weight."""

from app.charts.learn import removal_bars
from app.learning.step import Choice, Shown, Step, Try, nats, signed, tex
from app.words import listed, number
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.lesson import EXAMPLES, SMALLEST_KEPT, one_weight


def show(space: Workspace, config: PruneConfig, which: str) -> Shown:
    one = one_weight(space, config, which)
    cheaper = one.without / one.statistic if one.statistic else float("nan")
    idea = (
        f"Take one weight: **{one.layer}{list(one.place)}**, $w_q={tex(one.weight)}$. By size it is number "
        f"{one.magnitude_rank:,} of "
        f"{one.total:,} to go; by the statistic below number {one.rank:,}, so at this sparsity WoodFisher "
        f"**{'keeps' if one.kept else 'removes'}** it. Setting it to zero is a constraint, $e_q^\\top\\delta=-w_q$. Minimise the "
        "parabola under it, with one Lagrange multiplier, and out come the best move of all others and its price, which is the "
        f"pruning statistic $\\rho_q$. If the others stay, the model asks $\\tfrac12w_q^2F_{{qq}}={tex(one.without)}$ nats; if "
        f"they move, {tex_words(one.statistic)}: **{cheaper:,.1f} times less**. (The curvature $F$ stands for $H$: next step.)"
    )
    numbers = (
        rf"\rho_q=\frac{{w_q^2}}{{2\,[F^{{-1}}]_{{qq}}}}=\frac{{({tex(one.weight)})^2}}{{2\cdot{tex(one.inverse)}}}\qquad"
        rf"={tex(one.statistic)}\ \text{{nats}}",
        rf"w_q+\delta_q={tex(one.weight)}{signed(one.left - one.weight)}={tex(round(one.left, 12))},\qquad"
        rf"\|\delta_{{\text{{others}}}}\|={tex(one.moved)}",
    )
    table = one.table()
    sentence = (
        f"Measured on {one.images:,} of the Fisher's images, zeroing it costs {nats(one.measured[0])} if the others stay and "
        f"{nats(one.measured[1])} if they move"
    )
    if one.held_out is not None:
        sentence += f"; on images the Fisher has not seen, {nats(one.held_out[0])} and {nats(one.held_out[1])}"
    stay, move = (
        float(part["nats"].iloc[0]) for _, part in table[table["which"] == "predicted"].groupby("what", sort=False)
    )
    sentence += (
        f". The predictions, {nats(stay)} and {nats(move)}, count the slope gᵀδ too, which the statistic leaves out"
    )
    moved = [
        f"{row.name} ({number(row.before, '+.3f')} → {number(row.after, '+.3f')})" for row in one.movers.itertuples()
    ]
    layers = sorted({row.layer for row in one.movers.itertuples()})
    answer = (
        f"The most: {listed(moved[:3])}. {_where(layers, config)} They are those whose gradients go up and down with this "
        "one's over "
        "the images: $\\delta$ is a column of $F^{-1}$."
        if moved
        else "None: its gradient is zero on every image, so nothing depends on it, and there is nothing to make up for."
    )
    return Shown(idea, numbers, removal_bars(table), sentence + ".", table, answer)


def tex_words(value: float) -> str:
    """A number between dollars."""
    return f"${tex(value)}$"


def _where(layers: list[str], config: PruneConfig) -> str:
    if config.block_size == "network":
        return f"They lie in {listed(layers)}: with one block over the network every layer may take part."
    return f"All lie in {listed(layers)}, since blocks end with their layer."


STEP = Step(
    name="one-weight",
    title="What does losing one weight cost, if the others may help?",
    short="One weight",
    minutes=4,
    equation=r"\min_\delta\;\tfrac12\delta^\top F\delta+\mu\,(e_q^\top\delta+w_q)\qquad\Rightarrow\;"
    r"\delta=-\frac{w_q}{[F^{-1}]_{qq}}F^{-1}e_q,\qquad\rho_q=\frac{w_q^2}{2\,[F^{-1}]_{qq}}",
    question="Which weights make up for it, and why those?",
    show=show,
    choices=(
        Choice(
            "example",
            "The weight",
            EXAMPLES,
            SMALLEST_KEPT,
            "**smallest kept**: the smallest in size that WoodFisher keeps; magnitude would have removed it. **largest "
            "removed**: the other way round. **cheapest** and **dearest** by the statistic.",
        ),
    ),
    tries=(
        Try("Let every layer take part", {"block": "network"}),
        Try("Let nobody take part: blocks of one weight", {"block": "1"}),
    ),
)
