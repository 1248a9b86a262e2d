"""What a first user writes: rows of numbers."""

import os

import joblib
from flask import Flask, jsonify, request

app = Flask(__name__)
model = joblib.load(os.environ["MODEL"])


@app.route("/predict", methods=["POST"])
def predict():
    data = request.get_json()
    prediction = model.predict([data["input"]])
    return jsonify({"prediction": prediction.tolist()})


if __name__ == "__main__":
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # in its favour: no line of log for each request
    app.run(port=int(os.environ.get("PORT", "5000")))
