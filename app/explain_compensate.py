"""The sentences of the Compensate page: every number in them comes from the runs on the page."""

import pandas as pd

from app.charts.saliency import SUPERSCRIPTS
from app.charts.style import UPDATE_NAMES
from app.words import listed, percent, share
from woodfisher_core.experiments.compensation import Removal
from woodfisher_core.experiments.pair_surface import Surface
from woodfisher_core.experiments.two_weights import TwoWeights, choices
from woodfisher_core.experiments.update_effects import CONFIDENT, MoveAgreement, turning_point
from woodfisher_core.experiments.verdicts import EQUAL

RULES = {"magnitude": "magnitude (smallest |w|)", "obd": "OBD (½w²F)", "obs": "OBS (½w²/[F⁻¹])"}
BARELY = 1e-9


def nats(value: float) -> str:
    """``0.0038`` or ``2.4·10⁻⁵``, with a true minus."""
    if value == 0.0 or abs(value) >= 1e-3:
        return f"{value:.2g}".replace("-", "−")
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}·10{str(int(exponent)).translate(SUPERSCRIPTS)}".replace("-", "−")


def two_weights_sentence(pair: TwoWeights, removed: int) -> str:
    """What the two-weight figure shows at the correlation it begins with."""
    row = pair.removals().iloc[removed - 1]
    other = 2 if removed == 1 else 1
    saved = 1.0 - row["obs"] / row["obd"]
    chosen = choices(pair)
    who = listed(
        [
            f"{listed([RULES[name] for name in RULES if chosen[name] == weight])} would remove w{'₁₂'[weight - 1]}"
            for weight in (1, 2)
            if weight in chosen.values()
        ]
    )
    return (
        f"Drag the slider. At ρ = {pair.correlation:.2f} removing w{'₁₂'[removed - 1]} costs {row['obd']:.2f} where "
        f"w{'₁₂'[other - 1]} stays (OBD) and {row['obs']:.2f} where it moves by {row['move']:+.2f} to the lowest point of the "
        f"axis, where a contour touches it (OBS): {share(saved)} less, which is ρ². Without correlation both are the same. "
        f"Here {who}. Of two weights OBD and OBS always choose the same; of three they need not."
    )


def pair_sentence(pair: TwoWeights, removal: Removal, partner: str, found: Surface | None, asked: bool = False) -> str:
    """What the same figure shows of two weights of the network; ``asked``: it could be measured, and is not yet."""
    row = pair.removals().iloc[0]
    text = (
        f"{removal.name} goes, {partner} is the survivor most correlated with it (ρ = {pair.correlation:+.2f} between the two), "
        f"all others are held fixed. The model loses {nats(row['obd'])} nats where {partner} stays and {nats(row['obs'])} where "
        f"it moves by {row['move']:+.2g}. "
    )
    if found is None:
        return (
            text + "Not measured yet."
            if asked
            else text + "Not measured: no training images are left that the Fisher has not seen."
        )
    at = found.places.set_index("place")
    stays, moves = at.loc["obd"], at.loc["obs"]
    return text + (
        f"Measured on {found.images:,} held-out images: {_with_noise(stays['measured'], stays['error'])} and "
        f"{_with_noise(moves['measured'], moves['error'])} nats. Dashed contours are measured, at the same heights: where they "
        "lie on the solid ones, the quadratic model is true."
    )


def removal_words(removal: Removal, total: int, sparsity: float) -> str:
    """Which weight is looked at."""
    fate = f"goes at sparsity {share(sparsity, 1)}" if removal.gone else f"stays at sparsity {share(sparsity, 1)}"
    return (
        f"**{removal.name}** = {removal.value:+.4g} is number {removal.rank:,} of {total:,} in the order in which weights go; it "
        f"{fate}. Here it goes alone."
    )


def survivors_sentence(removal: Removal) -> str:
    """Who moves for one removed weight."""
    if removal.survivors.empty:
        return (
            "Nobody moves: in this model no other weight is correlated with it (blocks of one weight, or a weight whose gradient "
            "is always zero)."
        )
    first = removal.survivors.iloc[0]
    layers = removal.survivors["layer"].value_counts()
    size = f", {share(abs(first['move'] / first['value']))} of its size" if first["value"] else ""
    return (
        f"{first['weight']} moves most, by {first['move']:+.2g}{size}; of the {len(removal.survivors)} drawn, "
        f"{listed([f'{count} are in {layer}' for layer, count in layers.items()])}. Of the whole move (‖δ‖²) "
        f"{share(removal.lost_share)} falls on weights that go as well at your sparsity: that part of the "
        "independent update is lost, the joint one knows of it."
    )


