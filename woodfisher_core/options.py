"""The choices a pruning run offers, each carrying the text that explains it.

One text feeds the app's controls, the command line's help and the documentation.
"""

from enum import Enum

from woodfisher_core.errors import InputError


class Choice(str, Enum):
    """An option value with ``label``, ``help`` and (LaTeX) ``equation``; equal to its plain string value."""

    def __new__(cls, value: str, label: str, help: str, equation: str = ""):
        member = str.__new__(cls, value)
        member._value_ = value
        member.label = label
        member.help = help
        member.equation = equation
        return member

    def __str__(self) -> str:
        return self.value

    @classmethod
    def parse(cls, value: str, what: str) -> "Choice":
        """The member for ``value``; ``what`` names the knob in the error."""
        try:
            return cls(value)
        except ValueError:
            raise InputError(f"{what}: expected one of {', '.join(m.value for m in cls)}, got {value!r}.") from None


class Labels(Choice):
    """Whose labels the per-sample gradients use."""

    TRUE = (
        "true",
        "True labels (empirical Fisher)",
        "Gradients of the loss at the training labels, as in the paper.",
        r"g_n=\nabla_w\,\ell(f(x_n),y_n)",
    )
    SAMPLED = (
        "sampled",
        "Labels sampled from the model (true Fisher)",
        "Labels are drawn from the network's own predictions, so no labels are needed.",
        r"g_n=\nabla_w\,\ell(f(x_n),\hat y_n),\ \hat y_n\sim p_w(\cdot\mid x_n)",
    )


class Update(Choice):
    """What happens to the surviving weights."""

    NONE = ("none", "None (mask only)", "Survivors keep their values.", r"\delta_S=0")
    INDEPENDENT = (
        "independent",
        "Independent (paper)",
        "Sum of the single-weight OBS corrections, as the official code does; each ignores the others, so that "
        "together they may be too much, which a scale below 1 softens, or too little.",
        r"\delta=-s\sum_{q\in P}\frac{w_q}{[F^{-1}]_{qq}}F^{-1}e_q",
    )
    JOINT = (
        "joint",
        "Exact joint OBS",
        "The exact minimiser of the quadratic model when all chosen weights go at once.",
        r"\delta_S=F_{SS}^{-1}F_{SP}\,w_P",
    )


class DampingScale(Choice):
    """What the damping is a multiple of."""

    ABSOLUTE = (
        "absolute",
        "Absolute",
        "λ itself. What is much or little depends on the network: on how large its gradients are.",
        r"\lambda",
    )
    RELATIVE = (
        "relative",
        "Relative to the mean curvature",
        "A multiple of the mean of the undamped Fisher's diagonal over all prunable weights, so that 1 means as much damping "
        "as there is curvature, in every network; a loss in other units gives the same masks.",
        r"\lambda=r\cdot\tfrac1d\sum_j\tfrac1N\sum_n g_{nj}^2",
    )


class Scope(Choice):
    """How far one threshold reaches."""

    GLOBAL = ("global", "Global", "One threshold over all layers: sparsity spreads itself.")
    LAYER = ("layer", "Per layer", "The same sparsity in every layer.")
    ERK = (
        "erk",
        "Erdős–Rényi kernels",
        "Each layer has a threshold of its own, and keeps a share of its weights in proportion to its dimensions' sum over their "
        "product: small layers stay denser.",
        r"1-s_l\propto\frac{n_{in}+n_{out}+k_h+k_w}{n_{in}\,n_{out}\,k_h\,k_w}",
    )


class Budget(Choice):
    """What the sparsity is a fraction of."""

    WEIGHTS = ("weights", "Weights", "The fraction of the prunable weights that goes.")
    FLOPS = (
        "flops",
        "Multiply-adds",
        "The fraction of the prunable layers' multiply-adds that goes. A convolution's weight works at every position of its "
        "output, so weights of early layers count more than those of late ones.",
        r"\sum_{j\,\text{kept}}c_j\le(1-s)\sum_j c_j,\quad c_j=H_{out}W_{out}",
    )


