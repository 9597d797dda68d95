"""The benchmarks: what the station costs and how quick it is, measured on its real processes."""
