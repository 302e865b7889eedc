"""Logistic regression on patch tokens side by side: the simple head that knows where everything is."""

from classify.heads.linear import LinearHead


class TokensLinearHead(LinearHead):
    """The linear head on rows that are the tokens of a volume, one after another: X [n, tokens*C].

    tokens: how many there are; every number of each has its own coefficient, so a coarse grid is enough.
    """

    name = "tokens-linear"
    reads_tokens = True
    most_tokens = 36

    def __init__(
        self,
        *,
        tokens: int = 1,
        C: float = 1e-3,
        max_iter: int = 1000,
        tol: float | None = None,
        device: str = "cpu",
        random_state: int | None = 0,
    ) -> None:
        super().__init__(C=C, max_iter=max_iter, tol=tol, device=device, random_state=random_state)
        self.tokens = tokens
