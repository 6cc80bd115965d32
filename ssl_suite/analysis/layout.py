"""Vectors on a plane: t-SNE where openTSNE is installed (the extra ``maps``), else the two principal components."""

from __future__ import annotations

import importlib.util

import numpy as np

METHODS = ("auto", "tsne", "pca")
FEWEST = 10  # points from which neighbourhoods mean anything


def flat(vectors_ND: np.ndarray, seed: int, method: str = "auto") -> tuple[np.ndarray, str]:
    """(N, 2), and what made it: ``t-SNE`` (van der Maaten & Hinton 2008, cosines, perplexity 30 or N / 4) or ``PCA``.

    Raises:
        SuiteError: ``tsne`` is asked for and openTSNE is not installed.
    """
    from ssl_suite.core.errors import SuiteError

    installed, count = importlib.util.find_spec("openTSNE") is not None, len(vectors_ND)
    if method == "tsne" and not installed:
        raise SuiteError("layout=tsne needs openTSNE: pip install 'ssl_suite[maps]', or take layout=pca.")
    if np.allclose(vectors_ND, vectors_ND[:1], rtol=1e-5):
        return np.zeros((count, 2)), "one point"
    if method != "pca" and installed and count >= FEWEST:
        from openTSNE import TSNE

        made = TSNE(perplexity=min(30.0, count / 4), metric="cosine", random_state=seed, n_jobs=1, neighbors="exact")
        return np.asarray(made.fit(np.asarray(vectors_ND, np.float64))), "t-SNE"
    from sklearn.decomposition import PCA

    found_N2 = PCA(min(2, *vectors_ND.shape), svd_solver="full").fit_transform(np.asarray(vectors_ND, np.float64))
    return np.pad(found_N2, ((0, 0), (0, 2 - found_N2.shape[1]))), "PCA"
