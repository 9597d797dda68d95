"""The demonstration and its proof: a commune station's day on real parts, recorded, measured and drawn."""
