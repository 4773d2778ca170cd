"""The sentences of the Compensate page: every number in them comes from the runs on the page."""

import math

import pandas as pd

from app.charts.style import UPDATE_NAMES
from app.charts.two_weights import CONTOURS, TO_OBD, TOUCHING
from app.words import listed, number, percent, share
from woodfisher_core.experiments.compensation import Removal
from woodfisher_core.experiments.pair_surface import Surface
from woodfisher_core.experiments.two_weights import TwoWeights, choices
from woodfisher_core.experiments.update_effects import CONFIDENT, MoveAgreement, turning_point
from woodfisher_core.experiments.verdicts import EQUAL

RULES = {"magnitude": "magnitude (smallest |w|)", "obd": "OBD (½w²F)", "obs": "OBS (½w²/[F⁻¹])"}
BARELY = 1e-9
# The model's contours and the measured ones differ greatly where one lies at so many times the other's loss.
GREATLY = 2.0


def nats(value: float) -> str:
    """``0.0038`` or ``2.4·10⁻⁵``, with a true minus."""
    return number(value, ".2g" if value == 0.0 or abs(value) >= 1e-3 else ".1e")


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
        f"Drag the slider. At ρ = {number(pair.correlation, '.2f')} removing w{'₁₂'[removed - 1]} costs {row['obd']:.2f} where "
        f"w{'₁₂'[other - 1]} stays (OBD) and {row['obs']:.2f} where it moves by {number(row['move'], '+.2f')} to the lowest "
        f"point of the axis, where the dotted contour touches it (OBS): {share(saved)} less, which is ρ². Without correlation "
        f"both are the same. Here {who}. Of two weights OBD and OBS always choose the same; of three they need not."
    )


def pair_sentence(pair: TwoWeights, removal: Removal, partner: str, found: Surface | None, asked: bool = False) -> str:
    """What the same figure shows of two weights of the network; ``asked``: it could be measured, and is not yet."""
    row = pair.removals().iloc[0]
    text = (
        f"{removal.name} goes, {partner} is the survivor most correlated with it (ρ = {number(pair.correlation, '+.2f')} between "
        f"the two), all others are held fixed. The model loses {nats(row['obd'])} nats where {partner} stays and "
        f"{nats(row['obs'])} where it moves by {number(row['move'], '+.2g')}. The blue dotted line is the model's "
        f"{TOUCHING}, there. "
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
        f"{_with_noise(moves['measured'], moves['error'])} nats. Orange dashed contours are measured, at the heights of the "
        f"grey ones, which are the model's. {_contours_differ(pair, found.grid)}"
    )


def _contours_differ(pair: TwoWeights, grid: pd.DataFrame) -> str:
    """How far the measured loss lies from the model's between the first and the last contour drawn."""
    model, step = pair.loss(grid["first"], grid["second"]), pair.removals()["obd"].iloc[0] / TO_OBD
    drawn = model.between(step, CONTOURS * step)
    if not drawn.any():
        return "Where they lie on each other, the quadratic model is true."
    ratio = float((grid["nats"][drawn] / model[drawn]).median())
    if 1.0 / GREATLY <= ratio <= GREATLY:
        return f"They lie near each other: between them the measured loss rises {number(ratio, '.2g')} times as far (median)."
    least = f"{number(ratio, '.2g')} times as far as the model's" if ratio > 0 else "not at all"
    return f"They differ greatly: between them the measured loss rises {least} (median), so the quadratic model is not true here."


def removal_words(removal: Removal, total: int, sparsity: float) -> str:
    """Which weight is looked at."""
    turn = removal.rank / total
    # As many digits as tell the first weight's share from zero.
    own = share(turn, max(2, -math.floor(math.log10(100.0 * turn))))
    return (
        f"**{removal.name}** = {number(removal.value, '+.4g')} has the statistic number {removal.rank:,} of {total:,}, the "
        f"smallest first: one threshold for the whole network takes it from sparsity {own} on. At your sparsity of "
        f"{share(sparsity, 1)} it {'is gone' if removal.gone else 'stays'}. Here it goes alone."
    )


