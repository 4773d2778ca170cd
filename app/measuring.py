"""The networks of a view on the test set: where that takes a while, on some of its images first."""

from streamlit.delta_generator import DeltaGenerator

from app.explain import early_sentence
from app.state import View
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments import Workspace, cost
from woodfisher_core.methods import get_method

# Where the whole test set takes longer than this, so many of its images are looked at first.
EARLY_SECONDS, EARLY_IMAGES = 1.0, 1000


def measured(
    space: Workspace, view: View, rivals: list[str], early: DeltaGenerator, troubles: DeltaGenerator
) -> tuple[Evaluation, dict[str, Evaluation]]:
    """(the setting in focus, its rivals) on the test set; where that takes a while, first on some of it, said in ``early``."""
    config = view.config
    problem = space.problem(config)
    if not space.has_evaluation(config) and cost.seconds_a_test(space, config) > EARLY_SECONDS:
        early.markdown(early_sentence(problem, space.evaluation(config, min(EARLY_IMAGES, len(problem.test)))))
    pruned, results = space.evaluation(config), {}
    for name in rivals:
        try:
            results[name] = space.evaluation(view.beside(name))
        except WoodFisherError as error:
            warning = f"{get_method(name).label} is left out: {error}"
            troubles.warning(warning, icon=":material/warning:")
    early.empty()
    return pruned, results
