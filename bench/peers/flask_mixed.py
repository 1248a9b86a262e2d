"""What a first user writes: named columns, through a frame, because the pipeline asks for one."""

import os

import joblib
import pandas as pd
from flask import Flask, jsonify, request

app = Flask(__name__)
model = joblib.load(os.environ["MODEL"])


@app.route("/predict", methods=["POST"])
def predict():
    data = request.get_json()
    prediction = model.predict(pd.DataFrame(data["rows"]))
    return jsonify({"prediction": prediction.tolist()})


if __name__ == "__main__":
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # in its favour: no line of log for each request
    app.run(port=int(os.environ.get("PORT", "5000")))
