"""One file per kind of hardware; adapters to the libraries made for it."""
