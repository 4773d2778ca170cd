"""Learn: how does it work? The derivation in eight steps of twenty minutes, with the numbers of the network in the sidebar."""

from urllib.parse import urlencode

import streamlit as st

from app.asking import agree, agreed, go_button, say
from app.binding import bound
from app.explain import write_notes
from app.formulas import write_formula
from app.glossary import as_markdown, found
from app.going import go_to
from app.learning import STEPS, Step
from app.opening import opened
from app.presets import PRESETS
from app.repeating import repeat
from app.showing import show
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import PruneConfig, Workspace, cost
from woodfisher_core.experiments.lesson import SPARSITIES

NAMES = tuple(step.name for step in STEPS)
MINUTES = sum(step.minutes for step in STEPS)


def page() -> None:
    view, notes, space, status = opened(
        "How does it work?",
        f"Removing weights by curvature, derived in {len(STEPS)} steps, about {MINUTES} minutes. Every number is "
        "measured on the network chosen in the sidebar, now: change anything there, and the text follows.",
        only="woodfisher",
    )
    config = view.config
    name = st.segmented_control(
        "Step",
        NAMES,
        default=NAMES[0],
        required=True,
        help="\n\n".join(f"**{step.name}** ({step.minutes} min): {step.title}" for step in STEPS),
        **bound("step"),
    )
    place = NAMES.index(name)
    step = STEPS[place]
    status.caption("Computing …")
    lesson(space, config, step, place)
    glossary()
    write_notes(notes, space, view, space.outcome(config))
    repeat(view.config)
    status.caption("Up to date.")


def lesson(space: Workspace, config: PruneConfig, step: Step, place: int) -> None:
    """The step's words, equation, figure, something to try and something to think about."""
    before = sum(one.minutes for one in STEPS[:place])
    st.subheader(step.title)
    st.caption(
        f"Step {place + 1} of {len(STEPS)} · {step.minutes} minute{'s' if step.minutes > 1 else ''} · "
        f"from minute {before} of {MINUTES}"
    )
    chosen = [
        st.segmented_control(
            choice.label,
            choice.options,
            default=choice.default,
            required=True,
            help=choice.help,
            **bound(choice.key),
        )
        for choice in step.choices
    ]
    ask(space, config, step)
    shown = step.shown(space, config, *chosen)
    st.markdown(shown.idea)
    write_formula(step.equation)
    for line in shown.numbers:
        write_formula(line)
    show(shown.figure, shown.sentence, f"learn-{step.name}", data=shown.data)
    tries(step)
    with st.expander(f"To think about: {step.question}", icon=":material/psychology:"):
        st.markdown(shown.answer)
    if place == len(STEPS) - 1:
        where_next()
    back_and_next(place)


def ask(space: Workspace, config: PruneConfig, step: Step) -> None:
    """Says what the step costs where that is long, and stops the page until the click."""
    curves = list(step.curves(config).values())
    price = cost.predict(space, curves, SPARSITIES) if curves else cost.Cost()
    # A curve's price includes the run at the setting's own sparsity.
    drawn = [run for run in curves if space.has_curve(run, SPARSITIES)] if curves else step.runs(config)
    price += cost.predict_points(space, [run for run in drawn if not space.has_evaluation(run)])
    key = ("learn", step.name, config)
    if not agreed(price, key):
        say("This step needs", price, config.num_samples, "joint updates")
        go_button("Compute it", "compute-step", agree, key)
        st.stop()


def tries(step: Step) -> None:
    """Settings worth a look, each at one click; the one in force is greyed out."""
    if not step.tries:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="tries"):
        st.markdown("**Try**", width="content")
        for number, one in enumerate(step.tries):
            st.button(
                one.words,
                icon=":material/science:",
                key=f"try-{number}",
                disabled=all(st.session_state.get(name) == value for name, value in one.values.items()),
                on_click=st.session_state.update,
                args=(dict(one.values),),
                help="Sets the controls in the sidebar; what is said here follows.",
                width="content",
            )


def back_and_next(place: int) -> None:
    """The way through the lesson."""
    with st.container(horizontal=True, horizontal_alignment="distribute", key="way"):
        for label, icon, other in (
            ("Back", ":material/arrow_back:", place - 1),
            ("Next", ":material/arrow_forward:", place + 1),
        ):
            there = 0 <= other < len(STEPS)
            st.button(
                f"{label}: {STEPS[other].short}" if there else label,
                icon=icon,
                key=label.lower(),
                disabled=not there,
                type="primary" if label == "Next" and there else "secondary",
                on_click=st.session_state.update,
                args=({"step": STEPS[other].name} if there else {},),
                width="content",
            )


def where_next() -> None:
    """Links that open a setting which makes a point."""
    st.markdown("**See it for yourself.** Each link opens a setting that makes one point:")
    grid = st.grid(2, min_column_width=330)
    for preset in PRESETS:
        with grid.cell():
            go_to(preset.name, preset.page, preset.link)
            st.caption(preset.point)


def glossary() -> None:
    """The words and symbols, searchable."""
    with st.expander(
        "Glossary: the words and symbols", icon=":material/menu_book:", on_change="rerun", key="words"
    ) as box:
        if not box.open:
            return
        words = st.text_input("Find a word or a symbol", key="find", placeholder="damping, saliency, Woodbury …")
        terms = found(words)
        if terms:
            st.markdown(as_markdown(terms, urlencode(dict(st.query_params))))
        else:
            st.caption(f"Nothing here says “{words}”. Clear the field to see all words.")


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
