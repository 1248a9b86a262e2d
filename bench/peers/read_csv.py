"""Reading the file, and nothing else: what no program can be below."""

import sys
from pathlib import Path

import pyarrow.csv as pa_csv

_, source, output = sys.argv[1:]
with pa_csv.open_csv(source) as reader:
    rows = sum(batch.num_rows for batch in reader)
Path(output).with_suffix(".txt").write_text(str(rows))
