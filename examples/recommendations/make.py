"""Users of a film library with their tastes, and the factors of its films: python make.py

600 users have rated films, made with a fixed seed. What was rated is taken apart into factors, those of the users and
those of the films. What the model gets of a user is how the user rated each kind of film, so that it can tell of new
users too: films.npz holds what makes scores of films from that.
"""

import numpy as np
import pandas as pd

KINDS = ["action", "comedy", "drama", "family", "science"]
USERS, FILMS = 600, 80

if __name__ == "__main__":
    random = np.random.default_rng(5)
    kinds = random.dirichlet([0.4] * len(KINDS), FILMS)  # how much a film is of each kind
    tastes = random.gamma(1.5, 1.0, (USERS, len(KINDS)))
    liked = tastes @ kinds.T + random.normal(0, 0.2, (USERS, FILMS))
    factors = np.linalg.svd(liked, full_matrices=False)[2][: len(KINDS)]  # of the films
    rated = liked @ kinds / kinds.sum(axis=0)  # of each user: the mean rating of each kind
    weights = np.linalg.lstsq(rated, liked @ factors.T, rcond=None)[0]  # from ratings to the user's factors
    np.savez("films.npz", scores=weights @ factors, titles=[f"film {number:02}" for number in range(1, FILMS + 1)])
    users = pd.DataFrame(rated.round(3), columns=KINDS)
    users.insert(0, "user", np.arange(1, USERS + 1))
    users.to_csv("users.csv", index=False)
