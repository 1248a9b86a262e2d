"""E-mails to a shop, and the model that tells what each is about: python make.py

The mails are put together with a fixed seed from what people write of invoices, deliveries, returns and offers; a few
words of each are exchanged for those of others, as in real life.
"""

import json
from pathlib import Path

import joblib
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

OPENINGS = ["Hello,", "Dear team,", "Good morning,", "Hi there,", "To whom it may concern,"]
ENDINGS = ["Thank you!", "Kind regards, Ann", "Please answer soon.", "Best, Tom", "Sent from my phone"]
SAID = {
    "invoice": [
        "the invoice {n} shows a wrong amount",
        "I paid the bill {n} twice, please refund one payment",
        "my company needs the invoice with our tax number on it",
        "why was my card charged {n} euros this month",
    ],
    "delivery": [
        "my parcel {n} has not arrived yet",
        "the tracking page says delivered but nothing is here",
        "can the courier leave order {n} with my neighbour",
        "the package came late and the box was open",
    ],
    "return": [
        "I want to send back the shoes, they are too small",
        "how do I return order {n} and where is the label",
        "the lamp is broken, please exchange it for a new one",
        "I would like to return one item of order {n}",
    ],
    "offer": [
        "we offer cheap followers and better ranking for your site",
        "you have won {n} euros, click the link to claim your prize",
        "lowest prices on office paper, order {n} boxes today",
        "grow your business with our marketing experts",
    ],
}
MAILS = 400


def mails(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts, and what each is about."""
    random = np.random.default_rng(seed)
    texts, topics = [], []
    for topic in random.choice(sorted(SAID), count):
        said = [random.choice(SAID[topic]), random.choice(SAID[topic])]
        if random.random() < 0.1:
            said[1] = random.choice(SAID[random.choice(sorted(SAID))])
        body = " and ".join(said).format(n=random.integers(100, 99_999))
        texts.append(f"{random.choice(OPENINGS)} {body}. {random.choice(ENDINGS)}")
        topics.append(str(topic))
    return texts, topics


if __name__ == "__main__":
    texts, topics = mails(2000, seed=1)
    joblib.dump(make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=500)).fit(texts, topics), "email.pkl")

    texts, _ = mails(MAILS, seed=2)
    lines = [json.dumps({"id": f"m{number:04}", "text": text}) for number, text in enumerate(texts, 1)]
    folder = Path("inbox")
    folder.mkdir(exist_ok=True)
    for hour in range(2):
        part = lines[hour * MAILS // 2 : (hour + 1) * MAILS // 2]
        (folder / f"2026-03-30-{hour:02}.jsonl").write_text("\n".join(part) + "\n")
