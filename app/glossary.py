"""The words of this app: what each means, its symbol, and the page where it can be seen."""

from dataclasses import dataclass

# Page file's stem → its name and its address below the app's.
PAGES = {
    "learn": ("Learn", "learn"),
    "explore": ("Explore", "."),
    "sensitivity": ("Sensitivity", "sensitivity"),
    "trust": ("Trust", "trust"),
    "compensate": ("Compensate", "compensate"),
    "compare": ("Compare", "methods"),
    "gradual": ("Gradual", "gradual"),
    "speed": ("Speed", "speed"),
}


@dataclass(frozen=True)
class Term:
    """``symbol`` is LaTeX (empty where there is none), ``page`` a key of :data:`PAGES`; ``also`` are other words for it."""

    name: str
    symbol: str
    meaning: str
    page: str
    also: tuple[str, ...] = ()

    def matches(self, words: str) -> bool:
        """Whether every one of ``words`` occurs in its name, its other names, its symbol or its meaning."""
        text = " ".join((self.name, *self.also, self.symbol, self.meaning)).casefold()
        return all(word in text for word in words.casefold().split())


GLOSSARY = (
    Term("Accuracy", "", "Share of the test images answered right, in percent.", "explore"),
    Term(
        "Block size",
        "B",
        "How many weights may interact in the Fisher: its matrix is cut into blocks on the diagonal, what lies between them is "
        "forgotten.",
        "sensitivity",
        ("blocks",),
    ),
    Term(
        "Budget",
        r"\sum_j c_j",
        "What the sparsity counts: weights, or the multiply-adds $c_j$ they take part in (FLOPs).",
        "explore",
        ("FLOPs", "multiply-adds"),
    ),
    Term(
        "Damping",
        r"\lambda",
        "A number added to the Fisher's diagonal. It makes the inverse exist, and says how much is trusted to directions that no "
        "sample has seen. Relative damping is a multiple of the mean curvature.",
        "sensitivity",
        ("regularisation",),
    ),
    Term("Dense network", "w", "The trained network before anything is removed; its weights.", "explore", ("weights",)),
    Term(
        "Empirical Fisher",
        r"F=\lambda I+\tfrac1N\sum_n g_ng_n^\top",
        "The mean of the gradients' outer products at the true labels, here with the damping. It stands for the Hessian.",
        "learn",
        ("Fisher",),
    ),
    Term(
        "Erdős–Rényi kernels",
        "1-s_l",
        "Layer sparsities set by the layers' shapes alone: small layers stay denser (ERK).",
        "explore",
        ("ERK",),
    ),
    Term(
        "Fisher samples",
        "N",
        "How many training images the Fisher is estimated from. Fewer are always the first of more.",
        "sensitivity",
    ),
    Term(
        "Global threshold",
        "",
        "One threshold of the statistic over all layers, so that sparsity spreads itself; else one a layer.",
        "explore",
        ("scope",),
    ),
    Term("Gradient", "g_n", "How the loss of image $n$ changes with each weight, at the trained weights.", "learn"),
    Term(
        "Gram matrix",
        "K=GG^\\top",
        "All products of two samples' gradients: N × N numbers that hold all the inverse needs.",
        "learn",
        ("dual solver",),
    ),
    Term(
        "Gradual pruning",
        "s_t",
        "Sparsity that rises in steps over epochs, with training in between.",
        "gradual",
        ("schedule",),
    ),
    Term(
        "Held-out images",
        "",
        "Training images from which no gradient was taken; on them a prediction can be checked honestly.",
        "trust",
    ),
    Term(
        "Hessian",
        "H",
        "The loss's second derivatives: its true curvature at the trained weights.",
        "trust",
        ("curvature",),
    ),
    Term(
        "Joint update",
        r"\delta_S=F_{SS}^{-1}F_{SP}w_P",
        "The survivors' step that is best by the model when all chosen weights go at once.",
        "compensate",
    ),
    Term(
        "Independent update",
        r"\delta=-s\sum_q\tfrac{w_q}{[F^{-1}]_{qq}}F^{-1}e_q",
        "The sum of the single weights' corrections, as in the paper; each ignores the others. The update scale $s$ softens it.",
        "compensate",
        ("update scale",),
    ),
    Term(
        "K-FAC",
        r"A\otimes\Gamma",
        "A layer's Fisher as a Kronecker product of inputs' and output gradients' second moments.",
        "compare",
    ),
    Term(
        "L-OBS",
        "",
        "OBS for each layer by its own output error alone, without looking at the loss.",
        "compare",
        ("layer-wise",),
    ),
    Term(
        "Labels, true or sampled",
        r"y_n,\ \hat y_n",
        "Whose labels the gradients are taken at: the data's, or labels drawn from the network's predictions (the true Fisher).",
        "explore",
        ("true Fisher",),
    ),
    Term("Loss", "L", "Mean cross-entropy an image, in nats.", "trust", ("nats", "cross-entropy")),
    Term(
        "Magnitude pruning",
        "|w_j|",
        "Removes the smallest weights. It looks at no data and is the baseline everywhere.",
        "compare",
    ),
    Term(
        "Mask",
        r"P,\,S",
        "Which weights are removed (P) and which survive (S).",
        "explore",
        ("survivors", "removed weights"),
    ),
    Term(
        "Mini-batch",
        "m",
        "Images averaged into one gradient row, the paper's shortcut; it makes the Fisher about m times smaller.",
        "sensitivity",
    ),
    Term(
        "N:M pattern",
        "",
        "Exactly N of every M consecutive inputs survive: 2:4 is what sparse tensor cores run.",
        "speed",
        ("2:4", "pattern"),
    ),
    Term(
        "OBD",
        r"\tfrac12w_j^2H_{jj}",
        "Optimal Brain Damage: the cost of removing a weight while the others stay, by the curvature's diagonal.",
        "compensate",
        ("Optimal Brain Damage", "diagonal"),
    ),
    Term(
        "OBS",
        r"\rho_j=\tfrac{w_j^2}{2[F^{-1}]_{jj}}",
        "Optimal Brain Surgeon: the cost of removing a weight once the others have moved to make up for it.",
        "learn",
        ("Optimal Brain Surgeon",),
    ),
    Term(
        "Pruning statistic",
        r"\rho_j",
        "The number that ranks the weights; the lowest go first. Also called saliency.",
        "explore",
        ("saliency", "score"),
    ),
    Term(
        "Quadratic model",
        r"g^\top\delta+\tfrac12\delta^\top H\delta",
        "The loss's change after a step δ as slope and curvature foresee it: true nearby.",
        "trust",
        ("Taylor expansion",),
    ),
    Term(
        "Seed",
        "",
        "Fixes which images are used and every random draw: the same seed gives the same numbers.",
        "explore",
    ),
    Term(
        "SNIP",
        r"|w_jg_j|",
        "A first-order statistic: how much the loss's slope says about each weight.",
        "compare",
        ("Taylor statistic",),
    ),
    Term(
        "Sparsity",
        "s",
        "The share of the prunable weights (Linear and Conv weights, no biases) that is zero.",
        "explore",
    ),
    Term("Stages", "R", "Pruning in R steps, with gradients measured anew at each.", "explore"),
    Term(
        "Structured pruning", "", "Whole channels go, so that the network itself gets smaller.", "speed", ("channels",)
    ),
    Term(
        "Update",
        r"\delta",
        "How the surviving weights move to make up for the removed ones.",
        "compensate",
        ("compensation", "step"),
    ),
    Term(
        "Woodbury's identity",
        r"\tfrac1\lambda[I-G^\top(N\lambda I+K)^{-1}G]",
        "The inverse of a diagonal plus few ranks, through a matrix as small as the number of ranks.",
        "learn",
    ),
    Term("WoodFisher", "", "OBS with the empirical Fisher, its inverse by Woodbury (Singh & Alistarh 2020).", "learn"),
    Term("WoodTaylor", "g^\\top\\delta", "WoodFisher that keeps the first-order term.", "compare"),
)


def found(words: str) -> tuple[Term, ...]:
    """The terms in which all ``words`` occur; all of them without any."""
    return tuple(term for term in GLOSSARY if term.matches(words))


def as_markdown(terms: tuple[Term, ...], query: str = "") -> str:
    """A table of ``terms``; ``query`` is the settings' part of the pages' addresses, without which they are named only."""
    lines = ["| Term | Symbol | Meaning | See |", "|---|---|---|---|"]
    for term in terms:
        name, address = PAGES[term.page]
        # A bar inside a symbol would end its cell.
        symbol = f"${term.symbol.replace('|', chr(92) + 'vert ')}$" if term.symbol else ""
        page = f"[{name}]({address}?{query})" if query else name
        lines.append(f"| **{term.name}** | {symbol} | {term.meaning} | {page} |")
    return "\n".join(lines)
