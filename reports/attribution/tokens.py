"""Exact shares of single tokens: what each token of a volume added to a linear head's evidence.

A linear head on the mean of tokens is a sum over tokens, through the standardiser:
evidence_k = base_k + sum over tokens t of (1/T) sum over channels c of w_kc (token_tc - mean_c) / scale_c.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped


@dataclass(frozen=True)
class TokenShares:
    """share [gd, gh, gw, k]: what each token added to the evidence for each class; base [k]: what was there without."""

    share: Float64[np.ndarray, "gd gh gw k"]
    base: Float64[np.ndarray, " k"]

    @property
    def evidence(self) -> Float64[np.ndarray, " k"]:
        """Base and all shares together."""
        return np.asarray(self.base + self.share.sum(axis=(0, 1, 2)))


def evidence(log_probability: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
    """Give the log-odds of each class against the geometric mean of the others; for two classes the usual log-odds.

    log p_k - mean over j != k of log p_j. Linear in logits, so that shares of logits are shares of evidence.
    """
    classes = log_probability.shape[1]
    centred = log_probability - log_probability.mean(axis=1, keepdims=True)
    return np.asarray(centred * (classes / (classes - 1)))


def linear_shares(
    tokens: Shaped[np.ndarray, "gd gh gw C"],
    coef: Float64[np.ndarray, "k C"],
    intercept: Float64[np.ndarray, " k"],
    mean: Float64[np.ndarray, " C"],
    scale: Float64[np.ndarray, " C"],
) -> TokenShares:
    """Split the evidence of a linear head on mean-pooled, standardised tokens over the tokens, exactly."""
    of_evidence = evidence(coef.T).T / scale  # evidence is linear: it may be taken of the coefficients
    count = int(np.prod(tokens.shape[:3]))
    share = (tokens.astype(np.float64, copy=False) - mean) @ of_evidence.T / count
    return TokenShares(np.asarray(share), evidence(intercept[None, :])[0])
