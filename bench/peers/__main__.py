"""python -m bench.peers: the comparison of servers."""

from bench.side_by_side import main

main()
