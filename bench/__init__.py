"""Speed and cost, as ratios against peers in the same run. `make bench` rewrites bench/RESULTS.md."""