class StageShape(Choice):
    """How the sparsity rises over the stages."""

    LINEAR = ("linear", "Linear", "The same number of weights goes at every stage.", r"s_i=s\,\tfrac iR")
    POLYNOMIAL = (
        "polynomial",
        "Polynomial",
        "Most go at the first stages, few at the last, where each one hurts.",
        r"s_i=s\left(1-(1-\tfrac iR)^3\right)",
    )


class Solver(Choice):
    """How the inverse Fisher of a block is represented."""

    AUTO = ("auto", "Automatic", "Dual where a block has more active weights than samples, else primal.")
    DUAL = ("dual", "Dual (Woodbury)", "Factors the N×N Gram matrix of the gradients; never forms a B×B matrix.")
    PRIMAL = ("primal", "Primal", "Factors the B×B Fisher block itself.")
    SPECTRAL = (
        "spectral",
        "Spectral",
        "One eigendecomposition serves every damping: a new damping costs one matrix-vector product.",
    )


class GradientPrecision(Choice):
    """What the gradients are kept in between their making and their use; the mathematics is the same."""

    FULL = ("full", "As computed", "In the network's own precision, float32 as a rule.")
    BFLOAT16 = (
        "bfloat16",
        "bfloat16",
        "Half the memory and disk of float32; each gradient is rounded to 8 significant bits (relative error up to 0.4 %).",
    )


class Axis(Choice):
    """What a plane varies against the damping. The config's field of that name is :attr:`field`."""

    SAMPLES = (
        "samples",
        "Fisher samples N",
        "From how many images the Fisher is estimated. Mini-batch and block size stay as they are.",
    )
    BLOCK = (
        "block",
        "Block size B",
        "Which weights may interact: 1 is the diagonal alone, network one block over everything. The same samples in every "
        "column.",
    )
    MINI_BATCH = (
        "mini-batch",
        "Mini-batch m",
        "How many images are averaged into one gradient row, the paper's shortcut. The number of rows N stays, so N·m images "
        "are used; the Fisher of averages is about m times smaller, so that the same absolute λ weighs m times more.",
        r"F=\lambda I+\tfrac1N\sum_n\bar g_n\bar g_n^\top,\quad\bar g_n=\tfrac1m\sum_{i\in\text{batch }n}g_i",
    )
    UPDATE_SCALE = (
        "update scale",
        "Update scale s",
        "How much of the survivors' step is taken: 0 leaves them where they are, 1 is the paper's step. Of the independent "
        "update only, whose single corrections add up to too much when many weights go.",
        r"\delta=-s\sum_{q\in P}\frac{w_q}{[F^{-1}]_{qq}}F^{-1}e_q",
    )
    IMAGES = (
        "images",
        "Training images there are",
        "Limited data: only so many training images exist, for the Fisher and for BatchNorm statistics. Where they are fewer "
        "than the Fisher samples asked for, all of them are taken.",
        r"N_k=\min(N,k)",
    )

    @property
    def field(self) -> str:
        """The field of a pruning config that varies."""
        return {
            Axis.SAMPLES: "num_samples",
            Axis.BLOCK: "block_size",
            Axis.MINI_BATCH: "mini_batch",
            Axis.UPDATE_SCALE: "update_scale",
            Axis.IMAGES: "images",
        }[self]


BLOCK_LAYER = "layer"
BLOCK_NETWORK = "network"


def parse_block_size(value: int | str) -> int | str:
    """A block size: a positive whole number, ``"layer"`` or ``"network"``."""
    if value in (BLOCK_LAYER, BLOCK_NETWORK):
        return value
    try:
        if isinstance(value, bool) or int(value) != float(value) or int(value) < 1:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"block size: expected a whole number of at least 1, 'layer' or 'network', got {value!r}."
        ) from None
    return int(value)
