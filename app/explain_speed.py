"""The sentences of the Speed page, numbers in and words out; notebooks say the same."""

import pandas as pd

# Times within this of each other are called the same, however small their noise: nobody would notice.
ALIKE = 0.1
# A call that is over sooner is mostly the calling itself.
SMALL_SECONDS = 1e-3


def percent(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}\u00a0%"


def share(fraction: float, digits: int = 0) -> str:
    return percent(100.0 * fraction, digits)


def times(row: pd.Series) -> str:
    """``0.96× as long (95 %: 0.89 to 0.99)``."""
    return f"{row['ratio']:.2f}× as long (95\u00a0%: {row['ratio_low']:.2f} to {row['ratio_high']:.2f})"


def verdict(row: pd.Series) -> str:
    """``faster``, ``slower``, or ``equal`` to the dense network: beyond the noise, and by more than nobody would notice."""
    if row["ratio_high"] < 1.0 and row["ratio"] < 1.0 - ALIKE:
        return "faster"
    if row["ratio_low"] > 1.0 and row["ratio"] > 1.0 + ALIKE:
        return "slower"
    return "equal"


def _though(row: pd.Series) -> str:
    """Why times that differ beyond the noise are called equal."""
    beyond = row["ratio_high"] < 1.0 or row["ratio_low"] > 1.0
    return f" (within {share(ALIKE)})" if beyond and verdict(row) == "equal" else ""


def finding(table: pd.DataFrame) -> str:
    """What pruning bought, in two sentences."""
    zeros = table.loc["zeros"]
    left = zeros["multiply_adds"] / table["multiply_adds"]["dense"]
    if zeros["sparsity"] == 0.0:
        return "Nothing is pruned yet: raise the sparsity in the sidebar."
    text = (
        f"At **{share(zeros['sparsity'])} zeros** only {share(left)} of the multiply-adds are needed, yet the dense kernel takes "
        f"**{zeros['ratio']:.2f}×** as long as before (95\u00a0%: {zeros['ratio_low']:.2f} to {zeros['ratio_high']:.2f}): "
    )
    text += {
        "equal": "**zeros alone buy nothing**, they are multiplied like any number.",
        "slower": "**zeros alone buy nothing**; what it takes longer is no matter of the zeros either.",
        "faster": "less than before, which a dense kernel does not owe to the zeros: measure again.",
    }[verdict(zeros)]
    others = table[~table.index.isin(("dense", "zeros", "half"))]
    if others.empty:
        return text
    best = others.loc[others["ratio"].idxmin()]
    if verdict(best) == "faster":
        text += (
            f" Fastest is *{best['label']}*: {best['ratio']:.2f}× as long, at {percent(best['accuracy'])} accuracy instead of "
            f"{percent(table['accuracy']['dense'])}."
        )
    else:
        text += (
            " No other way is faster here either: so small a network spends its time on calling its layers, not on multiplying."
            if table["seconds"]["dense"] < SMALL_SECONDS
            else " No other way is faster here either."
        )
    return text


def latency_sentence(table: pd.DataFrame, threads: int, on_cpu: bool) -> str:
    """How the times were taken, and what CSR and the structured network make of it."""
    parts = [
        f"{row['label']}: {times(row)}, {verdict(row)}{_though(row)}"
        for name, row in table.iterrows()
        if name in ("csr", "structured", "as accurate")
    ]
    clock = (
        "processor time of one thread, so that other programs do not count"
        if on_cpu and threads == 1
        else f"wall-clock time on {threads} threads"
        if on_cpu
        else "wall-clock time on the GPU"
    )
    rounds = int(table["rounds"].iloc[0])
    return (
        "; ".join(parts) + ". " if parts else ""
    ) + f"Measured here and now in {rounds} rounds that take turns; {clock}. Bold: test accuracy."


def work_sentence(table: pd.DataFrame) -> str:
    """How far the time lags behind the multiply-adds."""
    shown = table[~table.index.isin(("dense", "half"))]
    work = shown["multiply_adds"] / table["multiply_adds"]["dense"]
    gap = shown["ratio"] / work.clip(lower=1e-9)
    pairs = [
        f"*{row['label']}* {share(work[name])} of the multiply-adds in {share(row['ratio'])} of the time"
        + (f" ({share(row['sparsity'])} of its weights gone)" if name in ("structured", "as accurate") else "")
        for name, row in shown.iterrows()
    ]
    small = table["seconds"]["dense"] < SMALL_SECONDS
    return (
        f"If time followed the multiply-adds, each pair would meet; it takes {gap.min():.1f} to {gap.max():.1f} times as long as "
        f"that. {'; '.join(pairs)}."
        + (
            " A call of so small a network is mostly the calling of its layers, which fewer sums do not shorten."
            if small
            else ""
        )
    )


def kernel_sentence(table: pd.DataFrame, crossing: float | None, current: float | None) -> str:
    """Where CSR overtakes."""
    csr = table[table["kernel"] == "csr"].sort_values("sparsity")
    few, many = csr.iloc[0], csr.iloc[-1]
    text = (
        f"At {share(few['sparsity'])} zeros CSR takes {few['ratio']:.2f}× as long as dense, at {share(many['sparsity'])} "
        f"{many['ratio']:.2f}×: "
    )
    if crossing is None:
        text += "it never pays at this size, where finding the weights costs more than multiplying by zero."
    elif crossing <= few["sparsity"]:
        text += f"it pays at every sparsity drawn, from {share(crossing)} on."
    else:
        text += f"it pays from about **{share(crossing)}** on."
    if current is not None:
        text += f" In your setting this layer has {share(current)} zeros."
    return text + " The dense kernel does not care. Zeros at random places."


def size_sentence(table: pd.DataFrame) -> str:
    """What is smallest, and why zeros stored as numbers are not smaller."""
    fine = table[table["accuracy"] == table["accuracy"]["zeros"]]
    smallest = fine.loc[fine["bytes"].idxmin()]
    csr, mask = table["share"]["csr"], table["share"]["bitmask"]
    return (
        f"Zeros stored as numbers take all the space ({share(table['share']['zeros'])}). CSR takes {share(csr)}, for every kept "
        f"weight brings a 32-bit index along; one bit a weight instead {share(mask)}. Smallest with the same weights: "
        f"*{smallest['label']}*, {share(smallest['share'])}. Compressing the network that is not pruned gives "
        f"{share(table['share']['zip'])}."
    )
