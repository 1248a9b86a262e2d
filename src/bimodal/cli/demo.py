"""`bimodal demo`: both modes on a small model of real data, nothing to prepare."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bimodal.batch.run import predict_file
from bimodal.client import Client
from bimodal.errors import BimodalError, MissingLibrary
from bimodal.realtime.server import Server
from bimodal.realtime.serving import serve

ROWS = 5


def demo(
    leave: Annotated[bool, typer.Option("--exit", help="Leave instead of keeping the server up.")] = False,
    folder: Annotated[str, typer.Option("--folder", help="Where the demo's files go.")] = "bimodal-demo",
) -> None:
    """Train a small model, predict a file, serve it, ask it.

    \b
    Examples:
        bimodal demo
        bimodal demo --exit
    """
    console = Console(highlight=False)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    frame = train(place)
    console.print(f"1. trained on the iris flowers, saved with joblib: {place / 'my_model.pkl'}")
    report = predict_file(
        place / "my_model.pkl",
        place / "batch_input.csv",
        place / "predicted_output.csv",
        overwrite=True,
        progress="quiet",
    )
    console.print(
        f"2. batch: {report.predicted} rows of {place / 'batch_input.csv'} -> {place / 'predicted_output.csv'}"
    )
    with serve(place / "my_model.pkl", port=0, keys="", tls_cert="") as server:
        console.print(f"3. real time: serving at {server.url}")
        with Client(server.url) as client:
            live = client.predict(frame.drop(columns="flower").to_dict("records"))
        compare(console, place / "predicted_output.csv", frame, [row["prediction"] for row in live])
        if not leave:
            told(console, server, place)
            with suppress(KeyboardInterrupt):  # one that comes before the server waits for it ends it alike
                console.print("Ctrl-C ends the server.")
                server.wait()


def train(place: Path) -> Any:
    """Train and save the model; write and return the rows to predict."""
    try:
        import joblib
        from sklearn.datasets import load_iris
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise MissingLibrary('the demo trains with scikit-learn: pip install "bimodal[sklearn]"') from error
    iris = load_iris(as_frame=True)
    species = iris.target_names[iris.target]
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(iris.data, species)
    joblib.dump(model, place / "my_model.pkl")
    frame = iris.data.copy()
    frame.insert(0, "flower", [f"{number:03}" for number in range(1, len(frame) + 1)])
    frame.to_csv(place / "batch_input.csv", index=False)
    return frame


def compare(console: Console, predicted: Path, frame: Any, live: list[Any]) -> None:
    """Both answers side by side: some rows as a table, all of them as a count."""
    from pyarrow import csv

    batch = csv.read_csv(predicted).column("prediction").to_pylist()
    table = Table(title="the same rows, both modes", title_justify="left")
    for heading in ("flower", "batch", "real time"):
        table.add_column(heading)
    for place in range(0, len(frame), len(frame) // ROWS):
        table.add_row(frame["flower"][place], str(batch[place]), str(live[place]))
    console.print(table)
    same = sum(one == other for one, other in zip(batch, live, strict=True))
    console.print(f"equal answers: {same} of {len(batch)}")
    if same != len(batch):
        raise BimodalError("batch and real time gave different answers; please report this")


def told(console: Console, server: Server, place: Path) -> None:
    console.print("try it:")
    console.print(f"  {server.url}/            a page to fill in", soft_wrap=True)
    console.print(f"  {server.url}/docs        every route", soft_wrap=True)
    console.print(f"  curl {server.url}/predict -d '{server.example()}'", soft_wrap=True, markup=False)
    console.print(f"  bimodal predict {place / 'my_model.pkl'} {place / 'batch_input.csv'} --proba", soft_wrap=True)
    console.print(
        f"  bimodal init {place / 'my_model.pkl'} && bimodal up     jobs, and their results by key", soft_wrap=True
    )
