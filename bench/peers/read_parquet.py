"""Reading the files, and nothing else: what no program can be below."""

import sys
from pathlib import Path

import pyarrow.parquet as pq

_, source, output = sys.argv[1:]
rows = sum(pq.read_table(path).num_rows for path in sorted(Path(source).glob("*.parquet")))
Path(output).with_suffix(".txt").write_text(str(rows))