def survivors_sentence(removal: Removal) -> str:
    """Who moves for one removed weight."""
    if removal.survivors.empty:
        return (
            "Nobody moves measurably: the weight itself is next to nothing, or in this model no other is correlated with it "
            "(blocks of one weight, or a weight whose gradient is always zero)."
        )
    first = removal.survivors.iloc[0]
    layers = removal.survivors["layer"].value_counts()
    size = f", {share(abs(first['move'] / first['value']))} of its size" if first["value"] else ""
    return (
        f"{first['weight']} moves most, by {number(first['move'], '+.2g')}{size}; of the {len(removal.survivors)} drawn, "
        f"{listed([f'{count} are in {layer}' for layer, count in layers.items()])}. Of the whole move (‖δ‖²) "
        f"{share(removal.lost_share)} falls on weights that go as well at your sparsity: that part of the "
        "independent update is lost, the joint one knows of it."
    )


def saved_sentence(removal: Removal) -> str:
    """What the move saves, by the model and measured."""
    if removal.obd <= 0.0:
        return "This weight is zero already: removing it changes nothing."
    if removal.survivors.empty:
        return (
            f"Nobody moves, so nothing is saved: by the model removing {removal.name} costs {nats(removal.obd)} nats."
        )
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
    return f"{number(row['gain'], '+.1f')} ± {margin:.1f} points"


def effects_sentence(effects: pd.DataFrame, what: str = "accuracy") -> str:
    """Where which update helps, by what is drawn: a name of :data:`app.charts.EFFECTS`."""
    if what == "loss":
        return _losses_sentence(effects)
    if what == "size of the move":
        return _sizes_sentence(effects)
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
    return f"{share(row['sparsity'])} ({number(row['gain'], '+.1f')} points)"


def _losses_sentence(effects: pd.DataFrame) -> str:
    """Where which update costs less held-out loss than none, and where the difference is largest."""
    known = effects[effects["loss"].notna()].set_index("sparsity")
    if known.empty:
        return "No training images are held out: the Fisher has seen all of them, so there is no loss to draw."
    none, parts = known[known["update"] == "none"]["loss"], []
    for update in dict.fromkeys(known["update"]):
        if update == "none":
            continue
        own = known[known["update"] == update]["loss"]
        less = none - own
        most = less.abs().idxmax()
        parts.append(
            f"the {UPDATE_NAMES[update]} costs less than none at {int((less > 0).sum())} of {len(less)} sparsities, and differs "
            f"most from it at {share(most)} ({nats(own[most])} instead of {nats(none[most])} nats)"
        )
    compared = "Of the loss on held-out images, " + "; ".join(parts) + ". " if parts else ""
    return compared + "Whiskers: 95 % noise of these images, which are the same for every line."


def _sizes_sentence(effects: pd.DataFrame) -> str:
    """How far the survivors move, at the lowest and at the highest sparsity drawn."""
    parts = []
    for update in dict.fromkeys(effects["update"]):
        part = effects[effects["update"] == update].sort_values("sparsity")
        if part["moved"].max() > 0:
            first, last = part.iloc[0], part.iloc[-1]
            parts.append(
                f"{share(first['moved'], 1)} at {share(first['sparsity'])} to {share(last['moved'], 1)} at "
                f"{share(last['sparsity'])} under the {UPDATE_NAMES[update]}"
            )
    if not parts:
        return "Nobody moves."
    return f"Of their own length ‖w‖ the survivors move by {'; by '.join(parts)}. Without an update they stay."


def agreement_sentence(found: MoveAgreement | None, scale: float | None) -> str:
    """How the independent moves differ from the joint ones."""
    if found is None or scale is None:
        return "Nobody moves measurably here, so there is nothing to compare."
    size = f"{found.ratio:.2g} times" if found.ratio > 1 else f"only {share(found.ratio)}"
    if scale <= 0:
        advice = "By the model it raises the loss however short it is: no move at all would cost less."
    else:
        advice = f"By the model it is too {'long' if scale < 1 else 'short'}: {scale:.2g} times it would cost least, "
        advice += "though no less than the joint one."
    return (
        f"The independent move is {size} as long as the joint one (cosine between them {number(found.correlation, '.2f')}). Of "
        f"the {found.count:,} survivors it moves {share(found.over)} too far, {share(found.under)} not far enough, and "
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
