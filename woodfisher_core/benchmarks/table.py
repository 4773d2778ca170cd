"""The Markdown a run of the speed cases is shown as."""

from collections.abc import Iterator

from woodfisher_core.memory import gib

# Up to this share of the CPUs other processes do not matter.
QUIET = 0.05


def to_markdown(result: dict) -> str:
    """All cases of a run as one table, then what binds each, the targets, how far contestants differ, and the notes."""
    where, rates = result["machine"], result["gflops"]
    lines = [
        "### Speed: ours and each baseline in turns, one process, same threads",
        "",
        f"{where['cpu']}, {where['threads']} threads of {where['cpus']} CPUs, device {where['device']}, torch "
        f"{where['torch']}. Medians of {result['repeats']}. Memory: the most a run held beyond what there was before it.",
        "Matrix products here, before and after: "
        + ", ".join(
            f"{kind} {rates['before'][kind]:,.0f} and {rates['after'][kind]:,.0f} GFLOP/s"
            for kind in ("float32", "float64")
        )
        + f". Other processes took {result['cpu_share_of_others']:.0%} of the CPUs meanwhile"
        + (": **not a quiet machine**." if result["cpu_share_of_others"] > QUIET else "."),
        "",
        "| case | contestant | median (s) | from – to (s) | times ours | memory |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, case in result["cases"].items():
        lines += _rows(name, case, result["repeats"])
    for name, case in result["cases"].items():
        lines += ["", f"**{name}**: {case['title']}. {case['setting']}. Bound by: {case['bound_by']}.", *_notes(case)]
    return "\n".join(lines)


def _rows(name: str, case: dict, repeats: int) -> Iterator[str]:
    for index, (contestant, runs) in enumerate(case["seconds"].items()):
        factor = case["scaled_by"].get(contestant, 1.0)
        scaled = " (scaled)" if factor != 1.0 else ""
        fewer = f" ({len(runs)} of {repeats} turns)" if len(runs) < repeats else ""
        ratio = "1" if index == 0 else _ratio(case["ratios"][contestant])
        span = f"{min(runs) * factor:.4g} – {max(runs) * factor:.4g}"
        peak = case["measured_peak_bytes"].get(contestant)
        yield (
            f"| {name if index == 0 else ''} | {contestant}{scaled}{fewer} | {case['medians'][contestant]:.4g} | {span} "
            f"| {ratio} | {'' if peak is None else gib(peak)} |"
        )
    for contestant, reason in case["left_out"].items():
        yield f"| {'' if case['seconds'] else name} | {contestant}: left out, {reason} | | | | |"


def _notes(case: dict) -> Iterator[str]:
    for target in case["targets"]:
        verdict = "met" if target["met"] else "NOT met"
        yield f"Target: {target['text']}: {verdict} ({target['reached_text']})."
    for who, share in case["share_of_float32_product_rate"].items():
        count = case["operations"][who] / 1e9
        yield f"Rate: {who} needs {count:,.4g} × 10⁹ operations, done at {share:.0%} of the float32 product rate."
    if case["slopes"]:
        yield "Time grows as " + ", ".join(f"{what}^{slope:.2f}" for what, slope in case["slopes"].items()) + "."
    for who, value in case["largest_relative_difference"].items():
        yield f"Largest difference between ours and {who}: {value:.1e} of the largest value."
    if case["known_bytes"]:
        yield f"Bytes: {', '.join(f'{who} {gib(count)}' for who, count in case['known_bytes'].items())}."
    if case["note"]:
        yield case["note"]


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
