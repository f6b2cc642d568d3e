"""How many windows a long text needs: known before any is made, so that none is made in vain."""


def window_count(tokens: int, fit: int, stride: int) -> int | None:
    """Windows of `fit` tokens, each sharing `stride` with the one before, for a text of so many tokens.

    None where no window would get on: `stride` leaves nothing of it for new tokens.
    """
    if fit <= stride:
        return None
    if tokens <= fit:
        return 1
    return 1 - (fit - tokens) // (fit - stride)
