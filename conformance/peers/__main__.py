"""Run the suite against other servers: python -m conformance.peers [mlserver] [kserve] [triton]

Each gets an environment of its own (--environments, ~/.cache/bimodal-bench without it; about 0.5 GB each, made once),
serves the known models from conformance/models/twins.py, is asked, and is stopped. With --write FOLDER the results are
kept there, as JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import conformance.checks  # noqa: F401 - fills the catalogue
from conformance.catalogue import Fault
from conformance.environment import default_folder, environment, variables
from conformance.models.twins import TWINS, Port
from conformance.report import as_json, chosen, run, show
from conformance.target import Target

HERE = Path(__file__).parent
TOKEN = {"triton-access-token": "conformance", "triton-grpc-protocol-triton-access-token": "conformance"}
PATIENCE = 180  # seconds for a server to be ready
PEERS = ("mlserver", "kserve", "triton")


def main() -> None:
    options = argparse.ArgumentParser("conformance.peers", description=__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("peers", nargs="*", help=f"of {', '.join(PEERS)}; without one, all")
    options.add_argument("--environments", type=Path, default=default_folder())
    options.add_argument("--write", type=Path, help="a folder for the results")
    asked = options.parse_args()
    for name in asked.peers or PEERS:
        programs = environment(asked.environments, f"conformance-{name}", HERE / f"{name}.txt")
        with served(name, programs) as target:
            outcomes = run(target, chosen(()))
            print(f"\n# {name}\n")
            show(target, outcomes)
            if asked.write is not None:
                asked.write.mkdir(parents=True, exist_ok=True)
                (asked.write / f"{name}.json").write_text(as_json(target, outcomes))


@contextmanager
def served(name: str, programs: Path) -> Iterator[Target]:
    """The peer with the known models, from its readiness to the end of the block."""
    http, grpc = free_ports(2)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copy(HERE.parent / "models" / "twins.py", folder)
        shutil.copy(HERE / f"{name}_twin.py", folder)
        command = [str(programs / "python"), f"{name}_twin.py", str(http), str(grpc)]
        if name == "mlserver":
            write_repository(folder, http, grpc)
            command = [str(programs / "mlserver"), "start", str(folder)]
        log = folder / "log.txt"
        with log.open("wb") as written:
            process = subprocess.Popen(
                command, cwd=folder, env=variables(programs), stdout=written, stderr=written, start_new_session=True
            )
        headers = TOKEN if name == "triton" else None
        target = Target(f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}", headers=headers)
        try:
            wait(target, process, log)
            yield target
        finally:
            target.close()
            stop(process)


def write_repository(folder: Path, http: int, grpc: int) -> None:
    """The settings of MLServer and of each model."""
    (metrics,) = free_ports(1)
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0, "debug": False}))
    for twin in TWINS.values():
        about = {
            "name": twin.name,
            "implementation": "mlserver_twin.Twin",
            "platform": "numpy_python",
            "inputs": [told(each) for each in twin.inputs],
            "outputs": [told(each) for each in twin.outputs],
            "parameters": {"version": "v1"},
        }
        (folder / twin.name).mkdir()
        (folder / twin.name / "model-settings.json").write_text(json.dumps(about))


def told(port: Port) -> dict[str, object]:
    return {"name": port.name, "datatype": port.datatype, "shape": [-1, *port.shape]}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()


def wait(target: Target, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until every known model is ready."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(Fault):  # nobody listens yet
            if all(target.get(f"/v2/models/{name}/ready").status == 200 for name in TWINS):
                return
        time.sleep(0.5)
    raise SystemExit(f"{process.args!r} is not ready: {log.read_text(errors='replace')[-3000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
