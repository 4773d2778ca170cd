"""What can go wrong, in four kinds: every message says what was expected, what came, and which knob to turn."""


class WoodFisherError(Exception):
    """Root of the errors this package raises on purpose; the app and the command line show their text as it is."""


class InputError(WoodFisherError, ValueError):
    """A value, file or model given by the caller cannot be used."""


class MemoryBudgetError(WoodFisherError, MemoryError):
    """The request needs more memory than its budget, or more disk than there is; raised before the work it is about."""


class NumericalError(WoodFisherError, ArithmeticError):
    """A factorisation or an update failed numerically; the method never continues as another one."""


class StoreError(WoodFisherError):
    """The run store cannot be read or written; what it held before is untouched."""
