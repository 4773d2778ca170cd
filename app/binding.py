"""How a control is bound: a key of its own, and a query parameter of the same name."""


def bound(key: str) -> dict[str, str]:
    """The arguments that bind a control to the link; ``key`` is the parameter's name, one for the whole app."""
    return {"key": key, "bind": "query-params"}