def saved_sentence(removal: Removal) -> str:
    """What the move saves, by the model and measured."""
    if removal.obd <= 0.0:
        return "This weight is zero already: removing it changes nothing."
    text = (
        f"By the model (the Fisher with its damping) the move takes the loss of removing {removal.name} from "
        f"{nats(removal.obd)} to {nats(removal.obs)} nats, {share(1.0 - removal.obs / removal.obd, 1)} less. "
    )
    parts = []
    for samples, (mean, error) in removal.saved.items():
        margin = CONFIDENT * error
        verdict = "beyond" if abs(mean) > margin else "within"
        parts.append(
            f"{nats(abs(mean))} ± {nats(margin)} {'saved' if mean >= 0 else 'lost'} on {samples} ({verdict} the noise)"
            if max(abs(mean), margin) > BARELY
            else f"next to nothing on {samples}"
        )
    return text + f"Measured: {listed(parts)}." if parts else text


def headline(effects: pd.DataFrame, kept: int, dense: float, magnitude: float) -> str:
    """The finding, at the setting's own sparsity; ``effects`` has one row an update."""
    at = effects.set_index("update")
    sparsity = float(at["sparsity"].iloc[0])
    if sparsity == 0.0:
        return f"At sparsity 0 nothing goes, so nobody moves: accuracy **{percent(dense)}**."
    text = (
        f"At sparsity {share(sparsity, 1)} the same {kept:,} weights survive each time. Left where they are they keep "
        f"**{percent(at.loc['none', 'accuracy'])}** accuracy (dense: {percent(dense)}; magnitude pruning: {percent(magnitude)})."
    )
    parts = [
        f"the {UPDATE_NAMES[name]} makes it **{percent(row['accuracy'])}** ({_verdict(row)})"
        for name, row in at.drop(index="none").iterrows()
    ]
    return text + (f" Moving them, {listed(parts)}." if parts else "")


def _verdict(row: pd.Series) -> str:
    margin = CONFIDENT * row["gain_error"]
    if abs(row["gain"]) <= margin:
        return EQUAL
    return f"{row['gain']:+.1f} ± {margin:.1f} points"


def effects_sentence(effects: pd.DataFrame) -> str:
    """Where which update helps."""
    parts = []
    for update in dict.fromkeys(effects["update"]):
        if update == "none":
            continue
        part, name = effects[effects["update"] == update], UPDATE_NAMES[update]
        better = part[part["gain"] > CONFIDENT * part["gain_error"]]
        worse = turning_point(effects, update)
        where = f"beats no update at {len(better)} of {len(part)} sparsities" + (
            f", most at {_at(better.loc[better['gain'].idxmax()])}" if len(better) else ""
        )
        parts.append(
            f"the {name} {where}, "
            + (
                "and is nowhere worse beyond the noise"
                if worse is None
                else f"and turns worse than none at {share(worse)}"
            )
        )
    return "Of the updates, " + "; ".join(parts) + ". Bands and whiskers: 95 % noise of the images."


def _at(row: pd.Series) -> str:
    return f"{share(row['sparsity'])} ({row['gain']:+.1f} points)"


def agreement_sentence(found: MoveAgreement | None, scale: float | None) -> str:
    """How the independent moves differ from the joint ones."""
    if found is None or scale is None:
        return "Nobody moves here, so there is nothing to compare."
    size = f"{found.ratio:.2g} times" if found.ratio > 1 else f"only {share(found.ratio)}"
    if scale <= 0:
        advice = "By the model it raises the loss however short it is: no move at all would cost less."
    else:
        advice = f"By the model it is too {'long' if scale < 1 else 'short'}: {scale:.2g} times it would cost least, "
        advice += "though no less than the joint one."
    return (
        f"The independent move is {size} as long as the joint one (cosine between them {found.correlation:.2f}). Of the "
        f"{found.count:,} survivors it moves {share(found.over)} too far, {share(found.under)} not far enough, and "
        f"{share(found.opposite)} the wrong way. {advice}"
    )


def layers_sentence(table: pd.DataFrame) -> str:
    """Where survivors move most for their size."""
    parts = []
    for update, part in table.groupby("update", sort=False):
        if (part["median"] > 0).any():
            top = part.loc[part["median"].idxmax()]
            parts.append(
                f"{top['layer']} under the {UPDATE_NAMES[update]} (half of its survivors by more than "
                f"{percent(100 * top['median'], 1)} of their size)"
            )
    return f"Most in {listed(parts)}. Lines reach from 10 to 90 % of the survivors." if parts else "Nobody moves."


def _with_noise(value: float, error: float) -> str:
    return f"{'+' if value > 0 else ''}{nats(value)} ± {nats(CONFIDENT * error)}"
